"""Workspace: everything a principal can ask; each method is one audited, access-checked transaction."""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Final, TypeVar

from contextdna.domain import (
    artifacts,
    audit,
    broken_promises,
    contracts,
    conversations,
    delegation,
    embedding,
    endings,
    forgetting,
    leases,
    loops,
    memories,
    phases,
    projects,
    retention,
    retrieval,
    rotation,
    sessions,
    sharing,
)
from contextdna.domain.access import Action, Caller
from contextdna.domain.operation import Operation
from contextdna.domain.queued_writes import LogRequest, Request, StoreRequest, UpdateRequest, promised_ids
from contextdna.domain.validation import check_count
from contextdna.errors import ContextDnaError, StorageUnavailable
from contextdna.hub.access_tokens import AccessTokens
from contextdna.hub.agents import Agents
from contextdna.hub.artifacts import Artifacts, opened_bytes
from contextdna.hub.blobs import BlobRoom
from contextdna.hub.commons import Commons
from contextdna.hub.delegations import Delegations
from contextdna.hub.documents import Documents
from contextdna.hub.door import Door
from contextdna.hub.events import Events
from contextdna.hub.locks import Job
from contextdna.hub.loops import Loops
from contextdna.hub.modes import Modes
from contextdna.hub.queue import Queue
from contextdna.hub.remains import Remains
from contextdna.hub.semantics import ReindexReport, SemanticHealth, Semantics
from contextdna.hub.sessions import Sessions
from contextdna.hub.signals import Signals
from contextdna.hub.spool import WriteSpool
from contextdna.hub.state import State, let_go
from contextdna.hub.stream import EventStream
from contextdna.hub.tasks import Tasks
from contextdna.hub.waiting_writes import Promise
from contextdna.ports.database import DatabaseStatus
from contextdna.ports.storage import Progress
from contextdna.values.artifact import Artifact, ArtifactDraft
from contextdna.values.audit import AuditEntry, AuditReport
from contextdna.values.backend_health import BackendHealth
from contextdna.values.degraded import DegradedMode, ModeName, Notices
from contextdna.values.ids import INSTALLATION, AgentId, DelegationId, ProjectId, RecordId, SessionId
from contextdna.values.level import Level
from contextdna.values.loop import GateState, LoopDraft, LoopOutcome, LoopRecord
from contextdna.values.memory import (
    ForgetReport,
    Memory,
    MemoryChange,
    MemoryDraft,
    MemorySelection,
    OnDuplicate,
    StoredMemory,
    StoreStatus,
)
from contextdna.values.project import Conflict, ProjectOverview
from contextdna.values.search import Context, ContextQuery
from contextdna.values.turn import ConversationSummary, Turn, TurnDraft

_AFTER_THE_NEWEST = 2**63 - 1
_LISTED_MAX = 1000
_QUEUED: Final = (
    "PostgreSQL is away, or just back: this is queued in the server's data folder, not stored, and not to be read yet;"
    " it is stored under the same id, or set aside for the operator, once PostgreSQL takes it"
)
AWAY_CODES: Final = frozenset({"storage_unreachable", "storage_busy", "storage_timeout"})
"""What a database that cannot answer now says."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Rooms:
    """What stands behind the door of one open hub."""

    door: Door
    blobs: BlobRoom
    remains: Remains
    stream: EventStream
    commons: Commons
    semantics: Semantics
    modes: Modes
    spool: WriteSpool | None = None
    """Where writes wait for the database; None where none do."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the server can do its work for this caller."""

    project_id: ProjectId
    database: DatabaseStatus
    semantics: SemanticHealth | None = None
    """How searching by meaning stands; None where no embedder is set."""
    artifacts: BackendHealth | None = None
    """How the store of artifacts stands."""
    cache: BackendHealth | None = None
    """How Redis stands; None where each process caches by itself."""
    latency_ms: float = 0.0
    """How long one small audited read of the database took."""
    modes: tuple[DegradedMode, ...] = ()
    """What the server does without."""


