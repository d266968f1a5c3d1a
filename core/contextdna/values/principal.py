"""Who calls, and as whom."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from contextdna.values.ids import AgentId, ProjectId, SessionId


class Role(StrEnum):
    """What a principal may do beyond reading and writing its own records."""

    AGENT = "agent"
    COORDINATOR = "coordinator"
    SYSTEM = "system"

    @property
    def rank(self) -> int:
        """Order of power: a session never gets a higher rank than the caller that began it."""
        return list(Role).index(self)


class Scope(StrEnum):
    """What a credential may be used for; a role says what its agent may do, and a call needs both."""

    READ = "read"
    WRITE = "write"
    SHARE = "share"
    DECIDE = "decide"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """The verified caller: from a credential or the configuration, never from a tool argument."""

    agent_id: AgentId
    project_ids: tuple[ProjectId, ...] = ()
    team_id: str = ""
    swarm_id: str = ""
    role: Role = Role.AGENT
    scopes: frozenset[Scope] = frozenset(Scope)
    """Of the credential: a session handle never widens them."""
    credential_id: str = field(default="", compare=False)
    """The token of our own that proved it, if one did: what is done later is judged by whether that still stands."""


@dataclass(frozen=True, slots=True)
class Reader:
    """One agent's point of view on one project: all that the access predicate looks at."""

    project_id: ProjectId
    agent_id: AgentId
    team_id: str = ""
    swarm_id: str = ""
    role: Role = Role.AGENT


@dataclass(frozen=True, slots=True)
class Actor:
    """The agent that a call acts as: the principal itself, or the agent of the session handle it passed."""

    reader: Reader
    principal_id: AgentId
    session_id: SessionId = SessionId("")
    lineage: tuple[AgentId, ...] = ()
    """Agent ids from the root of the delegation chain down to this one; the principal stands first."""
    until: datetime | None = field(default=None, compare=False)
    """When its session ends at the latest; None without one."""

    @property
    def project_id(self) -> ProjectId:
        """The project of the call."""
        return self.reader.project_id

    @property
    def agent_id(self) -> AgentId:
        """The agent of the call."""
        return self.reader.agent_id
