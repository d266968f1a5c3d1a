"""How large a message may be, by what it asks for: all of it is held until it is answered, and that may never be.

``http.body_bytes_max`` is for what agents store, so for calls of tools. All else is an address, a name or a setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from contextdna_server.open_calls import WAITING_TOOLS
from contextdna_server.refused import too_large

SMALL_BYTES_MAX: Final = 64 * 1024
"""Of a message that stores nothing: 200 addresses to listen to take a third of it. Of any ``_meta``, in characters."""

SMALL_VALUES_MAX: Final = 1000
"""Members and items of such a message, and of any ``_meta``: read, one of three bytes takes seventy or more."""

PROMPT_BYTES_MAX: Final = 128 * 1024
"""Of what asks for a prompt, or completes one: its argument of 8,000 characters takes 96,000 bytes, escaped."""
_OF_PROMPTS: Final = frozenset({"prompts/get", "completion/complete"})

_HINT: Final = (
    "Send smaller icons, fewer capabilities and addresses: only calls of tools may be large, and _meta never."
)

_LIGHT_BYTES: Final = 2 * SMALL_VALUES_MAX
"""A message of so few bytes holds no more values than it may."""


def check_size(message: Mapping[str, Any], size_bytes: int) -> None:
    """Refuse a message that is larger than what it asks for takes.

    Args:
        message: The message.
        size_bytes: How long it was.

    Raises:
        LimitExceeded: ``message_too_large``.
    """
    if size_bytes <= _LIGHT_BYTES:
        return
    params = message.get("params") or {}
    _check_weight(params.get("_meta"), SMALL_BYTES_MAX)
    bytes_max = _bytes_max(message.get("method"), params.get("name"))
    if bytes_max is None:
        return
    if size_bytes > bytes_max:
        raise too_large(f"more than {bytes_max} bytes, the limit for one that stores nothing", hint=_HINT)
    _check_weight(message, bytes_max)


def _bytes_max(method: object, name: object) -> int | None:
    """Give how many bytes a message may have; None: as many as any."""
    if method == "tools/call":
        return SMALL_BYTES_MAX if isinstance(name, str) and name in WAITING_TOOLS else None
    return PROMPT_BYTES_MAX if method in _OF_PROMPTS else SMALL_BYTES_MAX


def _check_weight(value: object, chars_max: int) -> None:
    chars = values = 0
    left = [value]
    while left:
        item = left.pop()
        values += 1
        if isinstance(item, str):
            chars += len(item)
        elif isinstance(item, dict):
            chars += sum(map(len, item))
            left += item.values()
        elif isinstance(item, list):
            left += item
        if values + len(left) > SMALL_VALUES_MAX:
            raise too_large(
                f"more than {SMALL_VALUES_MAX} values in _meta, or in all where it stores nothing", hint=_HINT
            )
        if chars > chars_max:
            raise too_large(f"more than {chars_max} characters in _meta", hint=_HINT)
