"""The demo's story: a queen and a drone work on an incident; every step checks what it claims."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
from mcp import Client, StdioServerParameters
from mcp.types import TextContent

from contextdna_server.demo_texts import (
    LEARNING,
    LEARNING_QUESTION,
    POOL,
    PRIVATE_QUESTION,
    PRIVATE_TEXT,
    QUESTIONS,
    TASK,
    TEXTS,
)

PROJECT: Final = "demo"
QUEEN: Final = "queen"
DRONE: Final = "drone-1"
CALL_S_MAX: Final = 30.0
SHOWN_CHARS: Final = 96


@dataclass(slots=True)
class Step:
    """One step as it went: what was claimed, what was seen, whether the claim held."""

    number: int
    title: str
    seen: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every expectation held."""
        return not self.problems

    def see(self, text: str) -> None:
        """Note what happened."""
        self.seen.append(text)

    def expect(self, claim: bool, problem: str) -> None:
        """Check a claim."""
        if not claim:
            self.problems.append(problem)


class CallFailed(Exception):
    """A tool answered with an error."""

    def __init__(self, tool: str, error: Mapping[str, Any]) -> None:
        super().__init__(f"{tool} answered {error.get('code')}: {error.get('message')}")
        self.code = str(error.get("code"))


class Story:
    """The steps and what they hand on. The server is a subprocess that only the client talks to."""

    def __init__(self, data_dir: Path, environ: Mapping[str, str]) -> None:
        self._data_dir = data_dir
        self._environ = dict(environ)
        self._client: Client | None = None
        self._queen = ""
        self._drone = ""
        self._ids: dict[str, str] = {}
        self._private_id = ""

    async def tell(self) -> AsyncIterator[Step]:
        """Go through the steps, and stop after the first that fails."""
        number = 0
        for part in (self._first_run, self._second_run):
            async with self._server():
                for title, act in part():
                    number += 1
                    step = await _act(Step(number, title), act)
                    yield step
                    if not step.ok:
                        return
        for title, act in self._afterwards():
            number += 1
            step = await _act(Step(number, title), act)
            yield step
            if not step.ok:
                return

    def _first_run(self) -> Sequence[tuple[str, Act]]:
        return (
            ("A server starts, and a client connects over stdio", self._connect),
            ("The queen begins a session and stores what the team knows", self._store),
            ("Search finds the right memory", self._search),
            ("The queen keeps a private note", self._keep_private),
            ("On disk, the private note is encrypted, and still the queen finds it", self._look_at_disk),
            ("The queen delegates the incident to a drone, with the context it needs", self._delegate),
            ("The drone may not read the queen's private note", self._deny),
            ("The queen shares the note for a moment, then takes it back", self._share),
            ("The drone records its confidence, and the gate says what is missing", self._decide),
            ("The drone finishes, and its lesson stays", self._finish),
        )

    def _second_run(self) -> Sequence[tuple[str, Act]]:
        return (("The server was stopped and started again, and still knows", self._remember),)

    def _afterwards(self) -> Sequence[tuple[str, Act]]:
        return (
            ("The audit trail shows it all, the denial too", self._audit_tail),
            ("The audit trail is intact", self._audit_verify),
        )

    # --- the steps ---

    async def _connect(self, step: Step) -> None:
        client = self._connected()
        tools = {tool.name for tool in (await client.list_tools()).tools}
        info = client.server_info
        name = f"{info.name} {info.version}" if info else "the server"
        step.see(f"{name} speaks MCP {client.protocol_version} and offers {len(tools)} tools")
        step.expect({"store_memory", "retrieve_context"} <= tools, "the tools are not all there")

    async def _store(self, step: Step) -> None:
        begun = await self._call(
            "begin_session", agent_id=QUEEN, role="coordinator", team_id="hive", project_id=PROJECT
        )
        self._queen = begun["session_id"]
        memories = [
            {"content": text.content, "memory_type": text.memory_type, "importance": text.importance} for text in TEXTS
        ]
        stored = (await self._call("store_memory", session_id=self._queen, memories=memories))["stored"]
        self._ids = {text.key: item["id"] for text, item in zip(TEXTS, stored, strict=True)}
        step.see(f"{len(stored)} memories, all or none, such as {self._ids[POOL]}")
        step.see(f'"{_short(next(text.content for text in TEXTS if text.key == POOL))}"')
        step.expect(len(set(self._ids.values())) == len(TEXTS), "memories are missing")

    async def _search(self, step: Step) -> None:
        for question in QUESTIONS:
            hits = await self._ask(self._queen, question.text)
            step.see(f"{question.text}")
            step.see(f"  -> {_first(hits)}")
            right = bool(hits) and hits[0]["id"] == self._ids[question.answer]
            step.expect(right, f"the first hit does not answer: {question.text}")

    async def _keep_private(self, step: Step) -> None:
        stored = await self._call(
            "store_memory", session_id=self._queen, content=PRIVATE_TEXT, memory_type="note", level="private"
        )
        self._private_id = stored["stored"][0]["id"]
        step.see(f"{self._private_id}, level private")

    async def _look_at_disk(self, step: Step) -> None:
        found = await anyio.to_thread.run_sync(self._disk)
        step.expect(TEXTS[0].content.encode() in found, "not even a project memory is found on disk: nothing is proven")
        step.expect(PRIVATE_TEXT[:40].encode() not in found, "the private note lies readable on disk")
        step.see(f"{len(found):,} bytes searched: project memories are there, no word of the note")
        hits = await self._ask(self._queen, PRIVATE_QUESTION)
        step.expect(bool(hits) and hits[0]["id"] == self._private_id, "the queen does not find her note")
        step.see(f"{PRIVATE_QUESTION} -> {_first(hits)}")

    async def _delegate(self, step: Step) -> None:
        given = await self._call(
            "delegate_with_context", session_id=self._queen, child_agent_id=DRONE, task=TASK, team_id="hive"
        )
        self._drone = given["session_id"]
        step.see(f"{' -> '.join(given['chain'])}: {given['inherited']['memories']} memories handed down")
        step.expect(given["chain"][-1] == DRONE, "the chain does not end with the drone")
        hits = await self._ask(self._drone, QUESTIONS[0].text)
        step.see(f"the drone asks: {QUESTIONS[0].text}")
        step.see(f"  -> {_first(hits)}")
        step.expect(bool(hits) and hits[0]["id"] == self._ids[POOL], "the drone does not find the cause")

    async def _deny(self, step: Step) -> None:
        code = await self._refusal("get_memory", session_id=self._drone, ids=[self._private_id])
        unknown = await self._refusal("get_memory", session_id=self._drone, ids=[f"{self._private_id[:-1]}-"])
        step.see(f"get_memory -> {code or 'the note'}; an id that does not exist -> {unknown}")
        step.expect(code == "not_found", "the drone was not refused")
        step.expect(code == unknown, "the refusal tells that the note exists")
        hits = await self._ask(self._drone, PRIVATE_QUESTION)
        hidden = all(hit["id"] != self._private_id for hit in hits)
        step.see("its search does not find the note either" if hidden else "its search finds the note")
        step.expect(hidden, "the drone's search finds the private note")

    async def _share(self, step: Step) -> None:
        grant = {"session_id": self._queen, "target_agent_ids": [DRONE], "memory_ids": [self._private_id]}
        await self._call("share_memories", **grant, expires_in_s=3600)
        shared = await self._refusal("get_memory", session_id=self._drone, ids=[self._private_id])
        await self._call("share_memories", **grant, revoke=True)
        revoked = await self._refusal("get_memory", session_id=self._drone, ids=[self._private_id])
        step.see(f"shared: the drone reads it; taken back: {revoked or 'it still reads it'}")
        step.expect(not shared, "the drone could not read what was shared")
        step.expect(revoked == "not_found", "the drone still reads what was taken back")

    async def _decide(self, step: Step) -> None:
        answer = await self._call(
            "record_loop_decision",
            session_id=self._drone,
            loop=3,
            phase="checkout-timeouts",
            score=0.86,
            reasoning="The pool is free again in the load test.",
            files=["checkout/refunds.py"],
        )
        gate = answer["gate"]
        step.see(
            f"confidence 0.86 of {gate['confidence_gate']} needed; missing: {', '.join(gate['missing']) or 'nothing'}"
        )
        step.expect(not gate["open"], "the gate is open without a consensus")

    async def _finish(self, step: Step) -> None:
        ended = await self._call(
            "end_session", session_id=self._drone, success=True, output="Fixed in checkout 4.13.", learnings=[LEARNING]
        )
        step.see(f"{ended['status']}; {len(ended['stored'])} memories stored, the delegation is completed")
        step.expect(bool(ended["delegation_completed"]), "the delegation is not completed")
        code = await self._refusal("retrieve_context", session_id=self._drone, query="anything")
        step.see(f"its session does not work any more: {code}")
        step.expect(code.startswith("session_"), "the ended session still works")

    async def _remember(self, step: Step) -> None:
        hits = await self._ask(self._queen, LEARNING_QUESTION)
        step.see(LEARNING_QUESTION)
        step.see(f"  -> {_first(hits)}")
        step.expect(bool(hits) and LEARNING[:60] in hits[0]["content"], "the lesson is not found")

    async def _audit_tail(self, step: Step) -> None:
        code, document = await self._command("audit", "tail", "--project", PROJECT, "--limit", "40")
        entries = document.get("entries", [])
        for entry in entries[-12:]:
            mark = " <- the denial" if entry["outcome"] == "denied" and self._private_id in entry["records"] else ""
            step.see(f"{entry['at'][11:19]}  {entry['agent']:<8} {entry['action']:<20} {entry['outcome']:<8}{mark}")
        denials = [e for e in entries if e["outcome"] == "denied" and self._private_id in e["records"]]
        step.expect(code == 0, "the audit trail cannot be read")
        step.expect(
            any(e["agent"] == f"{QUEEN}/{DRONE}" and e["risk"] == "high" for e in denials),
            "the denial is not in the trail",
        )

    async def _audit_verify(self, step: Step) -> None:
        code, document = await self._command("audit", "verify")
        step.see(f"{document.get('entries')} entries in {document.get('chains')} chains")
        step.expect(code == 0 and document.get("intact") is True, f"the chain is broken: {document.get('faults')}")

    # --- the server and its client ---

    @asynccontextmanager
    async def _server(self) -> AsyncIterator[None]:
        args = ["-P", "-m", "contextdna_server", "serve", "--data", str(self._data_dir), "--project", PROJECT]
        server = StdioServerParameters(command=sys.executable, args=args, env=self._environ)
        async with Client(server, read_timeout_seconds=CALL_S_MAX) as self._client:
            yield
        self._client = None

    def _connected(self) -> Client:
        if self._client is None:
            raise RuntimeError("no server runs")
        return self._client

    async def _call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        result = await self._connected().call_tool(tool, arguments)
        if result.is_error:
            text = next((part.text for part in result.content if isinstance(part, TextContent)), "{}")
            raise CallFailed(tool, json.loads(text).get("error", {}))
        return dict(result.structured_content or {})

    async def _refusal(self, tool: str, **arguments: Any) -> str:
        """Call a tool and give its error code; empty when it succeeds."""
        try:
            await self._call(tool, **arguments)
        except CallFailed as error:
            return error.code
        return ""

    async def _ask(self, session_id: str, question: str) -> list[dict[str, Any]]:
        answer = await self._call("retrieve_context", session_id=session_id, query=question, limit=5)
        hits: list[dict[str, Any]] = answer["hits"]
        return hits

    async def _command(self, *args: str) -> tuple[int, dict[str, Any]]:
        command = [sys.executable, "-P", "-m", "contextdna_server", *args, "--data", str(self._data_dir), "--json"]
        done = await anyio.run_process(command, check=False, stderr=None, env=self._environ)
        return done.returncode, json.loads(done.stdout or b"{}")

    def _disk(self) -> bytes:
        return b"".join(path.read_bytes() for path in self._data_dir.rglob("*") if path.is_file())


Act = Callable[[Step], Awaitable[None]]


async def _act(step: Step, act: Act) -> Step:
    try:
        await act(step)
    except CallFailed as error:
        step.problems.append(str(error))
    return step


def _first(hits: Sequence[Mapping[str, Any]]) -> str:
    return f"{_short(hits[0]['content'])} [{', '.join(hits[0]['why'])}]" if hits else "nothing"


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1].rsplit(" ", 1)[0] + " …"
