"""Whatever agents do together, no answer over MCP holds a text that its reader may not see, before, during or after.

Every text that is written holds a word of its own, a canary. After each step one caller asks every tool, resource,
completion and prompt for everything, wrongly at times, and each canary that comes back is held against the rows that
decide about it.
"""

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp import Client, MCPError
from mcp_types import PromptReference, ResourceTemplateReference

from contextdna import (
    AgentId,
    Circle,
    ContextDnaError,
    DelegationRequest,
    EventId,
    Hub,
    Kind,
    Level,
    MemoryChange,
    Principal,
    ProjectId,
    RecordId,
    Role,
    SessionInvalid,
    SignalDraft,
    SignalId,
    TurnDraft,
)
from contextdna.values.event import is_addressed
from contextdna.values.principal import Reader
from contextdna.values.visibility import visible
from contextdna_resources import TEMPLATES
from contextdna_server.app import build_server
from contextdna_tools import FULL_TOOLS
from tests.hub.revealing import LOOPS, Planted, plant
from tests.hub.rig import Clock
from tests.property.conftest import Installation
from tests.servers.postgres import EVERYWHERE

CANARY: Final = re.compile(r"cnry[0-9]{4}x")
CIRCLES: Final = ("", "red", "blue")
NAMES: Final = ("anna", "ben", "cleo")

INHERITABLE: Final = (Level.TEAM, Level.SWARM, Level.PROJECT)

Draw = Callable[..., Any]


@dataclass
class Connection:
    """Somebody who calls: a principal's client, and the handle that it passes, if any."""

    principal: Principal
    client: Client
    handle: str
    reader: Reader


@dataclass
class World:
    """What was written, as far as it is needed to ask for it, and who asks."""

    hub: Hub
    clock: Clock
    project_id: ProjectId
    callers: list[Connection] = field(default_factory=list)
    records: dict[str, RecordId] = field(default_factory=dict)
    """Canary -> the record that holds it."""
    planted: dict[RecordId, tuple[Principal, Planted]] = field(default_factory=dict)
    signals: dict[str, SignalId] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    """Canary in a working state -> the handle of its session."""
    delegations: list[tuple[Connection, Any]] = field(default_factory=list)
    """Children whose delegation goes on: the connection with its handle, and the delegation's id."""
    lent: dict[tuple[RecordId, AgentId], datetime | None] = field(default_factory=dict)
    """What was lent by name, and until when: private and system records go no other way."""

    def end_lending_to(self, agent_id: AgentId) -> None:
        """Forget what was lent to a child and to those below it."""
        below = f"{agent_id}/"
        self.lent = {k: v for k, v in self.lent.items() if k[1] != agent_id and not k[1].startswith(below)}

    def is_lent(self, record_id: RecordId, agent_id: AgentId) -> bool:
        until = self.lent.get((record_id, agent_id), self.clock.now)
        return until is None or until > self.clock.now

    def canary(self) -> str:
        return f"cnry{len(self.records) + len(self.signals) + len(self.states):04d}x"

    async def allowed(self, caller: Connection) -> set[str]:
        """Judge every canary by the rows as they are now and the pure rules."""
        database = self.hub._door.database
        reader, ids = caller.reader, list(self.records.values())
        refs = {ref.id: ref for ref in await database.read(lambda tx: tx.records.refs(self.project_id, ids))}
        grants = await database.read(
            lambda tx: tx.grants.active_for(self.project_id, ids, reader.agent_id, now=self.clock.now)
        )
        granted = {grant.record_id for grant in grants} & refs.keys()
        granted = {i for i in granted if refs[i].level in INHERITABLE or self.is_lent(i, reader.agent_id)}
        seen = {i for i, ref in refs.items() if visible(reader, ref, granted=i in granted)}
        texts = {canary for canary, record_id in self.records.items() if record_id in seen}
        for canary, signal_id in self.signals.items():
            signal = await database.read(lambda tx, i=signal_id: tx.signals.get(self.project_id, i))  # type: ignore[misc]
            if signal and (signal.sender_id == reader.agent_id or is_addressed(signal.audience, reader)):
                texts.add(canary)
        return texts | {canary for canary, handle in self.states.items() if handle == caller.handle}


