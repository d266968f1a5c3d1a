"""``contextdna init``: the entry for a host's configuration."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from contextdna import ContextDnaError, SettingsInvalid
from contextdna_server.commands.invocation import Invocation, with_shared_options
from contextdna_server.host_config import (
    HOSTS,
    Entry,
    Host,
    HostConfigError,
    Platform,
    claude_mcp_add,
    command_line,
    config_path,
    merge,
    project_config_path,
    read_config,
    write_config,
)

_SECRETS: Final[Mapping[str, str]] = {
    "vscode": (
        'add {"type": "promptString", "id": "contextdna-key", "description": "Master key", "password": true} to '
        '"inputs" of the file, and "CONTEXTDNA_MASTER_KEY": "${input:contextdna-key}" to "env" of the entry'
    ),
    "cursor": (
        'add "CONTEXTDNA_MASTER_KEY": "${env:CONTEXTDNA_MASTER_KEY}" to "env" of the entry, and start Cursor from a '
        "shell that has it"
    ),
    "claude-code": (
        'add "CONTEXTDNA_MASTER_KEY": "${CONTEXTDNA_MASTER_KEY}" to "env" of the entry, and start Claude Code from a '
        "shell that has it"
    ),
    "codex": ('add env_vars = ["CONTEXTDNA_MASTER_KEY"] to the entry, and start Codex from a shell that has it'),
}
"""How hosts get a secret into a server's environment without it being in their file.

Source: the hosts' documentation of MCP servers, November 2026.
"""


@click.command()
@click.argument("host", type=click.Choice(HOSTS), metavar="HOST")
@click.option("--write", is_flag=True, help="Write the file; the one before stays as NAME.bak.")
@click.option(
    "--scope",
    type=click.Choice(["user", "project"]),
    default="user",
    show_default=True,
    help="For you everywhere, or for who works in this folder.",
)
@click.option(
    "--project", "projects", multiple=True, metavar="NAME", help="A project that the server adds; may be repeated."
)
@click.option("--tools", type=click.Choice(["default", "full"]), help="Which tools the server lists in this host.")
@with_shared_options
def init(
    invocation: Invocation, *, host: Host, write: bool, scope: str, projects: tuple[str, ...], tools: str | None
) -> None:
    """Configure a host to start the server.

    Prints the entry; with --write it is added to the host's file.

    HOST is claude-desktop, claude-code, cursor, vscode or codex.
    """
    entry = _entry(invocation, projects, tools)
    try:
        path = _path(host, scope)
        if write:
            _write(invocation, host, path, entry)
        else:
            _print(invocation, host, path, entry)
        _warn_of_secrets(host)
    except HostConfigError as error:
        raise ContextDnaError(f"{error}", code="host_config", hint="Or print the entry without --write.") from error
    except OSError as error:
        raise ContextDnaError(f"{error.filename}: {error.strerror}", code="host_config_unwritable") from error


def _print(invocation: Invocation, host: Host, path: Path, entry: Entry) -> None:
    text = merge("", entry, host=host)
    document = {
        "host": host,
        "path": str(path),
        "command": entry.command,
        "args": list(entry.args),
        "env": dict(entry.env),
        "text": text,
    }
    if not invocation.as_json:
        click.echo(f"# for {path}; `contextdna init {host} --write` adds it there", err=True)
        if host == "claude-code":
            command = command_line(claude_mcp_add(entry), platform=_platform())
            click.echo(f"# or run: {command}", err=True)
    invocation.answer(document, [text.rstrip("\n")])


def _write(invocation: Invocation, host: Host, path: Path, entry: Entry) -> None:
    before = read_config(path)
    after = merge(before, entry, host=host)
    backup = write_config(path, after)
    document = {
        "host": host,
        "path": str(path),
        "changed": before != after,
        "backup": str(backup) if backup else "",
        "command": entry.command,
        "args": list(entry.args),
        "env": dict(entry.env),
    }
    said = [f"{path} {'now starts' if before != after else 'already starts'} contextdna; restart {host}."]
    invocation.answer(document, said + ([f"The file before is {backup}."] if backup else []))


def _path(host: Host, scope: str) -> Path:
    from contextdna_server.settings import environment

    if scope == "project":
        return project_config_path(host, project=Path.cwd())
    return config_path(host, platform=_platform(), home=Path.home(), env=environment())


def _platform() -> Platform:
    return "darwin" if sys.platform == "darwin" else "win32" if sys.platform == "win32" else "linux"


def _entry(invocation: Invocation, projects: tuple[str, ...], tools: str | None) -> Entry:
    """Say all that this shell knows and the host will not: folder, settings file, projects, tools, other variables."""
    from contextdna_server.settings import default_data_dir, environment, settings_file, settings_variables

    settings = invocation.settings(more_projects=projects)
    command, args = server_command()
    args += ["serve"]
    if settings.data != default_data_dir():
        args += ["--data", str(settings.data)]
    if config := settings_file(invocation.config):
        args += ["--config", str(config.absolute())]
    for project in projects:
        args += ["--project", project]
    if tools:
        args += ["--tools", tools]
    return Entry(command, args, settings_variables(environment()))


def _warn_of_secrets(host: Host) -> None:
    from contextdna_server.settings import environment, secret_variables

    way = _SECRETS.get(host, f"set it in the environment that {host} starts from, or use a key file or the keyring")
    for name in secret_variables(environment()):
        click.echo(f"warning: {name} is a secret and is left out, but the server needs it: {way}.", err=True)


def server_command() -> tuple[str, list[str]]:
    """Give a command that starts this program from anywhere, by absolute path.

    The installed executable starts fastest and needs no network, in a checkout's environment too. What uvx keeps in
    its cache may go at any time: there, uvx itself is named.

    Raises:
        SettingsInvalid: ``command_unknown``.
    """
    program = Path(sys.argv[0]).absolute()
    if program.stem == "contextdna" and program.is_file():
        if not any(part.startswith("archive-v") for part in program.resolve().parts):
            return str(program), []
        if uvx := shutil.which("uvx"):
            return uvx, ["contextdna"]
    if not sys.executable:
        raise SettingsInvalid("the path of this program is unknown", code="command_unknown", hint="Run `contextdna`.")
    return sys.executable, ["-m", "contextdna_server"]
