"""Ports: what is kept beside records so that every change can be accounted for."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from contextdna.values.audit import AuditEntry, AuditHead
from contextdna.values.event import Event
from contextdna.values.ids import AgentId, EventId, ProjectId
from contextdna.values.key import WrappedKey
from contextdna.values.project import Conflict, IdempotentResult


class AuditTable(Protocol):
    """The append-only audit log and its signed heads."""

    async def head(self, project_id: ProjectId) -> AuditHead | None:
        """Fetch the head of a chain."""
        ...

    async def heads(self) -> list[AuditHead]:
        """List all heads."""
        ...

    async def append(self, entries: Sequence[AuditEntry], head: AuditHead) -> None:
        """Append entries of one chain and move its head."""
        ...

    async def entries(self, project_id: ProjectId, *, after_seq: int, limit: int) -> list[AuditEntry]:
        """Read a chain in order."""
        ...

    async def latest(
        self, project_id: ProjectId, *, before_seq: int, limit: int, action: str, agent_id: str, record_id: str
    ) -> list[AuditEntry]:
        """Read a chain from its end, filtered; empty strings mean any."""
        ...

    async def chains(self) -> list[ProjectId]:
        """List the chains that hold entries."""
        ...


class EventTable(Protocol):
    """The outbox: events written with the change they tell of."""

    async def append(self, events: Sequence[Event]) -> None:
        """Add events."""
        ...

    async def after(self, project_id: ProjectId, event_id: EventId, *, limit: int) -> list[Event]:
        """Read events after one (or from the start, with an empty id), in order."""
        ...

    async def place(self, project_id: ProjectId, event_id: EventId) -> int | None:
        """Give the place of an event of a project in the outbox; None where it is not kept."""
        ...

    async def since(self, seq: int, *, limit: int) -> list[Event]:
        """Read the events of all projects after a place in the outbox, in order."""
        ...

    async def last_seq(self) -> int:
        """Give the place of the newest event of all projects; 0 when there is none."""
        ...

    async def delete_before(self, at: datetime, *, limit: int) -> int:
        """Remove events older than a time, oldest first."""
        ...


class KeyTable(Protocol):
    """Wrapped project keys."""

    async def all(self, project_id: ProjectId | None = None) -> list[WrappedKey]:
        """List keys, of one project or of all."""
        ...

    async def generation(self, project_id: ProjectId) -> int:
        """Give the highest version among a project's keys, which rises with every new data key; 0 without keys."""
        ...

    async def add(self, key: WrappedKey) -> None:
        """Add a key."""
        ...

    async def rewrap(self, key: WrappedKey) -> None:
        """Replace the wrapping of a key."""
        ...


class RequestTable(Protocol):
    """Idempotent answers and conflict records."""

    async def answer(self, project_id: ProjectId, agent_id: AgentId, key: str) -> IdempotentResult | None:
        """Fetch the first answer to an idempotency key."""
        ...

    async def keep_answer(self, result: IdempotentResult) -> None:
        """Keep the first answer to an idempotency key."""
        ...

    async def forget_answer(self, project_id: ProjectId, agent_id: AgentId, key: str) -> None:
        """Forget the answer to an idempotency key, if there is one."""
        ...

    async def delete_answers_before(self, at: datetime, *, limit: int) -> int:
        """Forget answers older than a time."""
        ...

    async def add_conflict(self, conflict: Conflict) -> None:
        """Keep that a stale update was refused."""
        ...

    async def conflicts(self, project_id: ProjectId, *, limit: int) -> list[Conflict]:
        """List refused stale updates, the latest first."""
        ...
