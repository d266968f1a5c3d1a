"""Questions to the memory and their answers."""

from dataclasses import dataclass
from datetime import datetime

from contextdna.values.ids import AgentId, RecordId, SessionId
from contextdna.values.level import Level
from contextdna.values.record import Kind, Record


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """What a record must be to count; an empty tuple or ``None`` means any."""

    kinds: tuple[Kind, ...] = ()
    types: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    levels: tuple[Level, ...] = ()
    tag_tokens: tuple[str, ...] = ()
    """Keyed tokens of tags; a record must carry all of them."""
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


@dataclass(frozen=True, slots=True)
class Match:
    """A keyed query of phrases (one token is a phrase of one). All phrases score; some also decide what matches."""

    any_of: tuple[tuple[str, ...], ...]
    """Where nothing is required, one of these must be there."""
    all_of: tuple[tuple[str, ...], ...] = ()
    """Phrases that must be there (the user put them in quotes)."""
    also: tuple[tuple[str, ...], ...] = ()
    """Phrases that only score: too common to look for, still telling among what was found."""

    @property
    def deciding(self) -> tuple[tuple[str, ...], ...]:
        """The phrases that decide: all of ``all_of``, or, where it is empty, any of ``any_of``."""
        return self.all_of or self.any_of

    @property
    def scoring(self) -> tuple[tuple[str, ...], ...]:
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
