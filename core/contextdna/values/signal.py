"""Signals: short messages that agents wait for, and the acknowledgements of those who got them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from contextdna.values.ids import AgentId, ProjectId, SessionId, SignalId
from contextdna.values.record import Sealed


class Circle(StrEnum):
    """A circle of the sender's that a signal may go to as a whole, those who join it later too."""

    TEAM = "team"
    SWARM = "swarm"
    PROJECT = "project"


class WaitOutcome(StrEnum):
    """How a wait ended."""

    SIGNALLED = "signalled"
    ACKNOWLEDGED = "acknowledged"
    """All, or as many as were asked for, have acknowledged."""
    TIMED_OUT = "timed_out"
    """The deadline came, or the signal that was waited upon expired."""
    SENDER_GONE = "sender_gone"
    """The agent that was waited for has ended its session, or has been silent for too long."""
    WITHDRAWN = "withdrawn"
    TARGETS_GONE = "targets_gone"
    """Those who have not acknowledged will not: they are retired, or have ended their sessions."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal at rest. It belongs to its sender and its audience, and to nobody else."""

    id: SignalId
    project_id: ProjectId
    name: str
    sender_id: AgentId
    session_id: SessionId
    """The session that it was sent in; empty without one."""
    audience: tuple[str, ...]
    """Agent ids and circles, as the audience of an event has them."""
    created_at: datetime
    expires_at: datetime
    withdrawn_at: datetime | None
    sealed: Sealed
    """The payload, always encrypted."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """That an agent has got a signal; there is one of each agent at most."""

    project_id: ProjectId
    signal_id: SignalId
    agent_id: AgentId
    at: datetime
    sealed: Sealed
    """A note to the sender, always encrypted."""


@dataclass(frozen=True, slots=True)
class Presence:
    """What tells whether an agent is still at work."""

    seen_at: datetime
    working_until: datetime | None = None
    """When the last of its active sessions expires; None without one."""
    left_at: datetime | None = None
    """When the last of its sessions that are over ended; None without one."""


@dataclass(frozen=True, slots=True)
class SignalDraft:
    """A signal as its sender gives it: to agents by name, to a circle of its own, or to both."""

    name: str
    targets: tuple[AgentId, ...] = ()
    circle: Circle | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)
    expires_in_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class ReceivedSignal:
    """A signal as one of its audience reads it."""

    id: SignalId
    name: str
    sender_id: AgentId
    sent_at: datetime
    expires_at: datetime
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SentSignal:
    """What became of a sent signal."""

    id: SignalId
    expires_at: datetime
    targets: tuple[AgentId, ...]
    """The agents by name that are asked to acknowledge it."""
    unknown_targets: tuple[AgentId, ...]
    """Those that the project has not seen yet; the signal waits for them until it expires."""
    gone_targets: tuple[AgentId, ...] = ()
    """Those that are retired, or have ended their last session and were not seen since."""


@dataclass(frozen=True, slots=True)
class AcknowledgeReport:
    """An acknowledgement that stands, made now or before."""

    signal_id: SignalId
    at: datetime
    already: bool


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Who has acknowledged, when, and with what note; only the sender and the agent itself read the note."""

    agent_id: AgentId
    at: datetime
    note: str = ""


@dataclass(frozen=True, slots=True)
class SignalStatus:
    """Where a signal stands. Its sender and the role system learn of all targets, a target of itself."""

    id: SignalId
    name: str
    sender_id: AgentId
    sent_at: datetime
    expires_at: datetime
    withdrawn_at: datetime | None
    expired: bool
    acknowledged: tuple[Acknowledged, ...]
    answered: int
    """How many of those that it is for have acknowledged."""
    missing: tuple[AgentId, ...]
    """Named targets, and agents of the circle that are at work, that have not acknowledged."""
    gone: tuple[AgentId, ...]
    """Named targets that have not acknowledged and are retired, or were not seen since their last session ended."""


@dataclass(frozen=True, slots=True)
class SignalWait:
    """How waiting for a signal ended; with ``signalled`` the signal."""

    outcome: WaitOutcome
    signal: ReceivedSignal | None
    waited_s: float
    unknown_agents: tuple[AgentId, ...] = ()
    """The sender that was waited for, where the project has never seen it: it may still come, or be mistyped."""


@dataclass(frozen=True, slots=True)
class AcknowledgementWait:
    """How waiting for acknowledgements ended, and who has given them so far."""

    outcome: WaitOutcome
    status: SignalStatus
    waited_s: float
