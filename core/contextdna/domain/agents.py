"""Agents: who registers, changes and retires them, and what the directory shows of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from contextdna.domain import access, agent_history, authority, endings
from contextdna.domain.operation import Operation
from contextdna.domain.validation import check_agent_id, check_count, check_name, check_score
from contextdna.errors import AccessDenied, InvalidInput
from contextdna.values.agent import (
    Agent,
    AgentCard,
    AgentChange,
    AgentCount,
    AgentFilter,
    AgentStatus,
    Swarm,
    Team,
)
from contextdna.values.event import EVERYONE, OPERATORS, EventName, coordinators_audience
from contextdna.values.ids import AgentId, ancestors_of, name_of
from contextdna.values.principal import Role

CAPABILITIES_MAX = 50
AGENTS_MAX = 1000


@dataclass(frozen=True, slots=True)
class RegisterRequest:
    """An agent as it is to be known. What is None stays as it is; of a new agent it is plain or the caller's own."""

    agent_id: AgentId = AgentId("")
    """Empty for the caller itself."""
    agent_type: str | None = None
    capabilities: tuple[str, ...] | None = None
    team_id: str | None = None
    swarm_id: str | None = None
    confidence: float | None = None
    status: AgentStatus | None = None
    heartbeat: bool = False


@dataclass(frozen=True, slots=True)
class RegisterReport:
    """An agent after its registration."""

    agent: Agent
    changes: tuple[AgentChange, ...]
    """What was new; empty where it was all known."""


@dataclass(frozen=True, slots=True)
class RetireReport:
    """What ended with an agent's service."""

    agent: Agent
    sessions_ended: int
    grants_ended: int
    finished: bool = True
    """Whether all has ended: while more sessions than fit a transaction are left, it has not."""


async def register(op: Operation, request: RegisterRequest) -> RegisterReport:
    """Add an agent to the directory, change what it says, or reinstate one that was retired.

    Raises:
        AccessDenied: ``agent_not_yours``: of another agent, a higher role or another swarm; ``circle_not_yours``: the
            team or swarm is not one that the caller may put it in.
        InvalidInput: A name, the confidence or the status is wrong.
    """
    agent_id = _meant(op, request.agent_id)
    request = replace(request, agent_id=agent_id, capabilities=_unique(request.capabilities))
    _check(request)
    known = await _require_manageable(op, agent_id)
    before = known or _new(op, agent_id)
    team_id, swarm_id = _circles(op, before, request, is_new=known is None)
    after = replace(_registered(op, before, request), team_id=team_id, swarm_id=swarm_id)
    changes = _changes(before, after, request)
    await op.tx.agents.put(after)
    for what in changes:
        await _tell(op, what, before, after)
    _emit(op, changes, before, after)
    op.note(agent=agent_id, changes=[what.value for what in changes])
    return RegisterReport(after, changes)


async def heartbeat(op: Operation, agent_id: AgentId) -> Agent:
    """Keep that an agent is alive. Nothing is told of it, and its history does not grow.

    Raises:
        NotFound: ``agent_not_found``.
        AccessDenied: ``agent_not_yours`` or ``agent_retired``.
    """
    agent = replace(await _working(op, agent_id), heartbeat_at=op.now, last_seen_at=op.now)
    await op.tx.agents.put(agent)
    op.note(agent=agent.id)
    return agent


async def set_confidence(op: Operation, agent_id: AgentId, confidence: float) -> Agent:
    """Keep how sure an agent is of its work; it counts as seen when it says so itself.

    Raises:
        InvalidInput: ``confidence_out_of_range``.
        NotFound: ``agent_not_found``.
        AccessDenied: ``agent_not_yours`` or ``agent_retired``.
    """
    check_score(confidence, name="confidence")
    known = await _working(op, agent_id)
    seen_at = op.now if known.id == op.actor.agent_id else known.last_seen_at
    agent = replace(known, confidence=confidence, last_seen_at=seen_at)
    await op.tx.agents.put(agent)
    if known.confidence != confidence:
        await _tell(op, AgentChange.CONFIDENCE_CHANGED, known, agent)
        _emit(op, (AgentChange.CONFIDENCE_CHANGED,), known, agent)
    op.note(agent=agent.id)
    return agent


