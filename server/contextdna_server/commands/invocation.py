"""What every command shares: the options --data, --config and --json, the output, and how errors end."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from contextdna.errors import ContextDnaError, InvalidInput, SettingsInvalid

if TYPE_CHECKING:
    from contextdna_server.settings import Settings

R = TypeVar("R")

FAILED: Final = 1
MISUSED: Final = 2


@dataclass(frozen=True, slots=True)
class Invocation:
    """The shared options of one call."""

    data: Path | None
    config: Path | None
    as_json: bool

    def settings(self, *, more_projects: Iterable[str] = (), **command_line: Any) -> Settings:
        """Read the settings; what the command line does not say is left to the other sources.

        Raises:
            SettingsInvalid: A source cannot be used.
        """
        from contextdna_server.settings import load_settings

        given = {"data": self.data, **command_line}
        named = {key: value for key, value in given.items() if value is not None}
        return load_settings(named, config=self.config, more_projects=more_projects)

    def answer(self, document: Mapping[str, Any], lines: Iterable[str]) -> None:
        """Write the result: the document with --json, else the lines."""
        if self.as_json:
            click.echo(json.dumps(document, ensure_ascii=False, indent=2))
        else:
            for line in lines:
                click.echo(line)


def with_shared_options(run: Callable[..., None]) -> Callable[..., None]:
    """Give a command --data, --config and --json, and end its errors in a message and an exit code."""

    @click.option("--json", "as_json", is_flag=True, help="Write JSON.")
    @click.option("--config", type=click.Path(path_type=Path), help="Settings file (TOML or YAML).")
    @click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder with the database, the artifacts and the key file.",
    )
    @functools.wraps(run)
    def command(*, data: Path | None, config: Path | None, as_json: bool, **options: Any) -> None:
        with ending_errors(as_json=as_json):
            run(Invocation(data, config, as_json), **options)

    return command


@contextmanager
def ending_errors(*, as_json: bool) -> Iterator[None]:
    """Turn our errors into a message on stderr and an exit code; others pass."""
    try:
        yield
    except (ContextDnaError, BaseExceptionGroup) as error:
        single = only_error(error)
        if isinstance(single, ContextDnaError):
            _end(single, as_json=as_json)
        raise single from None


def _end(error: ContextDnaError, *, as_json: bool) -> NoReturn:
    tell_error(error, as_json=as_json)
    sys.exit(MISUSED if isinstance(error, SettingsInvalid | InvalidInput) else FAILED)


def tell_error(error: ContextDnaError, *, as_json: bool) -> None:
    """Write an error to stderr."""
    if as_json:
        body = {"code": error.code, "message": error.message, "hint": error.hint, "retryable": error.retryable}
        click.echo(json.dumps({"error": body}, ensure_ascii=False), err=True)
        return
    click.echo(f"error [{error.code}]: {error.message}", err=True)
    if error.hint:
        click.echo(f"  {error.hint}", err=True)


def only_error(error: BaseException) -> BaseException:
    """Unwrap an error that stands alone in groups (task groups wrap what ends them)."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def run_async(main: Callable[[], Awaitable[R]]) -> R:
    """Run a coroutine function on an event loop of its own."""
    import anyio

    return anyio.run(main)


@contextmanager
def progress(label: str, *, total: int = 0) -> Iterator[Callable[[int], None]]:
    """Show how far long work is, on stderr when that is a terminal; the callable takes the count so far."""
    if not sys.stderr.isatty():
        yield lambda _: None
    elif total:
        with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
            yield lambda done: bar.update(done - bar.pos)
    else:
        yield lambda done: click.echo(f"\r{label}: {done}", nl=False, err=True)
        click.echo("", err=True)


def printable(text: str) -> str:
    """Escape what is not printable: text that agents chose must not forge lines or steer the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def table(rows: Iterable[tuple[str, ...]], *, indent: str = "  ") -> Iterator[str]:
    """Lay out rows in columns, their cells made printable."""
    kept = [tuple(printable(str(cell)) for cell in row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*kept, strict=True)] if kept else []
    for row in kept:
        yield (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()
