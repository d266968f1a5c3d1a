"""Who has a say over which agent, and whether the holder of a handle could still begin its session.

One rule stands behind both: a handle does no more than its principal could begin now. It is judged at each use, from
what the project knows by then: credentials are narrowed, and whoever bears a name may turn out to be another's agent.
"""

from collections.abc import Collection
from datetime import datetime
from itertools import pairwise
from typing import Final

from contextdna.errors import AccessDenied, SessionInvalid
from contextdna.ports.database import Transaction
from contextdna.values.agent import Agent
from contextdna.values.ids import AgentId, ancestors_of, is_below
from contextdna.values.principal import Principal, Reader, Role
from contextdna.values.session import Session

TAKEN_HINT: Final = "Use another bare name or one below your own path; an operator can register this one in your swarm."
_ELSEWHERE: Final = "Begin sessions for agents of your own swarm, or delegate under a new name."


def coordinates(caller: Reader, known: Agent) -> bool:
    """Tell whether a coordinator has a say over an agent: of its swarm (any, when it has none), of no higher role."""
    return known.role.rank <= caller.role.rank and caller.swarm_id in ("", known.swarm_id)


def knows_agent(reader: Reader, agent: Agent) -> bool:
    """Tell whether a reader may know all of an agent, its confidence and history too.

    The agent itself, those above it in its path, its coordinators and the role system may.
    """
    if reader.role is Role.SYSTEM or agent.id == reader.agent_id or is_below(agent.id, reader.agent_id):
        return True
    return reader.role is Role.COORDINATOR and coordinates(reader, agent)


def manages_agent(caller: Reader, agent_id: AgentId, line: Collection[Agent]) -> bool:
    """Tell whether a caller may register, change and retire an agent.

    Args:
        caller: Who wants to.
        agent_id: Which agent.
        line: What the project knows of it and of the agents above it.
    """
    if caller.role is Role.SYSTEM or agent_id == caller.agent_id:
        return True
    if is_below(agent_id, caller.agent_id):
        return all(known.role.rank <= caller.role.rank for known in line if known.id == agent_id)
    return caller.role is Role.COORDINATOR and all(coordinates(caller, known) for known in line)


async def line_of(tx: Transaction, caller: Reader, agent_id: AgentId) -> dict[AgentId, Agent]:
    """Give what the project knows of an agent and of those above it in its path."""
    named = [*ancestors_of(agent_id), agent_id]
    return {known.id: known for known in await tx.projects.agents(caller.project_id, named)}


async def why_taken(
    tx: Transaction, caller: Reader, agent_id: AgentId, line: Collection[AgentId], *, now: datetime
) -> str:
    """Say why a coordinator may not bring in an agent that the project does not know; empty where it may.

    Whatever waits for a name was meant for whoever bears it. A path belongs to the agent that it begins with.

    Args:
        tx: The transaction.
        caller: Who wants to.
        agent_id: Which agent.
        line: Whom the project knows of it and of the agents above it.
        now: The time.
    """
    if agent_id in line or caller.role is not Role.COORDINATOR or is_below(agent_id, caller.agent_id):
        return ""
    above = ancestors_of(agent_id)
    if above and above[0] not in line:
        return "a path names an agent that another one brings in, and that one is not known"
    waiting = await tx.agents.waiting_for(caller.project_id, agent_id, now=now) - {caller.agent_id}
    known = await tx.projects.agents(caller.project_id, sorted(waiting)) if waiting else []
    inside = {agent.id for agent in known if caller.swarm_id in ("", agent.swarm_id)}
    return "" if waiting <= inside else "shares or signals from outside your swarm wait for an agent of this name"