async def retire(op: Operation, agent_id: AgentId, before: endings.Ended) -> RetireReport:
    """Take an agent out of service: its sessions and all below them end, and what was lent with them lapses.

    Where it has many sessions only a batch of them ends, for transactions to be short. It is retired with the first
    one, lest it begin more meanwhile; who retires itself, with the last one, as it must call again. One that is retired
    and has sessions left, as after a crash, is retired to the end.

    Args:
        op: The operation.
        agent_id: Whom.
        before: What batches before this one ended.

    Raises:
        NotFound: ``agent_not_found``.
        AccessDenied: ``agent_not_yours``, ``agent_retired`` when it is so already, or ``operator_not_retired``.
    """
    agent = await _known(op, agent_id)
    if agent.role is Role.SYSTEM and agent.id == op.actor.principal_id:
        raise AccessDenied(
            "an operator cannot retire its own agent",
            code="operator_not_retired",
            hint="Take the credential away, or give it a lesser role, in the server's configuration.",
        )
    ended = await endings.end_with_agent(op, agent.id)
    is_retired = agent.retired_at is not None
    if is_retired and not (ended.sessions or before.sessions):
        raise access.retired(agent.id)
    op.note(agent=agent.id, sessions_ended=ended.sessions, grants_ended=ended.grants)
    if not is_retired and not (ended.more and agent.id == op.actor.principal_id):
        agent = replace(agent, status=AgentStatus.RETIRED, retired_at=op.now)
        await op.tx.agents.put(agent)
        await agent_history.append(op, agent.id, AgentChange.RETIRED)  # its sessions have entries of their own
        op.emit(EventName.AGENT_RETIRED, subject=agent.id, audience=[EVERYONE])
    total = ended + before
    return RetireReport(agent, total.sessions, total.grants, finished=not ended.more)


async def card(op: Operation, agent_id: AgentId) -> AgentCard:
    """Show an agent.

    Raises:
        NotFound: ``agent_not_found``.
    """
    agent_id = agent_id or op.actor.agent_id
    check_agent_id(agent_id, name="agent_id")
    agent = await op.tx.agents.get(op.project_id, agent_id)
    if agent is None:
        raise access.no_agent(agent_id)
    op.note(agent=agent_id)
    [shown] = await _cards(op, [agent])
    return shown


async def page(op: Operation, where: AgentFilter, *, after: AgentId, limit: int) -> tuple[AgentCard, ...]:
    """Show the agents of the project by id, from behind one.

    Raises:
        InvalidInput: A name is wrong.
        LimitExceeded: ``limit_out_of_range``.
    """
    check_count(limit, name="limit", maximum=AGENTS_MAX)
    check_name(where.agent_type, name="agent_type", empty_allowed=True)
    check_name(where.capability, name="capability", empty_allowed=True)
    check_name(where.team_id or "", name="team_id", empty_allowed=True)
    check_name(where.swarm_id or "", name="swarm_id", empty_allowed=True)
    found = await op.tx.agents.page(op.project_id, where, after=after, limit=limit)
    op.note(agents=len(found))
    return await _cards(op, found)


async def swarms(op: Operation) -> tuple[Swarm, ...]:
    """Group the agents of the project by swarm and team, counted by status; those without a swarm come first."""
    counts = await op.tx.agents.counts(op.project_id)
    grouped = ((swarm_id, list(some)) for swarm_id, some in groupby(counts, lambda count: count.swarm_id))
    return tuple(Swarm(swarm_id, **_by_status(some), teams=_teams(some)) for swarm_id, some in grouped)


def _teams(counts: Iterable[AgentCount]) -> tuple[Team, ...]:
    return tuple(Team(team_id, **_by_status(some)) for team_id, some in groupby(counts, lambda count: count.team_id))


