"""``contextdna storage``: an installation from one database to another."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from contextdna_server.commands.invocation import FAILED, Invocation, run_async, with_shared_options

if TYPE_CHECKING:
    from pathlib import Path

    from contextdna.values.move import MoveProgress, MoveReport

_EVERY_S: Final = 0.5
_STAGES: Final = {"copy": "copying", "check": "checking", "artifacts": "copying artifacts"}


@click.group()
def storage() -> None:
    """Move an installation between databases, and its artifacts between stores."""


@storage.command()
@click.option(
    "--from",
    "source",
    required=True,
    metavar="PLACE",
    help="sqlite:FOLDER, postgresql://…, or postgresql: for storage.database.",
)
@click.option("--to", "target", required=True, metavar="PLACE", help="The same; empty, or begun before.")
@click.option("--artifacts-from", default="", metavar="STORE", help="s3://bucket/prefix, or a data folder.")
@click.option("--artifacts-to", default="", metavar="STORE", help="The same.")
@click.option("--restart", is_flag=True, help="Empty a target first that was begun and is not complete.")
@with_shared_options
def migrate(
    invocation: Invocation, *, source: str, target: str, artifacts_from: str, artifacts_to: str, restart: bool
) -> None:
    """Copy a whole installation to another database, and check that all of it arrived.

    Stop its servers first. Cut off, the same command goes on where it was; until it is done no server opens the target.
    """
    from contextdna.hub.moving import missing_key_file, move_storage, parse_place

    settings = invocation.settings().to_hub_settings()
    here = parse_place(source, settings, artifacts=artifacts_from)
    there = parse_place(target, settings, artifacts=artifacts_to)
    teller = _Teller(as_json=invocation.as_json)

    async def run() -> MoveReport:
        return await move_storage(settings, here, there, told=teller.tell, restart=restart)

    try:
        report = run_async(run)
    finally:
        teller.end()
    invocation.answer(_document(report), _lines(report, missing_key_file(settings, here, there)))
    sys.exit(FAILED if report.artifacts_lost or report.writes_aside else 0)


class _Teller:
    """Tells on stderr how far it is: a line that is written over on a terminal, JSON objects with --json."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._told_at = 0.0
        self._part = ("", "")
        self._on_terminal = sys.stderr.isatty()

    def tell(self, progress: MoveProgress) -> None:
        """Tell, at most twice a second and of each part at least once."""
        now = time.monotonic()
        part = (progress.stage, progress.part)
        if part == self._part and now - self._told_at < _EVERY_S:
            return
        self._told_at, self._part = now, part
        if self._as_json:
            document = {"stage": progress.stage, "part": progress.part, "done": progress.done, "total": progress.total}
            click.echo(json.dumps({"progress": document}), err=True)
        elif self._on_terminal:
            line = " ".join(filter(None, (_STAGES[progress.stage], progress.part)))
            click.echo(f"\r\033[K{line}: {progress.done} of {progress.total}", nl=False, err=True)

    def end(self) -> None:
        """Leave the line."""
        if self._on_terminal and not self._as_json:
            click.echo("", err=True)


def _document(report: MoveReport) -> dict[str, Any]:
    return {
        "complete": True,
        "resumed": report.resumed,
        "rows": dict(report.rows),
        "projects": report.projects,
        "audit_chains": report.audit_chains,
        "audit_entries": report.audit_entries,
        "artifacts": report.artifacts,
        "artifacts_copied": report.artifacts_copied,
        "artifacts_lost": list(report.artifacts_lost),
        "writes_aside": report.writes_aside,
    }


def _lines(report: MoveReport, key_file: tuple[Path, Path] | None) -> Iterator[str]:
    yield (
        f"moved {report.projects} projects: {report.rows['records']} records, {sum(report.rows.values())} rows in all, "
        "the same on both sides"
    )
    yield f"audit trail intact ({report.audit_entries} entries in {report.audit_chains} chains)"
    yield f"{report.artifacts} artifacts, {report.artifacts_copied} of them copied now"
    for key in report.artifacts_lost:
        yield f"LOST before: the source does not have the artifact {key}, or not whole"
    if report.writes_aside:
        yield (
            f"LEFT BEHIND: {report.writes_aside} queued writes that were refused stay in the source's data folder; "
            "see `contextdna spool` there"
        )
    if key_file:
        yield f"now copy the key file {key_file[0]} to {key_file[1]}"
