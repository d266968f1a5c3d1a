"""Questions to the memory and their answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from contextdna.values.ids import AgentId, RecordId, SessionId
from contextdna.values.level import Level
from contextdna.values.record import Kind, Record

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


@dataclass(frozen=True, slots=True)
class Match:
    """A keyed query of phrases (one token is a phrase of one). All phrases score; some also decide what matches."""

    any_of: tuple[Phrase, ...]
    """Where nothing is required, one of these must be there."""
    all_of: tuple[tuple[Phrase, ...], ...] = ()
    """What must be there (the user put it in quotes), each in one of its forms."""
    also: tuple[Phrase, ...] = ()
    """Phrases that only score: too common to look for, still telling among what was found."""
    weights: Mapping[Phrase, float] = field(default_factory=dict)
    """What the score of a phrase is multiplied with; 1 where it is not named."""

    @property
    def deciding(self) -> tuple[Phrase, ...]:
        """The phrases that decide: every form in ``all_of``, or, where it is empty, ``any_of``."""
        return tuple(form for forms in self.all_of for form in forms) if self.all_of else self.any_of

    @property
    def scoring(self) -> tuple[Phrase, ...]:
        """The phrases that only add to the score of what matches."""
        return (*self.any_of, *self.also) if self.all_of else self.also


@dataclass(frozen=True, slots=True)
class Candidate:
    """A record that matched, before it is opened: enough to rank it."""

    id: RecordId
    bm25: float
    """Higher is better; 0 where there was no text query."""
    importance: float
    created_at: datetime


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
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """One record of an answer, with the reasons it is there."""

    record: Record
    content: str
    tags: tuple[str, ...]
    score: float
    """0..1, comparable within one answer only."""
    why: tuple[str, ...]
    granted_by: str = ""
    clipped: bool = False
    """True when the content was cut to fit the token budget; get_memory gives the whole."""


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


@dataclass(frozen=True, slots=True)
class Context:
    """An answer of retrieve_context."""

    hits: tuple[Hit, ...]
    tokens: int
    """Estimated tokens of the hits' contents."""
    cursor: str
    truncated: bool
    empty: EmptyReason | None = None
