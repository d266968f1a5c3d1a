"""Agents at work: each stores, updates, reads and asks at a steady pace, and does again what was not answered."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any

from benchmarks.callers import ModernCaller, Refused
from benchmarks.corpus import Fact, facts
from benchmarks.faults.promises import Note, Promises
from benchmarks.http1 import Address

PACE_S = 0.08
OK, QUEUED = "ok", "queued"
LOST = "connection_lost"
NO_ANSWER = "no_answer"
_UNSURE = frozenset(
    {LOST, NO_ANSWER, "storage_outcome_unknown", "call_timed_out", "peer_lost", "server_ended", "internal_error"}
)
"""What leaves open whether a write was done."""
_WEIGHTS = {"store": 5, "update": 3, "get": 3, "search": 2, "say": 2, "keep": 2, "recall": 2, "attach": 2, "fetch": 1}
_FINISHING_S = 20.0
_NOTHING: Mapping[str, Any] = {"version": 0, "content": ""}

Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an agent, and what it saw."""

    kind: str
    started: float
    ended: float
    outcome: str
    """``ok``, ``queued``, or the code of an error."""
    has_notice: bool = False
    """Whether the answer told of a degraded mode."""


@dataclass(slots=True)
class Round:
    """What one fault is watched by: the promises made during it, and every call."""

    label: str
    promises: Promises = field(default_factory=Promises)
    calls: list[Call] = field(default_factory=list)


