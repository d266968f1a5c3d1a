"""Serve the fixtures: ``python -m tests.conformance PORT``, until a signal; 0 is any free port.

Prints the URL. Callers need no credential.
"""

import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import click

from contextdna_server.commands.serve import log_to_stderr
from contextdna_server.commands.serve_http import serve_listening
from contextdna_server.http.app import caller, check_http
from contextdna_server.http.serving import bound_socket
from contextdna_server.settings import Settings, load_settings
from tests.conformance.server import fixture_server

HOST = "127.0.0.1"


def fixture_settings(data: Path) -> Settings:
    """Make the settings: as a user's on one machine, with room for a suite that asks as fast as it can."""
    return load_settings({"data": data, "http": {"anonymous": True, "rate_per_s": 5000, "rate_burst": 5000}})


def main(port: int) -> None:
    """Serve on a port of this machine; 0 is any."""
    log_to_stderr("ERROR")  # the suite provokes warnings
    with TemporaryDirectory() as data:
        settings = fixture_settings(Path(data))
        check_http(settings, HOST)
        listening = bound_socket(HOST, port)
        click.echo(f"http://localhost:{listening.getsockname()[1]}/mcp")
        build = partial(fixture_server, identity=caller)
        anyio.run(partial(serve_listening, settings, build, host=HOST, listening=listening))


if __name__ == "__main__":
    main(int(sys.argv[1]))
