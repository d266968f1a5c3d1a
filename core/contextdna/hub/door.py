"""The one door's mechanism: resolve, run, audit, commit, tell. Every Workspace method goes through it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import anyio

from contextdna.domain import agent_history, audit
from contextdna.domain.access import RISKS, Action, Caller, require_role, require_unretired, resolve_actor
from contextdna.domain.encryption import ProjectKeys, Vault
from contextdna.domain.frequencies import Frequencies
from contextdna.domain.operation import Operation
from contextdna.domain.packing import compact_json
from contextdna.domain.recall import Recall
from contextdna.domain.tokens import Tokeniser, TokenSpaces
from contextdna.errors import AccessDenied, Conflict, ContextDnaError, IntegrityFault, NotFound, SessionInvalid
from contextdna.hub.reads import ReadLedger, ReadTrace
from contextdna.hub.remains import Remains
from contextdna.ports.database import Database, Transaction
from contextdna.ports.storage import EventChannel
from contextdna.values.audit import AuditDraft, Outcome, Risk
from contextdna.values.event import DEPARTURES, Event
from contextdna.values.ids import INSTALLATION, AgentId, IdPrefix, ProjectId, RecordId, SessionId, is_id, new_id
from contextdna.values.principal import Actor
from contextdna.values.project import Conflict as ConflictRecord
from contextdna.values.settings import HubSettings

R = TypeVar("R")
Run = Callable[[Operation], Awaitable[R]]
_Sighting = tuple[ProjectId, AgentId, bool]

_AUDITED_IDS_MAX = 100
_NO_ID = "(no id)"
_SEEN_MAX = 10_000
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_SIGHTS = 3  # how often who works is noted within the time after which it would count as gone
_REFUSAL_RISKS = {Outcome.DENIED: Risk.HIGH, Outcome.UNREADABLE: Risk.CRITICAL}


@dataclass(slots=True)
class _Attempt:
    """How far a call came: kept outside its transaction, so that a refused one can still be audited."""

    actor: Actor | None = None
    missed: NotFound | None = None
    seen_at: datetime | None = None


class Door:
    """Runs domain functions for callers, one transaction each."""

    def __init__(
        self,
        *,
        database: Database,
        vault: Vault,
        channel: EventChannel,
        settings: HubSettings,
        clock: Callable[[], datetime],
        remains: Remains,
        recall: Recall | None = None,
    ) -> None:
        self.database = database
        self.recall = recall
        self.vault = vault
        self.settings = settings
        self.clock = clock
        self.reads = ReadLedger(database, vault, settings.read_audit, clock)
        self._channel = channel
        self._remains = remains
        self._seen: dict[_Sighting, datetime] = {}
        self._see_again = timedelta(seconds=settings.work.coordinator_silence_s / _SIGHTS)
        self._indexes: dict[ProjectId, tuple[TokenSpaces, Frequencies]] = {}

    async def write(self, caller: Caller, action: Action, run: Run[R]) -> R:
        """Run a changing operation: row, audit entry and event commit together, or nothing does.

        Raises:
            ContextDnaError: Whatever refused it; denials are audited before this is raised.
        """
        attempt = _Attempt()

        async def unit(tx: Transaction) -> tuple[R, list[Event]]:
            op = await self._begin(tx, caller, action, attempt)
            attempt.seen_at = await self._see(op)
            answer = await run(op)
            if op.leaves_remains:
                self._remains.expect()  # before the commit: a cancelled caller may never come to shred them
            await audit.append(tx, op.keys, [_allowed(op, caller), *_missing(op, caller)])
            if op.events:
                await tx.events.append(op.events)
            return answer, op.events

        answer, events = await self._attempt(self.database.write, unit, caller, action, attempt)
        if attempt.actor is not None and attempt.seen_at is not None:
            self._note_seen(_sighted(attempt.actor), attempt.seen_at)
        self._note_departures(events)
        if events:
            await self._channel.publish(events)
        return answer

    async def read(self, caller: Caller, action: Action, run: Run[R], *, touch: bool = False) -> R:
        """Run a reading operation on one snapshot; it is audited as the settings say, its denial always.

        Args:
            caller: Who asks.
            action: What is asked.
            run: The operation.
            touch: Whether the records it notes count as accessed.

        Raises:
            ContextDnaError: Whatever refused it; denials are audited before this is raised.
        """
        answer, trace = await self._read(caller, action, run)
        await self.reads.add(trace if touch else replace(trace, touched=()))
        return answer

    async def look(self, caller: Caller, action: Action, run: Run[R]) -> tuple[R, AuditDraft]:
        """Read as one of many looks that ``account`` puts into one entry; a denial is audited as ever.

        Raises:
            ContextDnaError: Whatever refused it; denials are audited before this is raised.
        """
        answer, trace = await self._read(caller, action, run)
        return answer, trace.draft

    async def account(self, draft: AuditDraft, **details: int) -> None:
        """Audit what looks came to, now, as the settings say for reads.

        Args:
            draft: What the first of the looks gave.
            details: Counts.
        """
        await self.reads.add(ReadTrace(replace(draft, at=self.clock(), details=compact_json(details)), ()))

    async def _read(self, caller: Caller, action: Action, run: Run[R]) -> tuple[R, ReadTrace]:
        attempt = _Attempt()

        async def unit(tx: Transaction) -> tuple[R, ReadTrace]:
            op = await self._begin(tx, caller, action, attempt)
            answer = await run(op)
            attempt.missed = _missed(op)
            return answer, ReadTrace(_allowed(op, caller), tuple(op.record_ids))

        answer, trace = await self._attempt(self.database.read, unit, caller, action, attempt)
        if attempt.missed is not None:
            await self._audit_refusal(caller, action, attempt, attempt.missed)
        return answer, trace

    async def admit(self, caller: Caller, action: Action, check: Callable[[Operation], None]) -> ProjectKeys:
        """Look before work outside a transaction: give the project's keys; a refusal is audited like any other."""
        attempt = _Attempt()

        async def unit(tx: Transaction) -> ProjectKeys:
            op = await self._begin(tx, caller, action, attempt)
            check(op)
            return op.keys

        return await self._attempt(self.database.read, unit, caller, action, attempt)

    async def _attempt(
        self,
        engine: Callable[[Callable[[Transaction], Awaitable[R]]], Awaitable[R]],
        unit: Callable[[Transaction], Awaitable[R]],
        caller: Caller,
        action: Action,
        attempt: _Attempt,
    ) -> R:
        try:
            try:
                return await engine(unit)
            except IntegrityFault as error:
                if error.code != "body_unreadable" or attempt.actor is None:
                    raise
                self.vault.forget(attempt.actor.project_id)  # another process may have rotated the keys
                return await engine(unit)
        except (NotFound, AccessDenied, SessionInvalid, Conflict, IntegrityFault) as error:
            await self._audit_refusal(caller, action, attempt, error)
            raise

    async def _begin(self, tx: Transaction, caller: Caller, action: Action, attempt: _Attempt) -> Operation:
        now = self.clock()
        actor = await resolve_actor(tx, caller, action, now=now)
        attempt.actor = actor  # before the role is judged, so that a refusal names the acting agent and its project
        await require_unretired(tx, actor, caller.principal, action)
        require_role(actor, action)
        keys = await self.vault.keys(tx, actor.project_id)
        index = self._indexes.get(actor.project_id)
        if index is None:
            spaces = TokenSpaces(Tokeniser(keys.index_key), Tokeniser(keys.sealed_index_key))
            index = self._indexes[actor.project_id] = (spaces, Frequencies())
        return Operation(tx, actor, action, now, keys, *index, self.settings, recall=self.recall)

    async def _see(self, op: Operation) -> datetime | None:
        """Note now and then that an agent is at work; gives the time where that was due.

        A principal's own agent is made known to the project at its first write, so that no one can take its name.
        """
        reader = op.actor.reader
        last = self._seen.get(_sighted(op.actor))
        if last is not None and op.now - last < self._see_again:
            return None
        if last is None and not op.actor.session_id:
            known = await op.tx.agents.get(reader.project_id, reader.agent_id)
            await agent_history.note_sight(
                op, known, reader.agent_id, team_id=reader.team_id, swarm_id=reader.swarm_id, role=reader.role
            )
        else:
            await op.tx.projects.touch_agent(reader.project_id, reader.agent_id, at=op.now)
        return op.now

    def _note_seen(self, key: _Sighting, at: datetime) -> None:
        self._seen.pop(key, None)
        self._seen[key] = at
        if len(self._seen) > _SEEN_MAX:
            del self._seen[next(iter(self._seen))]  # the oldest: at worst it is noted once more than need be

    def _note_departures(self, events: Sequence[Event]) -> None:
        """Make the next write of whoever goes on after the end of a session count: else it would pass for gone."""
        for event in events:
            if event.name in DEPARTURES:
                for agent_id in event.audience:
                    key = (event.project_id, AgentId(agent_id), False)
                    if key in self._seen:
                        self._seen[key] = _LONG_AGO

    async def _audit_refusal(self, caller: Caller, action: Action, attempt: _Attempt, error: ContextDnaError) -> None:
        async def unit(tx: Transaction) -> None:
            chain = await _chain_of(tx, caller, attempt)
            now = self.clock()
            draft = _refused(chain, at=now, caller=caller, action=action, actor=attempt.actor, error=error)
            await audit.append(tx, await self.vault.keys(tx, chain), [draft])
            if isinstance(error, Conflict) and error.current_version:
                await tx.requests.add_conflict(_conflict(chain, now, draft.agent_id, error))

        with anyio.CancelScope(shield=True):  # a denial is told of, even where its caller has gone
            await self.database.write(unit)


