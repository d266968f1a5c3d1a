"""Loop records: confidences (loop 3), consensus (loop 2) and decisions (loop 4), append-only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

from contextdna.values.record import Record


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
