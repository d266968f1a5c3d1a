"""Cursors: opaque to clients, bound to the kind of list that gave them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from contextdna import bad_cursor, pack_cursor, unpack_cursor
from contextdna_resources.uris import Noun, ResourceUri

PAGE: Final = 50
_POSITION_MAX: Final = 2**53  # of a turn: milliseconds of its session; an integer that JSON keeps
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page starts: after ``offset`` items or bytes, and in a conversation ``chars`` into the next turn.

    With ``before`` a page of a conversation ends instead: with the last turn before that position, or with so many
    characters of the turn at it.
    """

    offset: int = 0
    chars: int = 0
    before: int = 0


LATEST: Final = "latest"
"""The cursor of a conversation's last page."""
AT_THE_END: Final = Place(before=_POSITION_MAX)


def write_cursor(uri: ResourceUri, place: Place) -> str:
    """Write a place in a URI's list as a cursor."""
    if place == AT_THE_END:
        return LATEST
    ending = (place.before,) if place.before else ()
    return pack_cursor(uri.noun.value, place.offset, place.chars, *ending)


def read_cursor(uri: ResourceUri) -> Place:
    """Read the cursor of a URI; without one the place is the start.

    Raises:
        InvalidInput: ``cursor_invalid``.
    """
    if not uri.cursor:
        return Place()
    if uri.noun is Noun.CONVERSATION and uri.cursor == LATEST:
        return AT_THE_END
    try:
        noun, offset, chars, *ending = unpack_cursor(uri.cursor)
        if noun != uri.noun.value or len(ending) > (uri.noun is Noun.CONVERSATION):
            raise ValueError("of another list")
        return Place(_position(offset), _position(chars), *map(_position, ending))
    except ValueError as error:
        raise bad_cursor() from error


def next_page(uri: ResourceUri, place: Place | None) -> dict[str, str]:
    """Tell where the next page is; nothing where there is none."""
    return next_link(uri, write_cursor(uri, place)) if place else {}


def next_link(uri: ResourceUri, cursor: str) -> dict[str, str]:
    """Tell where a cursor leads on to; nothing where it is empty."""
    return {"next_cursor": cursor, "next": str(replace(uri, cursor=cursor))} if cursor else {}


def cut_page(items: Sequence[T], place: Place) -> tuple[Sequence[T], Place | None]:
    """Cut off the one item that was read beyond a page to learn whether there are more."""
    more = len(items) > PAGE
    return items[:PAGE], Place(place.offset + PAGE) if more else None


def _position(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _POSITION_MAX:
        raise ValueError("not a position")
    return value
