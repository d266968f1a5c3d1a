"""Resource: a phase's loop records and its gates."""

from typing import Any, Final

from contextdna import GateState, LoopRecord, Workspace
from contextdna_resources.contents import Contents, json_contents, record_fields, within_budget
from contextdna_resources.paging import PAGE
from contextdna_resources.uris import ResourceUri

_LOOP_NUMBERS: Final = {"confidence": 3, "consensus": 2, "decision": 4}


async def read_loops(uri: ResourceUri, workspace: Workspace) -> Contents:
    """Give a phase's visible loop records, newest first, and where its latest visible iteration stands."""
    found = await workspace.read_loops(uri.item_id, limit=PAGE + 1)
    gate = await workspace.loop_gate(uri.item_id, iteration=max(entry.record.position for entry in found))
    records = within_budget(shown_loop(entry) for entry in found[:PAGE])
    return json_contents(
        uri,
        {
            "phase": uri.item_id,
            "gate": shown_gate(gate),
            "records": records,
            "truncated": len(records) < len(found),
        },
    )


def shown_loop(entry: LoopRecord) -> dict[str, Any]:
    """Show a loop record; what is empty is left out."""
    record = entry.record
    fields = {
        "loop": _LOOP_NUMBERS[record.type],
        "type": record.type,
        "iteration": record.position,
        "score": entry.score,
        "decision": entry.decision or None,
        "reasoning": entry.reasoning or None,
        "validators": dict(entry.validators) or None,
        "details": dict(entry.details) or None,
    }
    shown = {key: value for key, value in fields.items() if value is not None}
    return {**record_fields(record, entry.granted_by), **shown}


def shown_gate(gate: GateState) -> dict[str, Any]:
    """Show where the gates stand."""
    return {
        "iteration": gate.iteration,
        "open": gate.open,
        "missing": list(gate.missing),
        "confidence_gate": gate.confidence_gate,
        "confidence_min": gate.confidence_min,
        "confidences": gate.confidences,
        "consensus_gate": gate.consensus_gate,
        "consensus": gate.consensus,
    }
