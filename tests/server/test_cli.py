"""The command line: what each command answers, how it fails, and that it touches nothing it should not."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import click
import pytest
from click.testing import CliRunner, Result
from mcp import Client, StdioServerParameters

from contextdna import (
    AgentId,
    Conflict,
    HubSettings,
    Level,
    MemoryChange,
    MemoryDraft,
    Principal,
    ProjectId,
    Role,
    SessionInvalid,
    open_hub,
)
from contextdna.backends.sqlite.driver import library
from contextdna_server.cli import COMMANDS, main
from contextdna_server.diagnosis import Verdict, examine
from contextdna_server.settings import load_settings
from contextdna_tools import FULL_TOOLS, TOOLS

PROGRAM = [sys.executable, "-m", "contextdna_server"]
DEADLINE_S = 60.0
OTHER_KEY = "ab" * 32


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("CONTEXTDNA_", "XDG_", "CLAUDE_", "CODEX_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an installation with two memories, one of them private."""
    folder = tmp_path_factory.mktemp("template") / "data"

    async def fill() -> None:
        project = ProjectId("default")
        ines = Principal(AgentId("ines"), (project,), role=Role.SYSTEM)
        async with open_hub(HubSettings(data_dir=folder)) as hub:
            workspace = hub.bind(ines)
            await workspace.store_memories([MemoryDraft("The bees like lime trees.", memory_type="fact")])
            await workspace.store_memories([MemoryDraft("The key lies under the hive.", level=Level.PRIVATE)])

    anyio.run(fill)
    return folder


@pytest.fixture
def data(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "data"))


