"""Where MCP hosts keep their configuration, and how contextdna is added to it without disturbing the rest.

Pure functions, apart from `read_config` and `write_config`: platform, home and environment are arguments.
Source: the hosts' documentation, November 2026.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Final, Literal, NoReturn, TypeVar, get_args

Host = Literal["claude-desktop", "claude-code", "cursor", "vscode", "codex"]
Platform = Literal["darwin", "win32", "linux"]
"""Names as in `sys.platform`."""

HOSTS: Final[tuple[Host, ...]] = get_args(Host)
SERVER_NAME: Final = "contextdna"
CODEX_TABLE: Final = ("mcp_servers", SERVER_NAME)
_REPLACED: Final = (CODEX_TABLE, *((*CODEX_TABLE, name) for name in ("env", "http_headers", "env_http_headers")))

AnyPath = TypeVar("AnyPath", bound=PurePath)


class HostConfigError(ValueError):
    """A host's configuration cannot be read or extended; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """How a host starts the server: an absolute command, its arguments, and extra environment variables."""

    command: str
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RemoteEntry:
    """How a host reaches a server over HTTP.

    Attributes:
        url: Where its Streamable HTTP is.
        token_env: The environment variable with the token, which no file holds; empty: the host signs in by OAuth.
    """

    url: str
    token_env: str = ""


AnyEntry = Entry | RemoteEntry

_TOKEN_INPUT: Final = {
    "type": "promptString",
    "id": f"{SERVER_NAME}-token",
    "description": "Access token of contextdna",
    "password": True,
}
"""VS Code asks for it once and keeps it where it keeps secrets."""

# --- where ---


def config_path(host: Host, *, platform: Platform, home: AnyPath, env: Mapping[str, str]) -> AnyPath:
    """Locate the user-wide configuration file of a host.

    Args:
        host: The application that will start the server.
        platform: `sys.platform` of the machine.
        home: The user's home directory; the answer has the same path type.
        env: Environment variables, for APPDATA, XDG_CONFIG_HOME, CODEX_HOME and CLAUDE_CONFIG_DIR.
    """
    match host:
        case "claude-desktop":
            return _app_data(platform, home, env) / "Claude" / "claude_desktop_config.json"
        case "claude-code":
            return _directory(env, "CLAUDE_CONFIG_DIR", home) / ".claude.json"
        case "cursor":
            return home / ".cursor" / "mcp.json"
        case "vscode":
            return _app_data(platform, home, env) / "Code" / "User" / "mcp.json"
        case "codex":
            return _directory(env, "CODEX_HOME", home / ".codex") / "config.toml"


def project_config_path(host: Host, *, project: AnyPath) -> AnyPath:
    """Locate the configuration file that a host reads from a project folder, to be shared with the team.

    Raises:
        HostConfigError: The host has no such file.
    """
    match host:
        case "claude-desktop":
            raise HostConfigError("Claude Desktop has no configuration per project; use the user-wide one")
        case "claude-code":
            return project / ".mcp.json"
        case "cursor":
            return project / ".cursor" / "mcp.json"
        case "vscode":
            return project / ".vscode" / "mcp.json"
        case "codex":
            return project / ".codex" / "config.toml"


def _app_data(platform: Platform, home: AnyPath, env: Mapping[str, str]) -> AnyPath:
    match platform:
        case "darwin":
            return home / "Library" / "Application Support"
        case "win32":
            return _directory(env, "APPDATA", home / "AppData" / "Roaming")
        case "linux":
            return _directory(env, "XDG_CONFIG_HOME", home / ".config")


def _directory(env: Mapping[str, str], name: str, default: AnyPath) -> AnyPath:
    return type(default)(env[name]) if env.get(name) else default


# --- Claude Code's own command ---


def claude_mcp_add(entry: AnyEntry, *, scope: Literal["user", "project", "local"] = "user") -> list[str]:
    """Return the `claude mcp add` command that registers the server, as an argument list."""
    if isinstance(entry, RemoteEntry):
        where = ["claude", "mcp", "add", "--scope", scope, "--transport", "http", SERVER_NAME, entry.url]
        headers = _remote_table(entry, "claude-code").get("headers", {})
        return [*where, *(part for name, value in headers.items() for part in ("--header", f"{name}: {value}"))]
    variables = [part for name, value in entry.env.items() for part in ("-e", f"{name}={value}")]
    return ["claude", "mcp", "add", "--scope", scope, SERVER_NAME, *variables, "--", entry.command, *entry.args]


def command_line(arguments: Sequence[str], *, platform: Platform) -> str:
    """Quote an argument list for the user's shell, to be shown and copied."""
    return subprocess.list2cmdline(arguments) if platform == "win32" else shlex.join(arguments)


# --- merging ---


