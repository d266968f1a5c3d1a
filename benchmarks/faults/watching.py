"""Watches one fault: work before it, during it and after it, until all is well again; then reads everything back."""

import asyncio
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from benchmarks.callers import ModernCaller, Refused
from benchmarks.faults.agents import OK, QUEUED, Agent, Call, Round, caller_of, code_of
from benchmarks.faults.cases import Fault
from benchmarks.faults.promises import Findings, Found
from benchmarks.faults.site import Site
from contextdna import ContextQuery, NotFound, RecordId, SessionId, Workspace
from contextdna.values.record import Kind

BEFORE_S = 1.5
_WELL_S = 1.0
"""How long all must be well to count as recovered."""
_RECOVERY_S = 30.0
_ASKED_EVERY_S = 0.2
_PAGE = 100

Row = dict[str, str | int | float]


@dataclass(slots=True)
class Watch:
    """What the health says at one server, and since when it is well."""

    caller: ModernCaller
    said: Counter[str] = field(default_factory=Counter)
    """From the fault on until its end."""
    longest_s: float = 0.0
    well_since: float = 0.0
    """0 while it is not."""

    async def ask(self, *, counts: Callable[[float], bool]) -> None:
        """Ask for the health again and again, until cancelled; what was asked at a time that counts is counted."""
        while True:
            started = time.monotonic()
            told = await self._told()
            self.longest_s = max(self.longest_s, time.monotonic() - started)
            if counts(started):
                self.said.update(told)
            self.well_since = (self.well_since or started) if told == ["ok"] else 0.0
            await asyncio.sleep(_ASKED_EVERY_S)

    async def _told(self) -> list[str]:
        try:
            answer = await self.caller.read("contextdna://health")
            return _summed(json.loads(answer["contents"][0]["text"]))
        except Refused as refused:
            return [code_of(refused.answer)]
        except (OSError, ValueError):
            await self.caller.leave()
            return ["no answer"]


def _summed(health: dict[str, Any]) -> list[str]:
    """Give ``ok``, or what is not: modes, or the parts that are not sound."""
    if health["status"] == "ok":
        return ["ok"]
    modes = [mode["name"] for mode in health.get("modes") or ()]
    parts = [name for name in ("database", "artifacts", "cache") if not (health.get(name) or {}).get("sound", True)]
    return modes or parts or [health["status"]]


@dataclass(slots=True)
class _Times:
    began: float = 0.0
    struck: float = 0.0
    mended: float = 0.0
    ended: float = 0.0

    def is_during(self, started: float) -> bool:
        """Tell whether what began then, and is over now, met the fault."""
        return bool(self.struck) and (not self.mended or started < self.mended)


async def watch(site: Site, fault: Fault, agents: Sequence[Agent], *, label: str) -> Row:
    """Let a fault happen while the agents work, and tell what came of it.

    Raises:
        LeftOut: It cannot be had here.
    """
    watched, times = Round(label), _Times(began=time.monotonic())
    is_over = asyncio.Event()
    watches = [Watch(caller_of(server.port, site.tokens[-1])) for server in site.servers]
    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(agent.work(watched, is_over)) for agent in agents]
        asking = [tasks.create_task(one.ask(counts=times.is_during)) for one in watches]
        try:
            await asyncio.sleep(BEFORE_S)
            times.struck = time.monotonic()
            async with fault.during(site):
                await asyncio.sleep(fault.seconds)
                times.mended = time.monotonic()
            if not fault.is_of_server:  # how long others take to start is not ours
                times.mended = time.monotonic()
            await _until_well(watched, watches, times)
        finally:
            times.ended = time.monotonic()
            is_over.set()
            for task in asking:
                task.cancel()
        await asyncio.gather(*working)
    for one in watches:
        await one.caller.leave()
    findings, entries = await read_back(site, watched)
    return _row(fault, watched, watches, times=times, findings=findings, entries=entries)


async def _until_well(watched: Round, watches: Sequence[Watch], times: _Times) -> None:
    """Wait until every call and the health of every server have been well for a while, or for too long."""
    deadline = time.monotonic() + _RECOVERY_S
    while time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        since = _well_since(watched, watches, times)
        if since is not None and time.monotonic() - since > _WELL_S:
            return


def _well_since(watched: Round, watches: Sequence[Watch], times: _Times) -> float | None:
    """Give since when all is well; None while it is not."""
    if not all(one.well_since for one in watches):
        return None
    return max(times.mended, _last_bad(watched.calls, times), *(one.well_since for one in watches))


def _last_bad(calls: Sequence[Call], times: _Times) -> float:
    return max((call.ended for call in calls if call.outcome != OK and call.ended >= times.struck), default=0.0)


# --- reading back ---


