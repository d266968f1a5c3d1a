"""Cursors as text: a few values that a client gives back as it got them."""

import base64
import json
from typing import Final

from contextdna.errors import InvalidInput

CURSOR_CHARS_MAX: Final = 200


def pack_cursor(*values: object) -> str:
    """Write plain values as an opaque text."""
    text = json.dumps(values, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def unpack_cursor(cursor: str) -> list[object]:
    """Read the values of a text that a client sent, whatever it may be.

    Raises:
        ValueError: It is too long, or was not written by ``pack_cursor``.
    """
    if len(cursor) > CURSOR_CHARS_MAX:
        raise ValueError("too long")
    packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    values = json.loads(packed)
    if not isinstance(values, list):
        raise ValueError("not a list of values")
    return values


def bad_cursor() -> InvalidInput:
    """Make the refusal of a cursor that the list which it is given to did not give out."""
    return InvalidInput(
        "the cursor is broken or belongs to another list",
        code="cursor_invalid",
        hint="Start without one; then send the cursor of each answer as it is, and all else as it was.",
    )
