"""``contextdna init``: the entry for a host's configuration, of a server that it starts or of one that it reaches."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click

from contextdna import ContextDnaError, InvalidInput, SettingsInvalid
from contextdna_server.commands.invocation import Invocation, with_shared_options
from contextdna_server.host_config import (
    HOSTS,
    AnyEntry,
    Entry,
    Host,
    HostConfigError,
    Platform,
    RemoteEntry,
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

_TOKENS: Final[Mapping[str, str]] = {
    "claude-desktop": (
        'add "env": {{"{name}": "Bearer TOKEN"}} to the entry by hand, as Claude Desktop hands few others on, and keep '
        "that file to yourself; mcp-remote sends it, and needs Node.js"
    ),
    "vscode": "VS Code asks for the token when it first connects, and keeps it; it does not read {name}",
}
"""How hosts get the token that their file refers to.

Source: the hosts' documentation of MCP servers, and mcp-remote's, November 2026.
"""

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


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
@click.option("--url", metavar="URL", help="Reach the server that runs there, over HTTP, rather than start one.")
@click.option("--token-env", metavar="NAME", help="With --url: the environment variable that holds the access token.")
@with_shared_options
def init(
    invocation: Invocation,
    *,
    host: Host,
    write: bool,
    scope: str,
    projects: tuple[str, ...],
    tools: str | None,
    url: str | None,
    token_env: str | None,
) -> None:
    """Configure a host to start the server, or with --url to reach one.

    Prints the entry; with --write it is added to the host's file. No token is written: hosts read it elsewhere.

    HOST is claude-desktop, claude-code, cursor, vscode or codex.
    """
    if url is None and token_env is not None:
        raise click.UsageError("--token-env is for a server that --url names")
    if url is not None and (projects or tools or invocation.data or invocation.config):
        raise click.UsageError("a server at --url has its own projects, tools, data and settings")
    entry = _entry(invocation, projects, tools) if url is None else _remote_entry(url, token_env or "")
    try:
        path = _path(host, scope)
        if write:
            _write(invocation, host, path, entry)
        else:
            _print(invocation, host, path, entry)
        if isinstance(entry, RemoteEntry):
            _tell_of_token(host, entry)
        else:
            _warn_of_secrets(host)
    except HostConfigError as error:
        raise ContextDnaError(f"{error}", code="host_config", hint="Or print the entry without --write.") from error
    except OSError as error:
        raise ContextDnaError(f"{error.filename}: {error.strerror}", code="host_config_unwritable") from error


def _print(invocation: Invocation, host: Host, path: Path, entry: AnyEntry) -> None:
    text = merge("", entry, host=host)
    if not invocation.as_json:
        click.echo(f"# for {path}; with --write it is added there", err=True)
        if host == "claude-code":
            command = command_line(claude_mcp_add(entry), platform=_platform())
            click.echo(f"# or run: {command}", err=True)
    document = {"host": host, "path": str(path), **_said(entry), "text": text}
    invocation.answer(document, [text.rstrip("\n")])


def _write(invocation: Invocation, host: Host, path: Path, entry: AnyEntry) -> None:
    before = read_config(path)
    after = merge(before, entry, host=host)
    backup = write_config(path, after)
    written = {"changed": before != after, "backup": str(backup) if backup else ""}
    document = {"host": host, "path": str(path), **written, **_said(entry)}
    does = "reaches contextdna" if isinstance(entry, RemoteEntry) else "starts contextdna"
    said = [f"{path} {'now' if before != after else 'already'} {does}; restart {host}."]
    invocation.answer(document, said + ([f"The file before is {backup}."] if backup else []))


def _said(entry: AnyEntry) -> dict[str, Any]:
    if isinstance(entry, RemoteEntry):
        return {"url": entry.url, "token_env": entry.token_env}
    return {"command": entry.command, "args": list(entry.args), "env": dict(entry.env)}


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


def _remote_entry(url: str, token_env: str) -> RemoteEntry:
    """Check what a file is to hold: no token, and no address that a token would travel to unprotected.

    Raises:
        InvalidInput: ``server_url_invalid`` or ``token_env_invalid``.
    """
    from contextdna_server.endpoints import is_protected

    if not is_protected(url) or urlsplit(url).query:
        raise InvalidInput(
            "--url is no address that a token may be sent to",
            code="server_url_invalid",
            hint="Write https://memory.example.org/mcp, or http:// on this machine, without user, query and fragment.",
        )
    if token_env and (not _VARIABLE.fullmatch(token_env) or token_env.startswith("cdna_")):
        raise InvalidInput(
            "--token-env is no name of an environment variable",
            code="token_env_invalid",
            hint="Give the variable's name, such as CONTEXTDNA_TOKEN; the token itself is written nowhere.",
        )
    bare = url.rstrip("/")  # nothing is served below our paths
    if bare.endswith("/sse"):
        raise InvalidInput(
            "--url is the address of HTTP+SSE, which hosts are not configured for",
            code="server_url_invalid",
            hint=f"Write {bare.removesuffix('/sse')}/mcp: the same server is there, too.",
        )
    return RemoteEntry(bare if urlsplit(bare).path else f"{bare}/mcp", token_env)


def _tell_of_token(host: Host, entry: RemoteEntry) -> None:
    if not entry.token_env:
        click.echo(f"{host} signs in by OAuth; for a token of the server's own, name it with --token-env.", err=True)
        return
    way = _TOKENS.get(host, f"set {{name}} to the token in the environment that {host} starts from")
    click.echo(f"The token is in no file: {way.format(name=entry.token_env)}.", err=True)


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
