"""What a request may hold. Every refusal has a code and says what to do; nothing is changed by a refused request."""

import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, TypeVar

from contextdna.domain.packing import compact_json
from contextdna.errors import AccessDenied, InvalidInput, LimitExceeded
from contextdna.values.ids import holds_handle, holds_token, is_agent_path, is_name
from contextdna.values.level import LEVELS_BY_LABEL, Level
from contextdna.values.memory import MemoryChange, MemoryDraft
from contextdna.values.settings import HubSettings, Limits

_MEDIA_TYPE: Final = re.compile(r"^[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}$")
_JSON_DEPTH_MAX: Final = 16
_COMPARED_CHARS: Final = 64  # with known names; the time grows with the square
_NUL_ESCAPE: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # a NUL as JSON writes it, not the six characters
_DAYS_MIN: Final = 1 / 24
_DAYS_MAX: Final = 36_500.0
_E = TypeVar("_E")


def check_text(text: str, *, name: str, bytes_max: int, empty_allowed: bool = False) -> None:
    """Refuse empty, over-long or unstorable text.

    Raises:
        InvalidInput: ``<name>_empty`` or ``text_unstorable`` (NUL, lone surrogate).
        LimitExceeded: ``<name>_too_large``.
    """
    if not empty_allowed and not any(char.isprintable() and not char.isspace() for char in text):
        raise InvalidInput(
            f"{name} is empty", code=f"{name}_empty", hint=f"Give {name} at least one visible character."
        )
    if "\x00" in text:
        raise InvalidInput(f"{name} holds a NUL character", code="text_unstorable", hint="Remove NUL characters.")
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{name} holds a lone surrogate", code="text_unstorable", hint="Send valid Unicode text."
        ) from error
    if size > bytes_max:
        raise LimitExceeded(
            f"{name} has {size} bytes, the limit is {bytes_max}",
            code=f"{name}_too_large",
            hint="Split it, or keep the whole with attach_artifact and store a summary.",
        )


def check_name(text: str, *, name: str, empty_allowed: bool = False) -> None:
    """Refuse an id that is not 1..128 of ``A-Za-z0-9._:@-``, or that is a session handle.

    Raises:
        InvalidInput: ``<name>_invalid`` or ``session_handle_in_argument``.
    """
    check_no_handle(text, name=name)
    if (text or not empty_allowed) and not is_name(text):
        raise InvalidInput(
            f"{name} is not a valid id" if text else f"{name} is missing",
            code=f"{name}_invalid",
            hint="Use 1 to 128 letters, digits, or . _ : @ -",
        )


def check_agent_id(text: str, *, name: str) -> None:
    """Refuse an agent id that is neither a name nor a path of names such as ``queen/drone``, or is a session handle.

    Raises:
        InvalidInput: ``<name>_invalid`` or ``session_handle_in_argument``.
    """
    check_no_handle(text, name=name)
    if not is_agent_path(text):
        raise InvalidInput(
            f"{name} is not a valid agent id" if text else f"{name} is missing",
            code=f"{name}_invalid",
            hint="Use 1 to 128 letters, digits, or . _ : @ - (or the path of a delegated agent, such as queen/drone).",
        )


def check_no_handle(text: str, *, name: str) -> None:
    """Refuse a session handle or an access token where a name belongs: names are shown to others.

    Raises:
        InvalidInput: ``session_handle_in_argument`` or ``access_token_in_argument``.
    """
    if holds_handle(text):
        raise InvalidInput(
            f"{name} holds a session handle, which is a secret",
            code="session_handle_in_argument",
            hint="Name the agent or the record; a handle is passed as session_id only.",
        )
    if holds_token(text):
        raise InvalidInput(
            f"{name} holds an access token, which is a secret",
            code="access_token_in_argument",
            hint="A token goes into the Authorization header only. Revoke this one: others may have seen it.",
        )