def _sighted(actor: Actor) -> _Sighting:
    """Tell sightings apart: what an agent does in a session says nothing of its own team and role."""
    return actor.project_id, actor.agent_id, bool(actor.session_id)


def _allowed(op: Operation, caller: Caller) -> AuditDraft:
    return AuditDraft(
        project_id=op.project_id,
        at=op.now,
        principal_id=op.actor.principal_id,
        agent_id=op.actor.agent_id,
        session_id=op.actor.session_id,
        action=op.action,
        outcome=Outcome.ALLOWED,
        risk=Risk.CRITICAL if op.details.get("unreadable") else RISKS.get(op.action, Risk.LOW),
        record_ids=_audited_ids(op.record_ids),
        details=compact_json(op.details),
        request_id=caller.request_id,
        trace_id=caller.trace_id,
    )


async def _chain_of(tx: Transaction, caller: Caller, attempt: _Attempt) -> ProjectId:
    """Choose the chain of a refusal: the actor's project, else the one it asked for, else the installation's."""
    if attempt.actor is not None:
        return attempt.actor.project_id
    wanted = ProjectId(caller.project_id)
    return wanted if wanted and await tx.projects.get(wanted) is not None else INSTALLATION


def _refused(
    chain: ProjectId, *, at: datetime, caller: Caller, action: Action, actor: Actor | None, error: ContextDnaError
) -> AuditDraft:
    record_ids: Sequence[str] = getattr(error, "record_ids", ())
    outcome = _outcome(error)
    return AuditDraft(
        project_id=chain,
        at=at,
        principal_id=caller.principal.agent_id,
        agent_id=actor.agent_id if actor else AgentId(caller.principal.agent_id),
        session_id=actor.session_id if actor else SessionId(""),
        action=action,
        outcome=outcome,
        risk=_REFUSAL_RISKS.get(outcome, Risk.LOW),
        record_ids=_audited_ids(record_ids),
        details=compact_json({"code": error.code}),
        request_id=caller.request_id,
        trace_id=caller.trace_id,
    )


