"""``contextdna doctor``: what is wrong with an installation, and what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import click

from contextdna_server.commands.invocation import FAILED, Invocation, progress, with_shared_options
from contextdna_server.diagnosis import Finding, Verdict, checks, examine

_COLOURS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}


@click.command()
@click.option("--deep", is_flag=True, help="Also read every page of the database and every audit entry.")
@with_shared_options
def doctor(invocation: Invocation, deep: bool) -> None:
    """Check this installation; nothing is changed.

    Exits 1 when something fails.
    """
    settings = invocation.settings()
    findings: list[Finding] = []
    with progress("Checking", total=len(checks(deep=deep)) if deep else 0) as advance:
        for finding in examine(settings, deep=deep):
            findings.append(finding)
            advance(len(findings))
    good = not any(finding.verdict is Verdict.FAIL for finding in findings)
    documents = [_document(finding) for finding in findings]
    invocation.answer({"ok": good, "checks": documents, "settings": settings.masked()}, _lines(findings, good=good))
    sys.exit(0 if good else FAILED)


def _document(finding: Finding) -> dict[str, str]:
    return {"name": finding.name, "status": finding.verdict.value, "detail": finding.detail, "remedy": finding.remedy}


def _lines(findings: Sequence[Finding], *, good: bool) -> Iterator[str]:
    for finding in findings:
        verdict = click.style(f"{finding.verdict.value:<4}", fg=_COLOURS[finding.verdict])
        yield f"{verdict}  {finding.name:<8}  {finding.detail}"
        if finding.remedy:
            yield f"{'':16}-> {finding.remedy}"
    warned = any(finding.verdict is Verdict.WARN for finding in findings)
    yield "something needs you" if not good else "fit, with warnings" if warned else "fit"
