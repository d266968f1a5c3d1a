"""Run the official suite against the fixtures: ``python -m tests.conformance.check NODE_MODULES``.

Prints a table; fails unless every scored scenario of both requirement sets is green: nothing failed, nothing warned.
"""

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click
import yaml  # type: ignore[import-untyped]

from tests.conformance.node import node_of, package_of

REVISIONS: Final = ("2025-11-25", "2026-07-28")
_SUITE_S_MAX: Final = 300
_END_S_MAX: Final = 20
_RESULT: Final = re.compile(r"server-(?P<scenario>.+)-\d{4}-\d{2}-\d{2}T[\d-]+Z")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one scenario came to: how many of its checks had each status."""

    scenario: str
    scored: bool
    statuses: Counter[str]

    @property
    def green(self) -> bool:
        """Whether it ran, and nothing failed or warned."""
        bad = self.statuses["FAILURE"] + self.statuses["WARNING"]
        return self.statuses["SUCCESS"] > 0 and not bad

    def row(self) -> str:
        """Write it as a line of the table."""
        counts = (self.statuses[status] for status in ("SUCCESS", "FAILURE", "WARNING", "SKIPPED"))
        numbers = "".join(f"{count or '-':>9}" for count in counts)
        verdict = "green" if self.green else "RED" if self.scored else "red"
        return f"{self.scenario:<48}{numbers}  {verdict}{'' if self.scored else ', not scored'}"


@contextmanager
def fixture_url() -> Iterator[str]:
    """Serve the fixtures in a process of their own; gives the URL."""
    command = [sys.executable, "-m", "tests.conformance", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            if not url:
                sys.exit("the fixture server did not start")
            yield url
        finally:
            server.terminate()
            server.wait(_END_S_MAX)


def outcomes(modules: Path, revision: str, url: str) -> list[Outcome]:
    """Run one requirement set."""
    suite = package_of(modules, "conformance")
    scored = _scored(suite, revision)
    with TemporaryDirectory() as results:
        options = ["--url", url, "--requirements", revision, "--output-dir", results]
        command = [node_of(modules), str(suite / "dist" / "index.js"), "server", *options]
        run = subprocess.run(command, capture_output=True, text=True, timeout=_SUITE_S_MAX, check=False)
        found = dict(_results(Path(results)))
    if not found:
        sys.exit(f"the suite did not run: {run.stdout[-2000:]}{run.stderr[-2000:]}")
    names = [*scored, *(name for name in sorted(found) if name not in scored)]
    return [Outcome(name, name in scored, found.get(name, Counter())) for name in names]


def _scored(suite: Path, revision: str) -> list[str]:
    document = yaml.safe_load((suite / "requirements" / f"{revision}.yaml").read_text())
    return [str(name) for name in document["server"]]


def _results(folder: Path) -> Iterator[tuple[str, Counter[str]]]:
    for path in folder.glob("*/checks.json"):
        if match := _RESULT.fullmatch(path.parent.name):
            yield match["scenario"], Counter(check["status"] for check in json.loads(path.read_text()))


def main(modules: Path) -> int:
    """Run both sets; gives the exit code."""
    red = 0
    with fixture_url() as url:
        for revision in REVISIONS:
            began = time.monotonic()
            rows = outcomes(modules, revision, url)
            click.echo(f"\n{revision:<48}{'passed':>9}{'failed':>9}{'warned':>9}{'skipped':>9}")
            click.echo("\n".join(row.row() for row in rows))
            scored = [row for row in rows if row.scored]
            green = sum(row.green for row in scored)
            red += len(scored) - green
            click.echo(f"{green} of {len(scored)} scored scenarios are green, in {time.monotonic() - began:.1f} s")
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