def merge(existing_text: str, entry: AnyEntry, *, host: Host) -> str:
    """Add or replace contextdna's entry in a configuration file's text; merging twice changes nothing more.

    JSON keeps all values, their order and the indentation width; TOML text outside of the entry stays as it is.
    An entry that is already there is replaced as a whole. Empty text becomes a file with the entry alone.

    Raises:
        HostConfigError: The text is not what the host reads, or keeps servers in a form that cannot be extended safely.
    """
    table = _remote_table(entry, host) if isinstance(entry, RemoteEntry) else _local_table(entry, host)
    if host == "codex":
        return _merge_toml(existing_text, table)
    asks = host == "vscode" and "headers" in table
    return _merge_json(existing_text, table, section="servers" if host == "vscode" else "mcpServers", asks=asks)


def _local_table(entry: Entry, host: Host) -> dict[str, Any]:
    table: dict[str, Any] = {"type": "stdio"} if host in ("claude-code", "vscode") else {}
    table |= {"command": entry.command, "args": list(entry.args)}
    return table | ({"env": dict(entry.env)} if entry.env else {})


def _remote_table(entry: RemoteEntry, host: Host) -> dict[str, Any]:
    """Refer to the token as each host can: by a variable, by what it asks for, or not at all."""
    name = entry.token_env
    if host == "claude-desktop":  # its file holds local servers only; no space in an argument: npx on Windows splits it
        header = ["--header", f"Authorization:${{{name}}}"] if name else []
        return {"command": "npx", "args": ["-y", "mcp-remote", entry.url, *header]}
    if host == "codex":
        return {"url": entry.url} | ({"bearer_token_env_var": name} if name else {})
    forms = {"claude-code": f"${{{name}}}", "cursor": f"${{env:{name}}}", "vscode": f"${{input:{_TOKEN_INPUT['id']}}}"}
    table: dict[str, Any] = {} if host == "cursor" else {"type": "http"}
    table |= {"url": entry.url}
    return table | ({"headers": {"Authorization": f"Bearer {forms[host]}"}} if name else {})


# --- JSON ---


def _merge_json(text: str, table: dict[str, Any], *, section: str, asks: bool) -> str:
    mark = "\ufeff" if text.startswith("\ufeff") else ""  # Windows editors leave one
    document = _parse_json(text.removeprefix(mark))
    servers = document.setdefault(section, {})
    if not isinstance(servers, dict):
        raise HostConfigError(f'"{section}" in the configuration is not a JSON object')
    servers[SERVER_NAME] = table
    if asks:
        _add_token_input(document)
    merged = json.dumps(document, indent=_indent_of(text), ensure_ascii=False) + "\n"
    merged = merged.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair can only stand escaped
    return mark + (merged.replace("\n", "\r\n") if "\r\n" in text else merged)


def _add_token_input(document: dict[str, Any]) -> None:
    inputs = document.setdefault("inputs", [])
    if not isinstance(inputs, list):
        raise HostConfigError('"inputs" in the configuration is not a JSON array')
    if not any(isinstance(known, dict) and known.get("id") == _TOKEN_INPUT["id"] for known in inputs):
        inputs.append(dict(_TOKEN_INPUT))


def _parse_json(text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        document = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse, parse_float=_exact_float)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise HostConfigError(
            f"the configuration is not valid JSON ({error.msg} at {where}). Comments and trailing commas are not "
            "valid JSON either. Correct the file, or add the entry by hand"
        ) from None
    except HostConfigError:
        raise
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or brackets as deep
        raise HostConfigError(f"the configuration is beyond what can be read as JSON: {error}") from None
    if not isinstance(document, dict):
        raise HostConfigError("the configuration is valid JSON, but not a JSON object")
    return document


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise HostConfigError("a JSON object in the configuration has the same key twice; remove one of them")
    return members


def _refuse(name: str) -> NoReturn:
    raise HostConfigError(f"{name} in the configuration is not valid JSON")


def _exact_float(digits: str) -> float:
    if (number := float(digits)) in (float("inf"), float("-inf")):
        raise HostConfigError(f"the number {digits} in the configuration is too large to be kept")
    return number


def _indent_of(text: str) -> str | int:
    first = re.match(r"\s*\{[ \t]*\r?\n([ \t]+)\S", text.removeprefix("\ufeff"))
    return first[1] if first else 2


# --- TOML, edited as text so that comments stay ---


def _merge_toml(text: str, table: dict[str, Any]) -> str:
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    body = text.removeprefix(mark)
    before = _parse_toml(body)
    newline = "\r\n" if "\r\n" in body else "\n"
    merged = _replace_table(body, _render(table, newline), newline)
    _check_only_entry_changed(before, merged, table)
    return mark + merged


