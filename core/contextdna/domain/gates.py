"""Gates: what the standing confidences and consensus of an iteration lack, by numbers only."""

from collections.abc import Sequence

from contextdna.domain.operation import Operation
from contextdna.errors import IntegrityFault
from contextdna.values.loop import GateState, Loop
from contextdna.values.record import Record, VisibleRecord
from contextdna.values.settings import GatesInForce


def judged(op: Operation, phase: str, iteration: int, records: Sequence[Record], *, of: str) -> GateState:
    """Judge an iteration by the records that stand.

    Each swarm among them has to reach the gates for itself; what was recorded outside of all counts for each.

    Args:
        op: The call.
        phase: Of which phase.
        iteration: Of which iteration.
        records: What stands, of one swarm or of several.
        of: Whose records these are, for the reader.
    """
    gates = op.settings.work.gates_of(op.project_id)
    swarms = sorted({record.swarm_id for record in records if record.swarm_id and record.type != Loop.DECISION.label})
    missing: list[str] = []
    for swarm_id in swarms or [""]:
        own = [record for record in records if record.swarm_id in ("", swarm_id)]
        told = f"swarm {swarm_id}: " if len(swarms) > 1 else ""
        missing += [f"{told}{reason}" for reason in _missing(op, own, gates)]
    confidences, _ = _scores(op, Loop.CONFIDENCE, records)
    agreed, _ = _scores(op, Loop.CONSENSUS, records)
    return GateState(
        phase=phase,
        iteration=iteration,
        confidence_gate=gates.confidence,
        consensus_gate=gates.consensus,
        confidences=len(confidences),
        confidence_min=min(confidences, default=None),
        consensus=min(agreed, default=None),
        missing=tuple(missing),
        of=of,
    )


def _missing(op: Operation, records: Sequence[Record], gates: GatesInForce) -> list[str]:
    confidences, damaged = _scores(op, Loop.CONFIDENCE, records)
    agreed, more_damaged = _scores(op, Loop.CONSENSUS, records)
    lowest, consensus = min(confidences, default=None), min(agreed, default=None)
    missing = ["a loop record is damaged and cannot be judged"] if damaged or more_damaged else []
    if lowest is None:
        missing.append("no confidence (loop 3) is recorded")
    elif lowest < gates.confidence:
        missing.append(f"the lowest confidence is {lowest:.2f}, the gate is {gates.confidence:.2f}")
    if consensus is None:
        missing.append("no consensus (loop 2) is recorded")
    elif consensus < gates.consensus:
        missing.append(f"the consensus is {consensus:.2f}, the threshold is {gates.consensus:.2f}")
    return missing


def _scores(op: Operation, loop: Loop, records: Sequence[Record]) -> tuple[list[float], bool]:
    """Read the scores of a loop; gives them, and whether one cannot be read."""
    of_loop = [VisibleRecord(record) for record in records if record.type == loop.label]
    try:
        scores = op.readable(of_loop, lambda item: float(op.open(item.record)["score"]))
    except IntegrityFault:
        scores = []
    return scores, len(scores) < len(of_loop)