def _by_status(counts: Iterable[AgentCount]) -> dict[str, int]:
    agents = dict.fromkeys((status.value for status in AgentStatus), 0)
    for count in counts:
        agents[count.status] += count.agents
    return agents


async def _working(op: Operation, agent_id: AgentId) -> Agent:
    """Give an agent in service that the actor may manage."""
    known = await _known(op, agent_id)
    if known.status is AgentStatus.RETIRED:
        raise access.retired(known.id)
    return known


async def _known(op: Operation, agent_id: AgentId) -> Agent:
    """Give an agent of the project that the actor may manage."""
    agent_id = _meant(op, agent_id)
    check_agent_id(agent_id, name="agent_id")
    known = await _require_manageable(op, agent_id)
    if known is None:
        raise access.no_agent(agent_id)
    return known


def _meant(op: Operation, agent_id: AgentId) -> AgentId:
    """Give the agent that is to be changed: an agent may call itself by its bare name, others go by their path."""
    own = op.actor.agent_id
    itself = not agent_id or (op.actor.reader.role is Role.AGENT and agent_id == name_of(own))
    return own if itself else agent_id


async def _require_manageable(op: Operation, agent_id: AgentId) -> Agent | None:
    """Give what is known of an agent that the actor may register, change and retire.

    For a coordinator the agents above count too: whoever has no say over ``queen`` has none over ``queen/drone``.
    """
    caller = op.actor.reader
    line = await authority.line_of(op.tx, caller, agent_id)
    if not authority.manages_agent(caller, agent_id, list(line.values())):
        below = f", such as {op.actor.agent_id}/{agent_id}" if "/" not in agent_id else ""
        raise AccessDenied(
            "this agent is not yours",
            code="agent_not_yours",
            hint=f"Yours are you and the agents below your path{below}; a coordinator's are those of its swarm.",
        )
    if why := await authority.why_taken(op.tx, caller, agent_id, line, now=op.now):
        raise AccessDenied(why, code="agent_not_yours", hint=authority.TAKEN_HINT)
    return line.get(agent_id)


def _new(op: Operation, agent_id: AgentId) -> Agent:
    return Agent(agent_id, op.project_id, "", "", Role.AGENT, op.now, op.now)


def _registered(op: Operation, before: Agent, request: RegisterRequest) -> Agent:
    reinstated = before.status is AgentStatus.RETIRED
    status = request.status or (AgentStatus.ACTIVE if reinstated else before.status)
    return replace(
        before,
        agent_type=before.agent_type if request.agent_type is None else request.agent_type,
        capabilities=before.capabilities if request.capabilities is None else request.capabilities,
        status=status,
        confidence=before.confidence if request.confidence is None else request.confidence,
        registered_by=before.registered_by or op.actor.agent_id,
        placed=before.placed or op.actor.reader.role is Role.SYSTEM,
        heartbeat_at=op.now if request.heartbeat else before.heartbeat_at,
        last_seen_at=op.now if request.heartbeat else before.last_seen_at,
        retired_at=None,
    )


def _circles(op: Operation, before: Agent, request: RegisterRequest, *, is_new: bool) -> tuple[str, str]:
    """Give the team and swarm: as asked where that widens nothing, else as known; a new agent's are the caller's."""
    caller = op.actor.reader
    team_id, swarm_id = (caller.team_id, caller.swarm_id) if is_new else (before.team_id, before.swarm_id)
    team_id = team_id if request.team_id is None else request.team_id
    swarm_id = swarm_id if request.swarm_id is None else request.swarm_id
    widens = team_id not in (before.team_id, caller.team_id) or swarm_id not in (before.swarm_id, caller.swarm_id)
    if widens and caller.role is not Role.SYSTEM:
        raise AccessDenied(
            "the team or swarm is not yours to put an agent in",
            code="circle_not_yours",
            hint="Use your own team and swarm, or ask an operator.",
        )
    return team_id, swarm_id