@contextmanager
def naming_item(name: str, position: int) -> Iterator[None]:
    """Let a refusal inside say which item of a batch it is about."""
    try:
        yield
    except (InvalidInput, AccessDenied) as error:
        error.message = f"{name}[{position}]: {error.message}"
        error.args = (error.message,)
        raise


def each_named(items: Sequence[_E], name: str, check: Callable[[_E], None]) -> None:
    """Check the items of a batch; a refusal says which one, where there are several."""
    if len(items) == 1:
        check(items[0])
        return
    for position, item in enumerate(items):
        with naming_item(name, position):
            check(item)


def check_score(value: float, *, name: str) -> None:
    """Refuse a number that is not within 0..1.

    Raises:
        InvalidInput: ``<name>_out_of_range``.
    """
    if not math.isfinite(value) or not 0.0 <= value <= 1.0:
        raise InvalidInput(f"{name} must be a number from 0 to 1", code=f"{name}_out_of_range", hint="Use 0.0 to 1.0.")


def check_count(value: int, *, name: str, maximum: int, minimum: int = 1) -> None:
    """Refuse a count outside its bounds.

    Raises:
        LimitExceeded: ``<name>_out_of_range``.
    """
    if not minimum <= value <= maximum:
        raise LimitExceeded(
            f"{name} is {value}, it must be from {minimum} to {maximum}",
            code=f"{name}_out_of_range",
            hint=f"Use {minimum} to {maximum}.",
        )


def check_seconds(value: float, *, name: str, maximum: float, zero_allowed: bool = False) -> float:
    """Refuse a span that is not above 0 (or from 0), or longer than it may be; gives it.

    Raises:
        InvalidInput: ``<name>_out_of_range``; NaN is refused too.
    """
    if not (0 < value <= maximum or (zero_allowed and value == 0)):
        raise InvalidInput(
            f"{name} is {value:.10g}, it must be {'from' if zero_allowed else 'above'} 0 and at most {maximum:.10g}",
            code=f"{name}_out_of_range",
            hint=f"Use at most {maximum:.10g} seconds.",
        )
    return value


def check_days(value: float | None, *, name: str) -> None:
    """Refuse a span that is not from an hour to a century.

    Raises:
        InvalidInput: ``<name>_out_of_range``.
    """
    if value is not None and not (math.isfinite(value) and _DAYS_MIN <= value <= _DAYS_MAX):
        raise InvalidInput(
            f"{name} must be from 1/24, an hour, to {_DAYS_MAX:.0f}",
            code=f"{name}_out_of_range",
            hint="Use days, e.g. 90.",
        )


def check_metadata(metadata: Mapping[str, Any], limits: Limits) -> None:
    """Refuse metadata that is not plain JSON of moderate size and depth.

    Raises:
        InvalidInput: ``metadata_invalid`` or ``text_unstorable``.
        LimitExceeded: ``metadata_too_large``.
    """
    if metadata:
        check_json(metadata, name="metadata", bytes_max=limits.metadata_bytes_max)


def check_json(value: object, *, name: str, bytes_max: int) -> None:
    """Refuse a value that is not plain JSON of moderate size and depth.

    Raises:
        InvalidInput: ``<name>_invalid`` or ``text_unstorable``.
        LimitExceeded: ``<name>_too_large``.
    """
    if _depth(value) > _JSON_DEPTH_MAX:
        raise InvalidInput(
            f"{name} is nested deeper than {_JSON_DEPTH_MAX}", code=f"{name}_invalid", hint="Flatten it."
        )
    try:
        text = compact_json(value)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{name} is not JSON", code=f"{name}_invalid", hint="No NaN or Infinity.") from error
    check_text(text, name=name, bytes_max=bytes_max)
    if _NUL_ESCAPE.search(text):
        raise InvalidInput(f"{name} holds a NUL character", code="text_unstorable", hint="Remove NUL characters.")