def call(*args: str | Path) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def run(*args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the program as a process of its own; its input is empty."""
    return subprocess.run(
        [*PROGRAM, *map(str, args)], input="", capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


def answer(*args: str | Path, exit_code: int = 0) -> Any:
    result = call(*args, "--json")
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def error_of(*args: str | Path) -> tuple[int, str]:
    result = call(*args, "--json")
    assert result.stdout == ""
    return result.exit_code, json.loads(result.stderr)["error"]["code"]


def change(data: Path, *statements: str) -> None:
    connection = library.connect(str(data / "contextdna.db"))
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def tamper(data: Path, *statements: str) -> None:
    connection = library.connect(str(data / "contextdna.db"))
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")]
    connection.close()
    change(data, *(f"DROP TRIGGER {name}" for name in names), *statements)


def fingerprint(folder: Path) -> dict[str, str]:
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


# All commands


def leaves(command: click.Command) -> Iterator[click.Command]:
    if not isinstance(command, click.Group):
        yield command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from leaves(found)


def test_every_command_takes_the_shared_options_and_explains_itself() -> None:
    commands = list(leaves(main))
    assert len(commands) >= len(COMMANDS)
    for command in commands:
        options = {option for param in command.params for option in param.opts}
        assert {"--data", "--config", "--json"} <= options, command.name
        assert command.help


def test_the_version_is_told() -> None:
    assert call("--version").stdout.startswith("contextdna ")


def test_a_settings_error_exits_2_and_names_the_setting(data: Path) -> None:
    (data / "contextdna.toml").write_text("[limits]\nbatch_max = 'many'")
    result = call("stats", "--data", data)
    assert result.exit_code == 2
    assert result.stderr.startswith("error [setting_invalid]: limits.batch_max")


@pytest.mark.parametrize(
    "command", ["audit verify", "audit export", "audit tail", "stats", "sweep", "keys list", "keys rotate --master",
                "migrate status", "migrate up", "migrate down 0 --yes"]
)  # fmt: skip
def test_what_reads_an_installation_makes_none(command: str, tmp_path: Path) -> None:
    folder = tmp_path / "mistyped"
    assert error_of(*command.split(), "--data", folder) == (1, "no_installation")
    assert not folder.exists()


def test_serving_waits_for_no_other_command() -> None:
    code = (
        "import sys, contextdna_server.cli, contextdna_server.commands.serve;"
        "print([m for m in sys.modules if m.startswith('contextdna_server.commands.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = ["contextdna_server.commands.invocation", "contextdna_server.commands.serve"]
    assert sorted(json.loads(done.stdout.replace("'", '"'))) == names


# serve


async def tools_of(*args: str) -> tuple[set[str], list[str]]:
    server = StdioServerParameters(command=PROGRAM[0], args=[*PROGRAM[1:], "serve", *args])
    async with Client(server, read_timeout_seconds=DEADLINE_S) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        stored = [
            (await client.call_tool("store_memory", {"content": "x", "project_id": project})).is_error
            for project in ("default", "more")
        ]
        return tools, [str(failed) for failed in stored]


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ([], {tool.name for tool in TOOLS}),
        (["--tools", "full"], {tool.name for tool in FULL_TOOLS}),
    ],
)
def test_serve_answers_a_client_adds_projects_and_lists_the_profile_it_is_asked_for(
    tmp_path: Path, asked: list[str], names: set[str]
) -> None:
    tools, failed = anyio.run(tools_of, "--data", str(tmp_path / "new"), "--project", "more", *asked)
    assert failed == ["False", "False"]
    assert tools == names


def test_serve_ends_well_at_the_end_of_input_and_says_nothing_on_stdout(tmp_path: Path) -> None:
    done = run("serve", "--data", tmp_path / "new")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX shell")
@pytest.mark.parametrize(("closing", "stream"), [("<&-", "input"), (">&-", "output")])
def test_serve_without_a_standard_stream_says_so(tmp_path: Path, closing: str, stream: str) -> None:
    command = f'"$@" {closing}'
    done = subprocess.run(
        ["/bin/sh", "-c", command, "sh", *PROGRAM, "serve", "--data", str(tmp_path / "new")],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error [stdio_closed]: standard {stream} is closed")
    assert not (tmp_path / "new").exists()


def test_serve_logs_no_text_even_at_the_lowest_level(tmp_path: Path) -> None:
    stored = {"name": "store_memory", "arguments": {"content": "the third stone"}}
    sent = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": stored},
        {"jsonrpc": "2.0", "id": 3, "method": "the third stone", "params": [stored]},
    ]  # fmt: skip
    lines = "".join(f"{json.dumps(message)}\n" for message in sent)
    with serving(tmp_path / "new", "--log-level", "DEBUG") as server:
        stdout, stderr = server.communicate(lines.encode(), timeout=DEADLINE_S)
    assert b'"id":2,"result"' in stdout
    assert b"DEBUG" in stderr
    assert b"the third stone" not in stderr


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_well_at_a_signal(sent: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen(
        [*PROGRAM, "serve", "--data", str(tmp_path / "new")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
        server.stdin.flush()
        assert server.stdout.readline()
        server.send_signal(sent)
        assert server.wait(DEADLINE_S) == 0


def serving(data: Path, *args: str | Path) -> subprocess.Popen[bytes]:
    command = [*PROGRAM, "serve", "--data", str(data), *map(str, args)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and named pipes")
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_well_at_a_signal_while_it_reads_its_settings(sent: signal.Signals, tmp_path: Path) -> None:
    config = tmp_path / "contextdna.toml"
    os.mkfifo(config)
    with serving(tmp_path / "new", "--config", config) as server, config.open("wb"):  # open when both ends are
        server.send_signal(sent)
        stdout, stderr = server.communicate(timeout=DEADLINE_S)
    assert (server.returncode, stdout, stderr) == (0, b"", b"")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_well_at_a_signal_while_it_waits_for_the_database(sent: signal.Signals, data: Path) -> None:
    other = library.connect(str(data / "contextdna.db"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with serving(data, "--log-level", "DEBUG") as server:
        assert server.stderr is not None
        assert b"selector" in server.stderr.readline()  # the event loop is there, and cannot get to serving
        server.send_signal(sent)
        other.close()
        stdout, stderr = server.communicate(timeout=DEADLINE_S)
    assert (server.returncode, stdout) == (0, b"")
    assert b"Traceback" not in stderr


@pytest.mark.parametrize(
    ("spoil", "code", "exit_code"),
    [
        ("key", "key_missing", 2),
        ("database", "not_a_database", 1),
        ("schema", "schema_newer", 1),
        ("folder", "storage_cannot_open", 1),
    ],
)
def test_serve_tells_what_keeps_it_from_starting(spoil: str, code: str, exit_code: int, data: Path) -> None:
    folder = spoiled(data, spoil)
    done = run("serve", "--data", folder)
    assert (done.returncode, done.stdout) == (exit_code, "")
    assert done.stderr.startswith(f"error [{code}]: ")
    assert "Traceback" not in done.stderr


def spoiled(data: Path, what: str) -> Path:
    match what:
        case "key":
            (data / "master.key").unlink()
        case "database":
            (data / "contextdna.db").write_text("hello, I am not a database, and I am long enough to be one " * 9)
        case "schema":
            change(data, "INSERT INTO schema_migrations VALUES (999, 'future', 'x', 1)")
        case "folder":
            return data / "master.key" / "inside"
    return data


# demo


def test_the_demo_goes_as_it_should_and_its_folder_agrees_with_audit_verify(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    done = run("demo", "--json", "--data", folder)
    document = json.loads(done.stdout)
    assert [step["problems"] for step in document["steps"] if not step["ok"]] == []
    assert (done.returncode, document["ok"], len(document["steps"])) == (0, True, 13)
    assert answer("audit", "verify", "--data", folder)["intact"]
    denied = [e for e in answer("audit", "tail", "--data", folder, "-n", "99")["entries"] if e["outcome"] == "denied"]
    assert {(entry["project"], entry["agent"], entry["risk"]) for entry in denied} == {
        ("demo", "queen/drone-1", "high"),
        ("(installation)", "local", "high"),
    }


def test_the_demo_says_when_its_server_does_not_start(data: Path) -> None:
    done = run("demo", "--data", spoiled(data, "key"))
    assert done.returncode == 1
    assert "error [key_missing]" in done.stderr
    assert "error [server_lost]" in done.stderr
    assert "Traceback" not in done.stderr


def test_audit_tail_escapes_what_is_not_printable(data: Path) -> None:
    """However it came there: the line of an entry cannot pose as another one, nor steer the terminal."""
    forged = "x\n2026-01-01 00:00:00  default  1  root  memory.get  allowed \x1b[2J\u202e\x9b1m"
    update = f"UPDATE audit_log SET agent_id = '{forged}' WHERE seq = 1"  # noqa: S608 - written above
    change(data, "DROP TRIGGER audit_log_keeps_on_update", update)
    entries = answer("audit", "tail", "--data", data, "--project", "default")["entries"]
    shown = call("audit", "tail", "--data", data, "--project", "default").stdout
    assert len(shown.splitlines()) == len(entries) + 1  # the first look is an entry, too
    assert all(line.isprintable() for line in shown.splitlines())
    assert r"x\n2026-01-01" in shown
    assert r"\x1b[2J\u202e\x9b1m" in shown


# doctor


def statuses(*args: str | Path, exit_code: int = 0) -> dict[str, str]:
    return {check["name"]: check["status"] for check in answer("doctor", *args, exit_code=exit_code)["checks"]}


def test_doctor_finds_a_healthy_installation_fit_and_changes_nothing(data: Path) -> None:
    before = fingerprint(data)
    found = statuses("--deep", "--data", data)
    assert "fail" not in found.values()
    assert found["folder"] == "ok"
    assert fingerprint(data) == before


def test_doctor_makes_nothing_where_nothing_is(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert set(statuses("--deep", "--data", folder).values()) == {"ok"}
    assert not folder.exists()


@pytest.mark.parametrize(
    ("spoil", "failing"), [("key", "key"), ("database", "schema"), ("schema", "schema"), ("folder", "folder")]
)
def test_doctor_names_what_is_broken_with_a_remedy_and_changes_nothing(spoil: str, failing: str, data: Path) -> None:
    folder = spoiled(data, spoil)
    before = fingerprint(data)
    checks = answer("doctor", "--deep", "--data", folder, exit_code=1)["checks"]
    found = {check["name"]: check for check in checks}
    assert found[failing]["status"] == "fail"
    assert found[failing]["remedy"]
    assert fingerprint(data) == before


def test_doctor_finds_a_key_that_does_not_open_the_data(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTEXTDNA_MASTER_KEY", OTHER_KEY)
    result = call("doctor", "--data", data, "--json")
    found = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert (found["key"]["status"], "wrong_key" in found["key"]["detail"]) == ("fail", True)
    assert OTHER_KEY not in result.output


def test_doctor_names_the_key_that_wins(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTEXTDNA_MASTER_KEY", (data / "master.key").read_text().split()[-1])
    monkeypatch.setenv("CONTEXTDNA_OS_KEYRING", "true")
    found = {check["name"]: check for check in answer("doctor", "--data", data)["checks"]}
    assert "from the setting master_key opens the data" in found["key"]["detail"]


def test_doctor_finds_a_clock_that_is_behind_the_audit_trail(data: Path) -> None:
    findings = {f.name: f for f in examine(load_settings({"data": data}), now=datetime(2026, 1, 1, tzinfo=UTC))}
    assert findings["clock"].verdict is Verdict.FAIL
    assert "audit trail reaches" in findings["clock"].detail


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_doctor_warns_of_open_folders_and_fails_on_open_keys(data: Path) -> None:
    data.chmod(0o755)
    (data / "master.key").chmod(0o644)
    found = statuses("--data", data, exit_code=1)
    assert (found["folder"], found["key"]) == ("warn", "fail")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
@pytest.mark.parametrize(("name", "mode"), [("contextdna.db", 0o620), ("contextdna.db", 0o604), ("artifacts", 0o755)])
def test_doctor_warns_of_a_database_or_artifacts_open_to_others(data: Path, name: str, mode: int) -> None:
    (data / name).chmod(mode)
    found = {check["name"]: check for check in answer("doctor", "--data", data)["checks"]}
    assert found["folder"]["status"] == "warn"
    assert str(data / name) in found["folder"]["detail"]
    assert found["folder"]["remedy"].startswith("Run `chmod go= ")


def test_deep_doctor_finds_a_changed_audit_entry(data: Path) -> None:
    tamper(data, "UPDATE audit_log SET agent_id = 'nobody' WHERE project_id = 'default' AND seq = 2")
    assert statuses("--deep", "--data", data, exit_code=1)["audit"] == "fail"


# audit


def test_an_untouched_audit_trail_is_intact(data: Path) -> None:
    document = answer("audit", "verify", "--data", data)
    assert (document["intact"], document["faults"], document["chains"]) == (True, [], 2)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET agent_id = 'nobody' WHERE project_id = 'default' AND seq = 2",
        "DELETE FROM audit_log WHERE project_id = 'default' AND seq = 2",
        "UPDATE audit_heads SET seq = seq + 1 WHERE project_id = 'default'",
    ],
)
def test_a_tampered_audit_trail_exits_1_and_lists_the_faults(statement: str, data: Path) -> None:
    tamper(data, statement)
    document = answer("audit", "verify", "--data", data, exit_code=1)
    assert not document["intact"]
    assert {fault["project"] for fault in document["faults"]} == {"default"}


def test_the_audit_trail_is_exported_in_order_as_json_lines(data: Path, tmp_path: Path) -> None:
    result = call("audit", "export", "--data", data)
    entries = [json.loads(line) for line in result.stdout.splitlines()]
    chains: dict[str, list[dict[str, Any]]] = {"(installation)": [], "default": []}
    for entry in entries:
        chains[entry["project"]].append(entry)
    for chain in chains.values():
        assert [entry["seq"] for entry in chain] == list(range(1, len(chain) + 1))
    assert [entry["action"] for entry in chains["(installation)"]] == ["installation.create", "project.create"]
    assert [entry["action"] for entry in chains["default"]][:3] == ["project.create", "memory.store", "memory.store"]
    file = tmp_path / "trail.jsonl"
    assert answer("audit", "export", "--data", data, "--output", file)["entries"] == len(file.read_text().splitlines())


def test_the_tail_is_filtered(data: Path) -> None:
    entries = answer("audit", "tail", "--data", data, "--action", "memory.store", "--agent", "ines")["entries"]
    assert [(entry["agent"], entry["action"]) for entry in entries] == [("ines", "memory.store")] * 2


def test_a_refusal_that_belongs_to_no_project_is_shown_where_no_project_is_named(data: Path) -> None:
    async def guess() -> None:
        async with open_hub(HubSettings(data_dir=data)) as hub:
            stranger = hub.bind(Principal(AgentId("eve"), ()), session_id="ses_" + "0" * 22 + "." + "0" * 26)
            with pytest.raises(SessionInvalid):
                await stranger.list_projects()

    before = answer("stats", "--data", data)["installation"]["audit_entries"]
    anyio.run(guess)
    (entry,) = answer("audit", "tail", "--data", data, "--agent", "eve")["entries"]
    assert (entry["project"], entry["outcome"], entry["risk"]) == ("(installation)", "denied", "high")
    assert '"agent": "eve"' in call("audit", "export", "--data", data).stdout
    assert answer("stats", "--data", data)["installation"]["audit_entries"] == before + 1
    assert "(installation)" in call("stats", "--data", data).stdout
    for command in ("audit tail", "audit export", "stats"):
        narrowed = call(*command.split(), "--data", data, "--project", "default").stdout
        assert '"eve"' not in narrowed
        assert "(installation)" not in narrowed


def test_an_unknown_project_is_an_error_that_names_the_known(data: Path) -> None:
    result = call("audit", "tail", "--data", data, "--project", "nope")
    assert result.exit_code == 1
    assert "default" in result.stderr


# keys


def test_a_key_file_is_made_once_and_never_shown(tmp_path: Path) -> None:
    result = call("keys", "init", "--data", tmp_path / "new")
    assert result.exit_code == 0
    secret = (tmp_path / "new" / "master.key").read_text().split()[-1]
    assert secret not in result.output
    assert error_of("keys", "init", "--data", tmp_path / "new") == (2, "key_file_exists")


def test_no_new_key_is_made_for_an_old_database(data: Path) -> None:
    (data / "master.key").unlink()
    assert error_of("keys", "init", "--data", data) == (2, "key_missing")
    assert not (data / "master.key").exists()


def test_rotation_rewraps_every_key_and_encrypts_anew(data: Path) -> None:
    before = answer("keys", "list", "--data", data)["keys"]
    report = answer("keys", "rotate", "--master", "--data", data)
    after = answer("keys", "list", "--data", data)["keys"]
    assert report["rewrapped"] == len(before) == 4
    assert [project["records_reencrypted"] for project in report["projects"]] == [1]
    assert len({key["master_key_id"] for key in after}) == 1
    assert {key["master_key_id"] for key in after}.isdisjoint({key["master_key_id"] for key in before})
    assert [key["version"] for key in after if (key["project"], key["purpose"]) == ("default", "data")] == [1, 2]
    assert statuses("--deep", "--data", data)["audit"] == "ok"


def test_a_master_key_from_the_settings_is_not_rotated_in_a_file(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTEXTDNA_MASTER_KEY", OTHER_KEY)
    assert error_of("keys", "rotate", "--master", "--data", data) == (2, "key_not_in_file")


def test_a_master_key_from_the_environment_is_rotated_by_adding_the_new_one_behind_it(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = (data / "master.key").read_text().split()[-1]
    (data / "master.key").unlink()
    for value, command in ((f"{old},{OTHER_KEY}", "keys rotate"), (OTHER_KEY, "audit verify")):
        monkeypatch.setenv("CONTEXTDNA_MASTER_KEY", value)
        result = call(*command.split(), "--data", data)
        assert result.exit_code == 0, result.output
        assert old not in result.output
    assert len({key["master_key_id"] for key in answer("keys", "list", "--data", data)["keys"]}) == 1
    monkeypatch.setenv("CONTEXTDNA_MASTER_KEY", old)
    assert error_of("audit", "verify", "--data", data) == (1, "wrong_key")


# migrate


def test_the_schema_goes_down_and_up_again(data: Path) -> None:
    latest = answer("migrate", "status", "--data", data)["latest"]
    assert answer("migrate", "down", "0", "--yes", "--data", data)["current"] == 0
    assert len(answer("migrate", "status", "--data", data)["pending"]) == latest
    assert answer("migrate", "up", "--data", data)["current"] == latest


def test_going_down_asks_first(data: Path) -> None:
    before = fingerprint(data)
    assert error_of("migrate", "down", "0", "--data", data) == (2, "confirmation_needed")
    assert fingerprint(data) == before


# stats


def test_stats_count_what_the_operator_may_see_and_mask_secrets(data: Path) -> None:
    key = (data / "master.key").read_text().split()[-1]
    result = call("stats", "--data", data, "--json")
    document = json.loads(result.stdout)
    assert [(project["project"], project["by_kind"]) for project in document["projects"]] == [
        ("default", {"memory": 1})
    ]
    assert document["projects"][0]["audit_entries"] >= 3
    assert key not in result.output


def test_stats_call_refused_updates_by_their_name(data: Path) -> None:
    async def conflict() -> None:
        ines = Principal(AgentId("ines"), (ProjectId("default"),), role=Role.SYSTEM)
        async with open_hub(HubSettings(data_dir=data)) as hub:
            workspace = hub.bind(ines)
            (stored,) = await workspace.store_memories([MemoryDraft("The bees like clover.", memory_type="fact")])
            with pytest.raises(Conflict):
                await workspace.update_memory(stored.id, MemoryChange(importance=0.9), expected_version=7)

    anyio.run(conflict)
    assert answer("stats", "--data", data)["projects"][0]["stale_updates_refused"] == 1
    assert "stale updates refused  1" in call("stats", "--data", data).stdout


# sweep


def test_a_sweep_purges_what_is_over_and_counts_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = {"purged": 0, "sessions_closed": 0}
    assert answer("sweep", "--data", data) == {**nothing, "projects": [{"project": "default", **nothing}]}
    change(data, "UPDATE records SET retention_until = 1 WHERE level = 1")
    assert answer("sweep", "--data", data, "--project", "default")["purged"] == 1
    assert "0 records purged, 0 overdue sessions closed" in call("sweep", "--data", data).stdout
    assert len(answer("audit", "tail", "--data", data, "--action", "retention.sweep")["entries"]) == 3


# reindex


def test_reindexing_needs_an_embedder(data: Path) -> None:
    assert error_of("reindex", "--data", data) == (2, "embedder_none")


def test_reindexing_embeds_what_has_no_vector_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTEXTDNA_SEARCH__EMBEDDER", "wordllama")
    monkeypatch.setattr("contextdna.hub.semantics._FIRST_AFTER_S", 3600.0)  # the background does nothing of it
    one = {"project": "default", "model": "wordllama/l2_supercat_256", "dimension": 256, "model_changed": False}
    done = answer("reindex", "--data", data)
    assert done == {"embedded": done["embedded"], "projects": [{**one, "embedded": done["embedded"]}]}
    assert done["embedded"] >= 2
    assert answer("reindex", "--data", data, "--project", "default")["embedded"] == 0
    assert "0 records embedded by wordllama/l2_supercat_256" in call("reindex", "--data", data).stdout


def test_reindexing_goes_over_to_another_model_and_fails_where_it_does_not_answer(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(data, "INSERT INTO embedding_spaces VALUES ('default', 'other', 3, 1, 0, 0)")
    monkeypatch.setenv("CONTEXTDNA_SEARCH__EMBEDDER", "wordllama")
    assert answer("reindex", "--data", data)["projects"][0]["model_changed"]
    monkeypatch.setenv("CONTEXTDNA_SEARCH__EMBEDDER", "openai")
    monkeypatch.setenv("CONTEXTDNA_SEARCH__EMBEDDING_URL", "http://far.example/v1")
    assert error_of("reindex", "--data", data) == (2, "embedder_invalid")


# init


@pytest.mark.parametrize("host", ["claude-desktop", "claude-code", "cursor", "vscode", "codex"])
def test_init_prints_an_entry_that_starts_this_installation(host: str, data: Path) -> None:
    document = answer("init", host, "--data", data, "--project", "more")
    assert Path(document["command"]).is_absolute()
    assert document["args"][-5:] == ["serve", "--data", str(data), "--project", "more"]
    assert str(data) in document["text"]
    assert not Path(document["path"]).exists()


@pytest.mark.parametrize("host", ["claude-desktop", "claude-code", "cursor", "vscode", "codex"])
def test_init_writes_the_profile_of_tools_into_the_hosts_file(host: str, data: Path) -> None:
    document = answer("init", host, "--data", data, "--tools", "full", "--write")
    assert document["args"][-2:] == ["--tools", "full"]
    text = Path(document["path"]).read_text()
    servers = tomllib.loads(text)["mcp_servers"] if host == "codex" else _servers(json.loads(text))
    assert servers["contextdna"]["args"] == document["args"]


def _servers(document: dict[str, Any]) -> dict[str, Any]:
    servers: dict[str, Any] = document["servers" if "servers" in document else "mcpServers"]
    return servers


def test_the_entry_of_a_host_starts_a_server_with_all_tools(data: Path) -> None:
    args = answer("init", "cursor", "--data", data, "--project", "more", "--tools", "full")["args"]
    listed, _ = anyio.run(tools_of, *args[args.index("serve") + 1 :])
    assert listed == {tool.name for tool in FULL_TOOLS}


def test_init_refuses_a_profile_that_is_not_there(data: Path) -> None:
    result = call("init", "cursor", "--data", data, "--tools", "most")
    assert result.exit_code == 2
    assert "'default', 'full'" in result.stderr


def test_init_keeps_what_the_shell_sets_and_the_host_will_not_know(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "team.toml"
    config.write_text('identity.stdio_role = "agent"')
    monkeypatch.setenv("CONTEXTDNA_CONFIG", str(config))
    monkeypatch.setenv("CONTEXTDNA_DATA", str(data))
    monkeypatch.setenv("CONTEXTDNA_IDENTITY__AGENT_ID", "maria")
    monkeypatch.setenv("CONTEXTDNA_TEST_ANYTHING", "1")
    document = answer("init", "cursor")
    assert document["args"][-4:] == ["--data", str(data), "--config", str(config)]
    assert document["env"] == {"CONTEXTDNA_IDENTITY__AGENT_ID": "maria"}
    assert json.loads(document["text"])["mcpServers"]["contextdna"]["env"] == document["env"]
    assert "warning" not in call("init", "cursor").stderr


@pytest.mark.parametrize("host", ["claude-desktop", "claude-code", "cursor", "vscode", "codex"])
def test_init_says_what_to_do_about_a_secret_and_writes_it_nowhere(
    host: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTEXTDNA_MASTER_KEY", OTHER_KEY)
    for flags in ([], ["--write"], ["--write", "--json"]):
        result = call("init", host, "--data", data, *flags)
        assert result.exit_code == 0
        assert "warning: CONTEXTDNA_MASTER_KEY is a secret" in result.stderr
        assert OTHER_KEY not in result.output
    written = [path.read_text() for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert written
    assert not any(OTHER_KEY in text for text in written)


def test_init_writes_beside_what_is_there_and_keeps_a_copy(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "home" / ".cursor" / "mcp.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"mcpServers": {"other": {"command": "x"}}}')
    document = answer("init", "cursor", "--write", "--data", data)
    assert set(json.loads(file.read_text())["mcpServers"]) == {"other", "contextdna"}
    assert set(json.loads(Path(document["backup"]).read_text())["mcpServers"]) == {"other"}
    assert not answer("init", "cursor", "--write", "--data", data)["changed"]


def test_init_refuses_a_file_that_it_cannot_read(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "home" / ".cursor" / "mcp.json"
    file.parent.mkdir(parents=True)
    file.write_text("{ // comments")
    assert error_of("init", "cursor", "--write", "--data", data) == (1, "host_config")
    assert file.read_text() == "{ // comments"


@pytest.mark.parametrize("host", ["claude-desktop", "claude-code", "cursor", "vscode", "codex"])
def test_init_writes_how_to_reach_a_server_elsewhere(host: str) -> None:
    result = call(
        "init", host, "--url", "https://memory.example.org", "--token-env", "MEMORY_TOKEN", "--write", "--json"
    )
    document = json.loads(result.stdout)
    assert (document["url"], document["token_env"]) == ("https://memory.example.org/mcp", "MEMORY_TOKEN")
    assert "https://memory.example.org/mcp" in Path(document["path"]).read_text()
    assert "The token is in no file" in result.stderr
    assert "OAuth" in call("init", host, "--url", "https://memory.example.org/mcp").stderr


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (["--url", "http://memory.example.org/mcp"], "server_url_invalid"),
        (["--url", "https://ann:secret@memory.example.org/mcp"], "server_url_invalid"),
        (["--url", "https://memory.example.org/mcp?token=x"], "server_url_invalid"),
        (["--url", "https://memory.example.org/sse"], "server_url_invalid"),
        (["--url", "https://memory.example.org/a/sse/"], "server_url_invalid"),
        (["--url", "https://memory.example.org", "--token-env", "A B"], "token_env_invalid"),
        (
            ["--url", "https://memory.example.org", "--token-env", "cdna_tok_" + "0" * 22 + "_" + "1" * 32],
            "token_env_invalid",
        ),
    ],
)
def test_init_writes_no_token_and_no_address_that_gives_it_away_or_cannot_work(flags: list[str], code: str) -> None:
    assert error_of("init", "cursor", *flags) == (2, code)


@pytest.mark.parametrize("path", ["", "/", "/mcp", "/mcp/"])
def test_init_writes_the_address_that_is_served(path: str) -> None:
    assert (
        answer("init", "cursor", "--url", f"https://memory.example.org{path}")["url"]
        == "https://memory.example.org/mcp"
    )


@pytest.mark.parametrize("flags", [["--token-env", "X"], ["--url", "https://x.example", "--tools", "full"]])
def test_init_refuses_options_that_do_not_go_together(flags: list[str]) -> None:
    assert call("init", "cursor", *flags).exit_code == 2
