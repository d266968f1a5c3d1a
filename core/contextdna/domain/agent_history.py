"""What happened to an agent: entries are added with what they tell of, and never changed."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from contextdna.domain import access, authority
from contextdna.domain.operation import Operation
from contextdna.domain.packing import compact_json
from contextdna.domain.validation import check_agent_id, check_count, check_period
from contextdna.errors import AccessDenied, InvalidInput
from contextdna.values.agent import (
    Agent,
    AgentChange,
    AgentEntry,
    AgentHistoryFilter,
    AgentHistoryPage,
)
from contextdna.values.event import EVERYONE, EventName
from contextdna.values.ids import AgentEntryId, AgentId, IdPrefix, new_id
from contextdna.values.principal import Role
from contextdna.values.session import Session

ENTRIES_MAX = 1000


async def append(
    op: Operation,
    agent_id: AgentId,
    what: AgentChange,
    *,
    session: Session | None = None,
    confidence: float | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Add an entry by the actor.

    Args:
        op: The call.
        agent_id: Whose history.
        what: What happened.
        session: The session that it is about; without one, the session that the actor works in.
        confidence: The agent's confidence, where the entry is about it.
        details: Ids, names and numbers; never text of a record.
    """
    entry = AgentEntry(
        id=AgentEntryId(new_id(IdPrefix.AGENT_ENTRY, op.now)),
        project_id=op.project_id,
        agent_id=agent_id,
        at=op.now,
        what=what,
        by_agent_id=op.actor.agent_id,
        session_id=session.id if session else op.actor.session_id,
        confidence=confidence,
        details=compact_json(details or {}),
    )
    await op.tx.agents.append([entry])


async def session_begun(op: Operation, session: Session) -> None:
    """Tell the agent's history that it begins a session."""
    below = {"delegation": session.delegation_id, "parent": session.parent_id}
    named = {name: value for name, value in below.items() if value}
    await append(op, session.agent_id, AgentChange.SESSION_BEGUN, session=session, details=named)


async def session_ended(op: Operation, session: Session) -> None:
    """Tell the agent's history that a session of it is over; its status says how."""
    await append(
        op, session.agent_id, AgentChange.SESSION_ENDED, session=session, details={"status": session.status.value}
    )
    _tell_seen(op, session.agent_id)


def _tell_seen(op: Operation, agent_id: AgentId) -> None:
    """Tell everyone that what the directory shows of an agent's work changed; once for all of its sessions."""
    if not any(event.name is EventName.AGENT_SEEN and event.subject == agent_id for event in op.events):
        op.emit(EventName.AGENT_SEEN, subject=agent_id, audience=[EVERYONE], by=agent_id)


async def require_in_service(op: Operation, agent_id: AgentId) -> Agent | None:
    """Give what the project knows of an agent that is to work; None where it is new.

    None of those that it will work for may be retired either: whoever is being retired must not outrun it. The
    principal was judged as it came in.

    Raises:
        AccessDenied: ``agent_retired``.
    """
    line = await op.tx.projects.agents(op.project_id, [*op.actor.lineage, agent_id])
    for known in line:
        if known.retired_at is not None and (known.id == agent_id or known.id != op.actor.principal_id):
            raise access.retired(known.id)
    return next((known for known in line if known.id == agent_id), None)


async def note_session(op: Operation, known: Agent | None, session: Session) -> None:
    """Note that an agent begins a session, and where; without a team or swarm it keeps those it is known in.

    A higher role counts only from the role system: what a coordinator lends takes no agent from those above it.
    """
    agent_id, role = session.agent_id, session.role if op.actor.reader.role is Role.SYSTEM else Role.AGENT
    team_id = session.team_id or (known.team_id if known else "")
    swarm_id = session.swarm_id or (known.swarm_id if known else "")
    await _note(op, known, Agent(agent_id, op.project_id, team_id, swarm_id, role, op.now, op.now))
    if known is not None:
        _tell_seen(op, agent_id)