class Agent:
    """One agent.

    Args:
        name: As in its token.
        own: Its connection to its server.
        other: Another, to another server of the installation where there is one.
        dice: Decides what it does next.
    """

    def __init__(self, name: str, own: ModernCaller, other: ModernCaller, dice: random.Random) -> None:
        self._name = name
        self._own = own
        self._other = other
        self._dice = dice
        self._round = Round("")
        self._numbers = count(1)
        self._session = ""
        self._states: dict[str, int] = {}
        self._repeat: list[Note] = []

    async def begin(self) -> None:
        """Begin a session, once."""
        answer = await self._own.call("begin_session", {"agent_id": self._name, "task": "work through faults"})
        self._session = answer["structuredContent"]["session_id"]

    async def leave(self) -> None:
        """Close its connections."""
        for one in (self._own, self._other):
            await one.leave()

    async def work(self, watched: Round, is_over: asyncio.Event) -> None:
        """Work until it is over; then do again what was not answered."""
        self._round = watched
        self._repeat = []
        watched.promises.said[self._name].session_id = self._session.partition(".")[0]
        doing: dict[str, Callable[[], Awaitable[None]]] = {kind: getattr(self, f"_{kind}") for kind in _WEIGHTS}
        while not is_over.is_set():
            kind = self._dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
            await doing[kind]()
            await asyncio.sleep(PACE_S * self._dice.uniform(0.5, 1.5))
        await self._finish()

    async def _finish(self) -> None:
        deadline = time.monotonic() + _FINISHING_S
        while self._repeat and time.monotonic() < deadline:
            await self._send(self._repeat.pop(0))
            await asyncio.sleep(PACE_S)

    # --- what it does ---

    async def _store(self) -> None:
        if self._repeat and self._dice.random() < 0.5:
            await self._send(self._repeat.pop(0))
            return
        key = f"{self._round.label}-{self._name}-{next(self._numbers)}"
        note = Note(key, f"{key} {self._dice.choice(_known()).content}")
        self._round.promises.notes[key] = note
        await self._send(note)

    async def _send(self, note: Note) -> None:
        """Store a note; again with the same key, where it is not known to be stored."""
        arguments = {"content": note.text, "tags": [self._round.label], "on_duplicate": "new"}
        answer, outcome = await self._call("store", "store_memory", {**arguments, "idempotency_key": note.key})
        if answer is None:
            self._repeat += [note] if outcome != "idempotency_key_reused" else []
            return
        stored = answer["stored"][0]
        note.id, note.version, note.is_queued = stored["id"], stored["version"], stored["status"] == QUEUED

    async def _update(self) -> None:
        note = self._some_note()
        if note is None:
            return
        text = f"{note.key} {self._dice.choice(_known()).content} {next(self._numbers)}"
        arguments = {"id": note.id, "expected_version": note.version, "content": text}
        answer, outcome = await self._call("update", "update_memory", arguments)
        if answer is not None:
            note.text, note.version, note.is_queued = text, answer["version"], answer.get("status") == QUEUED
        elif outcome in _UNSURE:
            note.unsure.append(text)

    async def _get(self) -> None:
        note = self._some_note()
        if note is None:
            return
        answer, outcome = await self._call("get", "get_memory", {"ids": [note.id]})
        if note.is_queued:
            return  # promised, and perhaps not there yet
        if answer is None:
            self._round.promises.misread += [f"{note.key}: {outcome}"] if "not_found" in outcome else []
            return
        there = next(iter(answer["memories"]), _NOTHING)
        if there["version"] < note.version or (there["content"] != note.text and not note.unsure):
            self._round.promises.misread.append(f"{note.key}: version {there['version']} of {note.version}")

    async def _search(self) -> None:
        await self._call("search", "retrieve_context", {"query": self._dice.choice(_known()).question, "limit": 5})

    async def _say(self) -> None:
        text = f"{self._round.label}-{self._name}-{next(self._numbers)} said"
        turns = self._round.promises.said[self._name].turns
        turns[text] = False
        answer, outcome = await self._call("say", "log_turn", {"content": text, "session_id": self._session})
        turns[text] = answer is not None
        if answer is None and outcome not in _UNSURE:
            self._round.promises.said[self._name].refused.add(text)

    async def _keep(self) -> None:
        number = next(self._numbers)
        arguments = {"key": self._round.label, "value": number, "session_id": self._session}
        answer, _ = await self._call("keep", "set_state", arguments)
        if answer is not None:
            self._states[self._round.label] = number

    async def _recall(self) -> None:
        """Read the working state, here or at the other server: it is never older than what was acknowledged."""
        known = self._states.get(self._round.label)
        caller = self._dice.choice((self._own, self._other))
        arguments = {"keys": [self._round.label], "session_id": self._session}
        answer, _ = await self._call("recall", "get_state", arguments, caller=caller)
        if answer is not None and known and answer["state"].get(self._round.label, 0) < known:
            self._round.promises.misread.append(f"{self._name}: an older state")

    async def _attach(self) -> None:
        name = f"{self._round.label}-{self._name}-{next(self._numbers)}.txt"
        text = f"{name} {self._dice.random()} " * 20
        answer, outcome = await self._call("attach", "attach_artifact", {"name": name, "text": text})
        if answer is not None:
            self._round.promises.artifacts[answer["id"]] = text
        elif outcome not in _UNSURE:
            self._round.promises.artifacts_refused.add(name)

    async def _fetch(self) -> None:
        told = self._round.promises.artifacts
        if told:
            artifact_id = self._dice.choice(list(told))
            uri = f"contextdna://projects/default/artifacts/{artifact_id}"
            await self._watched("fetch", self._own, lambda: self._own.read(uri))

    def _some_note(self) -> Note | None:
        """Choose one of its notes of which all is known."""
        notes = self._round.promises.notes.values()
        mine = [note for note in notes if note.id and not note.unsure and f"-{self._name}-" in note.key]
        return self._dice.choice(mine) if mine else None

    # --- how it asks ---

    async def _call(
        self, kind: str, tool: str, arguments: Arguments, *, caller: ModernCaller | None = None
    ) -> tuple[dict[str, Any] | None, str]:
        asked = caller or self._own
        answer, outcome = await self._watched(kind, asked, lambda: asked.call(tool, arguments))
        return (answer["structuredContent"] if answer else None), outcome

    async def _watched(
        self, kind: str, caller: ModernCaller, ask: Callable[[], Awaitable[dict[str, Any]]]
    ) -> tuple[dict[str, Any] | None, str]:
        """Ask, and note what came of it."""
        started = time.monotonic()
        answer: dict[str, Any] | None = None
        has_notice = False
        try:
            answer = await ask()
            content = answer.get("structuredContent") or {}
            outcome, has_notice = (QUEUED if _is_queued(content) else OK), "notice" in content
        except Refused as refused:
            outcome, has_notice = code_of(refused.answer), "notice" in json.dumps(refused.answer)
        except (OSError, ValueError) as error:
            outcome = NO_ANSWER if isinstance(error, TimeoutError) else LOST
            await caller.leave()
        self._round.calls.append(Call(kind, started, time.monotonic(), outcome, has_notice))
        return answer, outcome


@cache
def _known() -> Sequence[Fact]:
    """Give what agents write and ask about."""
    return facts(2_000, seed=1)


def _is_queued(content: dict[str, Any]) -> bool:
    stored = content.get("stored") or [content]
    return bool(stored[0].get("status") == QUEUED)


def code_of(answer: Mapping[str, Any]) -> str:
    """Give the code of an answer that is an error."""
    if "error" in answer:
        error = answer["error"]
        data = error.get("data")
        return str(data.get("code", error["code"]) if isinstance(data, dict) else error["code"])
    with contextlib.suppress(ValueError, LookupError, TypeError):
        return str(json.loads(answer["result"]["content"][0]["text"])["error"]["code"])
    return "unreadable"


def caller_of(port: int, token: str) -> ModernCaller:
    """Make a client of a server of this machine."""
    return ModernCaller(Address("127.0.0.1", port), token)
