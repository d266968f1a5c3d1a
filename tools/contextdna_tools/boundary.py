"""The boundary of every tool call: arguments in, result or coded error out; nothing else reaches the model."""

import difflib
import json
import logging
import secrets
from typing import Any

from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel, ValidationError

from contextdna import ContextDnaError, InvalidInput
from contextdna_tools.spec import AnyTool, Call

logger = logging.getLogger(__name__)


async def run_tool(tool: AnyTool, raw: dict[str, Any], call: Call) -> CallToolResult:
    """Run a tool on raw arguments; every failure becomes an error result with a stable code and what to do."""
    try:
        return success(await tool.serve(call, parse_arguments(tool, raw)))
    except ContextDnaError as error:
        return failure(error.code, error.message, hint=error.hint, retryable=error.retryable, **_extras(error))
    except Exception as error:  # the one place where the unforeseen becomes an answer
        reference = secrets.token_hex(4)
        logger.exception("tool %s failed, reference %s", tool.name, reference, exc_info=_without_values(error))
        return failure(
            "internal_error", f"the server failed, reference {reference}", hint="Retry; tell the operator if it stays."
        )


def parse_arguments(tool: AnyTool, raw: dict[str, Any]) -> Any:
    """Validate raw arguments.

    Raises:
        InvalidInput: ``argument_unknown``, ``argument_missing`` or ``argument_invalid``; no value is repeated.
    """
    try:
        return tool.arguments.model_validate(raw)
    except ValidationError as error:
        raise as_invalid_input(error, tool.arguments) from None


def as_invalid_input(error: ValidationError, model: type[BaseModel], *, at: str = "") -> InvalidInput:
    """Turn the first validation error into ours."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    where = at + ".".join(str(part) for part in first["loc"])
    known = ", ".join(model.model_fields)
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), model.model_fields, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Known: {known}."
        return InvalidInput(f"unknown argument {where[:80]}", code="argument_unknown", hint=hint)
    if first["type"] == "missing":
        return InvalidInput(f"argument {where} is missing", code="argument_missing", hint=f"Give {where}.")
    return InvalidInput(f"argument {where[:80]}: {first['msg']}", code="argument_invalid", hint="See the input schema.")


def success(result: BaseModel) -> CallToolResult:
    """Give a result twice: structured, and as compact JSON text for clients that read text only."""
    structured = result.model_dump(mode="json", exclude_none=True)
    return CallToolResult(content=[_text(structured)], structured_content=structured)


def failure(code: str, message: str, *, hint: str = "", retryable: bool = False, **extras: Any) -> CallToolResult:
    """Give an error result: JSON text with code, message and what to do next."""
    body = {"code": code, "message": message, "hint": hint, "retryable": retryable, **extras}
    return CallToolResult(content=[_text({"error": body})], is_error=True)


def _extras(error: ContextDnaError) -> dict[str, Any]:
    current_version = getattr(error, "current_version", 0)
    return {"current_version": current_version} if current_version else {}


def _without_values(error: Exception) -> Exception | bool:
    """Keep a validation error's values, which may be memory text, out of the log."""
    return False if isinstance(error, ValidationError) else error


def _text(body: dict[str, Any]) -> TextContent:
    return TextContent(type="text", text=json.dumps(body, ensure_ascii=False, separators=(",", ":")))
