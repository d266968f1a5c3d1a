"""Every method of the workspace with arguments that work for a caller of role system, and what it leaves in the log."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from contextdna import (
    AgentId,
    ArtifactDraft,
    BeginRequest,
    ContextQuery,
    DelegationId,
    DelegationRequest,
    Event,
    EventId,
    Hub,
    Level,
    Loop,
    LoopDraft,
    MemoryChange,
    MemoryDraft,
    NotFound,
    Principal,
    RecordId,
    RegisterRequest,
    Risk,
    Role,
    SessionId,
    SignalDraft,
    SignalId,
    TaskChange,
    TaskDraft,
    TokenId,
    TokenRequest,
    TurnDraft,
    Workspace,
)
from tests.hub.rig import ALICE, DEFAULT, ROOT, public, remember

PHASE: Final = "auth-design"
BOSS: Final = Principal(AgentId("boss"), (DEFAULT,), role=Role.SYSTEM)
HANK: Final = AgentId("hank")


@dataclass(frozen=True)
class Furnished:
    """An installation with something of everything in it, all root's and private where that can be."""

    hub: Hub
    handle: str
    memory: RecordId
    forgotten: RecordId
    artifact: RecordId
    sent: SignalId
    """From root to alice."""
    received: SignalId
    """From alice to root."""
    delegation: DelegationId
    """From boss to root, not accepted yet."""
    task: RecordId
    token: TokenId

    @property
    def conversation(self) -> SessionId:
        return public(self.handle)


async def furnish(hub: Hub) -> Furnished:
    """Put one of everything into the default project."""
    root = hub.bind(ROOT)
    handle = (await root.begin_session(BeginRequest(ROOT.agent_id, task="furnish", role=Role.SYSTEM))).handle
    acting = hub.bind(ROOT, session_id=handle)
    await acting.log_turns([TurnDraft("user", "a private turn", level=Level.PRIVATE)])
    await acting.record_loop(LoopDraft(Loop.CONFIDENCE, PHASE, score=0.9))
    await root.agents.register(RegisterRequest(HANK))
    forgotten = await remember(root, "a forgotten memory", level=Level.PRIVATE)
    await root.forget_memories([forgotten])
    memory = await remember(root, "a private memory", level=Level.PRIVATE)
    await root.share_memories([AgentId("alice")], [memory])
    artifact = await root.attach_artifact(ArtifactDraft("notes.txt", b"private notes", level=Level.PRIVATE))
    sent = await root.signals.send(SignalDraft("go", (ALICE.agent_id,)))
    received = await hub.bind(ALICE).signals.send(SignalDraft("ready", (ROOT.agent_id,)))
    task = (await root.tasks.add(TaskDraft("a private task", level=Level.PRIVATE))).id
    await acting.state.set("cursor", {"page": 1})
    lent = await hub.bind(BOSS).delegate(DelegationRequest(ROOT.agent_id, "look after it"))
    token = (await root.access_tokens.create(TokenRequest(HANK, (DEFAULT,)))).token.id
    signals, delegation = (sent.id, received.id), lent.delegation.id
    return Furnished(hub, handle, memory, forgotten, artifact.record.id, *signals, delegation, task, token)


async def _first_event(workspace: Workspace) -> Event:
    async with aclosing(workspace.events.follow(after=EventId(""))) as events:
        return await anext(events)


async def _first_batch(workspace: Workspace) -> tuple[Event, ...]:
    async with aclosing(workspace.events.batches(after=EventId(""))) as batches:
        return await anext(batches)


async def _unknown(call: Awaitable[Any]) -> None:
    """Await a call that finds nothing once it was allowed."""
    try:
        await call
    except NotFound as error:
        if error.code != "queued_unknown":
            raise


async def _drained(workspace: Workspace) -> list[Any]:
    return [entry async for entry in workspace.export_audit()]


@dataclass(frozen=True)
class Sample:
    """A call, and the audit entry of its success."""

    action: str
    call: Callable[[Workspace, Furnished], Awaitable[Any]]
    risk: Risk = Risk.LOW


