"""The boundary of every tool call: arguments in, result or coded error out; nothing else reaches the model."""

import difflib
import json
import logging
import secrets
import traceback
from pathlib import Path
from typing import Any, Final, TypeVar

from mcp import MCPError
from mcp_types import CallToolResult, InputRequiredResult, TextContent
from pydantic import BaseModel, ValidationError

from contextdna import ContextDnaError, InvalidInput
from contextdna_tools.spec import AnyTool, Call

_FRAMES_LOGGED: Final = 5
_NAME_CHARS_MAX: Final = 80
_COMPARED_CHARS: Final = 64
"""How much of a name is compared with ours, none of which is longer: the time grows with its square."""

NOTICES_BETWEEN: Final = "; "
_SLIPS: Final = {
    "text": ("content", "query", "reasoning", "output", "description"),
    "message": ("content",),
    "type": ("memory_type", "types", "memory_types", "media_type", "agent_type"),
    "memory_type": ("memory_types", "types"),
    "memory_types": ("types", "memory_type"),
    "q": ("query",),
    "question": ("query",),
    "confidence": ("score",),
    "agent": ("agent_id", "child_agent_id", "assignee", "target_agent_ids"),
    "agents": ("target_agent_ids",),
    "agent_id": ("child_agent_id", "assignee", "agent", "target_agent_ids"),
    "targets": ("target_agent_ids",),
    "to": ("target_agent_ids",),
    "id": ("ids", "memory_ids", "signal_id", "delegation_id"),
    "memory_id": ("id", "ids", "memory_ids", "source_id"),
    "task_id": ("id",),
    "max_results": ("limit",),
    "summary": ("output", "content"),
    "result": ("output",),
    "version": ("expected_version",),
}
"""Names that callers say for ours, likelier meanings first; suggested, never taken."""

_SENT: Final = {
    "string": "text",
    "list": 'a list, such as ["a", "b"]',
    "dict": 'an object, such as {"key": "value"}',
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
}
"""What to send, by how the kind of a validation error begins."""

M = TypeVar("M", bound=BaseModel)

logger = logging.getLogger(__name__)


async def run_tool(tool: AnyTool, raw: dict[str, Any], call: Call) -> CallToolResult | InputRequiredResult:
    """Run a tool on raw arguments; every failure becomes an error result with a stable code and what to do.

    A tool may answer in the protocol's own results where JSON is not enough: an image, a question to the user.

    Raises:
        MCPError: The tool's own: what the protocol answers in place of a result, such as a missing capability.
    """
    try:
        result = await tool.serve(call, parsed(tool.arguments, raw))
        if isinstance(result, CallToolResult | InputRequiredResult):
            return result
        return success(result, notice=NOTICES_BETWEEN.join(call.notices.lines()))
    except MCPError:
        raise
    except ContextDnaError as error:
        return await _refused(error, tool, call)
    except Exception as error:  # noqa: BLE001 - here the unforeseen becomes an answer
        return await _refused(unforeseen(f"tool {tool.name}", error), tool, call)


async def _refused(error: ContextDnaError, tool: AnyTool, call: Call) -> CallToolResult:
    if call.note_refused is not None:
        await call.note_refused(error, tool.name)
    notice = NOTICES_BETWEEN.join(call.notices.lines())
    return _failure_of(error, **({"notice": notice} if notice else {}))


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


def parsed(model: type[M], raw: dict[str, Any]) -> M:
    """Validate raw arguments, or an object among them.

    Raises:
        InvalidInput: ``argument_unknown``, ``argument_missing``, ``argument_invalid``, or the code of what is refused
            at once, such as ``session_handle_in_argument``; no value is repeated.
    """
    _refuse_unknown(model, raw)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise _as_invalid_input(error, model) from None


def _refuse_unknown(model: type[BaseModel], raw: dict[str, Any]) -> None:
    """Refuse a name that is not ours before all else: it is often what seems to be missing, and pydantic lists all."""
    for name, value in raw.items():
        if name not in model.model_fields and value is not None:
            message = f"unknown argument {_short(name)}"
            raise InvalidInput(message, code="argument_unknown", hint=_meant(name, model))


def _as_invalid_input(error: ValidationError, model: type[BaseModel]) -> InvalidInput:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    where = _short(".".join(str(part) for part in first["loc"]))
    name = str(first["loc"][0])
    field = model.model_fields.get(name)
    about = f" {name}: {field.description}." if field and field.description else ""
    if first["type"] == "missing":
        return InvalidInput(f"argument {where} is missing", code="argument_missing", hint=f"Give {name}.{about}")
    sent = next((what for kind, what in _SENT.items() if first["type"].startswith(kind)), "what the input schema says")
    message = f"argument {where}: {first['msg']}"
    return InvalidInput(message, code="argument_invalid", hint=f"Send {sent}.{about}")


def _short(name: str) -> str:
    """Cut a name that a caller made up."""
    return name if len(name) <= _NAME_CHARS_MAX else f"{name[:_NAME_CHARS_MAX]}…"


def _meant(name: str, model: type[BaseModel]) -> str:
    """Say which argument an unknown name is likely to mean."""
    likely = [slip for slip in _SLIPS.get(name, ()) if slip in model.model_fields]
    near = likely or difflib.get_close_matches(name[:_COMPARED_CHARS], model.model_fields, n=1)
    return f"Did you mean {near[0]}?" if near else f"Known: {', '.join(model.model_fields)}."


def success(result: BaseModel, *, notice: str = "") -> CallToolResult:
    """Give a result twice: structured, and as compact JSON text for clients that read text only.

    Args:
        result: The answer.
        notice: Which degraded mode touched it, and how; it stands in both beside the answer.
    """
    if notice:
        body = {**result.model_dump(mode="json", exclude_none=True), "notice": notice}
        told = TextContent(type="text", text=json.dumps(body, ensure_ascii=False, separators=(",", ":")))
        return CallToolResult(content=[told], structured_content=body)
    text = TextContent(type="text", text=result.model_dump_json(exclude_none=True))
    return CallToolResult(content=[text], structured_content=result.model_dump(mode="json", exclude_none=True))


def failure(code: str, message: str, *, hint: str = "", retryable: bool = False, **extras: Any) -> CallToolResult:
    """Give an error result: JSON text with code, message and what to do next."""
    body = {"code": code, "message": message, "hint": hint, "retryable": retryable, **extras}
    text = json.dumps({"error": body}, ensure_ascii=False, separators=(",", ":"))
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def _failure_of(error: ContextDnaError, **notice: str) -> CallToolResult:
    return failure(error.code, error.message, hint=error.hint, retryable=error.retryable, **_extras(error), **notice)


def _extras(error: ContextDnaError) -> dict[str, Any]:
    current_version = getattr(error, "current_version", 0)
    return {"current_version": current_version} if current_version else {}