async def read_back(site: Site, watched: Round) -> tuple[Findings, int]:
    """Compare what is there with what was told; gives what is wrong, and how many entries the audit trail has.

    Raises:
        RuntimeError: The audit trail is not whole.
    """
    findings, promises = Findings(), watched.promises
    async with site.operated() as workspace:
        findings.judge_notes(promises.notes.values(), await _memories(workspace, watched))
        for said in promises.said.values():
            findings.judge_turns(said, await _turns(workspace, said.session_id, watched.label))
        there = {}
        for artifact_id in promises.artifacts:
            with suppress(NotFound):
                there[artifact_id] = (await workspace.read_artifact(RecordId(artifact_id)))[1]
        findings.judge_artifacts(promises.artifacts, there)
        names = await _artifact_names(workspace, watched.label)
        findings.though_refused += [name for name in names if name in promises.artifacts_refused]
        report = await workspace.verify_audit()
    if not report.intact:
        raise RuntimeError(f"the audit trail is not whole: {report.faults[:3]}")
    return findings, report.entries


async def _memories(workspace: Workspace, watched: Round) -> list[Found]:
    """Give all memories of a round: those of its tag, a page at a time."""
    found: list[RecordId] = []
    cursor = ""
    while True:
        query = ContextQuery(kinds=(Kind.MEMORY,), tags=(watched.label,), limit=_PAGE, max_tokens=20_000, cursor=cursor)
        answer = await workspace.retrieve_context(query)
        found += [one for hit in answer.hits for one in (hit.record.id, *hit.same_ids)]
        cursor = answer.cursor
        if not cursor:
            break
    whole = [await workspace.get_memories(found[at : at + _PAGE]) for at in range(0, len(found), _PAGE)]
    return [Found(one.record.id, one.content, one.record.version) for some, _ in whole for one in some]


async def _artifact_names(workspace: Workspace, label: str) -> list[str]:
    """Give the names of a round's artifacts."""
    names: list[str] = []
    cursor = ""
    while True:
        page = await workspace.artifacts.page(prefix=f"{label}-", limit=_PAGE, cursor=cursor)
        names += [artifact.name for artifact in page.artifacts]
        cursor = page.cursor
        if not cursor:
            return names


async def _turns(workspace: Workspace, session_id: str, label: str) -> list[str]:
    """Give the texts of a session's turns, in order."""
    texts: list[str] = []
    after = 0
    while True:
        turns = await workspace.read_conversation(SessionId(session_id), after=after, limit=_PAGE)
        texts += [turn.content for turn in turns if turn.content.startswith(f"{label}-")]
        if len(turns) < _PAGE:
            return texts
        after = turns[-1].record.position


# --- summing up ---


def _row(
    fault: Fault, watched: Round, watches: Sequence[Watch], *, times: _Times, findings: Findings, entries: int
) -> Row:
    calls = [call for call in watched.calls if call.started < times.ended]
    during = [call for call in calls if call.ended > times.struck and call.started < times.mended]
    outcomes = Counter(call.outcome for call in during)
    kinds = Counter((call.kind, call.outcome) for call in during if call.outcome not in (OK, QUEUED))
    slowest = max(calls, key=lambda call: call.ended - call.started)
    unwell = [one.well_since for one in watches]
    since = max(times.mended, _last_bad(calls, times), *unwell)
    said: Counter[str] = sum((one.said for one in watches), Counter())
    return {
        "dependency": fault.dependency,
        "fault": fault.name,
        "what": fault.what,
        "servers_on": "SQLite" if fault.site == "small" else "PostgreSQL, Redis, S3",
        "lasted_s": round(times.mended - times.struck, 1),
        "calls": len(during),
        "ok": outcomes.pop(OK, 0),
        "queued": outcomes.pop(QUEUED, 0),
        "refused": ", ".join(f"{code} {count}" for code, count in outcomes.most_common()),
        "refused_kinds": ", ".join(f"{kind}: {code} {count}" for (kind, code), count in kinds.most_common()),
        "with_notice": sum(call.has_notice for call in during),
        "longest_wait_s": round(slowest.ended - slowest.started, 2),
        "longest_kind": f"{slowest.kind}: {slowest.outcome}",
        "longest_health_s": round(max(one.longest_s for one in watches), 2),
        "p50_before_ms": _p50(call for call in calls if call.ended <= times.struck),
        "p50_during_ms": _p50(during),
        "p50_after_ms": _p50(call for call in calls if call.started > since),
        "back_after_s": round(since - times.mended, 2) if all(unwell) else -1.0,
        "health": ", ".join(f"{name} {count}" for name, count in said.most_common()),
        "acknowledged": watched.promises.acknowledged,
        "lost": len(findings.lost),
        "twice": len(findings.twice),
        "elsewhere": len(findings.elsewhere),
        "out_of_order": len(findings.out_of_order),
        "though_refused": len(findings.though_refused),
        "misread": len(watched.promises.misread),
        "audit_entries": entries,
        "examples": "; ".join(
            f"{name}: {', '.join(some[:2])}"
            for name, some in (
                ("lost", findings.lost),
                ("twice", findings.twice),
                ("elsewhere", findings.elsewhere),
                ("out of order", findings.out_of_order),
                ("though refused", findings.though_refused),
                ("misread", watched.promises.misread),
            )
            if some
        ),
    }


def _p50(calls: Any) -> float:
    times_s = [call.ended - call.started for call in calls if call.outcome in (OK, QUEUED)]
    return round(statistics.median(times_s) * 1000, 1) if times_s else 0.0