METHODS: Final = {
    "store_memories": Sample("memory.store", lambda w, _: w.store_memories([MemoryDraft("new")])),
    "retrieve_context": Sample("context.retrieve", lambda w, _: w.retrieve_context(ContextQuery("memory"))),
    "get_memories": Sample("memory.get", lambda w, f: w.get_memories([f.memory])),
    "update_memory": Sample(
        "memory.update",
        lambda w, f: w.update_memory(f.memory, MemoryChange(importance=0.9), expected_version=1),
        Risk.MEDIUM,
    ),
    "forget_memories": Sample("memory.forget", lambda w, f: w.forget_memories([f.memory]), Risk.MEDIUM),
    "restore_memories": Sample("memory.restore", lambda w, f: w.restore_memories([f.forgotten])),
    "share_memories": Sample("memory.share", lambda w, f: w.share_memories([AgentId("bob")], [f.memory]), Risk.MEDIUM),
    "revoke_shares": Sample("memory.unshare", lambda w, f: w.revoke_shares([AgentId("alice")], [f.memory])),
    "begin_session": Sample("session.begin", lambda w, _: w.begin_session(BeginRequest(AgentId("carol")))),
    "resume_session": Sample("session.resume", lambda w, _: w.resume_session()),
    "end_session": Sample("session.end", lambda w, _: w.end_session(success=True, output="done")),
    "log_turns": Sample("turn.log", lambda w, _: w.log_turns([TurnDraft("user", "hello")])),
    "read_conversation": Sample("conversation.read", lambda w, f: w.read_conversation(f.conversation)),
    "list_conversations": Sample("conversation.list", lambda w, _: w.list_conversations()),
    "attach_artifact": Sample("artifact.attach", lambda w, _: w.attach_artifact(ArtifactDraft("a.txt", b"a"))),
    "read_artifact": Sample("artifact.read", lambda w, f: w.read_artifact(f.artifact)),
    "describe_artifact": Sample("artifact.read", lambda w, f: w.describe_artifact(f.artifact)),
    "list_artifacts": Sample("artifact.list", lambda w, _: w.list_artifacts()),
    "artifacts.page": Sample("artifact.list", lambda w, _: w.artifacts.page(prefix="n")),
    "artifacts.versions": Sample("artifact.list", lambda w, _: w.artifacts.versions("notes.txt")),
    "artifacts.attach": Sample("artifact.attach", lambda w, _: w.artifacts.attach(ArtifactDraft("b.txt", b"b"))),
    "artifacts.link": Sample("artifact.read", lambda w, f: w.artifacts.link(f.artifact)),
    "artifacts.read": Sample("artifact.read", lambda w, _: w.artifacts.read("notes.txt")),
    "delegate": Sample(
        "delegation.create", lambda w, _: w.delegate(DelegationRequest(AgentId("carol"), "help")), Risk.MEDIUM
    ),
    "delegations.accept": Sample("delegation.accept", lambda w, f: w.delegations.accept(f.delegation)),
    "delegations.decline": Sample("delegation.decline", lambda w, f: w.delegations.decline(f.delegation)),
    "delegations.revoke": Sample("delegation.revoke", lambda w, f: w.delegations.revoke(f.delegation), Risk.MEDIUM),
    "delegations.list": Sample("delegation.list", lambda w, _: w.delegations.list()),
    "delegations.page": Sample("delegation.list", lambda w, _: w.delegations.page()),
    "sessions.progress": Sample("session.progress", lambda w, _: w.sessions.progress(status="half done", thoughts=3)),
    "sessions.get": Sample("session.read", lambda w, f: w.sessions.get(f.conversation)),
    "sessions.list": Sample("session.read", lambda w, _: w.sessions.list()),
    "state.set": Sample("state.set", lambda w, _: w.state.set("cursor", {"page": 2})),
    "state.mget": Sample("state.get", lambda w, _: w.state.mget(["cursor"])),
    "state.delete": Sample("state.delete", lambda w, _: w.state.delete(["cursor"])),
    "state.get": Sample("state.get", lambda w, _: w.state.get("cursor")),
    "state.mset": Sample("state.set", lambda w, _: w.state.mset({"cursor": 3, "more": 4})),
    "state.append": Sample("state.set", lambda w, _: w.state.append("list", [1])),
    "state.get_range": Sample("state.get", lambda w, _: w.state.get_range("list")),
    "state.get_length": Sample("state.get", lambda w, _: w.state.get_length("list")),
    "state.exists": Sample("state.get", lambda w, _: w.state.exists(["cursor"])),
    "state.keys": Sample("state.get", lambda w, _: w.state.keys()),
    "state.clear": Sample("state.delete", lambda w, _: w.state.clear()),
    "record_loop": Sample("loop.record", lambda w, _: w.record_loop(LoopDraft(Loop.CONFIDENCE, PHASE, score=0.8))),
    "loop_gate": Sample("loop.read", lambda w, _: w.loop_gate(PHASE)),
    "read_loops": Sample("loop.read", lambda w, _: w.read_loops(PHASE)),
    "loops.status": Sample("loop.read", lambda w, _: w.loops.status(PHASE)),
    "loops.read": Sample("loop.read", lambda w, _: w.loops.read(PHASE)),
    "loops.deferred": Sample("loop.read", lambda w, _: w.loops.deferred()),
    "loops.next_actions": Sample("loop.read", lambda w, _: w.loops.next_actions()),
    "list_projects": Sample("project.list", lambda w, _: w.list_projects()),
    "project_overview": Sample("project.read", lambda w, _: w.project_overview()),
    "complete": Sample("name.complete", lambda w, _: w.complete("memory_id", "")),
    "health": Sample("health.read", lambda w, _: w.health()),
    "conflicts": Sample("stats.read", lambda w, _: w.conflicts()),
    "tasks.add": Sample("task.add", lambda w, _: w.tasks.add(TaskDraft("new"))),
    "tasks.update": Sample(
        "task.update", lambda w, f: w.tasks.update(f.task, TaskChange(result="done"), expected_version=1)
    ),
    "tasks.depend": Sample("task.update", lambda w, f: w.tasks.depend(f.task, no_longer=[f.memory])),
    "tasks.get": Sample("task.read", lambda w, f: w.tasks.get(f.task)),
    "tasks.list": Sample("task.list", lambda w, _: w.tasks.list()),
    "documents.open": Sample("record.open", lambda w, f: w.documents.open(f.memory)),
    "documents.link": Sample("memory.link", lambda w, f: w.documents.link(f.memory, [f.artifact])),
    "events.read": Sample("event.read", lambda w, _: w.events.read()),
    "events.follow": Sample("event.read", lambda w, _: _first_event(w)),
    "events.batches": Sample("event.read", lambda w, _: _first_batch(w)),
    "signals.send": Sample("signal.send", lambda w, _: w.signals.send(SignalDraft("go", (ALICE.agent_id,)))),
    "signals.acknowledge": Sample("signal.acknowledge", lambda w, f: w.signals.acknowledge(f.received, note="got it")),
    "signals.withdraw": Sample("signal.withdraw", lambda w, f: w.signals.withdraw(f.sent)),
    "signals.pending": Sample("signal.read", lambda w, _: w.signals.pending()),
    "signals.status": Sample("signal.read", lambda w, f: w.signals.status(f.sent)),
    "signals.wait_for": Sample("signal.await", lambda w, _: w.signals.wait_for(timeout_s=0)),
    "signals.wait_for_acknowledgements": Sample(
        "signal.await", lambda w, f: w.signals.wait_for_acknowledgements(f.sent, timeout_s=0)
    ),
    "agents.register": Sample(
        "agent.register", lambda w, _: w.agents.register(RegisterRequest(HANK, agent_type="coder")), Risk.MEDIUM
    ),
    "agents.heartbeat": Sample("agent.heartbeat", lambda w, _: w.agents.heartbeat(HANK)),
    "agents.set_confidence": Sample("agent.confidence", lambda w, _: w.agents.set_confidence(0.5, HANK)),
    "agents.retire": Sample("agent.retire", lambda w, _: w.agents.retire(HANK), Risk.MEDIUM),
    "agents.get": Sample("agent.read", lambda w, _: w.agents.get(HANK)),
    "agents.list": Sample("agent.read", lambda w, _: w.agents.list()),
    "agents.swarms": Sample("agent.read", lambda w, _: w.agents.swarms()),
    "agents.history": Sample("agent.history", lambda w, _: w.agents.history()),
    "access_tokens.create": Sample(
        "token.create", lambda w, _: w.access_tokens.create(TokenRequest(HANK, (DEFAULT,))), Risk.HIGH
    ),
    "access_tokens.list": Sample("token.list", lambda w, _: w.access_tokens.list()),
    "access_tokens.revoke": Sample("token.revoke", lambda w, f: w.access_tokens.revoke(f.token), Risk.MEDIUM),
    "query_audit": Sample("audit.query", lambda w, _: w.query_audit(), Risk.MEDIUM),
    "verify_audit": Sample("audit.verify", lambda w, _: w.verify_audit()),
    "export_audit": Sample("audit.export", lambda w, _: _drained(w), Risk.HIGH),
    "rotate_keys": Sample("key.rotate", lambda w, _: w.rotate_keys(), Risk.CRITICAL),
    "sessions.close_overdue": Sample("session.close", lambda w, _: w.sessions.close_overdue()),
    "sweep": Sample("retention.sweep", lambda w, _: w.sweep()),
    "queue.aside": Sample("spool.review", lambda w, _: w.queue.aside()),
    "queue.retry": Sample("spool.review", lambda w, _: _unknown(w.queue.retry("none"))),
    "queue.drop": Sample("spool.review", lambda w, _: _unknown(w.queue.drop("none"))),
    "reindex": Sample("embedding.reindex", lambda w, _: w.reindex()),
}

NEVER_REFUSED: Final = frozenset({"note_refusal"})
"""Methods that tell the audit log of a refusal made elsewhere, whoever it was made to."""
