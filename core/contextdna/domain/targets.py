"""Whom a signal is for: what a name means to its sender, and who of those that are meant has yet to answer."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from contextdna.domain.operation import Operation
from contextdna.values.event import EVERYONE, swarm_audience, team_audience
from contextdna.values.ids import UPKEEP_AGENT, AgentId, ancestors_of, delegated_id, name_of
from contextdna.values.principal import Actor
from contextdna.values.signal import Signal

Bearers = tuple[AgentId, ...]
"""The agents that one target may be: one, or where nobody was known by its name two, of whom either may come."""

_TEAM, _SWARM = team_audience(""), swarm_audience("")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the targets of a signal stand."""

    answered: int
    """How many of them have acknowledged."""
    missing: tuple[AgentId, ...]
    gone: tuple[AgentId, ...]


async def meant(op: Operation, names: Iterable[AgentId]) -> dict[AgentId, Bearers]:
    """Find the agents that the actor means by names.

    A bare name means its own delegate where it has one of that name, else one above it, else the agent of that id.
    """
    choices = {name: _choices(op.actor, name) for name in names}
    known = await known_of(op, choices.values())
    return {name: _chosen(some, known) for name, some in choices.items()}


async def known_of(op: Operation, groups: Iterable[Sequence[AgentId]]) -> set[AgentId]:
    """Tell which of some agents the project has seen."""
    wanted = [agent_id for some in groups for agent_id in some]
    return {agent.id for agent in await op.tx.projects.agents(op.project_id, wanted)} if wanted else set()


def shown(bearers: Bearers, known: Collection[AgentId]) -> AgentId:
    """Give the id that a target is called by: of the one that is known, else the name as it was given."""
    return next((agent_id for agent_id in bearers if agent_id in known), bearers[-1])


def named_targets(signal: Signal) -> list[Bearers]:
    """Give the targets that a signal was sent to by name."""
    names = [AgentId(name) for name in signal.audience if not name.startswith(EVERYONE)]
    own = {delegated_id(signal.sender_id, name): name for name in names}
    second = {name for delegate, name in own.items() if delegate in names}
    return [(name, own[name]) if name in own else (name,) for name in names if name not in second]


def has_circle(signal: Signal) -> bool:
    """Tell whether a signal was sent to a circle, which others may still join."""
    return any(name.startswith(EVERYONE) for name in signal.audience)


async def standing(op: Operation, signal: Signal, given: Collection[AgentId]) -> Standing:
    """Tell which targets have acknowledged, which are missing, and which of those are gone and will not.

    Of a circle those are missing that are at work now; whoever comes later finds the signal all the same.

    Args:
        op: The call.
        signal: The signal.
        given: Who has acknowledged it.
    """
    named = named_targets(signal)
    silent = [bearers for bearers in named if not any(agent_id in given for agent_id in bearers)]
    known = await known_of(op, silent)
    left = await op.tx.agents.gone(op.project_id, sorted(known), now=op.now)
    gone = [bearers for bearers in silent if is_gone(bearers, known, left)]
    by_name = {agent_id for bearers in named for agent_id in bearers}
    beside = {signal.sender_id, UPKEEP_AGENT, *given, *by_name}
    members = [agent_id for agent_id in await _at_work(op, signal) if agent_id not in beside]
    return Standing(
        answered=len(named) - len(silent) + len([agent_id for agent_id in given if agent_id not in by_name]),
        missing=(*(shown(bearers, known) for bearers in silent if bearers not in gone), *members),
        gone=tuple(shown(bearers, known) for bearers in gone),
    )


def is_gone(bearers: Bearers, known: Collection[AgentId], left: Collection[AgentId]) -> bool:
    """Tell whether a target is out of service or has left; one that nobody has seen yet may still come."""
    seen = [agent_id for agent_id in bearers if agent_id in known]
    return bool(seen) and all(agent_id in left for agent_id in seen)


async def told(op: Operation, targets: Mapping[AgentId, Bearers]) -> tuple[tuple[AgentId, ...], ...]:
    """Give targets as their sender is told of them: (all, those that nobody has seen, those that are gone)."""
    groups = tuple(dict.fromkeys(targets.values()))
    known = await known_of(op, groups)
    left = await op.tx.agents.gone(op.project_id, sorted(known), now=op.now)
    return (
        tuple(shown(bearers, known) for bearers in groups),
        tuple(shown(bearers, known) for bearers in groups if known.isdisjoint(bearers)),
        tuple(shown(bearers, known) for bearers in groups if is_gone(bearers, known, left)),
    )


async def _at_work(op: Operation, signal: Signal) -> list[AgentId]:
    """List the agents of a signal's circles that are at work."""
    since = op.now - timedelta(seconds=op.settings.work.coordinator_silence_s)
    found: list[AgentId] = []
    for circle in (name for name in signal.audience if name.startswith(EVERYONE)):
        team_id = circle.removeprefix(_TEAM) if circle.startswith(_TEAM) else None
        swarm_id = circle.removeprefix(_SWARM) if circle.startswith(_SWARM) else None
        found += await op.tx.agents.at_work(
            op.project_id, team_id=team_id, swarm_id=swarm_id, seen_since=since, now=op.now
        )
    return found


def _choices(actor: Actor, name: AgentId) -> Bearers:
    if "/" in name:
        return (name,)
    me = actor.agent_id
    above = [one for one in (*actor.lineage, *ancestors_of(me)) if name_of(one) == name and one != me]
    return tuple(dict.fromkeys((delegated_id(me, name), *reversed(above), name)))


def _chosen(choices: Bearers, known: Collection[AgentId]) -> Bearers:
    found = [agent_id for agent_id in choices if agent_id in known]
    return tuple(dict.fromkeys((found[0],) if found else (choices[0], choices[-1])))