async def note_credential(op: Operation, known: Agent | None) -> None:
    """Note that a principal is at work as itself, with the team, swarm and role of its credential."""
    await _note(op, known, _by_credential(op, known))


def is_noted(op: Operation, known: Agent | None) -> bool:
    """Tell whether the project knows a principal, calling as itself, with the credential that it has now."""
    return known is not None and _circles(known) == _circles(_by_credential(op, known))


def _by_credential(op: Operation, known: Agent | None) -> Agent:
    """Make what a credential says of its agent.

    Where an operator put the agent in a team or swarm, it keeps that while its credential names none.
    """
    reader = op.actor.reader
    placed = known if known is not None and known.placed else None
    team_id = reader.team_id or (placed.team_id if placed else "")
    swarm_id = reader.swarm_id or (placed.swarm_id if placed else "")
    seen = Agent(reader.agent_id, op.project_id, team_id, swarm_id, reader.role, op.now, op.now)
    return replace(seen, credential_role=reader.role)


def _circles(agent: Agent) -> tuple[str, str, Role | None]:
    return agent.team_id, agent.swarm_id, agent.credential_role


async def _note(op: Operation, known: Agent | None, seen: Agent) -> None:
    await op.tx.projects.see_agent(seen)
    if known is None:
        op.emit(EventName.AGENT_APPEARED, subject=seen.id, audience=[EVERYONE], by=seen.id)
    if known is not None and (seen.team_id, seen.swarm_id) != (known.team_id, known.swarm_id):
        await append(op, seen.id, AgentChange.UPDATED, details={"team": seen.team_id, "swarm": seen.swarm_id})
        op.emit(EventName.AGENT_UPDATED, subject=seen.id, audience=[EVERYONE])


async def read(
    op: Operation, where: AgentHistoryFilter, *, cursor: AgentEntryId, newest_first: bool, limit: int
) -> AgentHistoryPage:
    """Read the history of one agent, or of all whose history the actor may know.

    Raises:
        NotFound: ``agent_not_found``.
        AccessDenied: ``agent_not_yours``: only the agent itself, those above it, its coordinators and the role system.
        InvalidInput: ``cursor_invalid`` or ``period_invalid``.
        LimitExceeded: ``limit_out_of_range``.
    """
    check_count(limit, name="limit", maximum=ENTRIES_MAX)
    check_period(where.since, where.until)
    if where.agent_id:
        check_agent_id(where.agent_id, name="agent_id")
        await require_known(op, where.agent_id)
    place = await _place(op, cursor)
    found = await op.tx.agents.history(op.actor.reader, where, place=place, newest_first=newest_first, limit=limit + 1)
    page = tuple(found[:limit])
    op.note(entries=len(page), **({"agent": where.agent_id} if where.agent_id else {}))
    return AgentHistoryPage(page, page[-1].id if len(found) > limit else AgentEntryId(""))


async def require_known(op: Operation, agent_id: AgentId) -> Agent:
    """Give an agent of which the actor may know all.

    Raises:
        NotFound: ``agent_not_found``.
        AccessDenied: ``agent_not_yours``.
    """
    agent = await op.tx.agents.get(op.project_id, agent_id)
    if agent is None:
        raise access.no_agent(agent_id)
    if not authority.knows_agent(op.actor.reader, agent):
        raise AccessDenied(
            "this agent's confidence and history are not for you",
            code="agent_not_yours",
            hint="The agent itself, those above it in its path, its swarm's coordinators and role system may see them.",
        )
    return agent


async def _place(op: Operation, cursor: AgentEntryId) -> int | None:
    if not cursor:
        return None
    place = await op.tx.agents.place(op.project_id, cursor)
    if place is None:
        raise InvalidInput(
            "the cursor names no entry", code="cursor_invalid", hint="Start without one and take it from the answer."
        )
    return place
