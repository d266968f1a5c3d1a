"""contextdna is added to the hosts' configuration files, and nothing else in them changes."""

import json
import stat
import sys
import tomllib
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextdna_server.host_config import (
    HOSTS,
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

ENTRY = Entry("/opt/bin/contextdna", ("serve", "--data", "/home/ann/my data"), {"CONTEXTDNA_PROFILE": "full"})
OTHER = Entry("/elsewhere/contextdna", ("serve",))
TABLE = {"command": ENTRY.command, "args": list(ENTRY.args), "env": dict(ENTRY.env)}

HOME = PurePosixPath("/home/ann")
WINDOWS_HOME = PureWindowsPath(r"C:\Users\ann")
ROAMING = {"APPDATA": r"D:\Roaming"}


# --- where ---


@pytest.mark.parametrize(
    ("host", "platform", "home", "env", "expected"),
    [
        ("claude-desktop", "darwin", HOME, {}, "Library/Application Support/Claude/claude_desktop_config.json"),
        ("claude-desktop", "linux", HOME, {}, ".config/Claude/claude_desktop_config.json"),
        ("claude-desktop", "linux", HOME, {"XDG_CONFIG_HOME": "/xdg"}, "/xdg/Claude/claude_desktop_config.json"),
        ("claude-desktop", "win32", WINDOWS_HOME, ROAMING, r"D:\Roaming\Claude\claude_desktop_config.json"),
        ("claude-desktop", "win32", WINDOWS_HOME, {}, r"AppData\Roaming\Claude\claude_desktop_config.json"),
        ("claude-code", "darwin", HOME, {}, ".claude.json"),
        ("claude-code", "linux", HOME, {"CLAUDE_CONFIG_DIR": "/conf"}, "/conf/.claude.json"),
        ("claude-code", "win32", WINDOWS_HOME, ROAMING, ".claude.json"),
        ("cursor", "darwin", HOME, {}, ".cursor/mcp.json"),
        ("cursor", "win32", WINDOWS_HOME, ROAMING, r".cursor\mcp.json"),
        ("vscode", "darwin", HOME, {}, "Library/Application Support/Code/User/mcp.json"),
        ("vscode", "linux", HOME, {"XDG_CONFIG_HOME": ""}, ".config/Code/User/mcp.json"),
        ("vscode", "win32", WINDOWS_HOME, ROAMING, r"D:\Roaming\Code\User\mcp.json"),
        ("codex", "darwin", HOME, {}, ".codex/config.toml"),
        ("codex", "linux", HOME, {"CODEX_HOME": "/conf"}, "/conf/config.toml"),
        ("codex", "win32", WINDOWS_HOME, {}, r".codex\config.toml"),
    ],
)
def test_config_path_is_where_the_host_looks(
    host: Host, platform: Platform, home: PurePath, env: dict[str, str], expected: str
) -> None:
    assert config_path(host, platform=platform, home=home, env=env) == home / expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("claude-code", ".mcp.json"),
        ("cursor", ".cursor/mcp.json"),
        ("vscode", ".vscode/mcp.json"),
        ("codex", ".codex/config.toml"),
    ],
)
def test_project_config_path_is_inside_the_project(host: Host, expected: str) -> None:
    assert project_config_path(host, project=HOME) == HOME / expected


def test_claude_desktop_has_no_project_config() -> None:
    with pytest.raises(HostConfigError, match="user-wide"):
        project_config_path("claude-desktop", project=HOME)


# --- Claude Code's command ---


def test_claude_mcp_add_names_server_variables_and_command() -> None:
    add = claude_mcp_add(ENTRY)
    shown = command_line(add, platform="linux")
    assert shown == (
        "claude mcp add --scope user contextdna -e CONTEXTDNA_PROFILE=full -- "
        "/opt/bin/contextdna serve --data '/home/ann/my data'"
    )
    assert command_line(add, platform="win32").endswith('--data "/home/ann/my data"')
    assert claude_mcp_add(OTHER, scope="project")[4] == "project"


# --- a server elsewhere ---