def check_tags(tags: Sequence[str], limits: Limits) -> None:
    """Refuse too many, over-long or empty tags.

    Raises:
        InvalidInput: ``tag_empty`` or ``text_unstorable``.
        LimitExceeded: ``tags_too_many`` or ``tag_too_large``.
    """
    if len(tags) > limits.tags_max:
        raise LimitExceeded(
            f"{len(tags)} tags, the limit is {limits.tags_max}", code="tags_too_many", hint="Keep the telling ones."
        )
    for tag in tags:
        check_text(tag, name="tag", bytes_max=limits.tag_chars_max * 4)


def check_memory_type(memory_type: str, settings: HubSettings) -> None:
    """Refuse a memory type that the project does not know.

    Raises:
        InvalidInput: ``memory_type_unknown``, with near misses.
    """
    if memory_type in settings.memory_types:
        return
    near = difflib.get_close_matches(memory_type[:_COMPARED_CHARS], settings.memory_types, n=3)
    known = ", ".join(near or settings.memory_types)
    raise InvalidInput(
        "unknown memory_type",
        code="memory_type_unknown",
        hint=f"{'Did you mean' if near else 'Use one of'}: {known}. The setting memories.extra_types adds more.",
    )


def parse_level(label: str) -> Level:
    """Turn a level's name into a level.

    Raises:
        InvalidInput: ``level_unknown``.
    """
    return parse_choice(label, LEVELS_BY_LABEL, name="level")


def parse_choice(label: str, choices: Mapping[str, _E], *, name: str) -> _E:
    """Turn a name into one of the choices.

    Raises:
        InvalidInput: ``<name>_unknown``, naming the choices.
    """
    choice = choices.get(label)
    if choice is None:
        raise InvalidInput(f"unknown {name}", code=f"{name}_unknown", hint=f"Use one of: {', '.join(choices)}.")
    return choice


def check_media_type(media_type: str) -> None:
    """Refuse a media type that is not ``type/subtype`` in lower case.

    Raises:
        InvalidInput: ``media_type_invalid``.
    """
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise InvalidInput(
            "media_type is not of the form type/subtype", code="media_type_invalid", hint="For example text/markdown."
        )


def check_memory(draft: MemoryDraft, settings: HubSettings) -> None:
    """Refuse a draft that cannot be stored.

    Raises:
        InvalidInput: With the code of the first thing wrong.
    """
    limits = settings.limits
    check_text(draft.content, name="content", bytes_max=limits.content_bytes_max)
    check_memory_type(draft.memory_type, settings)
    check_score(draft.importance, name="importance")
    check_tags(draft.tags, limits)
    check_metadata(draft.metadata, limits)
    check_days(draft.retention_days, name="retention_days")
    check_period(draft.valid_from, draft.valid_to)


def check_change(change: MemoryChange, settings: HubSettings) -> None:
    """Refuse a change that cannot be made.

    Raises:
        InvalidInput: With the code of the first thing wrong.
    """
    limits = settings.limits
    if change.is_empty():
        raise InvalidInput("nothing to change", code="change_empty", hint="Give at least one new value.")
    if change.content is not None:
        check_text(change.content, name="content", bytes_max=limits.content_bytes_max)
    if change.memory_type is not None:
        check_memory_type(change.memory_type, settings)
    if change.importance is not None:
        check_score(change.importance, name="importance")
    check_tags(change.tags or (), limits)
    check_metadata(change.metadata or {}, limits)
    check_days(change.retention_days, name="retention_days")


def check_period(start: datetime | None, end: datetime | None) -> None:
    """Refuse a period that ends before it starts.

    Raises:
        InvalidInput: ``period_invalid``.
    """
    if start is not None and end is not None and end <= start:
        raise InvalidInput("the period ends before it starts", code="period_invalid", hint="Swap the two times.")


def _depth(value: object) -> int:
    deepest, pending = 0, [(value, 1)]
    while pending:
        item, depth = pending.pop()
        deepest = max(deepest, depth)
        if depth > _JSON_DEPTH_MAX:
            return depth
        if isinstance(item, Mapping):
            pending.extend((child, depth + 1) for child in item.values())
        elif isinstance(item, list | tuple):
            pending.extend((child, depth + 1) for child in item)
    return deepest