async def team_to_begin(tx: Transaction, caller: Reader, agent_id: AgentId, *, now: datetime) -> str:
    """Give the team in which a coordinator begins a session for an agent: its own where the agent is new.

    Raises:
        AccessDenied: ``session_not_allowed``: it, or one above it, is of another swarm or was seen with a higher role;
            or the name may be another's.
    """
    line = await line_of(tx, caller, agent_id)
    if not manages_agent(caller, agent_id, list(line.values())):
        raise AccessDenied("this agent is not of your swarm", code="session_not_allowed", hint=_ELSEWHERE)
    known, below = line.get(agent_id), is_below(agent_id, caller.agent_id)
    if known is not None:
        return known.team_id if known.placed or not below else caller.team_id
    if ancestors_of(agent_id) and not below:
        raise _taken("a path names an agent that another one brings in, and this one is not known")
    if why := await why_taken(tx, caller, agent_id, line, now=now):
        raise _taken(why)
    return caller.team_id


def _taken(why: str) -> AccessDenied:
    return AccessDenied(why, code="session_not_allowed", hint=TAKEN_HINT)


async def require_could_begin(tx: Transaction, principal: Principal, session: Session) -> None:
    """Refuse a handle whose session its principal could not begin now.

    The role system could begin any, and whoever bears the name of an agent acts as it. Of the others each step of the
    lineage is judged by which one agent began a session for another; a step below the beginner's own path, as every
    delegation makes, leads to no one else's agent. Where the lineage starts with the principal itself, the team and
    swarm must be its own to give, too; who was handed the handle has those that it was begun with.

    Raises:
        SessionInvalid: ``session_not_yours``.
    """
    if principal.role is Role.SYSTEM:
        return
    begun = [step for step in pairwise(session.lineage) if not is_below(step[1], step[0])]
    begun = [step for step in begun if step[1] != principal.agent_id]
    leads = session.lineage[0] == principal.agent_id
    if not begun and (not leads or _in_own_circles(principal, session, ())):
        return
    named = {a for _, agent_id in begun for a in (*ancestors_of(agent_id), agent_id)}
    rows = await tx.projects.agents(session.project_id, sorted({*session.lineage, *named}))
    known = {agent.id: agent for agent in rows}
    below = {agent_id for _, agent_id in begun} | {agent.id for agent in rows if agent.placed}
    if leads and not _in_own_circles(principal, session, [known[a].team_id for a in below if a in known]):
        raise _could_not_begin()
    lead = _as_called(principal, session) if leads else _as_known(known.get(session.lineage[0]), session)
    for above, agent_id in begun:
        line = [known[a] for a in (*ancestors_of(agent_id), agent_id) if a in known]
        beginners = [lead]
        if not leads and above != session.lineage[0]:
            beginners.append(await _beginner(tx, session, above))
        if not all(reader is not None and manages_agent(reader, agent_id, line) for reader in beginners):
            raise _could_not_begin()


def _in_own_circles(principal: Principal, session: Session, teams: Collection[str]) -> bool:
    """Tell whether a principal could put a session in its circles: its own, or the team of an agent that it begins.

    Without a swarm an agent sees less, but a coordinator more.
    """
    in_swarm = session.swarm_id == principal.swarm_id or (session.swarm_id == "" and session.role is Role.AGENT)
    return in_swarm and session.team_id in ("", principal.team_id, *teams)


def _as_called(principal: Principal, session: Session) -> Reader:
    return Reader(session.project_id, principal.agent_id, principal.team_id, principal.swarm_id, principal.role)


def _as_known(agent: Agent | None, session: Session) -> Reader | None:
    """Give the agent at the root of a lineage as its own credential was seen last."""
    if agent is None or agent.credential_role is None:
        return None
    return Reader(session.project_id, agent.id, agent.team_id, agent.swarm_id, agent.credential_role)


async def _beginner(tx: Transaction, session: Session, agent_id: AgentId) -> Reader | None:
    """Give an agent amid a lineage as it was when it began the one below: as its session says."""
    above: Session | None = session
    while above is not None and above.agent_id != agent_id:
        above = await tx.sessions.get(above.parent_id) if above.parent_id else None
    if above is None:
        return None
    return Reader(above.project_id, above.agent_id, above.team_id, above.swarm_id, above.role)


def _could_not_begin() -> SessionInvalid:
    return SessionInvalid(
        "you could not begin this session now: its agent, team or swarm is not yours, or not any more",
        code="session_not_yours",
        hint="Call begin_session for your own agent, or for one of your swarm.",
    )
