"""One call at work: the transaction, the actor, and what will be told and audited when it commits."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

from contextdna.domain.access import Action
from contextdna.domain.begun_answers import BegunAnswers
from contextdna.domain.encryption import Binding, ProjectKeys
from contextdna.domain.frequencies import Frequencies
from contextdna.domain.held_rankings import HeldRankings
from contextdna.domain.recall import Recall
from contextdna.domain.tokens import Tokeniser, TokenSpaces, estimate_tokens
from contextdna.errors import IntegrityFault
from contextdna.ports.database import Transaction
from contextdna.values.event import Event, EventName
from contextdna.values.ids import AgentId, EventId, IdPrefix, ProjectId, new_id
from contextdna.values.level import ENCRYPTED_LEVELS, Level
from contextdna.values.principal import Actor, Reader
from contextdna.values.record import Kind, Record, Sealed, VisibleRecord
from contextdna.values.settings import HubSettings

R = TypeVar("R")


@dataclass(slots=True)
class Operation:
    """What domain functions receive. ``note`` and ``emit`` collect; the hub writes them in the same transaction."""

    tx: Transaction
    actor: Actor
    action: Action
    now: datetime
    keys: ProjectKeys
    spaces: TokenSpaces
    frequencies: Frequencies
    settings: HubSettings
    record_ids: list[str] = field(default_factory=list)
    missing_ids: list[str] = field(default_factory=list)
    """Records that the call named and was not given, beside what it was given: they get an entry of their own."""
    hidden_ids: list[str] = field(default_factory=list)
    """Those of them that are there, but not for the actor."""
    details: dict[str, Any] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    leaves_remains: bool = False
    """Set when readable traces of what is gone, or is encrypted now, stay in the database's files until shredded."""
    recall: Recall | None = None
    """What ``semantics`` searches by meaning with; None without an embedder."""
    rankings: HeldRankings[Any] | None = None
    """What was ranked lately, for a call that only reads; None where nothing is to be held."""
    promised: deque[str] | None = None
    """Ids that were given to the caller of a queued write before it came here, which its records must bear."""
    derived: deque[str] | None = None
    """Ids for its records that the same request is promised where it waits; an empty one is drawn."""
    begun: BegunAnswers[Any] | None = None
    """Answers of which pages were given; None where nothing is to be held."""
    count_tokens: Callable[[str], int] = estimate_tokens
    """Counts the tokens of a text as a language model does, or estimates them, erring high."""

    @property
    def project_id(self) -> ProjectId:
        """The project of the call."""
        return self.actor.project_id

    def new_id(self, prefix: IdPrefix) -> str:
        """Make the id of a record of the caller's, or give the one that was, or would be, promised."""
        given = self.promised or self.derived
        return (given.popleft() if given else "") or new_id(prefix, self.now)

    def note(self, record_ids: Sequence[str] = (), **details: Any) -> None:
        """Add record ids and counts to the audit entry of this call; never text of a record."""
        self.record_ids.extend(record_ids)
        self.details.update(details)

    def miss(self, record_ids: Iterable[str], *, hidden: Iterable[str]) -> None:
        """Add ids that are not there for the actor, hidden or absent: both cost it the same, or the time would tell.

        Args:
            record_ids: All of them.
            hidden: Those among them that are there for others.
        """
        self.missing_ids.extend(record_ids)
        self.hidden_ids.extend(hidden)

    def emit(
        self,
        name: EventName,
        record_ids: Sequence[str] = (),
        *,
        subject: str = "",
        audience: Sequence[str] = (),
        by: AgentId = AgentId(""),
    ) -> None:
        """Add an event that is told after commit.

        Args:
            name: What happened.
            record_ids: Records that it is about; who may see one of them may know of the event.
            subject: What else it is about: a session, delegation, agent, signal or task id, or a phase.
            audience: Who else may know of it, see ``Event.audience``.
            by: Who did it; the actor when empty.
        """
        self.events.append(
            Event(
                id=EventId(new_id(IdPrefix.EVENT, self.now)),
                project_id=self.project_id,
                name=name,
                agent_id=by or self.actor.agent_id,
                record_ids=tuple(record_ids),
                at=self.now,
                subject=subject,
                audience=tuple(audience),
            )
        )

    def index(self, level: Level) -> Tokeniser:
        """Give what makes the tokens of records of a level."""
        return self.spaces.of(level)

    def tokens(self, text: str, level: Level) -> tuple[str, ...]:
        """Give the index tokens of a text of a level."""
        most = self.settings.limits.indexed_tokens_max
        return self.index(level).tokens(text, limit=most, default=self.settings.search.language)

    def content_hash(self, content: str | bytes, level: Level) -> bytes:
        """Hash the content of a record of a level."""
        return self.keys.content_hash(content, encrypted=level in ENCRYPTED_LEVELS)

    def seal(
        self, body: Mapping[str, Any], *, record_id: str, level: Level, version: int, current: Record | None = None
    ) -> Sealed:
        """Pack a record's body, encrypted where its level asks for it.

        Args:
            body: What to pack.
            record_id: The record's id.
            level: The record's level.
            version: The version that the body belongs to.
            current: The record as it stands; None for a new one, which the actor will own.
        """
        circle = _circle(current or self.actor.reader)
        return self.keys.seal(
            body,
            Binding("records", self.project_id, record_id, level, version, circle),
            encrypted=level in ENCRYPTED_LEVELS,
            compress_over_bytes=self.settings.limits.compress_over_bytes,
        )

    def open(self, record: Record) -> dict[str, Any]:
        """Open a record's body.

        Raises:
            IntegrityFault: The row was changed, or belongs elsewhere.
        """
        return open_body(self.keys, record)

    def readable(self, items: Sequence[VisibleRecord], opener: Callable[[VisibleRecord], R]) -> list[R]:
        """Open what can be opened: one damaged record must not hide the others. The audit entry counts the damaged.

        Raises:
            IntegrityFault: ``body_unreadable``: all of them are damaged.
        """
        opened, damaged = [], 0
        for item in items:
            try:
                opened.append(opener(item))
            except IntegrityFault:
                damaged += 1
                if damaged == len(items):
                    raise
        if damaged:
            self.note(unreadable=damaged)
        return opened


