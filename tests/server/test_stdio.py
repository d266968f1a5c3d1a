"""The stdio transport as a client meets it: a real process on real pipes, ended in every way that hosts do."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.types import TextContent

PROGRAM = Path(__file__).with_name("stdio_program.py")
DEADLINE_S = 60
SIGNALS = [signal.SIGTERM, signal.SIGINT]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and descriptors")


class Program:
    """The server as a process, and the few JSON-RPC lines that the tests speak with it."""

    def __init__(self, notes: Path, *, grace_s: float = DEADLINE_S, **streams: Any) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [sys.executable, str(PROGRAM), str(notes), str(grace_s)]
        self.notes = notes
        self.process = subprocess.Popen(command, **pipes | streams)

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def stderr(self) -> IO[bytes]:
        assert self.process.stderr is not None
        return self.process.stderr

    def errors(self) -> str:
        """Give what it wrote to standard error, and that nobody read; once it has ended."""
        return self.stderr.read().decode()

    def send(self, *messages: dict[str, Any]) -> None:
        self.stdin.write(lines(*messages))
        self.stdin.flush()

    def answer(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.stdout.readline())
        return message

    def initialize(self) -> None:
        self.send(INITIALIZE)
        assert self.answer()["result"]["serverInfo"]["name"] == "stdio-program"
        self.send(INITIALIZED)

    def start_slow_call(self, call_id: int) -> None:
        self.send(call(call_id, "slow"))
        wait_until((self.notes / "started").exists)

    def assert_ended_well(self) -> None:
        """The process ends by itself with code 0, without a traceback, after its teardown."""
        code = self.process.wait(DEADLINE_S)
        errors = self.errors()
        assert "Traceback" not in errors
        assert code == 0, errors
        assert (self.notes / "closed").exists()

    def assert_serves(self) -> None:
        """It answers the next message, and nothing else before."""
        self.send(call(2, "echo", text="after"))
        answer = self.answer()
        assert (answer["id"], text_of(answer)) == (2, "after")

    def close(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None and not stream.closed:
                stream.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    programs: list[Program] = []

    def start_program(**options: Any) -> Program:
        programs.append(Program(tmp_path, **options))
        return programs[-1]

    yield start_program
    for program in programs:
        program.close()


class Serving(Program):
    """A server that many tests speak with, one after another; none of them ends it."""

    def __init__(self, notes: Path) -> None:
        self._errors = notes / "errors"
        with self._errors.open("wb") as written:
            super().__init__(notes, stderr=written)
        self._read_bytes = 0

    def errors(self) -> str:
        return self._errors.read_text()

    def new_errors(self) -> str:
        """Give what it wrote to standard error since this was asked for the last time."""
        new = self._errors.read_bytes()[self._read_bytes :]
        self._read_bytes += len(new)
        return new.decode()


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    program = Serving(tmp_path_factory.mktemp("serving"))
    try:
        program.initialize()
        yield program
        program.stdin.close()
        program.assert_ended_well()
    finally:
        program.close()


@pytest.fixture
def serving(one_server: Serving) -> Serving:
    """Give a server that has been served to other tests, too: what they sent must make no difference to it."""
    one_server.new_errors()
    return one_server


def call(call_id: int, name: str, **arguments: str) -> dict[str, Any]:
    params = {"name": name, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": call_id, "method": "tools/call", "params": params}


def lines(*messages: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll for what another process does; the deadline only ends a test that has failed."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the other process did not do it"
        time.sleep(0.005)


def text_of(answer: dict[str, Any]) -> str:
    text: str = answer["result"]["content"][0]["text"]
    return text


CLIENT = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
INITIALIZE = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": CLIENT}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


# --- the protocol stream ---


def test_stray_output_goes_to_stderr_and_stray_input_is_empty(start: Callable[..., Program]) -> None:
    program = start()
    program.initialize()
    program.send(call(2, "shout"), call(3, "echo", text="still in order"))
    answers = {answer["id"]: text_of(answer) for answer in (program.answer(), program.answer())}
    assert answers == {2: "stdin: ''", 3: "still in order"}
    program.stdin.close()
    assert program.stdout.read() == b""
    errors = program.stderr.read()
    assert all(stray in errors for stray in (b"a print", b"a raw write", b"a child"))
    assert program.process.wait(DEADLINE_S) == 0


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_clients_of_both_eras_call_tools(tmp_path: Path, mode: str) -> None:
    async def use() -> tuple[str, str]:
        command = StdioServerParameters(command=sys.executable, args=[str(PROGRAM), str(tmp_path)], env={**os.environ})
        async with Client(command, mode=mode) as client:
            result = await client.call_tool("echo", {"text": "héllo \u2028 世界"})
            assert isinstance(result.content[0], TextContent)
            return client.protocol_version, result.content[0].text

    version, text = anyio.run(use)
    assert text == "héllo \u2028 世界"
    assert (version >= "2026") is (mode == "auto")
    assert (tmp_path / "closed").exists()


def test_message_of_many_mebibytes_passes_both_ways(serving: Serving) -> None:
    text = "x" * (12 * 1024 * 1024)
    serving.send(call(2, "size", text=text))
    assert text_of(serving.answer()) == str(len(text))
    serving.send(call(3, "echo", text=text))
    assert text_of(serving.answer()) == text


FILLING = b"x" * (97 * 1024 * 1024)
LARGE: dict[str, tuple[bytes, bytes, object]] = {
    "the id first": (b'{"jsonrpc":"2.0","id":7,"method":"resources/read","params":{"p":"', b'"}}', 7),
    "the id last": (b'{"method":"resources/read","params":{"id":99,"p":"', b'"},"jsonrpc":"2.0","id":7}', 7),
    "a text as id, last": (b'{"method":"resources/read","params":{"p":"', b'"}, "id": "q-7", "jsonrpc": "2.0"}', "q-7"),
    "an id inside a text": (b'{"method":"resources/read","params":{"p":"', b',\\"id\\":8}"}}', None),
    "no JSON": (b"", b"", None),
}


@pytest.mark.parametrize("name", LARGE)
def test_message_over_the_limit_is_answered_and_the_next_one_served(serving: Serving, name: str) -> None:
    before, after, call_id = LARGE[name]
    serving.stdin.write(before + FILLING + after + b"\n")
    serving.stdin.flush()
    answer = serving.answer()
    assert (answer["id"], answer["error"]["code"], answer["error"]["data"]["code"]) == (
        call_id,
        -32602,
        "message_too_large",
    )
    serving.assert_serves()


def test_a_tool_called_with_a_message_over_the_limit_answers_with_an_error_result(
    serving: Serving,
) -> None:
    serving.stdin.write(raw('"').encode()[:-2] + FILLING + b'"}}\n')
    serving.stdin.flush()
    answer = serving.answer()
    assert (answer["id"], answer["result"]["isError"]) == (7, True)
    assert json.loads(text_of(answer))["error"]["code"] == "message_too_large"


def test_notifications_and_answers_over_the_limit_are_not_answered(serving: Serving) -> None:
    serving.stdin.write(raw('"', method="notifications/progress", member="").encode()[:-2] + FILLING + b'"}}\n')
    serving.stdin.write(b'{"jsonrpc":"2.0","id":7,"result":{"p":"' + FILLING + b'"}}\n')
    serving.assert_serves()


def test_the_largest_artifact_fits_as_base64(serving: Serving) -> None:
    size = 64 * 1024 * 1024 * 4 // 3
    serving.stdin.write(lines(call(2, "size", text="")).replace(b'""', b'"' + FILLING[:size] + b'"'))
    serving.stdin.flush()
    assert text_of(serving.answer()) == str(size)


@pytest.mark.parametrize(("call_id", "answered"), [("1.5", None), ("2.0", 2), ("true", None), ("null", None)])
def test_a_request_with_an_odd_id_is_refused(serving: Serving, call_id: str, answered: object) -> None:
    serving.stdin.write(f'{{"jsonrpc":"2.0","id":{call_id},"method":"ping"}}\n'.encode())
    serving.stdin.flush()
    answer = serving.answer()
    assert (answer["id"], answer["error"]["code"]) == (answered, -32600)
    assert answer["error"]["data"]["code"] == "message_invalid"
    inside = {"jsonrpc": "2.0", "id": 3, "method": "ping", "params": {"_meta": {"id": None}}}
    serving.send({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"id": 1.5}}, inside)
    assert serving.answer()["id"] == 3


def test_bytes_that_are_not_utf_8_are_refused_and_not_altered(serving: Serving) -> None:
    echoed = lines(call(2, "echo", text="MARK")).replace(b"MARK", b"caf\xe9 \xed\xa0\xbc")
    serving.stdin.write(echoed + echoed.replace(b"tools/call", b"tools/list"))
    serving.stdin.flush()
    answers = [serving.answer(), serving.answer()]
    [result] = [answer["result"] for answer in answers if "result" in answer]
    [error] = [answer["error"] for answer in answers if "error" in answer]
    assert json.loads(result["content"][0]["text"])["error"]["code"] == "text_unstorable"
    assert (error["code"], error["data"]["code"]) == (-32602, "text_unstorable")


def test_lines_that_are_no_messages_do_not_end_the_connection(serving: Serving) -> None:
    serving.stdin.write(b"\n\xff\xfe\n{}\nnot json\n")
    serving.stdin.flush()
    refusals = [serving.answer() for _ in range(3)]
    assert [(refusal["id"], refusal["error"]["code"]) for refusal in refusals] == [
        (None, -32700),
        (None, -32600),
        (None, -32700),
    ]
    serving.assert_serves()


BROKEN = r'"\ud83c"'
DEEP = "[" * 5000 + "]" * 5000
MARK = "zebra"


def raw(params: str, *, method: str = "tools/call", member: str = '"id":7,') -> str:
    return f'{{"jsonrpc":"2.0",{member}"method":"{method}","params":{{"id":99,"mark":"{MARK}","p":{params}}}}}'


REFUSED: dict[str, tuple[str, object, int, str]] = {
    "surrogate": (raw(BROKEN, method="resources/read"), 7, -32602, "text_unstorable"),
    "surrogate in the id": (raw("1", member=f'"id":{BROKEN},'), None, -32602, "text_unstorable"),
    "digits": (raw("1" * 5000), 7, -32700, "message_invalid"),
    "digits in the id": (raw("1", member=f'"id":{"1" * 5000},'), None, -32700, "message_invalid"),
    "nesting": (raw(DEEP), 7, -32700, "message_invalid"),
    "nesting, the id as text": (raw(DEEP, member='"id":"q-7",'), "q-7", -32700, "message_invalid"),
    "nesting, the id last": (raw(DEEP, member="")[:-1] + ',"id":8}', 8, -32700, "message_invalid"),
    "cut": (raw(BROKEN)[:-4], 7, -32700, "message_invalid"),
    "cut before the id": (raw("1", member="")[:-4], None, -32700, "message_invalid"),
    "open text": ('{"id":7,"' + r"\"" * 50_000, 7, -32700, "message_invalid"),
    "no JSON": (MARK, None, -32700, "message_invalid"),
    "batch": (f"[{raw('1')}]", 7, -32600, "message_invalid"),
    "empty batch": ("[]", None, -32600, "message_invalid"),
    "params in a list": ('{"jsonrpc":"2.0","id":7,"method":"tools/list","params":[1]}', 7, -32600, "message_invalid"),
    "no method": ('{"jsonrpc":"2.0","id":7}', 7, -32600, "message_invalid"),
    "other version": ('{"jsonrpc":"3.0","id":7,"method":"tools/list"}', 7, -32600, "message_invalid"),
    "number": ("7", None, -32600, "message_invalid"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_line_that_the_parser_refuses_is_answered_and_the_next_one_served(serving: Serving, name: str) -> None:
    line, call_id, number, code = REFUSED[name]
    serving.stdin.write(line.encode() + b"\n")
    serving.stdin.flush()
    answer = serving.answer()
    assert (answer["jsonrpc"], answer["id"], answer["error"]["code"]) == ("2.0", call_id, number)
    assert answer["error"]["data"]["code"] == code
    assert answer["error"]["data"]["hint"]
    assert MARK not in str(answer)
    serving.assert_serves()
    errors = serving.new_errors()
    assert "refused a message" in errors
    assert MARK not in errors


def test_a_tool_called_with_half_a_character_answers_with_an_error_result(serving: Serving) -> None:
    serving.stdin.write(raw(BROKEN).encode() + b"\n")
    serving.stdin.flush()
    answer = serving.answer()
    assert (answer["id"], answer["result"]["isError"]) == (7, True)
    assert json.loads(text_of(answer))["error"]["code"] == "text_unstorable"
    serving.assert_serves()


@pytest.mark.parametrize("broken", [BROKEN, DEEP, "1" * 5000])
def test_refused_notifications_and_answers_are_not_answered(serving: Serving, broken: str) -> None:
    result = f'{{"jsonrpc":"2.0","id":7,"result":{{"p":{broken}}}}}'
    serving.stdin.write(f"{raw(broken, member='')}\n{result}\n".encode())
    serving.assert_serves()


def test_each_request_of_a_batch_is_answered(start: Callable[..., Program]) -> None:
    program = start()
    program.initialize()
    members = [raw("1"), raw("1", member=""), raw("2", member='"id":8,')]
    program.stdin.write(f"[{','.join(members)}]\n".encode())
    program.stdin.close()
    assert sorted(json.loads(line)["id"] for line in program.stdout) == [7, 8]
    program.assert_ended_well()


def test_refusals_that_nobody_reads_cannot_keep_the_server_alive(start: Callable[..., Program]) -> None:
    program = start(grace_s=0.05)
    program.initialize()
    program.stdin.write(b"nonsense\n" * 400)
    program.stdin.flush()
    program.process.send_signal(signal.SIGTERM)
    program.assert_ended_well()


def test_refusals_before_the_end_of_input_are_answered(start: Callable[..., Program], tmp_path: Path) -> None:
    not_utf_8 = raw('"caf\udce9"', member='"id":8,').encode("utf-8", "surrogateescape")
    (tmp_path / "in").write_bytes(
        lines(INITIALIZE, INITIALIZED) + b"nonsense\n" + not_utf_8 + b"\n" + raw(BROKEN).encode()
    )
    with (tmp_path / "in").open("rb") as stdin:
        program = start(stdin=stdin)
        answers = [json.loads(line) for line in program.stdout]
    assert {answer["id"] for answer in answers} == {1, None, 7, 8}
    program.assert_ended_well()


# --- the end ---


@pytest.mark.parametrize("sent", SIGNALS)
def test_signal_ends_an_idle_server_with_its_stdin_open(start: Callable[..., Program], sent: signal.Signals) -> None:
    program = start()
    program.initialize()
    program.process.send_signal(sent)
    program.assert_ended_well()


def test_end_of_input_ends_an_idle_server(start: Callable[..., Program]) -> None:
    program = start()
    program.initialize()
    program.stdin.close()
    program.assert_ended_well()


def test_call_in_flight_at_end_of_input_finishes(start: Callable[..., Program]) -> None:
    program = start()
    program.initialize()
    program.start_slow_call(2)
    program.stdin.close()
    (program.notes / "release").touch()
    assert text_of(program.answer()) == "done"
    program.assert_ended_well()
    assert (program.notes / "finished").exists()


@pytest.mark.parametrize("sent", SIGNALS)
def test_call_in_flight_at_a_signal_finishes(start: Callable[..., Program], sent: signal.Signals) -> None:
    program = start()
    program.initialize()
    program.start_slow_call(2)
    program.process.send_signal(sent)
    (program.notes / "release").touch()
    assert text_of(program.answer()) == "done"
    program.assert_ended_well()


def test_every_call_sent_before_end_of_input_is_answered(start: Callable[..., Program]) -> None:
    program = start()
    ids = range(2, 302)
    calls = [call(call_id, "echo", text=str(call_id)) for call_id in ids]
    with program.stdin:
        program.send(INITIALIZE, INITIALIZED, *calls)
    answers = [json.loads(line) for line in program.stdout]
    assert sorted(answer["id"] for answer in answers) == [1, *ids]
    program.assert_ended_well()


def test_call_that_outlasts_its_grace_is_cancelled(start: Callable[..., Program]) -> None:
    program = start(grace_s=0.05)
    program.initialize()
    program.start_slow_call(2)
    program.stdin.close()
    assert "error" in program.answer()
    program.assert_ended_well()
    assert (program.notes / "cancelled").exists()


def test_signal_after_end_of_input_cancels_at_once(start: Callable[..., Program]) -> None:
    program = start(grace_s=10 * DEADLINE_S)
    program.initialize()
    program.start_slow_call(2)
    program.stdin.close()
    assert any(b"the connection ends: 1 calls" in line for line in program.stderr)
    program.process.send_signal(signal.SIGTERM)
    program.assert_ended_well()
    assert (program.notes / "cancelled").exists()


def test_second_signal_cancels_at_once(start: Callable[..., Program]) -> None:
    program = start(grace_s=10 * DEADLINE_S)
    program.initialize()
    program.start_slow_call(2)
    for sent in SIGNALS:
        program.process.send_signal(sent)
    program.assert_ended_well()
    assert (program.notes / "cancelled").exists()


def test_cancelled_call_does_not_hold_up_the_end(start: Callable[..., Program]) -> None:
    program = start(grace_s=10 * DEADLINE_S)
    program.initialize()
    program.start_slow_call(2)
    program.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "2"}})
    program.stdin.close()
    program.assert_ended_well()


@pytest.mark.parametrize("end", ["input", "signal"])
def test_a_call_that_only_waits_does_not_hold_up_the_end(start: Callable[..., Program], end: str) -> None:
    program = start(grace_s=10 * DEADLINE_S)
    program.initialize()
    program.send(call(2, "wait"))
    wait_until((program.notes / "started").exists)
    if end == "input":
        program.stdin.close()
    else:
        program.process.send_signal(signal.SIGTERM)
    program.assert_ended_well()
    assert (program.notes / "cancelled").exists()


def test_client_that_closes_stdout_ends_the_server_quietly(start: Callable[..., Program]) -> None:
    program = start()
    program.initialize()
    program.stdout.close()
    program.send(call(2, "echo", text="nobody reads this"))
    program.assert_ended_well()


def test_client_that_stops_reading_cannot_keep_the_server_alive(start: Callable[..., Program]) -> None:
    program = start(grace_s=0.05)
    program.initialize()
    program.send(call(2, "echo", text="x" * 4_000_000))
    assert program.stdout.read(1) == b"{"
    program.process.send_signal(signal.SIGTERM)
    program.assert_ended_well()


# --- what stdin and stdout may be ---


def test_regular_files_serve_as_stdin_and_stdout(start: Callable[..., Program], tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(lines(INITIALIZE, INITIALIZED, call(2, "echo", text="from a file")))
    with (tmp_path / "in").open("rb") as stdin, (tmp_path / "out").open("wb") as stdout:
        start(stdin=stdin, stdout=stdout).assert_ended_well()
    answers = [json.loads(line) for line in (tmp_path / "out").read_bytes().splitlines()]
    assert text_of(answers[1]) == "from a file"


def test_null_device_as_stdin_and_stdout_ends_at_once(start: Callable[..., Program]) -> None:
    start(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).assert_ended_well()


def test_socket_pair_serves_as_stdin_and_stdout(start: Callable[..., Program]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as answers:
        program = start(stdin=theirs, stdout=theirs)
        ours.sendall(lines(INITIALIZE, INITIALIZED, call(2, "echo", text="over a socket")))
        assert json.loads(answers.readline())["id"] == 1
        assert text_of(json.loads(answers.readline())) == "over a socket"
        ours.shutdown(socket.SHUT_WR)
        program.assert_ended_well()


def test_interrupt_ends_a_server_on_a_terminal(start: Callable[..., Program]) -> None:
    ours, theirs = pty.openpty()
    try:
        program = start(stdin=theirs)
        os.write(ours, lines(INITIALIZE))
        assert program.answer()["id"] == 1
        program.process.send_signal(signal.SIGINT)
        program.assert_ended_well()
        assert os.get_blocking(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


def test_pipes_are_given_back_blocking(start: Callable[..., Program]) -> None:
    read_end, write_end = os.pipe()
    try:
        program = start(stdin=read_end)
        os.write(write_end, lines(INITIALIZE))
        assert program.answer()["id"] == 1
        assert not os.get_blocking(read_end)
        program.process.send_signal(signal.SIGTERM)
        program.assert_ended_well()
        assert os.get_blocking(read_end)
    finally:
        os.close(read_end)
        os.close(write_end)
