"""Agents: the directory of a project, and what happened to each of them."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from contextdna.values.ids import AgentEntryId, AgentId, ProjectId, SessionId
from contextdna.values.principal import Role


class AgentStatus(StrEnum):
    """Whether an agent takes work."""

    ACTIVE = "active"
    IDLE = "idle"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent as the project last saw it, and as it was registered."""

    id: AgentId
    project_id: ProjectId
    team_id: str
    swarm_id: str
    role: Role
    """The highest that its credential or an operator gave it."""
    first_seen_at: datetime
    last_seen_at: datetime
    agent_type: str = ""
    capabilities: tuple[str, ...] = ()
    status: AgentStatus = AgentStatus.ACTIVE
    confidence: float | None = None
    registered_by: AgentId = AgentId("")
    """Who registered it first; empty while it was only seen at work."""
    heartbeat_at: datetime | None = None
    retired_at: datetime | None = None
    placed: bool = False
    """Whether an operator put it in its team and swarm, by registering it."""
    credential_role: Role | None = None
    """The role of its own credential as it was seen last; None where only others began its sessions."""


@dataclass(frozen=True, slots=True)
class AgentCard:
    """An agent as the directory shows it to any principal of the project."""

    id: AgentId
    agent_type: str
    capabilities: tuple[str, ...]
    status: AgentStatus
    team_id: str
    swarm_id: str
    last_seen_at: datetime
    in_session: bool
    """Whether it has an active session."""
    full: Agent | None
    """All that is known of it, for the agent itself, those above it, its coordinators and the role system."""


@dataclass(frozen=True, slots=True)
class AgentFilter:
    """Which agents are meant; what is empty means any."""

    agent_type: str = ""
    capability: str = ""
    status: AgentStatus | None = None
    team_id: str | None = None
    """An empty one: those without a team."""
    swarm_id: str | None = None


@dataclass(frozen=True, slots=True)
class AgentCount:
    """How many agents of a team of a swarm have a status."""

    swarm_id: str
    team_id: str
    status: AgentStatus
    agents: int


@dataclass(frozen=True, slots=True)
class Team:
    """A team within a swarm: its agents, counted by status."""

    id: str
    active: int
    idle: int
    retired: int


@dataclass(frozen=True, slots=True)
class Swarm:
    """A swarm: its agents, counted by status, and its teams. An empty id: those without one."""

    id: str
    active: int
    idle: int
    retired: int
    teams: tuple[Team, ...]


class AgentChange(StrEnum):
    """What can happen to an agent."""

    REGISTERED = "registered"
    UPDATED = "updated"
    CONFIDENCE_CHANGED = "confidence_changed"
    STATUS_CHANGED = "status_changed"
    SESSION_BEGUN = "session_begun"
    SESSION_ENDED = "session_ended"
    RETIRED = "retired"
    REINSTATED = "reinstated"


@dataclass(frozen=True, slots=True)
class AgentEntry:
    """One thing that happened to an agent. Entries are added, never changed."""

    id: AgentEntryId
    project_id: ProjectId
    agent_id: AgentId
    at: datetime
    what: AgentChange
    by_agent_id: AgentId
    """Who did it."""
    session_id: SessionId = SessionId("")
    confidence: float | None = None
    details: str = "{}"
    """Compact JSON object of ids, names and numbers; never text of a record."""
    seq: int = field(default=0, compare=False)
    """Its place in the order of commit; set when it is read."""


@dataclass(frozen=True, slots=True)
class AgentHistoryFilter:
    """Which entries are meant; what is empty means any."""

    agent_id: AgentId = AgentId("")
    what: tuple[AgentChange, ...] = ()
    since: datetime | None = None
    """From then on."""
    until: datetime | None = None
    """Before then."""


@dataclass(frozen=True, slots=True)
class AgentHistoryPage:
    """Entries in the order that was asked for. ``cursor`` names the last one; empty when there are no more."""

    entries: tuple[AgentEntry, ...]
    cursor: AgentEntryId
