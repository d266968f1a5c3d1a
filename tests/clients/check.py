"""Visit the product with other people's clients: ``python -m tests.clients.check NODE_MODULES``.

A server on a port and servers on stdio, all on one data folder, are visited by the Inspector's command line and by
both TypeScript clients, over each transport that they have.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click
import httpx2

from tests.conformance.node import node_of, package_of

_CONTEXTDNA: Final = [sys.executable, "-m", "contextdna_server"]
_VISIT_S_MAX: Final = 120
_END_S_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Visited:
    """A running server, and how to start another on its data."""

    http: str
    sse: str
    token: str
    command: list[str]


@contextmanager
def visited(data: Path) -> Iterator[Visited]:
    """Serve the product over HTTP on any free port, by two processes: a client's requests reach either."""
    command = [*_CONTEXTDNA, "serve", "--data", str(data)]
    over_http = [*command, "--http", "127.0.0.1:0", "--workers", "2"]
    with subprocess.Popen(over_http, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            listens = re.search(r"http://\S+/mcp", server.stderr.readline())
            if listens is None:
                sys.exit("the server did not start")
            base = listens[0].removesuffix("/mcp")
            httpx2.get(f"{base}/readyz", timeout=_VISIT_S_MAX).raise_for_status()  # answered when the data is there
            creating = [*_CONTEXTDNA, "token", "create", "--agent", "visitor", "--data", str(data)]
            token = subprocess.run(creating, capture_output=True, text=True, timeout=_VISIT_S_MAX, check=True)
            yield Visited(f"{base}/mcp", f"{base}/sse", token.stdout.strip(), command)
        finally:
            server.terminate()
            server.wait(_END_S_MAX)


def inspected(modules: Path, target: list[str], *options: str) -> bool:
    """List the tools by the Inspector, which judges their schemas; tells whether it found nothing amiss."""
    launcher = package_of(modules, "inspector") / "clients" / "launcher" / "build" / "index.js"
    command = [node_of(modules), str(launcher), "--cli", *target, "--method", "tools/list", "--strict", *options]
    began = time.monotonic()
    run = subprocess.run(command, capture_output=True, text=True, timeout=_VISIT_S_MAX, check=False)
    tools = len(json.loads(run.stdout)["tools"]) if run.returncode == 0 else 0
    said = f"{tools} tools" if tools else f"FAILED with {run.returncode}: {run.stderr[-2000:]}"
    kind = target[0].rpartition("/")[2] if target[0].startswith("http") else "stdio"
    click.echo(f"{'inspector':<10}{kind:<7}{options[1]:<8}{said}, {(time.monotonic() - began) * 1000:.0f} ms")
    return bool(tools)


def main(modules: Path) -> int:
    """Make all visits; gives the exit code."""
    visit = shutil.copy(Path(__file__).with_name("visit.mjs"), modules.parent)  # it finds its packages from there
    with TemporaryDirectory() as folder, visited(Path(folder)) as server:
        given = {"http": server.http, "sse": server.sse, "token": server.token, "command": server.command}
        command = [node_of(modules), visit, json.dumps(given)]
        ok = subprocess.run(command, timeout=_VISIT_S_MAX, check=False).returncode == 0
        bearer = ("--header", f"Authorization: Bearer {server.token}")
        for era in ("legacy", "modern"):
            ok &= inspected(modules, [server.http], "--protocol-era", era, *bearer)
            ok &= inspected(modules, [server.sse], "--protocol-era", era, *bearer)
            ok &= inspected(modules, server.command, "--protocol-era", era)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
