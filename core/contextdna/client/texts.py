"""What an agent wants kept, as text: whatever it is, it is made text at once, or refused at once."""

import json

from contextdna.client.errors import Refused


def text_of(value: object, *, name: str) -> str:
    """Give a value as text that can be stored: text as it is, None as none, all else as JSON.

    Raises:
        Refused: ``arguments_not_json``: it is none of these; ``text_unstorable``: it holds a NUL or half a character.
    """
    text = _written(value, name)
    if "\x00" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise Refused(
            f"{name} holds a NUL or half a character", code="text_unstorable", hint="Send valid Unicode without NUL."
        )
    return text


def is_blank(text: str) -> bool:
    """Tell whether nobody would see anything in a text; the server stores no such content."""
    return not any(char.isprintable() and not char.isspace() for char in text)


def mended(text: str) -> str:
    """Give a text that nobody can be asked about any more as one that can be stored."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def size_of(text: object) -> int:
    """Give the bytes of a text; what is none is for the server to refuse."""
    return len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else 0


def _written(value: object, name: str) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused(
            f"{name} is neither text nor JSON",
            code="arguments_not_json",
            hint="Give text, or None, numbers, lists and dicts of them.",
        ) from error