REMOTE = RemoteEntry("https://memory.example.org/mcp", "MEMORY_TOKEN")
REMOTE_TABLES: dict[Host, dict[str, Any]] = {
    "claude-desktop": {
        "command": "npx",
        "args": ["-y", "mcp-remote", REMOTE.url, "--header", "Authorization:${MEMORY_TOKEN}"],
    },
    "claude-code": {"type": "http", "url": REMOTE.url, "headers": {"Authorization": "Bearer ${MEMORY_TOKEN}"}},
    "cursor": {"url": REMOTE.url, "headers": {"Authorization": "Bearer ${env:MEMORY_TOKEN}"}},
    "vscode": {"type": "http", "url": REMOTE.url, "headers": {"Authorization": "Bearer ${input:contextdna-token}"}},
    "codex": {"url": REMOTE.url, "bearer_token_env_var": "MEMORY_TOKEN"},
}


def entry_in(text: str, host: Host) -> dict[str, Any]:
    document = tomllib.loads(text)["mcp_servers"] if host == "codex" else json.loads(text)
    servers = document if host == "codex" else document["servers" if host == "vscode" else "mcpServers"]
    entry: dict[str, Any] = servers["contextdna"]
    return entry


@pytest.mark.parametrize("host", HOSTS)
def test_a_remote_entry_refers_to_the_token_as_the_host_can(host: Host) -> None:
    once = merge("", REMOTE, host=host)
    assert entry_in(once, host) == REMOTE_TABLES[host]
    assert merge(once, REMOTE, host=host) == once


@pytest.mark.parametrize("host", HOSTS)
def test_without_a_variable_nothing_is_sent_along(host: Host) -> None:
    text = merge("", RemoteEntry(REMOTE.url), host=host)
    assert REMOTE.url in text
    assert not any(word in text for word in ("Authorization", "header", "inputs", "bearer", "${"))


@pytest.mark.parametrize("host", HOSTS)
def test_a_started_and_a_remote_server_take_each_others_place(host: Host) -> None:
    local, remote = (merge("", entry, host=host) for entry in (ENTRY, REMOTE))
    assert entry_in(merge(local, REMOTE, host=host), host) == entry_in(remote, host)
    assert entry_in(merge(remote, ENTRY, host=host), host) == entry_in(local, host)


def test_vs_code_asks_once_for_the_token_and_keeps_what_it_asks_else() -> None:
    text = '{"inputs": [{"id": "other"}], "servers": {}}'
    merged = merge(merge(text, REMOTE, host="vscode"), REMOTE, host="vscode")
    assert [asked["id"] for asked in json.loads(merged)["inputs"]] == ["other", "contextdna-token"]
    assert json.loads(merged)["inputs"][1]["password"] is True
    with pytest.raises(HostConfigError, match="not a JSON array"):
        merge('{"inputs": {}}', REMOTE, host="vscode")


def test_codex_headers_of_a_remote_server_go_with_it() -> None:
    text = '[mcp_servers.contextdna]\nurl = "http://old"\n\n[mcp_servers.contextdna.http_headers]\nA = "b"\n'
    assert entry_in(merge(text, OTHER, host="codex"), "codex") == {"command": OTHER.command, "args": ["serve"]}


def test_claude_mcp_add_leaves_the_variable_to_claude_code() -> None:
    assert command_line(claude_mcp_add(REMOTE), platform="linux") == (
        "claude mcp add --scope user --transport http contextdna https://memory.example.org/mcp "
        "--header 'Authorization: Bearer ${MEMORY_TOKEN}'"
    )


# --- JSON ---


@pytest.mark.parametrize(
    ("host", "section", "extra"),
    [
        ("claude-desktop", "mcpServers", {}),
        ("claude-code", "mcpServers", {"type": "stdio"}),
        ("cursor", "mcpServers", {}),
        ("vscode", "servers", {"type": "stdio"}),
    ],
)
@pytest.mark.parametrize("empty", ["", " \n", "{}", "\ufeff{}"])
def test_empty_json_gets_the_entry(host: Host, section: str, extra: dict[str, str], empty: str) -> None:
    merged = merge(empty, ENTRY, host=host)
    assert json.loads(merged.removeprefix("\ufeff")) == {section: {"contextdna": extra | TABLE}}
    assert merged.startswith("\ufeff") is empty.startswith("\ufeff")


def test_entry_without_variables_has_no_env() -> None:
    assert json.loads(merge("", OTHER, host="cursor"))["mcpServers"]["contextdna"] == {
        "command": "/elsewhere/contextdna",
        "args": ["serve"],
    }


