"""The requests to the tools: arguments by name, and whether a request may be sent twice."""

import base64
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack

from contextdna.client.connection import Request


class MemoryFields(TypedDict, total=False):
    """What may be said about a memory besides its content; see store_memory in docs/tools.md."""

    memory_type: str
    tier: str
    level: str
    importance: float
    tags: Sequence[str]
    metadata: Mapping[str, Any]
    valid_from: str
    retention_days: float
    relates_to: Sequence[str]


class MemoryItem(MemoryFields):
    """One memory of a batch."""

    content: str


class QueryFields(TypedDict, total=False):
    """How retrieval may be narrowed; see retrieve_context in docs/tools.md."""

    kinds: Sequence[str]
    types: Sequence[str]
    tiers: Sequence[str]
    levels: Sequence[str]
    tags: Sequence[str]
    agent: str
    since: str
    until: str
    as_of: str
    min_importance: float
    limit: int
    max_tokens: int
    detail: Literal["full", "compact"]
    cursor: str


class DelegationFields(TypedDict, total=False):
    """How a delegation may be shaped; see delegate_with_context in docs/tools.md."""

    query: str
    memory_ids: Sequence[str]
    memory_types: Sequence[str]
    min_importance: float
    limit: int
    include_conversations: bool
    expires_in_s: float
    team_id: str
    swarm_id: str
    max_tokens: int


class BeginFields(TypedDict, total=False):
    """What may be said of a session besides agent and task; see begin_session in docs/tools.md."""

    team_id: str
    swarm_id: str
    role: str
    ttl_s: float
    project_id: str


class ShareFields(TypedDict, total=False):
    """Which memories are shared and for how long; see share_memories in docs/tools.md."""

    memory_ids: Sequence[str]
    memory_types: Sequence[str]
    min_importance: float
    limit: int
    expires_in_s: float
    revoke: bool


class ArtifactFields(TypedDict, total=False):
    """What may be said of an artifact besides its content; see attach_artifact in docs/tools.md."""

    media_type: str
    level: str
    importance: float
    metadata: Mapping[str, Any]


class LoopFields(TypedDict, total=False):
    """What a loop record holds besides loop and phase; see record_loop_decision in docs/tools.md."""

    iteration: int
    score: float
    validators: Mapping[str, float]
    decision: str
    reasoning: str
    blockers: Sequence[str]
    files: Sequence[str]
    rests_on: Sequence[str]
    issues: Sequence[str]
    recommendations: Sequence[str]
    deferred_issues: Sequence[str]
    next_actions: Sequence[str]


class ChangeFields(TypedDict, total=False):
    """What may be changed of a memory; see update_memory in docs/tools.md."""

    content: str
    memory_type: str
    tier: str
    level: str
    importance: float
    tags: Sequence[str]
    metadata: Mapping[str, Any]
    valid_to: str
    retention_days: float
    superseded_by: str


Role = Literal["user", "assistant", "system", "tool"]


def begin(agent_id: str, task: str, parent: str, **fields: Unpack[BeginFields]) -> Request:
    """Begin a session. Asked twice, it leaves a session that nobody uses and that ends by itself."""
    return _request("begin_session", {**fields, "agent_id": agent_id, "task": task, "parent": parent}, repeatable=True)


def resume(session_id: str) -> Request:
    """Take up the session of a handle."""
    return _request("begin_session", {"session_id": session_id}, repeatable=True)


def end(
    *,
    success: bool,
    output: str = "",
    learnings: Sequence[str] = (),
    artifacts: Sequence[str] = (),
    promote: Sequence[str] = (),
    level: str = "",
) -> Request:
    """End a session. Asked twice, the second is refused, and changes nothing."""
    named = {"artifacts": artifacts, "promote": promote}
    fields = {"success": success, "output": output, "learnings": learnings, **named, "level": level}
    return _request("end_session", fields, repeatable=True)


def retrieve(query: str, **fields: Unpack[QueryFields]) -> Request:
    """Ask in plain words."""
    return _request("retrieve_context", {**fields, "query": query}, repeatable=True)


def store(content: str, *, on_duplicate: str, idempotency_key: str, **fields: Unpack[MemoryFields]) -> Request:
    """Store one memory; without a key of the caller's, one is made, so that a retry is safe."""
    key = idempotency_key or new_key()
    return _request(
        "store_memory",
        {**fields, "content": content, "on_duplicate": on_duplicate, "idempotency_key": key},
        repeatable=True,
    )


def store_all(memories: Sequence[MemoryItem], *, on_duplicate: str, idempotency_key: str) -> Request:
    """Store a batch, all or none."""
    key = idempotency_key or new_key()
    items = [_plain(item) for item in memories]
    return _request(
        "store_memory", {"memories": items, "on_duplicate": on_duplicate, "idempotency_key": key}, repeatable=True
    )


def get(ids: Sequence[str]) -> Request:
    """Read whole memories."""
    return _request("get_memory", {"ids": ids}, repeatable=True)


def update(memory_id: str, expected_version: int, **fields: Unpack[ChangeFields]) -> Request:
    """Change a memory. Not repeatable: after a change that went through, the version is stale."""
    return _request("update_memory", {**fields, "id": memory_id, "expected_version": expected_version})


def forget(ids: Sequence[str], *, purge: bool, restore: bool) -> Request:
    """Forget memories, or bring them back."""
    return _request("forget_memory", {"ids": ids, "purge": purge, "restore": restore})


def share(target_agent_ids: Sequence[str], **fields: Unpack[ShareFields]) -> Request:
    """Grant, or end grants."""
    return _request("share_memories", {**fields, "target_agent_ids": target_agent_ids}, repeatable=True)


def delegate(child_agent_id: str, task: str, **fields: Unpack[DelegationFields]) -> Request:
    """Hand a task to a child agent. Not repeatable: there would be two children."""
    return _request("delegate_with_context", {**fields, "child_agent_id": child_agent_id, "task": task})


def log(turns: Sequence[Mapping[str, Any]]) -> Request:
    """Append turns. Not repeatable: they would be there twice."""
    return _request("log_turn", {"turns": turns})


def attach(name: str, data: str | bytes, **fields: Unpack[ArtifactFields]) -> Request:
    """Keep an artifact. Not repeatable: the same name again is its next version."""
    content = {"text": data} if isinstance(data, str) else {"base64": base64.b64encode(data).decode()}
    return _request("attach_artifact", {**fields, **content, "name": name})


def record_loop(loop: int, phase: str, **fields: Unpack[LoopFields]) -> Request:
    """Append a loop record. Not repeatable: it would count twice."""
    return _request("record_loop_decision", {**fields, "loop": loop, "phase": phase})


def beat(session_id: str) -> Request:
    """Tell that the session's agent is alive. A tool of the full profile, as are those that wait for an agent."""
    return _request("register_agent", {"session_id": session_id, "heartbeat": True}, repeatable=True)


def new_key() -> str:
    """Make an idempotency key."""
    return f"client-{secrets.token_hex(12)}"


def _request(tool: str, arguments: Mapping[str, Any], *, repeatable: bool = False) -> Request:
    return Request(tool, _plain(arguments), repeatable)


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Turn what JSON knows no name for into what it does."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}
