"""The audit log, the outbox, keys and idempotent answers in plain dicts."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import takewhile

from contextdna.backends.in_memory.sheets import Sheets
from contextdna.values.audit import AuditEntry, AuditHead
from contextdna.values.event import Event
from contextdna.values.ids import AgentId, EventId, ProjectId
from contextdna.values.key import WrappedKey
from contextdna.values.project import Conflict, IdempotentResult


class InMemoryAudit:
    """``AuditTable`` on the sheets of one unit."""

    def __init__(self, sheets: Sheets) -> None:
        self._sheets = sheets

    async def head(self, project_id: ProjectId) -> AuditHead | None:
        """Fetch the head of a chain."""
        return self._sheets.heads.rows.get(project_id)

    async def heads(self) -> list[AuditHead]:
        """List all heads by project."""
        return sorted(self._sheets.heads.rows.values(), key=lambda head: head.project_id)

    async def append(self, entries: Sequence[AuditEntry], head: AuditHead) -> None:
        """Append entries of one chain and move its head.

        Raises:
            Conflict: ``already_exists``: a sequence number is taken.
        """
        for entry in entries:
            self._sheets.audit.add((entry.draft.project_id, entry.seq), entry)
        self._sheets.heads.change()[head.project_id] = head

    async def entries(self, project_id: ProjectId, *, after_seq: int, limit: int) -> list[AuditEntry]:
        """Read a chain in order."""
        return [entry for entry in self._chain(project_id) if entry.seq > after_seq][:limit]

    async def latest(
        self, project_id: ProjectId, *, before_seq: int, limit: int, action: str, agent_id: str, record_id: str
    ) -> list[AuditEntry]:
        """Read a chain from its end, filtered; empty strings mean any."""

        def wanted(entry: AuditEntry) -> bool:
            draft = entry.draft
            return (
                entry.seq < before_seq
                and action in ("", draft.action)
                and agent_id in ("", draft.agent_id)
                and (not record_id or record_id in draft.record_ids)
            )

        return [entry for entry in reversed(self._chain(project_id)) if wanted(entry)][:limit]

    async def chains(self) -> list[ProjectId]:
        """List the chains that hold entries."""
        return sorted({project_id for project_id, _ in self._sheets.audit.rows})

    def _chain(self, project_id: ProjectId) -> list[AuditEntry]:
        entries = [entry for (owner, _), entry in self._sheets.audit.rows.items() if owner == project_id]
        return sorted(entries, key=lambda entry: entry.seq)


class InMemoryEvents:
    """``EventTable`` on the sheets of one unit."""

    def __init__(self, sheets: Sheets) -> None:
        self._sheets = sheets

    async def append(self, events: Sequence[Event]) -> None:
        """Add events.

        Raises:
            Conflict: ``already_exists``.
        """
        for event in events:
            seq = self._sheets.event_seq.rows.get(None, 0) + 1
            self._sheets.events.add((event.project_id, event.id), replace(event, seq=seq))
            self._sheets.event_seq.change()[None] = seq

    async def after(self, project_id: ProjectId, event_id: EventId, *, limit: int) -> list[Event]:
        """Read events after one, in the order of commit.

        Where the event itself has been swept, what follows the last one with a smaller id is read.
        """
        events = [event for event in self._sheets.events.rows.values() if event.project_id == project_id]
        exact = [place for place, event in enumerate(events, start=1) if event.id == event_id]
        smaller = [place for place, event in enumerate(events, start=1) if event.id < event_id]
        start = max(exact or smaller, default=0)
        return events[start : start + limit]

    async def place(self, project_id: ProjectId, event_id: EventId) -> int | None:
        """Give the place of an event of a project in the outbox; None where it is not kept."""
        event = self._sheets.events.rows.get((project_id, event_id))
        return event.seq if event else None

    async def since(self, seq: int, *, limit: int) -> list[Event]:
        """Read the events of all projects after a place in the outbox, in order."""
        newer = takewhile(lambda event: event.seq > seq, reversed(self._sheets.events.rows.values()))
        return list(newer)[::-1][:limit]

    async def last_seq(self) -> int:
        """Give the place of the newest event of all projects; 0 when there is none."""
        return max((event.seq for event in self._sheets.events.rows.values()), default=0)

    async def delete_before(self, at: datetime, *, limit: int) -> int:
        """Remove events older than a time, oldest first."""
        rows = self._sheets.events.change()
        old = sorted((key for key, event in rows.items() if event.at < at), key=lambda key: rows[key].at)[:limit]
        for key in old:
            del rows[key]
        return len(old)


class InMemoryKeys:
    """``KeyTable`` on the sheets of one unit."""

    def __init__(self, sheets: Sheets) -> None:
        self._sheets = sheets

    async def all(self, project_id: ProjectId | None = None) -> list[WrappedKey]:
        """List keys by project, purpose and version, of one project or of all."""
        keys = [key for key in self._sheets.keys.rows.values() if project_id in (None, key.project_id)]
        return sorted(keys, key=lambda key: (key.project_id, key.purpose, key.version))

    async def generation(self, project_id: ProjectId) -> int:
        """Give the highest version among a project's keys; 0 without keys."""
        keys = self._sheets.keys.rows.values()
        return max((key.version for key in keys if key.project_id == project_id), default=0)

    async def add(self, key: WrappedKey) -> None:
        """Add a key.

        Raises:
            Conflict: ``already_exists``.
        """
        self._sheets.keys.add((key.project_id, key.key_id), key)

    async def rewrap(self, key: WrappedKey) -> None:
        """Replace the wrapping of a key, and nothing else of it."""
        rows = self._sheets.keys.change()
        held = rows.get((key.project_id, key.key_id))
        if held is not None:
            rows[key.project_id, key.key_id] = replace(held, master_id=key.master_id, wrapped=key.wrapped)


class InMemoryRequests:
    """``RequestTable`` on the sheets of one unit."""

    def __init__(self, sheets: Sheets) -> None:
        self._sheets = sheets

    async def answer(self, project_id: ProjectId, agent_id: AgentId, key: str) -> IdempotentResult | None:
        """Fetch the first answer to an idempotency key."""
        return self._sheets.answers.rows.get((project_id, agent_id, key))

    async def keep_answer(self, result: IdempotentResult) -> None:
        """Keep the first answer to an idempotency key; a later one changes nothing."""
        self._sheets.answers.change().setdefault((result.project_id, result.agent_id, result.key), result)

    async def forget_answer(self, project_id: ProjectId, agent_id: AgentId, key: str) -> None:
        """Forget the answer to an idempotency key, if there is one."""
        if (project_id, agent_id, key) in self._sheets.answers.rows:
            del self._sheets.answers.change()[project_id, agent_id, key]

    async def delete_answers_before(self, at: datetime, *, limit: int) -> int:
        """Forget answers older than a time, oldest first."""
        rows = self._sheets.answers.change()
        old = sorted((row.created_at, key) for key, row in rows.items() if row.created_at < at)[:limit]
        for _, key in old:
            del rows[key]
        return len(old)

    async def add_conflict(self, conflict: Conflict) -> None:
        """Keep that a stale update was refused.

        Raises:
            Conflict: ``already_exists``.
        """
        self._sheets.conflicts.add((conflict.project_id, conflict.id), conflict)

    async def conflicts(self, project_id: ProjectId, *, limit: int) -> list[Conflict]:
        """List refused stale updates, the latest first."""
        rows = [row for row in self._sheets.conflicts.rows.values() if row.project_id == project_id]
        return sorted(rows, key=lambda row: (row.at, row.id), reverse=True)[:limit]
