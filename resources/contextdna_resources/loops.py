"""Resource: a phase's loop records and its gates."""

from typing import Any, Final

from contextdna import GateState, LoopRecord, Workspace, cursor_behind
from contextdna_resources.contents import Contents, json_contents, record_fields, within_budget
from contextdna_resources.paging import PAGE, next_link
from contextdna_resources.uris import ResourceUri

_LOOP_NUMBERS: Final = {"confidence": 3, "consensus": 2, "decision": 4}


async def read_loops(uri: ResourceUri, workspace: Workspace) -> Contents:
    """Give a page of a phase's visible loop records, oldest first, and where its latest visible iteration stands."""
    page = await workspace.loops.read(uri.item_id, limit=PAGE, cursor=uri.cursor)
    gate = (await workspace.loops.status(uri.item_id, limit=1)).gate
    records = within_budget(shown_loop(entry) for entry in page.records)
    cut = len(records) < len(page.records)
    cursor = cursor_behind(page.records[len(records) - 1].record.id) if cut else page.cursor
    return json_contents(
        uri, {"phase": uri.item_id, "gate": shown_gate(gate), "records": records, **next_link(uri, cursor)}
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
        "rests_on": list(entry.rests_on) or None,
        "supersedes": entry.supersedes or None,
        "superseded_by": entry.superseded_by or None,
    }
    shown = {key: value for key, value in fields.items() if value is not None}
    return {**record_fields(record, entry.granted_by), **shown}


def shown_gate(gate: GateState) -> dict[str, Any]:
    """Show where the gates stand."""
    return {
        "iteration": gate.iteration,
        "of": gate.of,
        "open": gate.open,
        "missing": list(gate.missing),
        "confidence_gate": gate.confidence_gate,
        "confidence_min": gate.confidence_min,
        "confidences": gate.confidences,
        "consensus_gate": gate.consensus_gate,
        "consensus": gate.consensus,
    }
