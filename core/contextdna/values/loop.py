"""Loop records: confidences (loop 3), consensus (loop 2) and decisions (loop 4), append-only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any

from contextdna.values.ids import AgentId, RecordId
from contextdna.values.record import Record

SUPERSEDES = "supersedes"
"""The link from a loop record to the one that it takes the place of."""
RESTS_ON = "rests_on"
"""The link from a loop record to a record that it cites."""


class Loop(IntEnum):
    """The three loops that leave records."""

    CONSENSUS = 2
    CONFIDENCE = 3
    DECISION = 4

    @property
    def label(self) -> str:
        """The record type: ``consensus``, ``confidence`` or ``decision``."""
        return self.name.lower()


class Decision(StrEnum):
    """What a loop 4 record says."""

    PROCEED = "PROCEED"
    DEFER = "DEFER"
    ESCALATE = "ESCALATE"


@dataclass(frozen=True, slots=True)
class LoopDraft:
    """A loop record as handed in."""

    loop: Loop
    phase: str
    iteration: int = 1
    score: float | None = None
    """Confidence (loop 3) or consensus (loop 2), 0..1; loop 2 may leave it out and give validators."""
    decision: Decision | None = None
    reasoning: str = ""
    validators: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    rests_on: tuple[RecordId, ...] = ()
    """Records that it cites, of any kind; the writer must see them."""


@dataclass(frozen=True, slots=True)
class LoopRecord:
    """A loop record opened for a reader who may see it."""

    record: Record
    score: float | None
    decision: str
    reasoning: str
    validators: Mapping[str, float]
    details: Mapping[str, Any]
    granted_by: str = ""
    supersedes: str = ""
    """The record that this one takes the place of, for a reader who may see both."""
    superseded_by: str = ""
    """The record that took this one's place, for a reader who may see both."""
    rests_on: tuple[RecordId, ...] = ()
    """What it cites, as far as the reader may see it."""


@dataclass(frozen=True, slots=True)
class LoopPage:
    """Some loop records; an empty cursor says that these are the last."""

    records: tuple[LoopRecord, ...]
    cursor: str


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A deferred issue or a next action, with the decision that names it."""

    text: str
    phase: str
    iteration: int
    decision_id: RecordId
    decision: str
    decided_by: AgentId
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class FollowUpPage:
    """Some follow-ups, of the latest decision first; an empty cursor says that these are the last."""

    items: tuple[FollowUp, ...]
    cursor: str


@dataclass(frozen=True, slots=True)
class GateState:
    """Where a phase and iteration stand against the gates, by numbers only."""

    phase: str
    iteration: int
    confidence_gate: float
    consensus_gate: float
    confidences: int
    confidence_min: float | None
    consensus: float | None
    missing: tuple[str, ...]
    of: str = ""
    """By whose records: one swarm's, all swarms' (each must reach the gates), or what the reader may see."""

    @property
    def open(self) -> bool:
        """True when nothing is missing for PROCEED."""
        return not self.missing


@dataclass(frozen=True, slots=True)
class LoopOutcome:
    """The answer to recording: the record's id, the gates after it, and what business rules object to."""

    id: str
    version: int
    gate: GateState
    objections: tuple[str, ...]
    supersedes: str = ""
    """The record that this one took the place of, where the writer may see it."""
    agent_id: AgentId = AgentId("")
    """Who recorded it."""


@dataclass(frozen=True, slots=True)
class LoopStatus:
    """Where a phase stands at an iteration, for a reader: only records that it may see, beside the gate's numbers."""

    gate: GateState
    latest_iteration: int
    standing: tuple[LoopRecord, ...]
    """The iteration's records that none took the place of, oldest first."""
    deferred: FollowUpPage
    """Open issues of the phase, of whatever iteration."""
    next_actions: FollowUpPage