def _changes(before: Agent, after: Agent, request: RegisterRequest) -> tuple[AgentChange, ...]:
    changes = []
    if before.status is AgentStatus.RETIRED:
        changes.append(AgentChange.REINSTATED)
    elif not before.registered_by:
        changes.append(AgentChange.REGISTERED)
    elif _described(before) != _described(after):
        changes.append(AgentChange.UPDATED)
    if before.status not in (after.status, AgentStatus.RETIRED):
        changes.append(AgentChange.STATUS_CHANGED)
    if request.confidence is not None and before.confidence != after.confidence:
        changes.append(AgentChange.CONFIDENCE_CHANGED)
    return tuple(changes)


def _described(agent: Agent) -> tuple[object, ...]:
    return (agent.agent_type, agent.capabilities, agent.team_id, agent.swarm_id)


async def _tell(op: Operation, what: AgentChange, before: Agent, after: Agent) -> None:
    match what:
        case AgentChange.CONFIDENCE_CHANGED:
            await agent_history.append(op, after.id, what, confidence=after.confidence)
        case AgentChange.STATUS_CHANGED:
            status = {"from": before.status.value, "to": after.status.value}
            await agent_history.append(op, after.id, what, details=status)
        case _:
            names = {"agent_type": after.agent_type, "team": after.team_id, "swarm": after.swarm_id}
            named = {name: value for name, value in names.items() if value}
            await agent_history.append(op, after.id, what, details={**named, "capabilities": list(after.capabilities)})


def _emit(op: Operation, changes: Sequence[AgentChange], before: Agent, after: Agent) -> None:
    """Tell everyone what the directory shows; of confidence only those who may know it."""
    if not changes:
        return
    if not before.registered_by or before.status is AgentStatus.RETIRED:
        op.emit(EventName.AGENT_REGISTERED, subject=after.id, audience=[EVERYONE])
    elif set(changes) == {AgentChange.CONFIDENCE_CHANGED}:
        op.emit(EventName.AGENT_UPDATED, subject=after.id, audience=_knowing(after))
    else:
        op.emit(EventName.AGENT_UPDATED, subject=after.id, audience=[EVERYONE])


def _knowing(agent: Agent) -> list[str]:
    """Name in an audience those who may know all of an agent; the same rule stands in ``authority.knows_agent``."""
    coordinators = (
        []
        if agent.role is Role.SYSTEM
        else [coordinators_audience(name) for name in dict.fromkeys(("", agent.swarm_id))]
    )
    return [*ancestors_of(agent.id), agent.id, OPERATORS, *coordinators]


def _check(request: RegisterRequest) -> None:
    check_agent_id(request.agent_id, name="agent_id")
    check_name(request.agent_type or "", name="agent_type", empty_allowed=True)
    check_name(request.team_id or "", name="team_id", empty_allowed=True)
    check_name(request.swarm_id or "", name="swarm_id", empty_allowed=True)
    check_count(len(request.capabilities or ()), name="capabilities", maximum=CAPABILITIES_MAX, minimum=0)
    for capability in request.capabilities or ():
        check_name(capability, name="capability")
    if request.confidence is not None:
        check_score(request.confidence, name="confidence")
    if request.status is AgentStatus.RETIRED:
        raise InvalidInput(
            "registering retires no one", code="status_unknown", hint="Retire it instead (retire_agent)."
        )


def _unique(capabilities: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return None if capabilities is None else tuple(dict.fromkeys(capabilities))


async def _cards(op: Operation, agents: Sequence[Agent]) -> tuple[AgentCard, ...]:
    working = await op.tx.agents.in_session(op.project_id, [agent.id for agent in agents], now=op.now)
    return tuple(_card(op, agent, in_session=agent.id in working) for agent in agents)


def _card(op: Operation, agent: Agent, *, in_session: bool) -> AgentCard:
    return AgentCard(
        id=agent.id,
        agent_type=agent.agent_type,
        capabilities=agent.capabilities,
        status=agent.status,
        team_id=agent.team_id,
        swarm_id=agent.swarm_id,
        last_seen_at=agent.last_seen_at,
        in_session=in_session,
        full=agent if authority.knows_agent(op.actor.reader, agent) else None,
    )