def _audited_ids(named: Sequence[str]) -> tuple[str, ...]:
    """Keep ids of ours and phases that are known; whatever else a caller named may be a secret or a text."""
    return tuple(name if is_id(name) else _NO_ID for name in named[:_AUDITED_IDS_MAX])


def _missed(op: Operation) -> NotFound | None:
    """Tell of the records that a call named and was not given: of the hidden ones, where there are any."""
    if not op.missing_ids:
        return None
    return NotFound("missing", record_ids=tuple(op.hidden_ids or op.missing_ids), denied=bool(op.hidden_ids))


def _missing(op: Operation, caller: Caller) -> list[AuditDraft]:
    """Make the entry of the records that a call named beside what it changed, and that are not there for it."""
    error = _missed(op)
    if error is None:
        return []
    return [_refused(op.project_id, at=op.now, caller=caller, action=op.action, actor=op.actor, error=error)]


def _outcome(error: ContextDnaError) -> Outcome:
    if isinstance(error, IntegrityFault):
        return Outcome.UNREADABLE
    if isinstance(error, Conflict):
        return Outcome.CONFLICT
    if isinstance(error, NotFound) and not error.denied:
        return Outcome.ABSENT
    return Outcome.DENIED


def _conflict(chain: ProjectId, now: datetime, agent_id: AgentId, error: Conflict) -> ConflictRecord:
    return ConflictRecord(
        id=new_id(IdPrefix.CONFLICT, now),
        project_id=chain,
        record_id=RecordId(error.record_ids[0]),
        agent_id=agent_id,
        expected_version=error.expected_version,
        current_version=error.current_version,
        at=now,
    )