def test_json_keeps_order_indentation_line_ends_and_characters() -> None:
    text = '{\r\n\t"ü": [1, 2.5],\r\n\t"mcpServers": {\r\n\t\t"z": {},\r\n\t\t"a": {}\r\n\t}\r\n}\r\n'
    merged = merge(text, OTHER, host="cursor")
    assert merged.startswith('{\r\n\t"ü": [')
    assert "\n" not in merged.replace("\r\n", "")
    assert list(json.loads(merged)["mcpServers"]) == ["z", "a", "contextdna"]


def test_json_entry_is_replaced_where_it_stands() -> None:
    text = merge('{"mcpServers": {"contextdna": {"url": "http://old"}, "b": {}}}', ENTRY, host="cursor")
    assert list(json.loads(text)["mcpServers"].items()) == [("contextdna", TABLE), ("b", {})]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": 1,}', "not valid JSON .*line 1"),
        ('{\n  // servers\n  "servers": {}\n}', "line 2.*[Cc]omments"),
        ("[]", "not a JSON object"),
        ('{"mcpServers": []}', '"mcpServers".*not a JSON object'),
        ('{"a": 1, "a": 2}', "same key twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1e999}', "1e999"),
        ('{"a": ' + "9" * 5000 + "}", "beyond"),
        ("[" * 200_000, "beyond"),
    ],
)
def test_json_that_cannot_be_kept_is_refused(text: str, problem: str) -> None:
    with pytest.raises(HostConfigError, match=problem):
        merge(text, ENTRY, host="claude-desktop")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
json_documents = st.dictionaries(st.text(), json_values, max_size=4)
entries = st.builds(
    Entry, st.text(), st.lists(st.text(), max_size=3).map(tuple), st.dictionaries(st.text(), st.text(), max_size=3)
)
indents = st.sampled_from([None, 0, 1, 2, 4, "\t"])


@given(json_documents, json_documents, entries, indents)
def test_any_json_is_preserved_and_merging_is_idempotent(
    document: dict[str, Any], servers: dict[str, Any], entry: Entry, indent: int | str | None
) -> None:
    document |= {"mcpServers": servers}
    once = merge(json.dumps(document, indent=indent), entry, host="cursor")
    after = json.loads(once)
    added = after["mcpServers"].pop("contextdna")
    servers.pop("contextdna", None)
    assert (added["command"], added["args"]) == (entry.command, list(entry.args))
    assert (after, list(after)) == (document, list(document))
    assert merge(once, entry, host="cursor") == once


# --- TOML ---

CODEX = """\
# my settings
model = "gpt"  # the model

[mcp_servers.first]  # keep
command = "one"
note = '''
[mcp_servers.contextdna]
'''

# about contextdna
[ mcp_servers . "contextdna" ] # ours
command = "old"
args = [
  "[mcp_servers.contextdna]",
  ["nested"],
]
# about env
[mcp_servers.contextdna.env]
OLD = "1"

# about tools
[mcp_servers.contextdna.tools.store_memory]
approval_mode = "approve"

[[profiles]]
limit = nan
"""

