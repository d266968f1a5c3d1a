"""The command line. A command's file is imported when the command is called: ``serve`` starts fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Final

import click

from contextdna_server.startup import collector_resting


def _serve() -> click.Command:
    from contextdna_server.commands.serve import serve

    return serve


def _demo() -> click.Command:
    from contextdna_server.commands.demo import demo

    return demo


def _doctor() -> click.Command:
    from contextdna_server.commands.doctor import doctor

    return doctor


def _init() -> click.Command:
    from contextdna_server.commands.init import init

    return init


def _migrate() -> click.Command:
    from contextdna_server.commands.migrate import migrate

    return migrate


def _storage() -> click.Command:
    from contextdna_server.commands.storage import storage

    return storage


def _audit() -> click.Command:
    from contextdna_server.commands.audit import audit

    return audit


def _keys() -> click.Command:
    from contextdna_server.commands.keys import keys

    return keys


def _token() -> click.Command:
    from contextdna_server.commands.token import token

    return token


def _stats() -> click.Command:
    from contextdna_server.commands.stats import stats

    return stats


def _sweep() -> click.Command:
    from contextdna_server.commands.sweep import sweep

    return sweep


def _spool() -> click.Command:
    from contextdna_server.commands.spool import spool

    return spool


def _reindex() -> click.Command:
    from contextdna_server.commands.reindex import reindex

    return reindex


COMMANDS: Final[Mapping[str, Callable[[], click.Command]]] = {
    "serve": _serve,
    "demo": _demo,
    "doctor": _doctor,
    "init": _init,
    "migrate": _migrate,
    "storage": _storage,
    "audit": _audit,
    "keys": _keys,
    "token": _token,
    "stats": _stats,
    "sweep": _sweep,
    "reindex": _reindex,
    "spool": _spool,
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the base class's signature
        """List the commands in the order of a first use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        load = COMMANDS.get(cmd_name)
        if load is None:
            return None
        with collector_resting():
            return load()


def _show_version(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(f"contextdna {version('contextdna')}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def main() -> None:
    """One shared, governed memory for a team of LLM agents, as an MCP server.

    To begin: `contextdna demo` shows what it does, `contextdna init HOST --write` connects a host.
    """
