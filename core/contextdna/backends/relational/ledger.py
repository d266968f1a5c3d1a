"""What is kept beside records: the audit log, events, keys, idempotent answers, conflicts."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from contextdna.backends.relational.columns import json_list, micros, moment, texts_of
from contextdna.backends.relational.statements import Executor, Row
from contextdna.values.audit import AuditDraft, AuditEntry, AuditHead, Outcome, Risk
from contextdna.values.event import Event, EventName
from contextdna.values.ids import AgentId, EventId, ProjectId
from contextdna.values.key import KeyPurpose, WrappedKey
from contextdna.values.project import Conflict, IdempotentResult

_OUTCOMES: Final = {outcome.value: outcome for outcome in Outcome}
_RISKS: Final = {risk.value: risk for risk in Risk}


class Audit:
    """Fulfils ``ports.ledger.AuditTable``."""

    def __init__(self, executor: Executor) -> None:
        self._rows = executor.rows
        self._run = executor.run
        self._run_many = executor.run_many

    async def head(self, project_id: ProjectId) -> AuditHead | None:
        """Fetch the head of a chain."""
        rows = await self._rows("audit_head", (project_id,))
        return AuditHead(*rows[0]) if rows else None

    async def heads(self) -> list[AuditHead]:
        """List all heads."""
        return [AuditHead(*row) for row in await self._rows("audit_heads")]

    async def append(self, entries: Sequence[AuditEntry], head: AuditHead) -> None:
        """Append entries of one chain and move its head."""
        if len(entries) == 1:
            await self._run("audit_append", _entry_params(entries[0]))
        else:
            await self._run_many("audit_append", [_entry_params(entry) for entry in entries])
        await self._run("audit_head_set", (head.project_id, head.seq, head.mac, head.signature))

    async def entries(self, project_id: ProjectId, *, after_seq: int, limit: int) -> list[AuditEntry]:
        """Read a chain in order."""
        return [_entry_of(row) for row in await self._rows("audit_entries", (project_id, after_seq, limit))]

    async def latest(
        self, project_id: ProjectId, *, before_seq: int, limit: int, action: str, agent_id: str, record_id: str
    ) -> list[AuditEntry]:
        """Read a chain from its end, filtered; empty strings mean any."""
        params = (project_id, before_seq, limit, action, agent_id, record_id)
        return [_entry_of(row) for row in await self._rows("audit_latest", params)]

    async def chains(self) -> list[ProjectId]:
        """List the chains that hold entries."""
        return [row[0] for row in await self._rows("audit_chains")]


class Events:
    """Fulfils ``ports.ledger.EventTable``."""

    def __init__(self, executor: Executor) -> None:
        self._rows = executor.rows
        self._run = executor.run
        self._run_many = executor.run_many

    async def append(self, events: Sequence[Event]) -> None:
        """Add events."""
        await self._run_many(
            "event_append",
            [
                (
                    event.project_id,
                    event.id,
                    event.name.value,
                    event.agent_id,
                    json_list(event.record_ids),
                    micros(event.at),
                    event.subject,
                    json_list(event.audience),
                )
                for event in events
            ],
        )

    async def after(self, project_id: ProjectId, event_id: EventId, *, limit: int) -> list[Event]:
        """Read events after one (or from the start, with an empty id), in order."""
        return [_event_of(row) for row in await self._rows("events_after", (project_id, event_id, limit))]

    async def place(self, project_id: ProjectId, event_id: EventId) -> int | None:
        """Give the place of an event of a project in the outbox; None where it is not kept."""
        rows = await self._rows("events_place", (project_id, event_id))
        return int(rows[0][0]) if rows else None

    async def since(self, seq: int, *, limit: int) -> list[Event]:
        """Read the events of all projects after a place in the outbox, in order."""
        return [_event_of(row) for row in await self._rows("events_since", (seq, limit))]

    async def last_seq(self) -> int:
        """Give the place of the newest event of all projects; 0 when there is none."""
        return int((await self._rows("events_last_seq"))[0][0])

    async def delete_before(self, at: datetime, *, limit: int) -> int:
        """Remove events older than a time."""
        return await self._run("events_delete_before", (micros(at), limit))


class Keys:
    """Fulfils ``ports.ledger.KeyTable``."""

    def __init__(self, executor: Executor) -> None:
        self._rows = executor.rows
        self._run = executor.run

    async def all(self, project_id: ProjectId | None = None) -> list[WrappedKey]:
        """List keys, of one project or of all."""
        rows = await (self._rows("keys_all") if project_id is None else self._rows("keys_of", (project_id,)))
        return [WrappedKey(row[0], row[1], KeyPurpose(row[2]), row[3], row[4], row[5], moment(row[6])) for row in rows]

    async def generation(self, project_id: ProjectId) -> int:
        """Give the highest version among a project's keys; 0 without keys."""
        generation: int = (await self._rows("keys_generation", (project_id,)))[0][0]
        return generation

    async def add(self, key: WrappedKey) -> None:
        """Add a key."""
        await self._run(
            "key_add",
            (
                key.key_id,
                key.project_id,
                key.purpose.value,
                key.version,
                key.master_id,
                key.wrapped,
                micros(key.created_at),
            ),
        )

    async def rewrap(self, key: WrappedKey) -> None:
        """Replace the wrapping of a key."""
        await self._run("key_rewrap", (key.project_id, key.key_id, key.master_id, key.wrapped))


