"""The memory as an agent's code meets it: the tools as typed methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, Unpack

from mcp import StdioServerParameters

from contextdna.client import answers, requests
from contextdna.client.answers import (
    Attached,
    Begun,
    Delegated,
    Ended,
    Found,
    Logged,
    Recorded,
    Shared,
    Stored,
    answer_as,
)
from contextdna.client.connection import Connection, Request, Tally
from contextdna.client.execution import Opening, RunLimits
from contextdna.client.link import Target
from contextdna.client.requests import (
    ArtifactFields,
    BeginFields,
    ChangeFields,
    DelegationFields,
    LoopFields,
    MemoryFields,
    MemoryItem,
    QueryFields,
    ShareFields,
)
from contextdna.client.retry import Retry
from contextdna.client.run import AgentRun, type_and_message


def connect(
    server: StdioServerParameters | str,
    *,
    token: str = "",
    retry: Retry | None = None,
    timeout_s: float = 30.0,
    connect_s: float = 30.0,
) -> Memory:
    """Give the memory behind a server, for use in `async with`.

    Nothing is started or asked before the first call, so a server that is away is no reason not to begin. When it is
    lost, the next call starts it or connects again.

    Args:
        server: How to start a server that is spoken to on its standard input and output, or the URL of one that serves
            Streamable HTTP.
        token: Bearer token for a URL.
        retry: How often and how soon a call is tried again; default `Retry()`.
        timeout_s: How long one try of one call may take.
        connect_s: How long starting or reaching the server may take.

    Raises:
        ValueError: A token for a server that is started here, or a time that is not above 0.
    """
    if token and not isinstance(server, str):
        raise ValueError("a token is for a URL; a server that is started here takes its identity from its settings")
    if timeout_s <= 0 or connect_s <= 0:
        raise ValueError("timeout_s and connect_s are above 0")
    return Memory(Connection(Target(server, token, timeout_s, connect_s), retry or Retry()))


class Memory:
    """The memory of a team of agents.

    Each method is one tool of the server and takes the ``session_id`` that the call acts in; `run` wraps a whole piece
    of work. Methods may be called from several tasks at once. All of them raise:

        ServerAway: The server did not answer, after all tries; ``outcome_unknown`` says whether it may have acted.
        Refused: It answered with an error of that ``code``, and did nothing.
        AnswerInvalid: It is no contextdna server, or one of another version.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tally = Tally()

    async def __aenter__(self) -> Self:
        await self._connection.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.__aexit__(kind, error, trace)

    # --- a piece of work ---

    def run(
        self,
        agent_id: str = "",
        *,
        task: str = "",
        parent: str | AgentRun = "",
        delegation: Delegated | str | None = None,
        level: str = "",
        failure_text: Callable[[BaseException], str] | None = type_and_message,
        limits: RunLimits | None = None,
        **fields: Unpack[BeginFields],
    ) -> AgentRun:
        """Wrap one execution of an agent, for use in `async with`: begun at its start, ended at its end.

        Args:
            agent_id: Who works; empty for the agent of the credential.
            task: What for; it decides what the briefing is about.
            parent: The run, or the session_id, that this is a part of; its agent must have the right to begin sessions
                for this one. Without it, delegate.
            delegation: What `delegate` gave, or the session_id in it: the run then is the child's work on that task.
            level: Who may read the result and what was learned; empty for the server's default.
            failure_text: Makes the failure pattern of an exception; None, or an empty text, stores none. An
                exception's message may hold what the work was about: choose another function where it must not.
            limits: Bounds of what waits while the server is away, and of the time that the end may take.
            fields: team_id, swarm_id, role, ttl_s, project_id, as in begin_session.
        """
        above = parent.execution if isinstance(parent, AgentRun) else parent
        opening = Opening(agent_id, task, above, fields=fields)
        if isinstance(delegation, str):
            opening = replace(opening, session_id=delegation)
        elif delegation is not None:
            opening = Opening(
                agent_id or delegation.child_agent_id,
                task or delegation.task,
                session_id=delegation.session_id,
                briefing=delegation.briefing,
                late=delegation.late,
            )
        return AgentRun(self._connection, opening, level=level, failure_text=failure_text, limits=limits or RunLimits())

    # --- sessions ---

    async def begin(
        self, agent_id: str = "", *, task: str = "", parent: str = "", **fields: Unpack[BeginFields]
    ) -> Begun:
        """Begin a session: begin_session. When an answer is lost, a session that nobody uses may be left behind."""
        return answer_as(Begun, await self._call(requests.begin(agent_id, task, parent, **fields)))

    async def resume(self, session_id: str) -> Begun:
        """Take up a session by its handle: begin_session."""
        return answer_as(Begun, await self._call(requests.resume(session_id)))

    async def end(
        self,
        session_id: str,
        *,
        success: bool = True,
        output: str = "",
        learnings: Sequence[str] = (),
        artifacts: Sequence[str] = (),
        promote: Sequence[str] = (),
        level: str = "",
    ) -> Ended:
        """End a session with its result, what was learned, and the working memories that stay: end_session."""
        request = requests.end(
            success=success, output=output, learnings=learnings, artifacts=artifacts, promote=promote, level=level
        )
        return answer_as(Ended, await self._call(request, session_id))

    async def log(self, turns: Sequence[Mapping[str, Any]], *, session_id: str) -> Logged:
        """Append turns (role, content, level, tool_calls, metadata) to the session's conversation: log_turn."""
        return answer_as(Logged, await self._call(requests.log(turns), session_id))

    async def delegate(
        self, child_agent_id: str, task: str, *, session_id: str, **fields: Unpack[DelegationFields]
    ) -> Delegated:
        """Hand a task to a child agent, with the memories that it needs: delegate_with_context."""
        raw = await self._call(requests.delegate(child_agent_id, task, **fields), session_id)
        return answer_as(Delegated, raw, child_agent_id=child_agent_id, task=task)

    # --- memories ---

    async def retrieve(self, query: str = "", *, session_id: str = "", **fields: Unpack[QueryFields]) -> Found:
        """Find what is known; without a query, the newest: retrieve_context."""
        return answers.found(await self._call(requests.retrieve(query, **fields), session_id))

    async def store(
        self,
        content: str,
        *,
        session_id: str = "",
        on_duplicate: str = "merge",
        idempotency_key: str = "",
        **fields: Unpack[MemoryFields],
    ) -> Stored:
        """Keep one memory: store_memory. A retry never stores it twice."""
        request = requests.store(content, on_duplicate=on_duplicate, idempotency_key=idempotency_key, **fields)
        return answers.stored(await self._call(request, session_id))[0]

    async def store_all(
        self,
        memories: Sequence[MemoryItem],
        *,
        session_id: str = "",
        on_duplicate: str = "merge",
        idempotency_key: str = "",
    ) -> tuple[Stored, ...]:
        """Keep up to 100 memories, all or none: store_memory. A retry never stores them twice."""
        request = requests.store_all(memories, on_duplicate=on_duplicate, idempotency_key=idempotency_key)
        return answers.stored(await self._call(request, session_id))

    async def get(self, ids: Sequence[str], *, session_id: str = "") -> list[Mapping[str, Any]]:
        """Read whole memories, as the tool gives them: get_memory."""
        return answers.listed(await self._call(requests.get(ids), session_id), "memories")

    async def update(
        self, memory_id: str, *, expected_version: int, session_id: str = "", **fields: Unpack[ChangeFields]
    ) -> Mapping[str, Any]:
        """Change a memory at the version that was read: update_memory."""
        return await self._call(requests.update(memory_id, expected_version, **fields), session_id)

    async def forget(
        self, ids: Sequence[str], *, session_id: str = "", purge: bool = False, restore: bool = False
    ) -> Mapping[str, Any]:
        """Forget memories, for good with ``purge``, or bring them back with ``restore``: forget_memory."""
        return await self._call(requests.forget(ids, purge=purge, restore=restore), session_id)

    async def share(
        self, target_agent_ids: Sequence[str], *, session_id: str = "", **fields: Unpack[ShareFields]
    ) -> Shared:
        """Let other agents read, or take it back with ``revoke``: share_memories."""
        return answer_as(Shared, await self._call(requests.share(target_agent_ids, **fields), session_id))

    # --- the rest ---

    async def attach(
        self, name: str, data: str | bytes, *, session_id: str = "", **fields: Unpack[ArtifactFields]
    ) -> Attached:
        """Keep a text or bytes beside the memories: attach_artifact."""
        return answer_as(Attached, await self._call(requests.attach(name, data, **fields), session_id))

    async def record_loop(
        self, loop: int, phase: str, *, session_id: str = "", **fields: Unpack[LoopFields]
    ) -> Recorded:
        """Record a confidence (3), a consensus (2) or a decision (4): record_loop_decision."""
        return answer_as(Recorded, await self._call(requests.record_loop(loop, phase, **fields), session_id))

    async def call(
        self, tool: str, *, repeatable: bool = False, within_s: float | None = None, **arguments: Any
    ) -> dict[str, Any]:
        """Call any tool of the server by its name, and give its structured answer.

        Args:
            tool: Its name, such as await_signal.
            repeatable: Whether a second call does no harm when nobody knows whether the first arrived: true of reading,
                and of writing with an idempotency_key. Else a lost answer raises `ServerAway`, ``outcome_unknown``.
            within_s: How long the answer may take, for tools that wait; default as for all.
            arguments: As the tool takes them, session_id included.
        """
        return await self._call(Request(tool, arguments, repeatable, within_s))

    async def _call(self, request: Request, session_id: str = "") -> dict[str, Any]:
        if session_id:
            request = replace(request, arguments={**request.arguments, "session_id": session_id})
        return await self._connection.call(request, self._tally)
