"""Events: what changed, told after commit."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Self

from contextdna.values.ids import AgentId, EventId, ProjectId
from contextdna.values.principal import Reader, Role


class EventName(StrEnum):
    """All that can happen: ``noun.verb``, past tense."""

    MEMORY_STORED = "memory.stored"
    MEMORY_MERGED = "memory.merged"
    MEMORY_UPDATED = "memory.updated"
    MEMORY_FORGOTTEN = "memory.forgotten"
    MEMORY_PURGED = "memory.purged"
    MEMORY_RESTORED = "memory.restored"
    MEMORY_SHARED = "memory.shared"
    MEMORY_UNSHARED = "memory.unshared"
    MEMORY_LINKED = "memory.linked"
    SESSION_BEGUN = "session.begun"
    SESSION_PROGRESSED = "session.progressed"
    SESSION_ENDED = "session.ended"
    SESSION_EXPIRED = "session.expired"
    TURN_LOGGED = "turn.logged"
    DELEGATION_CREATED = "delegation.created"
    DELEGATION_ACCEPTED = "delegation.accepted"
    DELEGATION_DECLINED = "delegation.declined"
    DELEGATION_COMPLETED = "delegation.completed"
    DELEGATION_FAILED = "delegation.failed"
    DELEGATION_REVOKED = "delegation.revoked"
    DELEGATION_EXPIRED = "delegation.expired"
    ARTIFACT_ATTACHED = "artifact.attached"
    CONFIDENCE_RECORDED = "confidence.recorded"
    CONSENSUS_RECORDED = "consensus.recorded"
    DECISION_RECORDED = "decision.recorded"
    TASK_ADDED = "task.added"
    TASK_UPDATED = "task.updated"
    SIGNAL_SENT = "signal.sent"
    SIGNAL_ACKNOWLEDGED = "signal.acknowledged"
    SIGNAL_WITHDRAWN = "signal.withdrawn"
    AGENT_REGISTERED = "agent.registered"
    AGENT_UPDATED = "agent.updated"
    AGENT_RETIRED = "agent.retired"
    AGENT_APPEARED = "agent.appeared"
    AGENT_SEEN = "agent.seen"
    """It began or ended a session; which one only those hear whom it concerns."""
    GATE_CHANGED = "gate.changed"
    """A confidence or consensus counts in a phase, whoever recorded it; for those who see a record of the phase."""


DEPARTURES = frozenset({EventName.SESSION_ENDED, EventName.SESSION_EXPIRED, EventName.AGENT_RETIRED})
"""After which an agent may be gone. Whatever else ends sessions tells of each of them by these names."""

EVERYONE = "*"
"""In an audience: all agents of the project. No agent has this name."""

OPERATORS = "*role=system"
"""In an audience: all agents of the role system."""


def team_audience(team_id: str) -> str:
    """Name all agents of a team in an audience."""
    return f"*team={team_id}"


def swarm_audience(swarm_id: str) -> str:
    """Name all agents of a swarm in an audience."""
    return f"*swarm={swarm_id}"


def coordinators_audience(swarm_id: str) -> str:
    """Name the coordinators of a swarm in an audience; without one, those of the whole project."""
    return f"*coordinators={swarm_id}"


def is_addressed(audience: Iterable[str], reader: Reader) -> bool:
    """Tell whether a reader is in an audience: by its agent id, team, swarm or role, or as anyone of the project."""
    names = {EVERYONE, reader.agent_id}
    if reader.team_id:
        names.add(team_audience(reader.team_id))
    if reader.swarm_id:
        names.add(swarm_audience(reader.swarm_id))
    if reader.role is Role.SYSTEM:
        names.add(OPERATORS)
    if reader.role is Role.COORDINATOR:
        names.add(coordinators_audience(reader.swarm_id))
    return not names.isdisjoint(audience)


@dataclass(frozen=True, slots=True)
class Event:
    """A change, by ids only: who listens reads the record through the door."""

    id: EventId
    project_id: ProjectId
    name: EventName
    agent_id: AgentId
    """Who did it."""
    record_ids: tuple[str, ...]
    """Records that it is about: a reader is told of those that it may see."""
    at: datetime
    subject: str = ""
    """What else it is about: a session, delegation, agent, signal or task id, or a phase."""
    audience: tuple[str, ...] = ()
    """Who may know of it beside the one who did it and those who see a record of it: agent ids, circles, ``*``."""
    seq: int = field(default=0, compare=False)
    """Its place in the outbox, in the order of commit; set when it is read."""


@dataclass(frozen=True, slots=True)
class Interest:
    """Which events are wanted: of these names, about one of these records or subjects. What is empty means any."""

    names: frozenset[EventName] = frozenset()
    about: frozenset[str] = frozenset()

    @classmethod
    def of(cls, names: Collection[EventName], about: Collection[str]) -> Self:
        """Make an interest from collections."""
        return cls(frozenset(names), frozenset(about))

    def __call__(self, event: Event) -> bool:
        """Tell whether an event is wanted."""
        if self.names and event.name not in self.names:
            return False
        return not self.about or event.subject in self.about or not self.about.isdisjoint(event.record_ids)