class Requests:
    """Fulfils ``ports.ledger.RequestTable``."""

    def __init__(self, executor: Executor) -> None:
        self._rows = executor.rows
        self._run = executor.run

    async def answer(self, project_id: ProjectId, agent_id: AgentId, key: str) -> IdempotentResult | None:
        """Fetch the first answer to an idempotency key."""
        for row in await self._rows("answer_get", (project_id, agent_id, key)):
            return IdempotentResult(row[0], row[1], row[2], row[3], row[4], moment(row[5]))
        return None

    async def keep_answer(self, result: IdempotentResult) -> None:
        """Keep the first answer to an idempotency key."""
        await self._run(
            "answer_keep",
            (
                result.project_id,
                result.agent_id,
                result.key,
                result.fingerprint,
                result.answer,
                micros(result.created_at),
            ),
        )

    async def forget_answer(self, project_id: ProjectId, agent_id: AgentId, key: str) -> None:
        """Forget the answer to an idempotency key, if there is one."""
        await self._run("answer_forget", (project_id, agent_id, key))

    async def delete_answers_before(self, at: datetime, *, limit: int) -> int:
        """Forget answers older than a time."""
        return await self._run("answers_delete_before", (micros(at), limit))

    async def add_conflict(self, conflict: Conflict) -> None:
        """Keep that a stale update was refused."""
        await self._run(
            "conflict_add",
            (
                conflict.id,
                conflict.project_id,
                conflict.record_id,
                conflict.agent_id,
                conflict.expected_version,
                conflict.current_version,
                micros(conflict.at),
            ),
        )

    async def conflicts(self, project_id: ProjectId, *, limit: int) -> list[Conflict]:
        """List refused stale updates, the latest first."""
        rows = await self._rows("conflicts_latest", (project_id, limit))
        return [Conflict(row[0], row[1], row[2], row[3], row[4], row[5], moment(row[6])) for row in rows]


def _entry_params(entry: AuditEntry) -> tuple[Any, ...]:
    draft = entry.draft
    return (
        draft.project_id,
        entry.seq,
        micros(draft.at),
        draft.principal_id,
        draft.agent_id,
        draft.session_id,
        draft.action,
        draft.outcome.value,
        draft.risk.value,
        json_list(draft.record_ids),
        draft.details,
        draft.request_id,
        draft.trace_id,
        entry.mac,
    )


def _entry_of(row: Row) -> AuditEntry:
    """Read an entry; a row that was changed into nonsense is still an entry, for verification to name."""
    try:
        at, outcome, risk, record_ids = moment(row[2]), _OUTCOMES[row[7]], _RISKS[row[8]], texts_of(row[9])
        if json_list(record_ids) != row[9]:  # the same ids written otherwise would hide the entry from a search for one
            raise ValueError("not as it was written")
    except (KeyError, ValueError, OverflowError):
        at, outcome, risk, record_ids = moment(0), Outcome.UNREADABLE, Risk.CRITICAL, ()
    draft = AuditDraft(row[0], at, row[3], row[4], row[5], row[6], outcome, risk, record_ids, row[10], row[11], row[12])
    return AuditEntry(row[1], draft, row[13])


def _event_of(row: Row) -> Event:
    return Event(
        row[0],
        row[1],
        EventName(row[2]),
        row[3],
        texts_of(row[4]),
        moment(row[5]),
        subject=row[6],
        audience=texts_of(row[7]),
        seq=row[8],
    )
