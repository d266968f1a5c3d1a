"""Tool calls of a turn: what they may hold, and how they read as text."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from contextdna.domain.packing import compact_json
from contextdna.domain.validation import check_count, check_json, check_text
from contextdna.errors import InvalidInput
from contextdna.values.settings import Limits

_CALLS_MAX: Final = 100
_NAME_BYTES_MAX: Final = 256


def check_tool_calls(calls: Sequence[Mapping[str, Any]], limits: Limits) -> None:
    """Refuse tool calls that are not a few JSON objects of a name, arguments and maybe a result.

    Raises:
        InvalidInput: ``tool_calls_invalid``, ``tool_name_empty`` or ``text_unstorable``.
        LimitExceeded: ``tool_calls_out_of_range``, ``tool_name_too_large`` or ``tool_calls_too_large``.
    """
    check_count(len(calls), name="tool_calls", maximum=_CALLS_MAX, minimum=0)
    for call in calls:
        if not _is_call(call):
            raise InvalidInput(
                "a tool call is not an object of name, arguments and maybe result",
                code="tool_calls_invalid",
                hint='For example {"name":"grep","arguments":{"q":"x"},"result":"3 lines"}.',
            )
        check_text(call["name"], name="tool_name", bytes_max=_NAME_BYTES_MAX)
    if calls:
        check_json([dict(call) for call in calls], name="tool_calls", bytes_max=limits.metadata_bytes_max)


def told_call(call: Mapping[str, Any]) -> str:
    """Tell a tool call: its name and arguments, and what it gave."""
    told = f"tool call: {call['name']} {compact_json(call.get('arguments', {}))}"
    if "result" not in call:
        return told
    result = call["result"]
    return f"{told}\nresult: {result if isinstance(result, str) else compact_json(result)}"


def _is_call(call: object) -> bool:
    if not isinstance(call, Mapping) or not {"name"} <= set(call) <= {"name", "arguments", "result"}:
        return False
    return isinstance(call["name"], str) and isinstance(call.get("arguments", {}), Mapping)