def _parse_toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text, parse_float=str)  # as written: nan would not equal itself
    except (ValueError, RecursionError) as error:
        raise HostConfigError(f"the configuration is not valid TOML: {error}. Correct the file first") from None


def _replace_table(text: str, block: str, newline: str) -> str:
    """Put `block` where the entry's table stands, dropping the sub-tables that go with it, or append it."""
    kept: list[str] = []
    placed = False
    for path, section in _sections(text):
        if path in _REPLACED:
            kept += [block] if path == CODEX_TABLE else []
            kept.append(_tail(section))
            placed = placed or path == CODEX_TABLE
        else:
            kept.append(section)
    merged = "".join(kept)
    return merged if placed else _with_blank_line(merged, newline) + block


def _with_blank_line(text: str, newline: str) -> str:
    if not text.strip():
        return text
    return text + ("" if text.endswith("\n") else newline) + newline


def _sections(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Split at the table headers: each table's path with its text; the first part, before any header, has no path."""
    path: tuple[str, ...] = ()
    start = 0
    for line in re.finditer(r"^[ \t]*\[.*$", text, re.MULTILINE):
        if _is_complete(text[: line.start()]) and (header := _header_path(line[0].rstrip("\r"))) is not None:
            yield path, text[start : line.start()]
            path, start = header, line.start()
    yield path, text[start:]


def _is_complete(text: str) -> bool:
    """Tell whether a statement ends here, rather than a multi-line string or array going on."""
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _header_path(line: str) -> tuple[str, ...] | None:
    """Read `[a."b"] # comment` as ("a", "b"), leaving all quoting rules to the parser."""
    try:
        table: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None
    path: list[str] = []
    while isinstance(table, dict) and table:
        ((key, table),) = table.items()
        path.append(key)
    return tuple(path)


def _tail(section: str) -> str:
    """Return the blank and comment lines that end a section: they introduce what follows."""
    lines = re.findall(r"[^\n]*\n|[^\n]+", section)  # TOML's lines; str.splitlines knows more line ends
    count = 0
    while count < len(lines) - 1 and re.fullmatch(r"(#.*)?", lines[-1 - count].strip()):
        count += 1
    return "".join(lines[len(lines) - count :])


def _render(table: dict[str, Any], newline: str) -> str:
    lines = [f"{name} = {_rendered(value)}" for name, value in table.items()]
    return newline.join([f"[{'.'.join(CODEX_TABLE)}]", *lines]) + newline


def _rendered(value: str | list[str] | dict[str, str]) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_quoted, value))}]"
    variables = ", ".join(f"{_quoted(name)} = {_quoted(text)}" for name, text in value.items())
    return f"{{ {variables} }}"


def _quoted(text: str) -> str:
    """Write a TOML basic string; it differs from JSON's in DEL alone."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _check_only_entry_changed(before: dict[str, Any], merged: str, table: dict[str, Any]) -> None:
    try:
        after = _parse_toml(merged)
    except HostConfigError:
        after = {}
    written = _servers(after).pop(SERVER_NAME, {})
    _servers(before).pop(SERVER_NAME, None)
    rest = {key: value for key, value in before.items() if value or key != CODEX_TABLE[0]}
    rest_after = {key: value for key, value in after.items() if value or key != CODEX_TABLE[0]}
    if rest != rest_after or not table.items() <= written.items():
        raise HostConfigError(
            f"the configuration defines {CODEX_TABLE[0]} in a form that cannot be extended safely, such as an inline "
            f"table. Write it as [{'.'.join(CODEX_TABLE)}], or add the entry by hand"
        )


def _servers(document: dict[str, Any]) -> dict[str, Any]:
    servers = document.get(CODEX_TABLE[0])
    return servers if isinstance(servers, dict) else {}


# --- files ---


def read_config(path: Path) -> str:
    """Read a configuration file as it is, line ends included; a missing one reads as empty.

    Raises:
        HostConfigError: The file is not UTF-8 text.
        OSError: It exists and cannot be read.
    """
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise HostConfigError(f"{path} is not UTF-8 text") from None


def write_config(path: Path, text: str) -> Path | None:
    """Replace a configuration file atomically, keeping the previous one beside it as `<name>.bak`.

    A symbolic link is followed, permissions are kept, and a new file is readable by its owner alone, as entries may
    carry secrets. Nothing is written when the text is there already.

    Returns:
        The backup's path, or None if there was nothing to back up.

    Raises:
        OSError: The file or its folder cannot be written; the previous file is then untouched.
    """
    target = path.resolve()
    data = text.encode()
    if target.exists() and target.read_bytes() == data:
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    backup = _back_up(target)
    _replace_file(target, data)
    return backup


def _back_up(target: Path) -> Path | None:
    if not target.exists():
        return None
    backup = target.with_name(target.name + ".bak")
    shutil.copy2(target, backup)
    return backup


def _replace_file(target: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
