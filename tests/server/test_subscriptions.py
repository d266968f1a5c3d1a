"""Resource updates as clients of both eras receive them: of what they may read, from any process, until they leave."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from anyio.abc import ObjectReceiveStream
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.subscriptions import ResourceUpdated
from mcp.server.lowlevel import Server
from mcp_types import ResourceUpdatedNotification

import contextdna_resources
from contextdna import (
    AgentId,
    ArtifactDraft,
    BeginRequest,
    DelegationRequest,
    Hub,
    HubSettings,
    Level,
    Loop,
    LoopDraft,
    MemoryChange,
    MemoryDraft,
    NotFound,
    Outcome,
    Principal,
    ProjectId,
    RegisterRequest,
    Role,
    StorageUnavailable,
    TurnDraft,
    Workspace,
    open_hub,
)
from contextdna_resources import changes
from contextdna_server import subscriptions
from contextdna_server.app import build_server

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")]

DEFAULT, OTHER = ProjectId("default"), ProjectId("other")
ALICE = Principal(AgentId("alice"), (DEFAULT,), team_id="core", swarm_id="lift")
BOB = Principal(AgentId("bob"), (DEFAULT,), swarm_id="lift")
BASE: Final = "contextdna://projects/default"
DEADLINE_S: Final = 60
"""Only ends a test that has failed."""

ERAS = ["legacy", "auto"]


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with open_hub(HubSettings(projects=(DEFAULT, OTHER))) as opened:
        yield opened


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def server_for(hub: Hub, principal: Principal) -> Server[Any]:
    return build_server(hub, identity=lambda: principal)


class Told:
    """What one client is told, in either era."""

    def __init__(self, client: Client, arrived: ObjectReceiveStream[str], leave: Callable[[str], Awaitable[Any]]):
        self.client = client
        self.leave = leave
        self._arrived = arrived

    async def next(self) -> str:
        return await self._arrived.receive()

    async def until(self, uri: str) -> list[str]:
        """Give what was told up to a resource."""
        told = []
        while uri not in told:
            told.append(await self.next())
        return told


@asynccontextmanager
async def told_of(target: Any, era: str, *uris: str) -> AsyncIterator[Told]:
    """Connect a client that is told of some resources."""
    send, receive = anyio.create_memory_object_stream[str](1000)

    async def note(message: object) -> None:
        if era == "legacy" and isinstance(message, ResourceUpdatedNotification):  # a stream gives it as its own
            send.send_nowait(message.params.uri)

    with send, receive, anyio.fail_after(DEADLINE_S):
        async with Client(target, mode=era, message_handler=note) as client:
            if era == "legacy":
                for uri in uris:
                    await client.subscribe_resource(uri)
                yield Told(client, receive, client.unsubscribe_resource)
            else:
                async with listening(client, uris, send.send_nowait):
                    yield Told(client, receive, _never)


async def _never(uri: str) -> None:
    raise AssertionError(f"a stream cannot leave {uri} alone")


@asynccontextmanager
async def listening(client: Client, uris: tuple[str, ...], note: Callable[[str], None]) -> AsyncIterator[None]:
    async with client.listen(resource_subscriptions=uris) as stream, anyio.create_task_group() as tasks:
        assert stream.honored.resource_subscriptions == list(uris)

        async def pump() -> None:
            async for event in stream:
                assert isinstance(event, ResourceUpdated)
                note(event.uri)

        tasks.start_soon(pump)
        yield
        tasks.cancel_scope.cancel()


async def refusal(hub: Hub, era: str, uri: str, *, principal: Principal = BOB) -> MCPError:
    """Subscribe to what must be refused; gives the error."""
    async with Client(server_for(hub, principal), mode=era) as client:
        with pytest.raises(MCPError) as caught:
            await (client.subscribe_resource(uri) if era == "legacy" else listen_to(client, uri))
        return caught.value


async def listen_to(client: Client, *uris: str) -> None:
    """Open a stream and leave it."""
    async with client.listen(resource_subscriptions=uris) as stream:
        assert stream.honored.resource_subscriptions == list(uris)


async def remember(workspace: Workspace, content: str, **fields: Any) -> str:
    return (await workspace.store_memories([MemoryDraft(content, **fields)]))[0].id


async def shown(client: Client, uri: str) -> str:
    return str((await client.read_resource(uri)).contents[0].text)  # type: ignore[union-attr]


async def touch(workspace: Workspace, memory: str, version: int = 1) -> None:
    await workspace.update_memory(memory, MemoryChange(importance=0.1 * version), expected_version=version)  # type: ignore[arg-type]


async def all_left(hub: Hub) -> None:
    """Wait until nobody listens to the events any more."""
    with anyio.fail_after(DEADLINE_S):
        while hub._rooms.stream._listeners:
            await anyio.lowlevel.checkpoint()


class TestWhatIsTold:
    async def test_a_change_is_told_by_the_uri_that_the_client_wrote(self, hub: Hub, era: str) -> None:
        memory = await remember(hub.bind(ALICE), "one")
        uri = f"{BASE}/memories/{memory}".replace("mem_", "%6Dem_")
        async with told_of(server_for(hub, BOB), era, uri) as told:
            await touch(hub.bind(ALICE), memory)
            assert await told.next() == uri

    async def test_each_resource_is_told_of_what_changes_it(self, hub: Hub, era: str) -> None:
        alice = hub.bind(ALICE)
        memory = await remember(alice, "one")
        handle = (await alice.begin_session(BeginRequest(ALICE.agent_id))).handle
        acting = hub.bind(ALICE, session_id=handle)
        await acting.log_turns([TurnDraft("user", "hello")])
        artifact = (await alice.attach_artifact(ArtifactDraft("a.txt", b"a"))).record.id
        await acting.record_loop(LoopDraft(Loop.CONSENSUS, "build", score=0.95))
        conversation = f"{BASE}/conversations/{handle.partition('.')[0]}"
        steps: list[tuple[Callable[[], Awaitable[Any]], set[str]]] = [
            (lambda: touch(alice, memory), {f"{BASE}/memories/{memory}", BASE}),
            (lambda: alice.share_memories([BOB.agent_id], [memory]), {f"{BASE}/memories/{memory}"}),  # type: ignore[list-item]
            (lambda: alice.forget_memories([memory]), {f"{BASE}/memories/{memory}", BASE}),  # type: ignore[list-item]
            (lambda: alice.restore_memories([memory]), {f"{BASE}/memories/{memory}", BASE}),  # type: ignore[list-item]
            (lambda: alice.forget_memories([memory], purge=True), {f"{BASE}/memories/{memory}", BASE}),  # type: ignore[list-item]
            (lambda: acting.log_turns([TurnDraft("user", "more")]), {conversation, f"{BASE}/conversations", BASE}),
            (lambda: alice.attach_artifact(ArtifactDraft("b.txt", b"b")), {f"{BASE}/artifacts", BASE}),
            (lambda: alice.forget_memories([artifact]), {f"{BASE}/artifacts/{artifact}", f"{BASE}/artifacts", BASE}),
            (
                lambda: acting.record_loop(LoopDraft(Loop.CONSENSUS, "build", iteration=2, score=0.95)),
                {f"{BASE}/loops/build", BASE},
            ),
        ]
        uris = sorted(set().union(*(changed for _, changed in steps)))
        async with told_of(server_for(hub, BOB), era, *uris) as told:
            for step, changed in steps:
                await step()
                missing = set(changed)
                while missing:
                    missing.discard(await told.next())

    async def test_what_becomes_of_a_turn_changes_its_conversation(self, hub: Hub, era: str) -> None:
        handle = (await hub.bind(ALICE).begin_session(BeginRequest(ALICE.agent_id))).handle
        acting = hub.bind(ALICE, session_id=handle)
        [turn, _] = await acting.log_turns([TurnDraft("user", "hello"), TurnDraft("user", "again")])
        conversation = f"{BASE}/conversations/{handle.partition('.')[0]}"
        async with told_of(server_for(hub, BOB), era, conversation) as told:
            await acting.forget_memories([turn])
            assert await told.next() == conversation
            await acting.restore_memories([turn])
            assert await told.next() == conversation
            await acting.forget_memories([turn], purge=True)
            assert await told.next() == conversation

    async def test_a_session_changes_the_agent_whose_history_shows_it(self, hub: Hub, era: str) -> None:
        alice = hub.bind(ALICE)
        parent = (await alice.begin_session(BeginRequest(ALICE.agent_id))).handle
        report = await hub.bind(ALICE, session_id=parent).delegate(DelegationRequest(AgentId("drone"), "help"))
        own, below = f"{BASE}/agents/alice", f"{BASE}/agents/alice%2Fdrone"
        async with told_of(server_for(hub, ALICE), era, below) as told:
            await hub.bind(ALICE, session_id=report.begun.handle).end_session(success=True)
            assert await told.next() == below
        async with told_of(server_for(hub, ALICE), era, own) as told:
            handle = (await alice.begin_session(BeginRequest(ALICE.agent_id))).handle
            assert await told.next() == own
            await hub.bind(ALICE, session_id=handle).end_session(success=True)
            assert await told.next() == own

    async def test_the_local_operator_is_told_of_what_others_do(self, hub: Hub, era: str) -> None:
        local = Principal(AgentId("local"), (DEFAULT,), team_id="default", swarm_id="default", role=Role.SYSTEM)
        alice = hub.bind(ALICE)
        await alice.agents.register(RegisterRequest(ALICE.agent_id))
        for who in (alice, hub.bind(local)):
            await who.record_loop(LoopDraft(Loop.CONFIDENCE, "build", score=0.5))
        handles: list[str] = []

        async def begin() -> None:
            handles.append((await alice.begin_session(BeginRequest(ALICE.agent_id))).handle)

        async def delegate() -> None:
            await hub.bind(ALICE, session_id=handles[0]).delegate(DelegationRequest(AgentId("drone"), "help"))

        agents, agent, phase = f"{BASE}/agents", f"{BASE}/agents/alice", f"{BASE}/loops/build"
        steps: list[tuple[Callable[[], Awaitable[Any]], set[str]]] = [
            (begin, {agents, agent}),
            (delegate, {agents, BASE}),
            (lambda: hub.bind(ALICE, session_id=handles[0]).end_session(success=True), {agents, agent}),
            (lambda: hub.bind(BOB).agents.register(RegisterRequest(BOB.agent_id)), {agents, BASE}),
            (lambda: alice.agents.set_confidence(0.7), {agent}),
            (lambda: alice.record_loop(LoopDraft(Loop.CONFIDENCE, "build", score=0.6)), {phase}),
            (lambda: alice.record_loop(LoopDraft(Loop.CONSENSUS, "build", score=0.6)), {phase}),
        ]
        for step, changed in steps:
            async with told_of(server_for(hub, local), era, *sorted(changed)) as told:
                before = {uri: await shown(told.client, uri) for uri in changed}
                await step()
                missing = set(changed)
                while missing:
                    missing.discard(await told.next())
                assert all([before[uri] != await shown(told.client, uri) for uri in changed])

    async def test_a_swarm_is_told_of_its_gate_and_its_coordinator_of_confidence(self, hub: Hub, era: str) -> None:
        boss = Principal(AgentId("boss"), (DEFAULT,), swarm_id="lift", role=Role.COORDINATOR)
        alice = hub.bind(ALICE)
        await alice.agents.register(RegisterRequest(ALICE.agent_id))
        await hub.bind(BOB).record_loop(LoopDraft(Loop.CONFIDENCE, "build", score=0.5))
        async with told_of(server_for(hub, BOB), era, f"{BASE}/loops/build") as told:
            await alice.record_loop(LoopDraft(Loop.CONFIDENCE, "build", score=0.6))
            assert await told.next() == f"{BASE}/loops/build"
        async with told_of(server_for(hub, boss), era, f"{BASE}/agents/alice") as told:
            await alice.agents.set_confidence(0.7)
            assert await told.next() == f"{BASE}/agents/alice"

    async def test_a_page_of_a_list_is_told_of_with_its_list(self, hub: Hub, era: str) -> None:
        for number in range(51):
            await hub.bind(ALICE).attach_artifact(ArtifactDraft(f"{number}.txt", str(number).encode()))
        async with Client(server_for(hub, BOB), mode=era) as client:
            text = (await client.read_resource(f"{BASE}/artifacts")).contents[0].text  # type: ignore[union-attr]
        page = json.loads(text)["next"]
        async with told_of(server_for(hub, BOB), era, page) as told:
            await hub.bind(ALICE).attach_artifact(ArtifactDraft("more.txt", b"more"))
            assert await told.next() == page

    @pytest.mark.parametrize("name", ["guide", "health", "projects"])
    async def test_what_never_changes_can_be_subscribed_to(self, hub: Hub, era: str, name: str) -> None:
        async with told_of(server_for(hub, ALICE), era, f"contextdna://{name}", BASE) as told:
            await remember(hub.bind(ALICE), "one")
            assert await told.until(BASE) == [BASE]

    async def test_of_a_burst_the_last_is_told_and_not_each(
        self, hub: Hub, era: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(subscriptions, "SPACING_S", 0.2)
        memory = await remember(hub.bind(ALICE), "one")
        uri = f"{BASE}/memories/{memory}"
        async with told_of(server_for(hub, BOB), era, uri) as told:
            for version in range(1, 9):
                await touch(hub.bind(ALICE), memory, version)
            seen, notifications = 0, 0
            while seen < 9:
                await told.next()
                notifications += 1
                contents = (await told.client.read_resource(uri)).contents[0]
                seen = json.loads(contents.text)["version"]  # type: ignore[union-attr]
            assert notifications < 8

    async def test_both_eras_announce_what_they_serve(self, hub: Hub) -> None:
        async with Client(server_for(hub, BOB), mode="legacy") as client:
            assert client.server_capabilities.resources is not None
            assert client.server_capabilities.resources.subscribe is True
            assert client.server_capabilities.resources.list_changed is False
        async with Client(server_for(hub, BOB)) as client:
            assert client.server_capabilities.resources is not None
            assert client.server_capabilities.resources.subscribe is True
            assert client.server_capabilities.resources.list_changed is False


class TestAccess:
    async def test_what_one_may_not_read_answers_as_what_does_not_exist(self, hub: Hub, era: str) -> None:
        alice = hub.bind(ALICE)
        memory = await remember(alice, "hidden", level=Level.PRIVATE)
        artifact = (await alice.attach_artifact(ArtifactDraft("a", b"a", level=Level.PRIVATE))).record.id
        handle = (await alice.begin_session(BeginRequest(ALICE.agent_id))).handle
        acting = hub.bind(ALICE, session_id=handle)
        await acting.log_turns([TurnDraft("user", "hidden", level=Level.PRIVATE)])
        await acting.record_loop(LoopDraft(Loop.CONFIDENCE, "secret", score=0.9))
        session = handle.partition(".")[0]
        for path, absent in [
            (f"memories/{memory}", f"memories/{memory[:-4]}aaaa"),
            (f"artifacts/{artifact}", f"artifacts/{artifact[:-4]}aaaa"),
            (f"conversations/{session}", f"conversations/{session[:-4]}aaaa"),
            ("loops/secret", "loops/absent"),
        ]:
            hidden, unknown = [await refusal(hub, era, f"{BASE}/{where}") for where in (path, absent)]
            names = path.partition("/")[2], absent.partition("/")[2]
            assert str(hidden.error).replace(names[0], "X") == str(unknown.error).replace(names[1], "X")
            assert hidden.error.data["code"] == "not_found"

    @pytest.mark.parametrize(
        ("uri", "code"),
        [
            ("contextdna://nothing", "resource_not_found"),
            ("file:///etc/passwd", "resource_not_found"),
            ("contextdna://projects/default/memories/a b", "uri_invalid"),
            ("contextdna://projects/default/conversations/ses_x.secret", "session_handle_in_uri"),
            ("contextdna://projects/default/artifacts?cursor=x", "cursor_invalid"),
            ("contextdna://projects/other", "project_not_found"),
            ("contextdna://projects/nowhere", "project_not_found"),
        ],
    )
    async def test_a_wrong_uri_is_refused_with_its_code(self, hub: Hub, era: str, uri: str, code: str) -> None:
        error = (await refusal(hub, era, uri)).error
        assert (error.code, error.data["code"]) == (-32602, code)
        assert error.data["hint"]

    async def test_a_subscription_is_audited_like_a_read_and_a_refused_one_as_a_denial(
        self, hub: Hub, era: str
    ) -> None:
        shown = await remember(hub.bind(ALICE), "shown")
        hidden = await remember(hub.bind(ALICE), "hidden", level=Level.PRIVATE)
        await refusal(hub, era, f"{BASE}/memories/{hidden}")
        async with told_of(server_for(hub, BOB), era, f"{BASE}/memories/{shown}") as told:
            for version in range(1, 4):
                await touch(hub.bind(ALICE), shown, version)
                await told.next()
        await all_left(hub)
        root = hub.bind(Principal(AgentId("root"), (DEFAULT,), role=Role.SYSTEM))
        entries = [entry.draft for entry in await root.query_audit(agent_id="bob", limit=100)]
        assert [(entry.action, entry.outcome, entry.record_ids) for entry in reversed(entries)] == [
            ("memory.get", Outcome.DENIED, (hidden,)),
            ("memory.get", Outcome.ALLOWED, (shown,)),
            ("event.read", Outcome.ALLOWED, ()),
            ("event.read", Outcome.ALLOWED, ()),
        ]

    async def test_one_hidden_uri_refuses_the_whole_stream_before_it_is_acknowledged(self, hub: Hub) -> None:
        hidden = await remember(hub.bind(ALICE), "hidden", level=Level.PRIVATE)
        async with Client(server_for(hub, BOB)) as client:
            with pytest.raises(MCPError) as caught:
                await listen_to(client, BASE, f"{BASE}/memories/{hidden}")
        assert caught.value.error.data["code"] == "not_found"
        await all_left(hub)

    async def test_what_was_revoked_since_is_not_told(self, hub: Hub, era: str) -> None:
        alice = hub.bind(ALICE)
        memory = await remember(alice, "for bob", level=Level.PRIVATE)
        other = await remember(alice, "for all")
        await alice.share_memories([BOB.agent_id], [memory])  # type: ignore[list-item]
        uri, beside = f"{BASE}/memories/{memory}", f"{BASE}/memories/{other}"
        async with told_of(server_for(hub, BOB), era, uri, beside) as told:
            await touch(alice, memory)
            assert await told.next() == uri
            await alice.revoke_shares([BOB.agent_id], [memory])  # type: ignore[list-item]
            for version in range(1, 4):
                await touch(alice, memory, version + 1)
                await touch(alice, other, version)
                assert await told.next() == beside
            await alice.share_memories([BOB.agent_id], [memory])  # type: ignore[list-item]
            assert await told.next() == uri

    async def test_what_is_not_for_the_reader_leaves_a_list_still(self, hub: Hub, era: str) -> None:
        uri = f"{BASE}/artifacts"
        async with told_of(server_for(hub, BOB), era, uri, BASE) as told:
            await hub.bind(ALICE).attach_artifact(ArtifactDraft("a", b"a", level=Level.PRIVATE))
            for number in range(3):
                await remember(hub.bind(ALICE), f"shown {number}")
                assert await told.next() == BASE

    async def test_agents_at_one_server_are_each_told_their_own(self, hub: Hub, era: str) -> None:
        caller = ALICE
        server = build_server(hub, identity=lambda: caller)
        async with told_of(server, era, BASE) as alice:
            caller = BOB
            async with told_of(server, era, BASE) as bob:
                await remember(hub.bind(ALICE), "alice's own", level=Level.PRIVATE)
                await alice.next()
                await remember(hub.bind(BOB), "bob's own", level=Level.PRIVATE)
                await bob.next()
                for principal, told, other in ((ALICE, alice, bob), (BOB, bob, alice)):
                    for number in range(2):
                        await remember(hub.bind(principal), f"more {number}", level=Level.PRIVATE)
                        await told.next()
                    assert other._arrived.statistics().current_buffer_used == 0  # type: ignore[attr-defined]


class TestBounds:
    async def test_an_agent_has_a_bounded_number_of_subscriptions(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(subscriptions, "SUBSCRIPTIONS_MAX", 3)
        memories = [await remember(hub.bind(ALICE), f"memory {number}") for number in range(4)]
        uris = [f"{BASE}/memories/{memory}" for memory in memories]
        async with told_of(server_for(hub, BOB), "legacy", *uris[:3]) as told:
            with pytest.raises(MCPError) as caught:
                await told.client.subscribe_resource(uris[3])
            assert caught.value.error.data["code"] == "subscriptions_too_many"
            assert caught.value.error.data["hint"]
            await told.client.subscribe_resource(uris[0])  # again: takes no more room
            await told.leave(uris[0])
            await told.client.subscribe_resource(uris[3])
            await touch(hub.bind(ALICE), memories[3])
            assert await told.next() == uris[3]

    async def test_a_stream_counts_as_one_more_than_its_resources(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(subscriptions, "SUBSCRIPTIONS_MAX", 3)
        uris = tuple([f"{BASE}/memories/{await remember(hub.bind(ALICE), str(number))}" for number in range(3)])
        server = server_for(hub, BOB)
        async with Client(server) as client:
            with pytest.raises(MCPError) as caught:
                await listen_to(client, *uris)
            assert caught.value.error.data["code"] == "subscriptions_too_many"
            for _ in range(3):  # each gives its room back
                await listen_to(client, *uris[:2])
                await all_left(hub)

    async def test_a_client_that_does_not_read_holds_up_no_other(self, hub: Hub) -> None:
        stuck = anyio.Event()

        async def never_ends(message: Any) -> None:
            stuck.set()
            await anyio.sleep_forever()

        server = server_for(hub, BOB)
        async with Client(server, mode="legacy", message_handler=never_ends) as slow:
            await slow.subscribe_resource(BASE)
            async with told_of(server, "legacy", BASE) as told:
                for number in range(5):
                    await remember(hub.bind(ALICE), f"memory {number}")
                    await told.next()
                await stuck.wait()


class TestEnds:
    async def test_who_unsubscribes_is_told_no_more(self, hub: Hub) -> None:
        memory, other = [await remember(hub.bind(ALICE), text) for text in ("one", "two")]
        uri, beside = f"{BASE}/memories/{memory}", f"{BASE}/memories/{other}"
        async with told_of(server_for(hub, BOB), "legacy", uri, beside) as told:
            await told.leave(uri)
            await told.leave(uri)  # nothing to leave
            for version in range(1, 4):
                await touch(hub.bind(ALICE), memory, version)
                await touch(hub.bind(ALICE), other, version)
                assert await told.next() == beside
            with pytest.raises(MCPError) as caught:
                await told.leave("contextdna://nothing")
            assert caught.value.error.data["code"] == "resource_not_found"

    async def test_subscribing_twice_tells_once(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(subscriptions, "SUBSCRIPTIONS_MAX", 2)
        async with told_of(server_for(hub, BOB), "legacy") as told:
            async with anyio.create_task_group() as tasks:
                for _ in range(2):
                    tasks.start_soon(told.client.subscribe_resource, BASE)
            for number in range(3):
                await remember(hub.bind(ALICE), f"memory {number}")
                await told.next()
            assert told._arrived.statistics().current_buffer_used == 0  # type: ignore[attr-defined]

    async def test_a_connection_that_ends_leaves_nothing_behind(self, hub: Hub, era: str) -> None:
        async with told_of(server_for(hub, BOB), era, BASE, f"{BASE}/artifacts"):
            assert len(hub._rooms.stream._listeners) == 2
        await all_left(hub)

    async def test_one_connection_that_ends_leaves_the_others_of_its_server(self, hub: Hub, era: str) -> None:
        server = server_for(hub, BOB)
        async with told_of(server, era, BASE) as told:
            async with told_of(server, era, BASE):
                pass
            await remember(hub.bind(ALICE), "one")
            assert await told.next() == BASE

    async def test_events_that_cannot_be_read_for_a_while_are_made_up_for(
        self, hub: Hub, era: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(subscriptions, "_RETRY_S", 0.001)
        monkeypatch.setattr(contextdna_resources, "changes", failing_once(StorageUnavailable("busy", retryable=True)))
        async with told_of(server_for(hub, BOB), era, BASE) as told:
            assert await told.next() == BASE
            await remember(hub.bind(ALICE), "one")
            assert await told.next() == BASE

    async def test_a_stream_that_can_tell_no_more_ends_gracefully(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(contextdna_resources, "changes", failing_once(NotFound("gone")))
        with anyio.fail_after(DEADLINE_S):
            async with Client(server_for(hub, BOB)) as client:
                async with client.listen(resource_subscriptions=[BASE]) as stream:
                    assert [event async for event in stream] == []
                assert (await client.list_tools()).tools

    async def test_an_unforeseen_error_ends_one_subscription_and_not_the_others(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with told_of(server_for(hub, BOB), "legacy", BASE) as told:
            monkeypatch.setattr(contextdna_resources, "changes", failing_once(LookupError("the third stone")))
            await told.client.subscribe_resource(f"{BASE}/artifacts")
            await remember(hub.bind(ALICE), "one")
            assert await told.next() == BASE
        assert "a subscription failed, reference" in caplog.text
        assert "the third stone" not in caplog.text


def failing_once(error: Exception) -> Callable[..., AsyncGenerator[None, None]]:
    """Make a source of changes that fails after its first sign, and works from then on."""
    failed = False

    async def source(*args: Any) -> AsyncGenerator[None, None]:
        nonlocal failed
        async for sign in changes(*args):
            yield sign
            if not failed:
                failed = True
                raise error

    return source


# --- processes ---


def command(folder: Path) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable, args=["-m", "contextdna_server", "serve", "--data", str(folder)], env={**os.environ}
    )


async def test_a_server_on_stdio_tells_of_what_another_process_does(tmp_path: Path, era: str) -> None:
    async with told_of(command(tmp_path), era, BASE) as told, open_hub(HubSettings(data_dir=tmp_path)) as hub:
        memory = await remember(hub.bind(ALICE), "from elsewhere")
        assert await told.next() == BASE
        uri = f"{BASE}/memories/{memory}"
        if era == "legacy":
            await told.client.subscribe_resource(uri)
            await touch(hub.bind(ALICE), memory)
            assert uri in await told.until(uri)


META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
OPENINGS: dict[str, list[dict[str, Any]]] = {
    "legacy": [
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "0"},
            },
        },
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "resources/subscribe", "params": {"uri": BASE}},
    ],
    "auto": [
        {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "subscriptions/listen",
            "params": {"notifications": {"resourceSubscriptions": [BASE]}, "_meta": META},
        }
    ],
}


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("end", ["input", "SIGTERM", "SIGINT"])
def test_a_server_with_listeners_ends_well(tmp_path: Path, era: str, end: str) -> None:
    arguments = command(tmp_path)
    with subprocess.Popen(
        [arguments.command, *arguments.args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=arguments.env,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"".join(json.dumps(message).encode() + b"\n" for message in OPENINGS[era]))
        process.stdin.flush()
        line = b""
        while b'"id":2' not in line and b"acknowledged" not in line:
            line = process.stdout.readline()
            assert line
        if end != "input":
            process.send_signal(getattr(signal, end))
        _, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, errors) == (0, b"")