CODEX_MERGED = """\
# my settings
model = "gpt"  # the model

[mcp_servers.first]  # keep
command = "one"
note = '''
[mcp_servers.contextdna]
'''

# about contextdna
[mcp_servers.contextdna]
command = "/opt/bin/contextdna"
args = ["serve", "--data", "/home/ann/my data"]
env = { "CONTEXTDNA_PROFILE" = "full" }
# about env

# about tools
[mcp_servers.contextdna.tools.store_memory]
approval_mode = "approve"

[[profiles]]
limit = nan
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_codex_table_is_replaced_and_everything_else_kept(newline: str) -> None:
    text, expected = (sample.replace("\n", newline) for sample in (CODEX, CODEX_MERGED))
    assert merge(text, ENTRY, host="codex") == expected
    assert merge(expected, ENTRY, host="codex") == expected


@pytest.mark.parametrize("empty", ["", "\n", "\ufeff"])
def test_empty_codex_file_gets_the_table(empty: str) -> None:
    merged = merge(empty, ENTRY, host="codex")
    assert tomllib.loads(merged.removeprefix("\ufeff")) == {"mcp_servers": {"contextdna": TABLE}}


def test_codex_table_is_appended_after_a_blank_line() -> None:
    assert merge('model = "gpt" # no line end', OTHER, host="codex") == (
        'model = "gpt" # no line end\n\n[mcp_servers.contextdna]\ncommand = "/elsewhere/contextdna"\nargs = ["serve"]\n'
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("model = ", "not valid TOML"),
        ("a = " + "9" * 5000, "not valid TOML"),
        ('mcp_servers = { contextdna = { command = "x" } }', "cannot be extended safely"),
        ("mcp_servers = {}", "cannot be extended safely"),
        ('mcp_servers.contextdna.command = "x"', "cannot be extended safely"),
        ('[mcp_servers]\ncontextdna = { command = "x" }', "cannot be extended safely"),
        ("mcp_servers = 1", "cannot be extended safely"),
        ("[[mcp_servers]]\na = 1", "cannot be extended safely"),
    ],
)
def test_toml_that_cannot_be_extended_is_refused(text: str, problem: str) -> None:
    with pytest.raises(HostConfigError, match=problem):
        merge(text, ENTRY, host="codex")


toml_text = st.text(st.characters(exclude_categories=["Cs"]))
toml_entries = st.builds(
    Entry,
    toml_text,
    st.lists(toml_text, max_size=3).map(tuple),
    st.dictionaries(toml_text, toml_text, max_size=3),
)
toml_parts = st.sampled_from(
    [
        "",
        "# a comment",
        "[mcp_servers]",
        "[mcp_servers.contextdna]\ncommand = 'x'\nstartup_timeout_sec = 20",
        "[mcp_servers.'contextdna'.env]\nA = '''\n[b]\n# c'''",
        "[mcp_servers.contextdna.tools.a]\nb = 1",
        "[mcp_servers.other]\ncommand = 'y'\nargs = [\n  [1],\n[ 2 ],\n]",
        "[a]\nb = nan # c",
        "[[c]]\nd = 1979-05-27",
        "  [e.\"[mcp_servers.contextdna]\"]\nf = 'ü\u2028'",
    ]
)
toml_files = st.tuples(st.lists(toml_parts, unique=True), st.sampled_from(["\n", "\n\n", "\r\n"]))


@given(toml_files, toml_entries)
def test_any_toml_is_preserved_and_merging_is_idempotent(file: tuple[list[str], str], entry: Entry) -> None:
    parts, newline = file
    text = newline.join(parts)
    once = merge(text, entry, host="codex")
    before, after = (tomllib.loads(version, parse_float=str) for version in (text, once))
    added = after["mcp_servers"].pop("contextdna")
    before.setdefault("mcp_servers", {}).pop("contextdna", None)
    assert (added["command"], added["args"]) == (entry.command, list(entry.args))
    assert added.get("env", {}) == entry.env
    assert after == before
    assert once.count("#") >= text.count("# a comment")
    assert merge(once, entry, host="codex") == once


@pytest.mark.parametrize("host", HOSTS)
def test_other_servers_survive_a_changed_entry(host: Host) -> None:
    once = merge("", ENTRY, host=host)
    assert merge(merge(once, OTHER, host=host), ENTRY, host=host) == once


# --- files ---


def test_write_config_creates_folders_and_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "mcp.json"
    assert read_config(path) == ""
    assert write_config(path, "{}\r\n") is None
    assert read_config(path) == "{}\r\n"
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["mcp.json"]


def test_write_config_keeps_the_previous_file_and_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("old")
    path.chmod(0o640)
    backup = write_config(path, "new")
    assert backup == tmp_path / "config.toml.bak"
    assert (path.read_text(), backup.read_text()) == ("new", "old")
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_write_config_of_the_same_text_keeps_the_older_backup(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text("old")
    write_config(path, "new")
    assert write_config(path, "new") is None
    assert (tmp_path / "mcp.json.bak").read_text() == "old"


@pytest.mark.skipif(sys.platform == "win32", reason="links need privileges there")
def test_write_config_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").write_text("old")
    path = tmp_path / "mcp.json"
    path.symlink_to("dotfiles")
    write_config(path, "new")
    assert path.is_symlink()
    assert (tmp_path / "dotfiles").read_text() == "new"


def test_failed_write_leaves_the_previous_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mcp.json"
    path.write_text("old")

    def fail(_descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_config(path, "new")
    assert path.read_text() == "old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mcp.json", "mcp.json.bak"]


def test_config_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_bytes(b"\xff\xfe{\x00}\x00")
    with pytest.raises(HostConfigError, match="not UTF-8"):
        read_config(path)