class Workspace:
    """One caller's view, made by ``Hub.bind``: cheap, and keeps nothing between calls.

    What belongs to one noun stands in a part of its own, such as ``events``; a part is the same door.

    Every method raises ``NotFound``, ``AccessDenied`` or ``SessionInvalid`` for what the caller may not do (audited
    first), ``InvalidInput`` for a wrong request, and ``StorageUnavailable`` when the engine cannot do it now.
    """

    def __init__(self, rooms: Rooms, caller: Caller, notices: Notices | None = None) -> None:
        self.notices = notices or Notices()
        """What the caller is to be told of degraded modes, as they touched what was asked so far."""
        self._modes = rooms.modes
        self._spool = rooms.spool
        self._door = rooms.door
        self._blobs = rooms.blobs
        self._remains = rooms.remains
        self._semantics = rooms.semantics
        self._commons = rooms.commons
        self._caller = caller
        self.events = Events(rooms.door, rooms.stream, caller)
        self.agents = Agents(rooms.door, caller)
        self.access_tokens = AccessTokens(rooms.door, caller)
        self.signals = Signals(rooms.door, rooms.stream, caller)
        self.loops = Loops(rooms.door, caller)
        self.artifacts = Artifacts(rooms.door, rooms.blobs, caller, self.notices)
        self.sessions = Sessions(rooms.door, caller)
        self.state = State(rooms.door, rooms.commons.cache, caller)
        self.delegations = Delegations(rooms.door, caller)
        self.tasks = Tasks(rooms.door, rooms.remains, caller)
        self.documents = Documents(rooms.door, caller)
        self.queue = Queue(rooms.door, rooms.spool, caller)

    async def store_memories(
        self,
        drafts: Sequence[MemoryDraft],
        *,
        on_duplicate: OnDuplicate = OnDuplicate.MERGE,
        idempotency_key: str = "",
    ) -> tuple[StoredMemory, ...]:
        """Store 1 to 100 memories, all or none; while PostgreSQL is away their status is ``queued``.

        Raises:
            Conflict: ``duplicate`` or ``idempotency_key_reused``.
        """
        memories_checked = tuple(drafts)
        request = StoreRequest(memories_checked, on_duplicate, idempotency_key)

        async def run(op: Operation) -> tuple[StoredMemory, ...]:
            memories.check_drafts(memories_checked, op.settings)
            if idempotency_key and op.settings.database:  # a repeat may come while it is away, and is promised these
                op.derived = deque(promised_ids(request, op.actor, self._door.vault, now=op.now))
            return await memories.store(
                op, memories_checked, on_duplicate=on_duplicate, idempotency_key=idempotency_key
            )

        async def store() -> tuple[StoredMemory, ...]:
            return await self._door.write(self._caller, Action.STORE_MEMORY, run)

        answer = await self._or_queued(request, store)
        return self._queued(answer, 1) if isinstance(answer, Promise) else answer

    async def _or_queued(self, request: Request, do: Callable[[], Awaitable[R]]) -> R | Promise:
        return await do() if self._spool is None else await self._spool.take(self._caller, request, do)

    def _queued(self, promise: Promise, version: int) -> tuple[StoredMemory, ...]:
        """Say that what was asked for waits."""
        self.notices.add(ModeName.DATABASE_AWAY, _QUEUED)
        return tuple(
            StoredMemory(RecordId(record_id), version, StoreStatus.QUEUED, promise.agent_id)
            for record_id in promise.ids
        )

    async def retrieve_context(self, query: ContextQuery) -> Context:
        """Answer a question with ranked records that fit a token budget."""
        await self._semantics.prepare(self._caller, Action.RETRIEVE_CONTEXT, query.text)
        return await self._door.read(
            self._caller, Action.RETRIEVE_CONTEXT, lambda op: retrieval.retrieve(op, query), touch=True
        )

    async def get_memories(self, record_ids: Sequence[RecordId]) -> tuple[tuple[Memory, ...], tuple[RecordId, ...]]:
        """Open memories by id; gives (found, missing). Missing are absent or not visible, which look alike."""
        found, missing = await self._door.read(
            self._caller, Action.GET_MEMORY, lambda op: memories.get(op, record_ids), touch=True
        )
        if self._spool is not None:
            self._spool.shown.note(self._caller, ((one.record.id, one.record.version) for one in found))
        return found, missing

    async def update_memory(self, record_id: RecordId, change: MemoryChange, *, expected_version: int) -> StoredMemory:
        """Change a memory that the caller owns; while PostgreSQL is away its status is ``queued``.

        Raises:
            Conflict: ``version_conflict``, with ``current_version``.
        """

        async def run(op: Operation) -> tuple[StoredMemory, bool]:
            is_shown = self._spool is not None and self._spool.shown.has(self._caller, record_id, expected_version)
            has_promises = bool(op.settings.database)  # only there anything is ever queued
            if has_promises and not is_shown:
                await broken_promises.require_kept(op, record_id, expected_version)
            answer = await memories.update(op, record_id, change, expected_version=expected_version)
            if has_promises:
                await broken_promises.forget(op, record_id, expected_version + 1)
            return answer

        async def update() -> tuple[StoredMemory, bool]:
            return await self._door.write(self._caller, Action.UPDATE_MEMORY, run)

        answer = await self._or_queued(UpdateRequest(record_id, change, expected_version), update)
        if isinstance(answer, Promise):
            return self._queued(answer, expected_version + 1)[0]
        stored, sealed_now = answer
        if sealed_now:
            await self._remains.shred()
        return stored

    async def forget_memories(
        self,
        record_ids: Sequence[RecordId] = (),
        selection: MemorySelection = MemorySelection(),  # noqa: B008 - frozen
        *,
        purge: bool = False,
        confirm: int | None = None,
    ) -> ForgetReport:
        """Soft-delete (restorable) or purge (for good) memories, by ids or by a selection of one's own.

        Raises:
            Conflict: ``count_changed``: ``confirm`` is not the number that the selection matches.
        """
        report, blob_keys = await self._door.write(
            self._caller,
            Action.PURGE_MEMORY if purge else Action.FORGET_MEMORY,
            lambda op: forgetting.forget(op, record_ids, selection, purge=purge, confirm=confirm),
        )
        if report.purged:
            await self._remains.shred(blob_keys)
        return report

    async def restore_memories(self, record_ids: Sequence[RecordId]) -> tuple[RecordId, ...]:
        """Bring soft-deleted memories back within their restore window."""
        return await self._door.write(
            self._caller, Action.RESTORE_MEMORY, lambda op: forgetting.restore(op, record_ids)
        )

    async def share_memories(
        self,
        targets: Sequence[AgentId],
        record_ids: Sequence[RecordId] = (),
        selection: MemorySelection = MemorySelection(),  # noqa: B008 - frozen
        *,
        limit: int = 20,
        expires_in_s: float | None = None,
    ) -> sharing.ShareReport:
        """Grant agents read access to own memories."""
        return await self._door.write(
            self._caller,
            Action.SHARE_MEMORY,
            lambda op: sharing.share(op, targets, record_ids, selection, limit=limit, expires_in_s=expires_in_s),
        )

    async def revoke_shares(
        self, targets: Sequence[AgentId], record_ids: Sequence[RecordId] = ()
    ) -> sharing.ShareReport:
        """End grants that the caller gave, on some memories or on all; effective for the next call."""
        return await self._door.write(
            self._caller, Action.REVOKE_SHARE, lambda op: sharing.revoke(op, targets, record_ids)
        )

    async def begin_session(self, request: sessions.BeginRequest) -> sessions.BegunSession:
        """Begin a session for an agent."""
        return await self._door.write(self._caller, Action.BEGIN_SESSION, lambda op: sessions.begin(op, request))

    async def resume_session(self, *, agent_id: AgentId = AgentId("")) -> sessions.BegunSession:
        """Give the active session of the call's own handle again; a delegated one is accepted with it.

        Raises:
            InvalidInput: ``session_of_another``: it is not that of ``agent_id``.
        """
        handle = self._caller.handle
        begun = await self._door.read(
            self._caller, Action.RESUME_SESSION, lambda op: sessions.resume(op, handle, agent_id)
        )
        if begun.pending:
            await self._door.write(
                self._caller, Action.ACCEPT_DELEGATION, lambda op: contracts.accept(op, DelegationId(""))
            )
        return begun

    async def end_session(
        self,
        *,
        success: bool,
        output: str = "",
        learnings: Sequence[str] = (),
        artifact_ids: Sequence[RecordId] = (),
        promote: Sequence[RecordId] = (),
        level: Level | None = None,
    ) -> endings.EndReport:
        """End the call's session and keep what it brought; of its working memories only those in ``promote`` stay."""
        chosen = level or self._door.settings.default_level
        report = await self._door.write(
            self._caller,
            Action.END_SESSION,
            lambda op: endings.end(
                op,
                success=success,
                output=output,
                learnings=learnings,
                artifact_ids=artifact_ids,
                promote=promote,
                level=chosen,
            ),
        )
        await let_go(self._commons.cache, self._caller)
        return report

    async def log_turns(self, drafts: Sequence[TurnDraft]) -> tuple[RecordId, ...]:
        """Append turns to the session's conversation; while PostgreSQL is away they wait, and ``notices`` say so."""

        async def log() -> tuple[RecordId, ...]:
            return await self._door.write(self._caller, Action.LOG_TURN, lambda op: conversations.log(op, drafts))

        answer = await self._or_queued(LogRequest(tuple(drafts)), log)
        if not isinstance(answer, Promise):
            return answer
        return tuple(stored.id for stored in self._queued(answer, 1))

    async def read_conversation(
        self,
        session_id: SessionId,
        *,
        after: int = 0,
        before: int = 0,
        limit: int = 50,
        newest_first: bool = False,
    ) -> tuple[Turn, ...]:
        """Read a conversation's visible turns behind a position and before one (0: all), in order or newest first.

        A negative ``after`` counts visible turns from the end.
        """
        return await self._door.read(
            self._caller,
            Action.READ_CONVERSATION,
            lambda op: conversations.read(
                op, session_id, after=after, before=before, limit=limit, newest_first=newest_first
            ),
        )

    async def list_conversations(self, *, limit: int = 50, offset: int = 0) -> list[ConversationSummary]:
        """List conversations with visible turns, the latest first."""
        return await self._door.read(
            self._caller,
            Action.LIST_CONVERSATIONS,
            lambda op: conversations.summaries(op, limit=limit, offset=offset),
        )

    async def attach_artifact(self, draft: ArtifactDraft, *, progress: Progress | None = None) -> Artifact:
        """Keep an artifact: bytes to the blob store, then the reference.

        Of an object that the draft names as its source a copy is kept: what becomes of the object changes nothing.

        Args:
            draft: The artifact, with its bytes or their source.
            progress: Told how many bytes are stored, of how many.

        Raises:
            LimitExceeded: ``artifact_too_large``.
        """
        return await self.artifacts.attach(draft, progress=progress)

    async def read_artifact(self, record_id: RecordId) -> tuple[Artifact, bytes]:
        """Fetch an artifact with its bytes, checked against their digest.

        Raises:
            IntegrityFault: The bytes were changed or are gone.
        """
        artifact, fetch = await self._door.read(
            self._caller, Action.READ_ARTIFACT, lambda op: artifacts.reference(op, record_id)
        )
        return artifact, await opened_bytes(self._blobs, artifact, fetch)

    async def describe_artifact(self, record_id: RecordId) -> Artifact:
        """Give an artifact's reference without its bytes."""
        artifact, _ = await self._door.read(
            self._caller, Action.READ_ARTIFACT, lambda op: artifacts.reference(op, record_id)
        )
        return artifact

    async def list_artifacts(self, *, limit: int = 50) -> tuple[Artifact, ...]:
        """List visible artifacts, newest first; ``artifacts.page`` tells where the next ones are."""
        return (await self.artifacts.page(limit=limit)).artifacts

    async def delegate(self, request: delegation.DelegationRequest) -> delegation.DelegationReport:
        """Hand a task to a child agent, with context."""
        return await self._door.write(self._caller, Action.DELEGATE, lambda op: delegation.delegate(op, request))

    async def record_loop(self, draft: LoopDraft) -> LoopOutcome:
        """Append a confidence, consensus or decision.

        Raises:
            Conflict: ``gate_closed``, where the settings refuse PROCEED below a gate.
        """
        return await self._door.write(self._caller, Action.RECORD_LOOP, lambda op: loops.record(op, draft))

    async def loop_gate(self, phase: str, *, iteration: int = 1) -> GateState:
        """Tell where a phase and iteration stand against the gates.

        Raises:
            LimitExceeded: ``iteration_out_of_range``.
        """
        return await self._door.read(self._caller, Action.READ_LOOPS, lambda op: phases.gate(op, phase, iteration))

    async def read_loops(self, phase: str, *, limit: int = 50) -> tuple[LoopRecord, ...]:
        """Read a phase's visible loop records, newest first."""
        return await self._door.read(self._caller, Action.READ_LOOPS, lambda op: loops.of_phase(op, phase, limit=limit))

    async def list_projects(self) -> tuple[ProjectId, ...]:
        """List the projects that the caller may use."""
        projects_known = self._caller.principal.project_ids

        async def run(op: Operation) -> tuple[ProjectId, ...]:
            return (op.project_id,) if op.actor.session_id else projects_known

        return await self._door.read(self._caller, Action.LIST_PROJECTS, run)

    async def project_overview(self) -> ProjectOverview:
        """Count what the caller may see of the project."""
        return await self._door.read(self._caller, Action.READ_PROJECT, projects.overview)

    async def complete(self, argument: str, prefix: str) -> list[str]:
        """List visible names for a template argument, at most 100."""
        return await self._door.read(
            self._caller, Action.COMPLETE_NAME, lambda op: projects.complete(op, argument, prefix)
        )

    async def health(self, *, deep: bool = False) -> Health:
        """Tell whether the database answers and is sound, and all else that the server leans on.

        It answers, unaudited, while the database is away, or refuses the server, too; whom a session handle stands for
        is not known then.
        """

        async def run(op: Operation) -> ProjectId:
            return op.project_id

        began = monotonic()
        refusal: StorageUnavailable | None = None
        try:
            project_id = await self._door.read(self._caller, Action.READ_HEALTH, run)
        except StorageUnavailable as error:
            project_id, refusal = ProjectId(""), error
        latency_ms = (monotonic() - began) * 1000
        status = await self._door.database.status(deep=deep)
        if refusal is not None and refusal.code not in AWAY_CODES and status.sound:
            raise refusal  # else the status tells what it is
        meaning = await self._semantics.health(project_id) if project_id else None
        artifacts_health, cache_health = await self._blobs.health(), await self._commons.health()
        modes = self._modes.current()
        return Health(project_id, status, meaning, artifacts_health, cache_health, latency_ms, modes)

    async def conflicts(self, *, limit: int = 50) -> list[Conflict]:
        """List stale updates that were refused, the latest first (role system)."""
        check_count(limit, name="limit", maximum=_LISTED_MAX)
        return await self._door.read(
            self._caller, Action.READ_STATS, lambda op: op.tx.requests.conflicts(op.project_id, limit=limit)
        )

    async def query_audit(
        self,
        *,
        before_seq: int = 0,
        limit: int = 50,
        action: str = "",
        agent_id: str = "",
        record_id: str = "",
        installation: bool = False,
    ) -> list[AuditEntry]:
        """Read the project's audit log from its end (role system); ``before_seq`` 0 starts at the newest.

        With ``installation`` the log of the installation itself, where refusals without a project stand.

        Raises:
            LimitExceeded: ``limit_out_of_range`` or ``before_out_of_range``.
        """
        check_count(limit, name="limit", maximum=_LISTED_MAX)
        check_count(before_seq, name="before", minimum=0, maximum=_AFTER_THE_NEWEST)
        await self._door.reads.settle()
        return await self._door.read(
            self._caller,
            Action.QUERY_AUDIT,
            lambda op: op.tx.audit.latest(
                INSTALLATION if installation else op.project_id,
                before_seq=before_seq or _AFTER_THE_NEWEST,
                limit=limit,
                action=action,
                agent_id=agent_id,
                record_id=record_id,
            ),
        )

    async def verify_audit(self) -> AuditReport:
        """Check every audit chain of the installation (role system)."""
        await self._door.reads.settle()

        async def run(op: Operation) -> AuditReport:
            entries, chains, faults = await audit.verify_all(op.tx, self._door.vault)
            return AuditReport(entries, chains, tuple(faults))

        return await self._door.read(self._caller, Action.VERIFY_AUDIT, run)

    async def export_audit(self, *, page: int = 1000, installation: bool = False) -> AsyncIterator[AuditEntry]:
        """Read the project's (or the installation's own) whole audit log in order (role system), page by page."""
        await self._door.reads.settle()
        after = 0
        while True:
            start = after
            entries = await self._door.read(
                self._caller,
                Action.EXPORT_AUDIT,
                lambda op, start=start: op.tx.audit.entries(  # type: ignore[misc]
                    INSTALLATION if installation else op.project_id, after_seq=start, limit=page
                ),
            )
            for entry in entries:
                yield entry
            if len(entries) < page:
                return
            after = entries[-1].seq

    async def rotate_keys(
        self, *, rewrap: bool = True, progress: Callable[[int], None] = lambda _: None
    ) -> rotation.RotationReport:
        """Wrap all keys under the current master key, add a data key to the project and re-encrypt under it.

        Records that do not open stay as they are; the report counts them.

        Args:
            rewrap: Whether keys under older master keys are wrapped anew.
            progress: Told how many records are re-encrypted so far.
        """
        vault = self._door.vault
        report = await self._door.write(
            self._caller, Action.ROTATE_KEYS, lambda op: rotation.start(op, vault, rewrap=rewrap)
        )
        vault.forget(report.project_id)
        resealed, unreadable = 0, frozenset[RecordId]()
        while True:
            batch = await self._door.write(
                self._caller,
                Action.ROTATE_KEYS,
                lambda op, known=unreadable: rotation.reseal(op, known),  # type: ignore[misc]
            )
            resealed, unreadable = resealed + batch.count, unreadable | batch.unreadable
            progress(resealed)
            if batch.finished:
                return replace(report, resealed=resealed, unreadable=len(unreadable))

    async def reindex(self, *, progress: Callable[[int], None] = lambda _: None) -> ReindexReport:
        """Embed the records of the project that have no vector of the model at work (role system).

        Vectors of another model count no longer. Cut off, it goes on where it was: with the next call, or in the
        background of an open hub. Without an embedder it does nothing.

        Args:
            progress: Told how many records are embedded so far.

        Raises:
            SettingsInvalid: ``embedder_missing`` or ``embedder_invalid``.
            StorageUnavailable: ``embedder_unavailable``, or the engine cannot do it now.
        """
        recall = self._door.recall
        project_id = (await self._door.admit(self._caller, Action.REINDEX, lambda _: None)).project_id
        async with self._semantics.embedding_of(project_id):  # the background waits: what is embedded is told here
            dimension = await self._semantics.dimension() if recall else 0
            changed = await self._door.write(
                self._caller, Action.REINDEX, lambda op: embedding.adopt(op, dimension=dimension)
            )
            if recall is None:
                return ReindexReport(project_id, "", 0, 0, model_changed=False)
            done = await self._semantics.fill(project_id, progress=progress)
            return ReindexReport(project_id, recall.model, dimension, done, model_changed=changed)

    async def note_refusal(self, error: ContextDnaError, *, action: Action = Action.REQUEST, left_out: int = 0) -> None:
        """Audit a refusal that came before any operation, such as that of a request that is too large.

        For servers, and never refused itself: whoever the caller is, what was refused to it is told of, at risk high,
        in the log of the project that the call names, or in the installation's.

        Args:
            error: Why.
            action: At what.
            left_out: How many like it, just before, have no entry of their own.
        """
        await self._door.note_refusal(self._caller, action, error, left_out=left_out)

    async def sweep(self, *, job: Job | None = None) -> retention.Swept:
        """Purge what retention says is over, and close overdue sessions (role system), in batches.

        Args:
            job: Under which lease it is done, where one process does it for all.
        """

        async def run(op: Operation) -> retention.SweepReport:
            if job is not None:
                await leases.fence(op.tx, job.lease, now=op.now)
            return await retention.sweep(op)

        purged = closed = 0
        while True:
            report = await self._door.write(self._caller, Action.SWEEP, run)
            purged, closed = purged + report.purged, closed + report.sessions_closed
            if report.purged:
                await self._remains.shred(report.blob_keys)
            if report.finished:
                return retention.Swept(purged, closed)
            if job is not None:
                await job.go_on()
