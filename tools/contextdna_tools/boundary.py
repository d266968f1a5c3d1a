"""The boundary of every tool call: arguments in, result or coded error out; nothing else reaches the model."""

import difflib
import json
import logging
import secrets
import traceback
from pathlib import Path
from typing import Any, Final

from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel, ValidationError

from contextdna import ContextDnaError, InvalidInput
from contextdna_tools.spec import AnyTool, Call

_FRAMES_LOGGED: Final = 5

logger = logging.getLogger(__name__)


async def run_tool(tool: AnyTool, raw: dict[str, Any], call: Call) -> CallToolResult:
    """Run a tool on raw arguments; every failure becomes an error result with a stable code and what to do."""
    try:
        return success(await tool.serve(call, parse_arguments(tool, raw)))
    except ContextDnaError as error:
        return _failure_of(error)
    except Exception as error:  # noqa: BLE001 - here the unforeseen becomes an answer
        return _failure_of(unforeseen(f"tool {tool.name}", error))


def unforeseen(what: str, error: Exception) -> ContextDnaError:
    """Log what failed, how and where, and give the error to answer with; the two share a reference.

    Neither holds the text of the error, nor of any that it came from: it may quote a memory, a key or a token.
    """
    reference = secrets.token_hex(4)
    frames = list(traceback.walk_tb(error.__traceback__))[-_FRAMES_LOGGED:]
    where = " > ".join(f"{Path(frame.f_code.co_filename).name}:{line} {frame.f_code.co_name}" for frame, line in frames)
    logger.error("%s failed, reference %s: %s at %s", what, reference, type(error).__name__, where)
    return ContextDnaError(
        f"the server failed, reference {reference}",
        code="internal_error",
        hint="Retry; tell the operator the reference if it stays.",
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
    text = TextContent(type="text", text=result.model_dump_json(exclude_none=True))
    return CallToolResult(content=[text], structured_content=result.model_dump(mode="json", exclude_none=True))


def failure(code: str, message: str, *, hint: str = "", retryable: bool = False, **extras: Any) -> CallToolResult:
    """Give an error result: JSON text with code, message and what to do next."""
    body = {"code": code, "message": message, "hint": hint, "retryable": retryable, **extras}
    text = json.dumps({"error": body}, ensure_ascii=False, separators=(",", ":"))
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def _failure_of(error: ContextDnaError) -> CallToolResult:
    return failure(error.code, error.message, hint=error.hint, retryable=error.retryable, **_extras(error))


def _extras(error: ContextDnaError) -> dict[str, Any]:
    current_version = getattr(error, "current_version", 0)
    return {"current_version": current_version} if current_version else {}
