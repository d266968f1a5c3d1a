"""``contextdna demo``: a story that a person can watch, told by a real client and a real server."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from mcp import MCPError

from contextdna import StorageUnavailable
from contextdna_server.commands.invocation import FAILED, Invocation, only_error, run_async, with_shared_options
from contextdna_server.demo_story import PROJECT, Step, Story

ENV_PREFIX = "CONTEXTDNA_"


@click.command()
@with_shared_options
def demo(invocation: Invocation) -> None:
    """Play a short story with a real server and client.

    It works in a folder that is removed afterwards. With --data DIR it works there, in the project "demo", and stays.
    """
    with _folder(invocation) as (folder, environ):

        async def run() -> list[Step]:
            steps = []
            async for step in Story(folder, environ).tell():
                steps.append(step)
                if not invocation.as_json:
                    _show(step)
            return steps

        try:
            steps = run_async(run)
        except (MCPError, BaseExceptionGroup) as error:
            raise _lost(error, folder) from error
    good = all(step.ok for step in steps)
    document = {"ok": good, "data": str(folder), "steps": [_document(step) for step in steps]}
    invocation.answer(document, [_end(invocation, folder, good=good)])
    sys.exit(0 if good else FAILED)


def _lost(error: BaseException, folder: Path) -> BaseException:
    """Say that the server went away; it has told why on stderr. Anything else stays what it is."""
    single = only_error(error)
    if not isinstance(single, MCPError):
        return single
    return StorageUnavailable(
        f"the server does not answer: {single.message}",
        code="server_lost",
        hint=f"Its message stands above; or run `contextdna doctor --data {folder}`.",
    )


@contextmanager
def _folder(invocation: Invocation) -> Iterator[tuple[Path, dict[str, str]]]:
    """Give the folder and the environment for the server: a folder of its own has nothing to do with the user's."""
    from contextdna_server.settings import environment

    environ = dict(environment())
    if invocation.data or invocation.config:
        if invocation.config:
            environ["CONTEXTDNA_CONFIG"] = str(invocation.config.absolute())
        yield invocation.settings().data, environ
        return
    with tempfile.TemporaryDirectory(prefix="contextdna-demo-") as name:
        yield Path(name), {key: value for key, value in environ.items() if not key.upper().startswith(ENV_PREFIX)}


def _show(step: Step) -> None:
    mark = click.style("ok", fg="green") if step.ok else click.style("FAILED", fg="red", bold=True)
    click.echo(f"{step.number:>2}. {click.style(step.title, bold=True)}  {mark}")
    for line in step.seen:
        click.echo(f"      {line}")
    for problem in step.problems:
        click.echo(click.style(f"      expected otherwise: {problem}", fg="red"))


def _document(step: Step) -> dict[str, Any]:
    return {**asdict(step), "ok": step.ok}


def _end(invocation: Invocation, folder: Path, *, good: bool) -> str:
    if not good:
        return "\nThe demo did not go as it should: run `contextdna doctor`."
    kept = f"Look around: contextdna audit tail --project {PROJECT} --data {folder}"
    removed = "The folder is removed. To keep one: contextdna demo --data DIR"
    return f"\nAll as it should be. {kept if invocation.data or invocation.config else removed}"