# --- what happens ---------------------------------------------------------------------------------


def name_path(agent_id: AgentId) -> list[str]:
    return agent_id.split("/")


async def write(world: World, draw: Draw) -> None:
    caller = draw(st.sampled_from(world.callers))
    if caller.handle:
        return
    owner, kind = caller.principal, draw(st.sampled_from(Kind))
    levels = [Level.PRIVATE, Level.PROJECT]
    levels += [Level.TEAM] if owner.team_id else []
    levels += [Level.SWARM] if owner.swarm_id else []
    levels += [Level.SYSTEM] if owner.role is Role.SYSTEM else []
    if kind is Kind.LOOP:
        levels = [level for level in LOOPS if level is not Level.SWARM or owner.swarm_id]
    canary = world.canary()
    made = await plant(world.hub, owner, kind, draw(st.sampled_from(levels)), canary)
    world.records[canary] = made.id
    world.planted[made.id] = (owner, made)


def one_of(world: World, draw: Draw, kind: Kind) -> tuple[Principal, RecordId] | None:
    some = [(owner, made.id) for owner, made in world.planted.values() if made.kind is kind]
    return draw(st.sampled_from(some)) if some else None


async def share(world: World, draw: Draw) -> None:
    if chosen := one_of(world, draw, Kind.MEMORY):
        owner, memory = chosen
        target = AgentId(draw(st.sampled_from([name for name in NAMES if name != owner.agent_id])))
        seconds = draw(st.sampled_from([None, 60.0]))
        await world.hub.bind(owner).share_memories([target], [memory], expires_in_s=seconds)
        world.lent[memory, target] = seconds and world.clock.now + timedelta(seconds=seconds)


async def unshare(world: World, draw: Draw) -> None:
    if chosen := one_of(world, draw, Kind.MEMORY):
        owner, memory = chosen
        others = [AgentId(name) for name in NAMES if name != owner.agent_id]
        await world.hub.bind(owner).revoke_shares(others, [memory])
        for other in others:  # and whoever one of them handed it on to
            world.lent = {k: v for k, v in world.lent.items() if k[0] != memory or name_path(k[1])[0] != other}


async def move(world: World, draw: Draw) -> None:
    if chosen := one_of(world, draw, Kind.MEMORY):
        owner, memory = chosen
        [found], _ = await world.hub.bind(owner).get_memories([memory])
        change = MemoryChange(level=draw(st.sampled_from([Level.PRIVATE, Level.PROJECT])))
        await world.hub.bind(owner).update_memory(memory, change, expected_version=found.record.version)


async def delegate(world: World, draw: Draw) -> None:
    parent = draw(st.sampled_from(world.callers))
    name = AgentId(f"child{len(world.states)}")
    own = [i for i, (owner, made) in world.planted.items() if made.kind is Kind.MEMORY and owner == parent.principal]
    named = (draw(st.sampled_from(own)),) if own and not parent.handle and draw(st.booleans()) else ()
    workspace = world.hub.bind(parent.principal, session_id=parent.handle)
    report = await workspace.delegate(DelegationRequest(name, "quokka", memory_ids=named, include_conversations=True))
    session = report.begun.session
    world.lent |= {(memory, session.agent_id): session.expires_at for memory in named}
    reader = Reader(world.project_id, session.agent_id, session.team_id, session.swarm_id, session.role)
    child = Connection(parent.principal, parent.client, report.begun.handle, reader)
    world.callers.append(child)
    world.delegations.append((child, report.delegation.id))
    canary = world.canary()
    world.states[canary] = child.handle
    await world.hub.bind(child.principal, session_id=child.handle).state.set("note", f"quokka {canary}")


async def say(world: World, draw: Draw) -> None:
    if world.delegations:
        child, _ = draw(st.sampled_from(world.delegations))
        canary, level = world.canary(), draw(st.sampled_from([Level.PRIVATE, Level.PROJECT]))
        workspace = world.hub.bind(child.principal, session_id=child.handle)
        [turn] = await workspace.log_turns([TurnDraft("user", f"quokka {canary}", level=level)])
        world.records[canary] = turn


