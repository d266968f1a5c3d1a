"""The one door's mechanism: resolve, run, audit, commit, tell. Every Workspace method goes through it."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import anyio

from contextdna.domain import audit, projects
from contextdna.domain.access import (
    OF_NO_PROJECT,
    RISKS,
    Action,
    Caller,
    no_project,
    require_role,
    require_unretired,
    resolve_actor,
)
from contextdna.domain.begun_answers import BegunAnswers
from contextdna.domain.encryption import ProjectKeys, Vault
from contextdna.domain.frequencies import Frequencies
from contextdna.domain.held_rankings import HeldRankings
from contextdna.domain.operation import Operation
from contextdna.domain.packing import compact_json
from contextdna.domain.recall import Recall
from contextdna.domain.scopes import require_scopes
from contextdna.domain.tokens import Tokeniser, TokenSpaces, estimate_tokens
from contextdna.errors import (
    AccessDenied,
    Conflict,
    ContextDnaError,
    IntegrityFault,
    NotFound,
    SessionInvalid,
    StorageUnavailable,
)
from contextdna.hub.known_actors import KnownActors
from contextdna.hub.lagging import MAY_LAG
from contextdna.hub.reads import ReadLedger, ReadTrace
from contextdna.hub.refusals import Refusals
from contextdna.hub.remains import Remains
from contextdna.hub.sightings import Sighting, Sightings
from contextdna.ports.database import Database, Transaction
from contextdna.ports.storage import EventChannel
from contextdna.values.audit import AuditDraft, Outcome, Risk
from contextdna.values.event import Event
from contextdna.values.ids import INSTALLATION, AgentId, IdPrefix, ProjectId, RecordId, SessionId, is_id, new_id
from contextdna.values.principal import Actor, Principal
from contextdna.values.project import Conflict as ConflictRecord
from contextdna.values.settings import HubSettings

R = TypeVar("R")
Run = Callable[[Operation], Awaitable[R]]
Engine = Callable[[Callable[[Transaction], Awaitable[R]]], Awaitable[R]]

_AUDITED_IDS_MAX = 100
_NO_ID = "(no id)"
_REFUSAL_RISKS = {Outcome.DENIED: Risk.HIGH, Outcome.UNREADABLE: Risk.CRITICAL}


@dataclass(slots=True)
class _Attempt:
    """How far a call came: kept outside its transaction, so that a refused one can still be audited."""

    actor: Actor | None = None
    missed: NotFound | None = None
    sighting: Sighting | None = None
    is_unseen: bool = False


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
        count_tokens: Callable[[str], int] = estimate_tokens,
        actors: KnownActors | None = None,
        before_write: Callable[[Caller, Action], Awaitable[None]] | None = None,
    ) -> None:
        self.database = database
        self.recall = recall
        self.vault = vault
        self.settings = settings
        self.clock = clock
        self.reads = ReadLedger(database, vault, settings.read_audit, clock)
        self._channel = channel
        self._count_tokens = count_tokens
        self._actors = actors
        self.before_write = before_write
        """Lets writes wait for what was queued before them; None where nothing ever is."""
        self.refusals = Refusals(clock)
        """Of the database, met by writes."""
        self._remains = remains
        self._sightings = Sightings(settings.work.coordinator_silence_s)
        self._indexes: dict[ProjectId, tuple[TokenSpaces, Frequencies]] = {}
        self._rankings: dict[ProjectId, HeldRankings[Any]] = {}
        self._begun: dict[ProjectId, BegunAnswers[Any]] = {}

    async def write(self, caller: Caller, action: Action, run: Run[R]) -> R:
        """Run a changing operation: row, audit entry and event commit together, or nothing does.

        Raises:
            ContextDnaError: Whatever refused it; denials are audited before this is raised.
        """
        attempt = _Attempt()
        if self.before_write is not None:
            await self.before_write(caller, action)

        async def unit(tx: Transaction) -> tuple[R, list[Event]]:
            op = await self._begin(tx, caller, action, attempt)
            attempt.sighting = await self._sightings.see(op)
            answer = await run(op)
            if op.leaves_remains:
                self._remains.expect()  # before the commit: a cancelled caller may never come to shred them
            await audit.append(tx, op.keys, [_allowed(op, caller), *_missing(op, caller)])
            if op.events:
                await tx.events.append(op.events)
            return answer, op.events

        try:
            answer, events = await self._attempt(self.database.write, unit, caller, action, attempt)
        except StorageUnavailable as error:
            self.refusals.note(error)
            raise
        self.refusals.clear()
        await self._committed(events, attempt)
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
            op.rankings = self._rankings_of(op.project_id)
            op.begun = self._begun_of(op.project_id)
            answer = await run(op)
            attempt.missed = _missed(op)
            attempt.is_unseen = action not in OF_NO_PROJECT and not await self._sightings.has_seen(op)
            return answer, ReadTrace(_allowed(op, caller), tuple(op.record_ids))

        answer, trace = await self._attempt(self._reading(caller, action, attempt), unit, caller, action, attempt)
        if attempt.missed is not None:
            await self._audit_refusal(caller, action, attempt, attempt.missed)
        if attempt.is_unseen:
            await self._make_known(caller, action)
        return answer, trace

    def _reading(self, caller: Caller, action: Action, attempt: _Attempt) -> Engine[R]:
        """Give what runs a reading unit: for some actions a copy may, unless it lacks what the call names."""
        read = partial(
            self.database.read, search_by=caller.principal.agent_id if action is Action.RETRIEVE_CONTEXT else ""
        )
        if action not in MAY_LAG:
            return read
        return partial(read, enough=lambda _: attempt.missed is None)

    async def _make_known(self, caller: Caller, action: Action) -> None:
        """Note a principal at its first read, too: nobody else may take the name of one that never writes."""
        attempt = _Attempt()

        async def unit(tx: Transaction) -> list[Event]:
            op = await self._begin(tx, caller, action, attempt)
            attempt.sighting = await self._sightings.see(op)
            if op.events:
                await tx.events.append(op.events)
            return op.events

        with suppress(ContextDnaError):  # what was read was read, though the database may not take writes
            await self._committed(await self.database.write(unit), attempt)

    async def _committed(self, events: Sequence[Event], attempt: _Attempt) -> None:
        if attempt.actor is not None and attempt.sighting is not None:
            self._sightings.remember(attempt.actor, attempt.sighting)
        self._sightings.note_departures(events)
        if self._actors is not None:
            self._actors.hear(events)
        if events:
            await self._channel.publish(events)

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
        engine: Engine[R],
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
        require_scopes(caller.principal, action)
        if self._actors is not None and caller.handle:
            self._actors.note(caller, actor)
        keys = await self._keys_of(tx, actor.project_id, caller.principal)
        index = self._indexes.get(actor.project_id)
        if index is None:
            spaces = TokenSpaces(Tokeniser(keys.index_key), Tokeniser(keys.sealed_index_key))
            index = self._indexes[actor.project_id] = (spaces, Frequencies())
        return Operation(
            tx, actor, action, now, keys, *index, self.settings, recall=self.recall, count_tokens=self._count_tokens
        )

    async def _keys_of(self, tx: Transaction, project_id: ProjectId, principal: Principal) -> ProjectKeys:
        """Give a project's keys; a credential of an issuer may name a project that was never there."""
        try:
            return await self.vault.keys(tx, project_id)
        except IntegrityFault as fault:
            if fault.code != "keys_missing" or await tx.projects.get(project_id) is not None:
                raise
            if await projects.has_remains(tx, project_id):
                raise
        raise no_project({project.id for project in await tx.projects.all()} & set(principal.project_ids))

    def _rankings_of(self, project_id: ProjectId) -> HeldRankings[Any] | None:
        """Give what is held of a project's rankings, for calls that only read: others may see what is rolled back."""
        held = self._rankings.get(project_id)
        if held is None and (most := self.settings.search.rankings_held_max):
            held = self._rankings.setdefault(project_id, HeldRankings(most))
        return held

    def _begun_of(self, project_id: ProjectId) -> BegunAnswers[Any] | None:
        """Give what is held of a project's answers whose pages are being given."""
        held = self._begun.get(project_id)
        if held is None and self.settings.search.rankings_held_max:
            held = self._begun.setdefault(project_id, BegunAnswers())
        return held

    async def _audit_refusal(self, caller: Caller, action: Action, attempt: _Attempt, error: ContextDnaError) -> None:
        async def unit(tx: Transaction) -> None:
            chain = await _chain_of(tx, caller, attempt)
            now = self.clock()
            draft = _refused(chain, at=now, caller=caller, action=action, actor=attempt.actor, error=error)
            await audit.append(tx, await self.vault.keys(tx, chain), [draft])
            if isinstance(error, Conflict) and error.current_version:
                await tx.requests.add_conflict(_conflict(chain, now, draft.agent_id, error))
            if isinstance(error, Conflict) and error.told_key:
                await tx.requests.forget_answer(chain, draft.agent_id, error.told_key)

        with anyio.CancelScope(shield=True):  # a denial is told of, even where its caller has gone
            await self.database.write(unit)

    async def note_refusal(self, caller: Caller, action: Action, error: ContextDnaError, *, left_out: int = 0) -> None:
        """Audit what was refused before it came to the door, in the chain of the project that the call names, if any.

        Args:
            caller: Who was refused.
            action: At what.
            error: Why.
            left_out: How many like it are not told of.
        """

        async def unit(tx: Transaction) -> None:
            chain = await _chain_of(tx, caller, _Attempt())
            draft = _refused(chain, at=self.clock(), caller=caller, action=action, actor=None, error=error)
            details = {"code": error.code, **({"left_out": left_out} if left_out else {})}
            draft = replace(draft, outcome=Outcome.DENIED, risk=Risk.HIGH, details=compact_json(details))
            await audit.append(tx, await self.vault.keys(tx, chain), [draft])

        with anyio.CancelScope(shield=True):
            await self.database.write(unit)


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
    """Choose the chain of a refusal: the actor's project, else the one it asked for; the installation's without it."""
    wanted = ProjectId(caller.project_id) if attempt.actor is None else attempt.actor.project_id
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
