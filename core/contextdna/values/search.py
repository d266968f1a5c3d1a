"""Questions to the memory and their answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from contextdna.values.ids import AgentId, RecordId, SessionId
from contextdna.values.level import Level
from contextdna.values.record import Kind, Record

NEIGHBOURS_MAX: Final = 2
"""Places before and after a record that count as beside it; the SQL has them in its shape.

Source: docs/decisions/0021: the third adds nothing.
"""

Phrase: TypeAlias = tuple[str, ...]
"""Tokens that stand side by side."""


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """What a record must be to count; an empty tuple or ``None`` means any."""

    kinds: tuple[Kind, ...] = ()
    types: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    levels: tuple[Level, ...] = ()
    tag_tokens: tuple[str, ...] = ()
    """Keyed tokens of tags; a record of a plain level must carry all of them."""
    sealed_tag_tokens: tuple[str, ...] = ()
    """The same tags' tokens for encrypted levels; a record of one must carry all of them."""
    owner_id: AgentId = AgentId("")
    session_id: SessionId = SessionId("")
    subject: str = ""
    since: datetime | None = None
    """Created at or after."""
    until: datetime | None = None
    """Created before."""
    as_of: datetime | None = None
    """Judge validity and existence at this time instead of now."""
    min_importance: float = 0.0
    deleted: bool = False
    """Soft-deleted records instead of living ones."""
    ever: bool = False
    """Superseded, no longer and not yet valid records too: whatever is kept."""


class Stretch(NamedTuple):
    """A part of a project's records in the order of their arrival, within which a search looks."""

    newest: int = 2**63 - 1
    oldest: int = 0
    """The place before its first."""


EVERYTHING: Final = Stretch()

Forms: TypeAlias = tuple[Phrase, ...]
"""One word or quoted phrase as it may stand in the index: in each token space, in each language."""


@dataclass(frozen=True, slots=True)
class Match:
    """A keyed query of phrases (one token is a phrase of one): which records are found."""

    any_of: tuple[Phrase, ...]
    """Where nothing is required, one of these must be there, or one of ``together``."""
    all_of: tuple[Forms, ...] = ()
    """What must be there (the user put it in quotes), each in one of its forms; then nothing else decides."""
    together: tuple[tuple[Forms, ...], ...] = ()
    """Words that are too common alone: all of a group must be there, each in one of its forms."""

    def __bool__(self) -> bool:
        """Tell whether anything can match."""
        return bool(self.any_of or self.all_of or self.together)


class Candidate(NamedTuple):
    """A record that may be an answer, before it is opened: enough to rank it. A tuple, as there are thousands."""

    id: RecordId
    level: int
    """The number of its level."""
    owner_id: AgentId
    importance: float
    created_us: int
    """Microseconds since 1970-01-01 UTC."""
    words: int
    """How many words of it are indexed."""
    sketch: bytes
    """Its words, see ``values.sketch``."""
    granted: bool | int
    """True or 1 where only a grant makes it visible."""


class Neighbour(NamedTuple):
    """A record beside another one: said or stored shortly before or after it, or linked with it."""

    of: RecordId
    distance: int
    """Places before (negative) or after; 0 for a linked record."""
    candidate: Candidate


def placed(beside: Sequence[tuple[RecordId, int, Candidate]]) -> list[Neighbour]:
    """Turn steps (negative: before; 0: linked) into places, which count only what was given.

    So the place of a neighbour tells nothing of hidden records in between.
    """
    found = [Neighbour(of, 0, candidate) for of, step, candidate in beside if step == 0]
    for sign in (-1, 1):
        places: dict[RecordId, int] = {}
        for of, step, candidate in sorted(beside, key=lambda row: abs(row[1])):
            if step * sign > 0:
                places[of] = places.get(of, 0) + 1
                found.append(Neighbour(of, sign * places[of], candidate))
    return found


@dataclass(frozen=True, slots=True)
class IndexStatistics:
    """What the weights of words are computed with: one project's records, deleted ones too."""

    records: int
    words: int
    """Of all of them together."""
    revision: int
    """Another one after each change of the project's index; 0 where there is none yet."""
    counts: Mapping[Phrase, int]
    """How many records hold each phrase that was counted, 0 too."""
    event: int = 0
    """The place of the project's newest event in the outbox; 0 where none is kept."""


class Detail(StrEnum):
    """How much of each hit an answer shows."""

    FULL = "full"
    COMPACT = "compact"
    """A line of each, without reasons and tags: more hits fit, and what is wanted is then read whole."""


@dataclass(frozen=True, slots=True)
class ContextQuery:
    """A question as retrieve_context takes it."""

    text: str = ""
    kinds: tuple[Kind, ...] = ()
    types: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    levels: tuple[Level, ...] = ()
    tags: tuple[str, ...] = ()
    owner_id: AgentId = AgentId("")
    session_id: SessionId = SessionId("")
    since: datetime | None = None
    until: datetime | None = None
    as_of: datetime | None = None
    min_importance: float = 0.0
    limit: int = 30
    max_tokens: int = 2000
    detail: Detail = Detail.FULL
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """One record of an answer, with the reasons it is there."""

    record: Record
    content: str
    tags: tuple[str, ...]
    score: float
    """Comparable within one answer only: 1 at most, and what a time, a name or a grant adds."""
    why: tuple[str, ...]
    granted_by: str = ""
    clipped: bool = False
    """True when the content was cut to the token budget or to a line; get_memory gives the whole."""
    same_ids: tuple[RecordId, ...] = ()
    """Further hits that say nearly the same words and are not shown."""


@dataclass(frozen=True, slots=True)
class ScopeCount:
    """How many records of one level or type a reader may see."""

    name: str
    records: int


@dataclass(frozen=True, slots=True)
class EmptyReason:
    """Why there are no hits: what was searched, how much is visible there, and near misses."""

    message: str
    visible: int
    by_level: tuple[ScopeCount, ...]
    by_type: tuple[ScopeCount, ...]
    suggestions: tuple[str, ...]
    newest: int = 0
    """So many newest records of the project were counted; 0 where all were."""


@dataclass(frozen=True, slots=True)
class Context:
    """An answer of retrieve_context."""

    hits: tuple[Hit, ...]
    tokens: int
    """Tokens of the hits' contents and of what stands around them, as counted against the budget."""
    cursor: str
    truncated: bool
    empty: EmptyReason | None = None