async def come_back(world: World, draw: Draw) -> None:
    if world.delegations:
        child, _ = world.delegations.pop(draw(st.integers(0, len(world.delegations) - 1)))
        canary = world.canary()
        workspace = world.hub.bind(child.principal, session_id=child.handle)
        report = await workspace.end_session(success=True, output=f"quokka {canary}", level=Level.PRIVATE)
        world.records[canary] = report.stored[0].id
        world.end_lending_to(child.reader.agent_id)
        world.lent[report.stored[0].id, report.session.lineage[-2]] = None


async def revoke(world: World, draw: Draw) -> None:
    if world.delegations:
        child, delegation_id = world.delegations.pop(draw(st.integers(0, len(world.delegations) - 1)))
        await world.hub.bind(child.principal).delegations.revoke(delegation_id)
        world.end_lending_to(child.reader.agent_id)


async def signal(world: World, draw: Draw) -> None:
    caller = draw(st.sampled_from(world.callers))
    circles = [
        None,
        *([Circle.TEAM] if caller.reader.team_id else []),
        *([Circle.SWARM] if caller.reader.swarm_id else []),
    ]
    circle = draw(st.sampled_from(circles))
    targets = tuple(AgentId(name) for name in NAMES if name != caller.reader.agent_id and draw(st.booleans()))
    if circle or targets:
        canary = world.canary()
        draft = SignalDraft("go", targets, circle, {"note": canary}, expires_in_s=60.0)
        sent = await world.hub.bind(caller.principal, session_id=caller.handle).signals.send(draft)
        world.signals[canary] = sent.id


async def forget(world: World, draw: Draw) -> None:
    if chosen := one_of(world, draw, Kind.MEMORY):
        owner, memory = chosen
        await world.hub.bind(owner).forget_memories([memory], purge=draw(st.booleans()))
        del world.planted[memory]


async def wait(world: World, draw: Draw) -> None:
    world.clock.advance(seconds=draw(st.sampled_from([1.0, 61.0])))


MAKING: Final = (write, write, write, share, share, unshare, move)
WORKING: Final = (delegate, delegate, delegate, say, say, come_back, revoke, signal, forget, wait)
STEPS: Final = (*MAKING, *WORKING)


# --- what is asked --------------------------------------------------------------------------------


async def told(call: Awaitable[Any]) -> str:
    """Give all that an answer says, an error too."""
    try:
        return str(await call)
    except MCPError as error:
        return str(error.error)
    except ContextDnaError as error:
        return repr(error)


async def by_handle(world: World, caller: Connection) -> list[str]:
    """Ask for everything in ways that take a session handle; gives all that was said."""

    def tool(name: str, /, **arguments: Any) -> Awaitable[Any]:
        return caller.client.call_tool(name, {"session_id": caller.handle, **arguments})

    answers = [await told(call) for call in tool_calls(tool, world)]
    workspace = world.hub.bind(caller.principal, session_id=caller.handle)
    answers.append(await told(workspace.events.read(after=EventId(""), limit=1000)))
    answers.append(await told(workspace.sessions.list()))
    return answers


async def by_connection(world: World, caller: Connection) -> list[str]:
    """Ask for everything in ways that know the connection's own agent only; gives all that was said."""
    client = caller.client
    answers = [await told(client.read_resource(uri)) for uri in uris(world)]
    for template in TEMPLATES:
        for name in re.findall(r"{([a-z_]+)}", template.uri_template):
            ref = ResourceTemplateReference(uri=template.uri_template)
            answers.append(await told(client.complete(ref, {"name": name, "value": ""})))
    answers.append(await told(client.get_prompt("brief_me", {"task": "quokka"})))
    answers.append(await told(client.complete(PromptReference(name="hand_off"), {"name": "session_id", "value": ""})))
    for _, made in world.planted.values():
        if made.kind is Kind.TURN:
            answers.append(await told(client.get_prompt("hand_off", {"session_id": made.place})))
        if made.kind is Kind.LOOP:
            answers.append(await told(client.get_prompt("retrospective", {"phase": made.place})))
    return answers


