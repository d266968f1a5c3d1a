"""``contextdna audit``: verify, export and read the audit trail."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

import click

from contextdna import AuditEntry, AuditReport, StorageUnavailable
from contextdna.values.ids import INSTALLATION
from contextdna_server.commands.invocation import (
    FAILED,
    Invocation,
    printable,
    progress,
    run_async,
    table,
    with_shared_options,
)
from contextdna_server.commands.operator import Operator, open_as_operator, project_option, shown_project

_PROGRESS_EVERY: Final = 100


@click.group()
def audit() -> None:
    """Read the audit trail and check that it is whole."""


@audit.command()
@with_shared_options
def verify(invocation: Invocation) -> None:
    """Check every chain of entries.

    Exits 1 when an entry was changed, removed, moved or inserted.
    """
    settings = invocation.settings()

    async def run() -> AuditReport:
        async with open_as_operator(settings) as operator:
            return await operator.workspace().verify_audit()

    report = run_async(run)
    faults = [
        {"project": shown_project(fault.project_id), "seq": fault.seq, "problem": fault.problem}
        for fault in report.faults
    ]
    document = {"intact": report.intact, "entries": report.entries, "chains": report.chains, "faults": faults}
    invocation.answer(document, _verdict(report))
    sys.exit(0 if report.intact else FAILED)


def _verdict(report: AuditReport) -> Iterator[str]:
    found = "intact" if report.intact else f"NOT intact: {len(report.faults)} faults"
    yield f"audit trail {found} ({report.entries} entries in {report.chains} chains)"
    for fault in report.faults:
        yield f"  {printable(shown_project(fault.project_id))} entry {fault.seq}: {fault.problem}"


@audit.command()
@project_option
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="File instead of standard output.")
@with_shared_options
def export(invocation: Invocation, projects: tuple[str, ...], output: Path | None) -> None:
    """Write every entry as one line of JSON, in the order of the chain."""
    settings = invocation.settings()

    async def run() -> int:
        async with open_as_operator(settings, projects) as operator:
            with _writing_to(output) as file:
                return await _export(operator, file)

    count = run_async(run)
    if output:
        invocation.answer({"entries": count, "output": str(output)}, [f"{count} entries written to {output}"])


async def _export(operator: Operator, file: TextIO) -> int:
    total = 0
    for project_id in operator.chains:
        workspace, own = operator.workspace(project_id), project_id == INSTALLATION
        newest = await workspace.query_audit(limit=1, installation=own)
        with progress(f"Exporting {shown_project(project_id)}", total=newest[0].seq if newest else 0) as advance:
            async for entry in workspace.export_audit(installation=own):
                file.write(json.dumps(entry_document(entry) | {"mac": entry.mac.hex()}, ensure_ascii=False) + "\n")
                total += 1
                if entry.seq % _PROGRESS_EVERY == 0:
                    advance(entry.seq)
    return total


@contextmanager
def _writing_to(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
        return
    try:
        with output.open("w", encoding="utf-8", newline="\n") as file:
            yield file
    except OSError as error:
        raise StorageUnavailable(
            f"{output} cannot be written: {error.strerror}", code="output_unwritable", hint="Choose another --output."
        ) from error


@audit.command()
@project_option
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Entries a project.")
@click.option("--action", default="", help="Only this action, such as memory.get.")
@click.option("--agent", "agent_id", default="", help="Only this agent.")
@click.option("--record", "record_id", default="", help="Only entries about this record id.")
@with_shared_options
def tail(invocation: Invocation, projects: tuple[str, ...], **query: Any) -> None:
    """Show the latest entries, the newest last."""
    settings = invocation.settings()

    async def run() -> list[AuditEntry]:
        async with open_as_operator(settings, projects) as operator:
            pages = [
                await operator.workspace(project_id).query_audit(installation=project_id == INSTALLATION, **query)
                for project_id in operator.chains
            ]
        return sorted((entry for page in pages for entry in page), key=lambda entry: (entry.draft.at, entry.seq))

    entries = run_async(run)
    invocation.answer({"entries": [entry_document(entry) for entry in entries]}, table(map(_row, entries), indent=""))


def entry_document(entry: AuditEntry) -> dict[str, Any]:
    """Give an entry as JSON values, without its mac."""
    draft = entry.draft
    return {
        "project": shown_project(draft.project_id),
        "seq": entry.seq,
        "at": draft.at.isoformat(),
        "principal": draft.principal_id,
        "agent": draft.agent_id,
        "session": draft.session_id,
        "action": draft.action,
        "outcome": draft.outcome.value,
        "risk": draft.risk.value,
        "records": list(draft.record_ids),
        "details": json.loads(draft.details),
        "request": draft.request_id,
        "trace": draft.trace_id,
    }


def _row(entry: AuditEntry) -> tuple[str, ...]:
    draft = entry.draft
    more = f" +{len(draft.record_ids) - 1}" if len(draft.record_ids) > 1 else ""
    records = f"{draft.record_ids[0]}{more}" if draft.record_ids else ""
    when = draft.at.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
    project = shown_project(draft.project_id)
    return (when, project, str(entry.seq), draft.agent_id, draft.action, draft.outcome, draft.risk, records)
