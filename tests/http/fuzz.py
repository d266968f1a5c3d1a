"""Fuzz the whole remote server: ``python -m tests.http.fuzz --seconds N [--seed S] [--json-replies]``.

Schemathesis does not fit: it reads OpenAPI or GraphQL, and this is one path whose meaning stands in JSON-RPC bodies;
and it sends whole requests only. So Hypothesis draws them, from the schemas that the tools themselves show, in both
eras and over both transports, as bytes that are damaged at times, many at once.

Found is: an answer of 5xx but 501 (a transfer coding that nobody knows) and 503 (told to come again), none at all, an
``internal_error``, a traceback, an error in the log, or a server that does not serve the next request.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import anyio
import click
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from contextdna import Role, Scope
from contextdna_server.commands.serve import TALKATIVE
from tests.http.attacked import Attacked, attacked, message
from tests.http.fuzz_requests import CREDENTIALS, STREAM, TOKEN, requests

AT_ONCE: Final = 20
HANG_S: Final = 20.0
QUIET_S: Final = 0.25
"""A stream that says nothing for so long is left."""
_BOUNDS: Final = {"head_timeout_s": 0.3, "body_timeout_s": 0.3, "call_timeout_s": 15, "drain_s": 1}
_LIMITS: Final = {"rate_per_s": 1_000_000, "rate_burst": 10_000_000, "auth_failures_per_min": 10_000_000}
_SHOWN_CHARS_MAX: Final = 10_000
_ALLOWED: Final = frozenset({501, 503})
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3})")
_ID: Final = re.compile(rb"\b(?:mem|art|ses|sig|dlg|tsk|tok|trn|loop|lop)_[0-9a-z]{22}(?:\.[0-9A-Za-z_-]+)?")
_TRACE: Final = re.compile(rb"Traceback|File \\?\"|internal_error|Internal Server Error|\.py\b")
_SDKS_OWN: Final = ("SSE response error",)
"""What the SDK calls an error: that a client ended its session just as a call of it began. The call is answered."""
HELLO: Final = message(
    "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={"name": "f", "version": "1"}
)


FIRST: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("store_memory", {"content": "the first fact"}),
    ("begin_session", {"task": "to be fuzzed"}),
    ("add_task", {"title": "the first task"}),
    ("send_signal", {"name": "go", "target_agent_ids": ["otto"]}),
    ("attach_artifact", {"name": "a.txt", "text": "a file"}),
    ("record_loop_decision", {"loop": 3, "phase": "phase-1", "score": 0.9}),
    ("delegate_with_context", {"child_agent_id": "child", "task": "to help"}),
)
"""Calls whose answers give ids that drawn requests name."""


class Found(AssertionError):
    """The server did what no request may make it do."""


@dataclass
class Fuzzed:
    """A server, and what the requests to it need.

    Attributes:
        known: Ids and handles that it gave, the last ones.
        session: A connection's id over Streamable HTTP.
        endpoint: Where messages of an open stream go.
        statuses: What was answered, in all; 0 where the connection was closed without a word.
        errors: What the log told of failures since requests were sent last.
    """

    target: Attacked
    tokens: dict[str, str] = field(default_factory=dict)
    known: deque[str] = field(default_factory=lambda: deque(maxlen=41))
    session: str = ""
    endpoint: str = "/messages/x"
    statuses: Counter[int] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    async def prepare(self) -> None:
        """Get the credentials and a connection."""
        target = self.target
        self.tokens = {
            "system": await target.token("maria", projects=("alpha", "beta"), role=Role.SYSTEM),
            "reader": await target.token("rita", scopes=(Scope.READ,)),
            "issued": target.issued("otto"),
            "expired": await target.token("eve", expires_in_s=0.001),
            "garbage": "cdna_made_up",
        }
        for tool, arguments in FIRST:
            answer = await target.call(self.tokens["system"], tool, **arguments, project_id="alpha")
            self.known += [found.decode() for found in _ID.findall(answer.text.encode())]

    async def send_all(self, drawn: list[bytes]) -> None:
        """Send requests at once, over a stream too, and see that the server still serves."""
        self.errors.clear()
        opened = await self.target.send(self.tokens["system"], HELLO)
        self.session = opened.headers["mcp-session-id"]
        async with (
            self.target.streaming(self.tokens["system"]) as (self.endpoint, _),
            anyio.create_task_group() as tasks,
        ):
            for data in drawn:
                tasks.start_soon(self._send, self._filled(data))
        health = await self.target.send("", None, method="GET", path="/healthz")
        served = await self.target.call(self.tokens["system"], "list_projects")
        if health.status != 200 or not served.said:
            raise Found(f"it serves no more: {health.status} {served.text}")
        if self.errors:
            raise Found("\n".join(self.errors))

    def _filled(self, data: bytes) -> bytes:
        for kind in CREDENTIALS:
            data = data.replace((TOKEN % kind).encode(), self.tokens[kind].encode())
        data = data.replace(b"MCP_SESSION_ID", self.session.encode()).replace(STREAM.encode(), self.endpoint.encode())
        data = re.sub(rb"ID_(\d+)_ID", self._known, data)
        body = data.partition(b"\r\n\r\n")[2]
        chunk = body.partition(b"LENGTH_HEX\r\n")[2].removesuffix(b"\r\n0\r\n\r\n")
        return data.replace(b"LENGTH_HEX", b"%x" % len(chunk), 1).replace(b"LENGTH", b"%d" % len(body), 1)

    def _known(self, match: re.Match[bytes]) -> bytes:
        return self.known[int(match[1]) % len(self.known)].encode() if self.known else match[0]

    async def _send(self, data: bytes) -> None:
        async with self.target.connected() as client:
            await client.send_or_break(data)
            with anyio.move_on_after(HANG_S) as waiting:
                answer = await client.receive_or_end()
            if waiting.cancelled_caught:
                raise Found(f"no answer to {data!r}")
            while not _is_whole(answer):
                part = b""
                with anyio.move_on_after(QUIET_S):
                    part = await client.receive_or_end()
                if not part:
                    break
                answer += part
        self.judge(data, answer)

    def judge(self, data: bytes, answer: bytes) -> None:
        """Look for what no answer may hold.

        Raises:
            Found: It is there.
        """
        statuses = [int(status) for status in _STATUS.findall(answer)]
        self.statuses.update(statuses or [0])
        for found in _ID.findall(answer):
            self.known.append(found.decode())
        if [status for status in statuses if status >= 500 and status not in _ALLOWED]:
            raise Found(f"{answer!r} to {data!r}")
        if _TRACE.search(answer) and not _TRACE.search(data):
            raise Found(f"{answer!r} to {data!r}")


def _is_whole(answer: bytes) -> bool:
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found or b"100 Continue" in head:
        return False
    length = re.search(rb"content-length: (\d+)", head)
    if length is not None:
        return len(body) >= int(length[1])
    return body.endswith(b"0\r\n\r\n") or b"transfer-encoding" not in head


class _Errors(logging.Handler):
    """Keeps what the log tells of failures."""

    def __init__(self, told: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() in _SDKS_OWN:
            return
        if record.levelno >= logging.ERROR or record.exc_info:
            self._told.append(self.format(record))


@contextmanager
def fuzzed(data: Path, *, json_replies: bool = False) -> Iterator[tuple[Fuzzed, BlockingPortal]]:
    """Serve a data folder in a thread."""
    http = {**_BOUNDS, **_LIMITS, "json_replies": json_replies}
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(attacked(data, work={"wait_max_s": 0.1}, **http)) as target,
    ):
        server = Fuzzed(target)
        portal.call(server.prepare)
        handler, root = _Errors(server.errors), logging.getLogger()
        root.addHandler(handler)
        for name, least in TALKATIVE.items():
            logging.getLogger(name).setLevel(least)
        try:
            yield server, portal
        finally:
            root.removeHandler(handler)


def attack(server: Fuzzed, portal: BlockingPortal, *, examples: int, at: int) -> None:
    """Send so many times ``AT_ONCE`` requests, drawn from a seed.

    Raises:
        Found: What was found, with the fewest and shortest requests that show it.
    """

    @seed(at)
    @settings(max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(requests(), min_size=AT_ONCE // 2, max_size=AT_ONCE))
    def send(drawn: list[bytes]) -> None:
        portal.call(server.send_all, drawn)

    send()


@click.command()
@click.option("--seconds", default=60.0, help="How long.")
@click.option("--seed", "first", default=0, help="Where to begin; it goes on with the next ones.")
@click.option("--json-replies", is_flag=True, help="Let the server answer calls as plain JSON.")
def main(seconds: float, first: int, *, json_replies: bool) -> None:
    """Fuzz for a while; the exit code is 1 when something was found."""
    ends, at, failed = time.monotonic() + seconds, first, False
    with TemporaryDirectory() as data, fuzzed(Path(data), json_replies=json_replies) as (server, portal):
        try:
            while time.monotonic() < ends:
                attack(server, portal, examples=50, at=at)
                at += 1
        except Exception as found:  # noqa: BLE001 - what it is, Hypothesis has told
            failed = True
            click.echo(f"seed {at}: {found!r}"[:_SHOWN_CHARS_MAX], err=True)
        click.echo(f"{sum(server.statuses.values())} answers: {dict(sorted(server.statuses.items()))}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