def tool_calls(tool: Callable[..., Awaitable[Any]], world: World) -> Iterator[Awaitable[Any]]:
    ids = list(world.records.values())
    yield tool("retrieve_context", limit=100, max_tokens=20_000)
    yield tool("retrieve_context", query="quokka", limit=100, max_tokens=20_000)
    yield tool("search", query="quokka")
    yield tool("list_tasks")
    yield tool("get_state")
    yield tool("await_signal", timeout_s=0.0)
    yield tool("update_delegation", action="list")
    yield tool("agent_history")
    yield tool("query_audit")
    yield tool("store_memory", content="another", relates_to=ids[:50], level="nowhere")
    for record_id in ids:
        yield tool("fetch", id=record_id)
        yield tool("update_memory", id=record_id, expected_version=999, content="x")
        yield tool("update_task", task_id=record_id, expected_version=999, title="x")
    if ids:
        yield tool("get_memory", ids=ids[:100])
    for signal_id in world.signals.values():
        yield tool("send_signal", withdraw=signal_id, name="wrong")
    for _, made in world.planted.values():
        if made.kind is Kind.LOOP:
            yield tool("loop_status", phase=made.place)


def uris(world: World) -> Iterator[str]:
    root = f"contextdna://projects/{world.project_id}"
    yield from (root, f"{root}/conversations", f"{root}/artifacts", f"{root}/agents", "contextdna://projects")
    for _, made in world.planted.values():
        match made.kind:
            case Kind.MEMORY:
                yield f"{root}/memories/{made.id}"
            case Kind.TURN:
                yield f"{root}/conversations/{made.place}"
            case Kind.ARTIFACT:
                yield f"{root}/artifacts/{made.id}"
            case Kind.LOOP:
                yield f"{root}/loops/{made.place}"
            case Kind.TASK:
                pass
    for caller in world.callers:
        yield f"{root}/agents/{caller.reader.agent_id.replace('/', '%2F')}"


async def check(world: World, caller: Connection) -> None:
    """Hold all that a caller is told against what it may see."""
    allowed = await world.allowed(caller)
    answers = await by_handle(world, caller)
    answers += [] if caller.handle else await by_connection(world, caller)
    for said in answers:
        told_of = set(CANARY.findall(said)) - named_by_place(said)
        assert told_of <= allowed, (caller.reader, told_of - allowed, said[:2000])


def named_by_place(said: str) -> set[str]:
    """Give the canaries in an answer that only repeat the phase that was asked for."""
    phases = set(re.findall(r"phase-(cnry[0-9]{4}x)", said))
    return {name for name in phases if said.count(name) == said.count(f"phase-{name}")}


def _same(principal: Principal) -> Principal:
    return principal


async def live(hub: Hub, clock: Clock, project_id: ProjectId, data: st.DataObject) -> None:
    draw: Draw = data.draw
    world = World(hub, clock, project_id)
    async with AsyncExitStack() as stack:
        for name in NAMES:
            team, swarm = draw(st.sampled_from(CIRCLES)), draw(st.sampled_from(CIRCLES))
            principal = Principal(AgentId(name), (project_id,), team, swarm, draw(st.sampled_from(Role)))
            server = build_server(hub, identity=partial(_same, principal), tools=FULL_TOOLS)
            client = await stack.enter_async_context(Client(server))
            reader = Reader(project_id, principal.agent_id, team, swarm, principal.role)
            world.callers.append(Connection(principal, client, "", reader))
        for step in draw(st.lists(st.sampled_from(STEPS), min_size=5, max_size=10)):
            with suppress(SessionInvalid):  # a session may have ended with the one above it
                await step(world, draw)
            if draw(st.booleans()):
                await check(world, draw(st.sampled_from(world.callers)))
        for caller in world.callers[: len(NAMES)]:
            await check(world, caller)


@settings(
    max_examples=15 if EVERYWHERE else 5, suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow]
)
@given(data=st.data())
def test_no_answer_holds_what_its_reader_may_not_see(installation: Installation, data: st.DataObject) -> None:
    runner, hub, clock, projects = installation
    runner.run(live(hub, clock, next(projects), data))