_SHAPES: Final[Mapping[Kind, Mapping[str, type]]] = {
    Kind.MEMORY: {"content": str, "tags": list, "metadata": dict},
    Kind.TURN: {"content": str},
    Kind.ARTIFACT: {"name": str, "media_type": str, "size_bytes": int, "sha256": str},
    Kind.LOOP: {"loop": str, "reasoning": str},
    Kind.TASK: dict.fromkeys(("title", "description", "result", "due_at", "grant_id"), str)
    | {"session_id": str, "delegation_id": str, "result_ids": list},
}
"""What a body of each kind holds at least. Plain levels carry no tag that would tell of a change."""


def open_body(keys: ProjectKeys, record: Record) -> dict[str, Any]:
    """Open a record's body outside of a call.

    Raises:
        IntegrityFault: The row was changed, or belongs elsewhere.
    """
    binding = Binding("records", record.project_id, record.id, record.level, record.version, _circle(record))
    body = keys.open(record.sealed, binding, encrypted=record.level in ENCRYPTED_LEVELS)
    if not all(isinstance(body.get(name), kind) for name, kind in _SHAPES[record.kind].items()):
        raise IntegrityFault(
            "a stored body is not what was written",
            code="body_unreadable",
            hint="Run `contextdna doctor` and restore the data folder from a backup.",
        )
    return body


def _circle(of: Record | Reader) -> tuple[str, str, str]:
    owner = of.owner_id if isinstance(of, Record) else of.agent_id
    return (owner, of.team_id, of.swarm_id)
