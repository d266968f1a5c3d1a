"""A record of any kind as a document to read, and how records are linked."""

from dataclasses import dataclass
from typing import Final

from contextdna.values.ids import RecordId
from contextdna.values.record import Record

RELATES_TO: Final = "relates_to"
RELATIONS: Final = (
    RELATES_TO,
    "supports",
    "contradicts",
    "refines",
    "derived_from",
    "causes",
    "part_of",
    "example_of",
)
"""What a link may say of its start, as its owner sees it. Other relations are made by what they belong to."""


@dataclass(frozen=True, slots=True)
class Relation:
    """One link of a record, as far as its reader may see the other end."""

    name: str
    target: RecordId


@dataclass(frozen=True, slots=True)
class Document:
    """A record's text, with a title to know it by and what it is linked to."""

    record: Record
    title: str
    text: str
    relations: tuple[Relation, ...] = ()
    granted_by: str = ""
