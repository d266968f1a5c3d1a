"""Records of all five kinds, and all that the workspace reveals of them by any path."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from contextdna import (
    ArtifactDraft,
    BeginRequest,
    ContextQuery,
    Decision,
    Hub,
    Kind,
    Level,
    Loop,
    LoopDraft,
    NotFound,
    Principal,
    RecordId,
    SessionId,
    TaskDraft,
    TaskQuery,
    TurnDraft,
    Workspace,
)
from tests.hub.rig import remember

WORD: Final = "quokka"
"""Stands in every planted record."""

LOOPS: Final = {
    Level.PRIVATE: Loop.CONFIDENCE,
    Level.SWARM: Loop.CONSENSUS,
    Level.SYSTEM: Loop.DECISION,
}
"""Which loop record has which level: the loop decides it."""


@dataclass(frozen=True)
class Planted:
    """A record and where it is to be found: its conversation or phase."""

    id: RecordId
    kind: Kind
    level: Level
    place: str = ""


async def plant(hub: Hub, owner: Principal, kind: Kind, level: Level, label: str) -> Planted:
    """Make a record of a kind at a level; the label tells it from others."""
    workspace, text = hub.bind(owner), f"{WORD} {label}"
    match kind:
        case Kind.MEMORY:
            return Planted(await remember(workspace, text, level=level), kind, level)
        case Kind.TURN:
            begun = await workspace.begin_session(BeginRequest(owner.agent_id, role=owner.role))
            acting = hub.bind(owner, session_id=begun.handle)
            [turn] = await acting.log_turns([TurnDraft("user", text, level=level)])
            return Planted(turn, kind, level, begun.session.id)
        case Kind.ARTIFACT:
            artifact = await workspace.attach_artifact(ArtifactDraft(f"{label}.txt", text.encode(), level=level))
            return Planted(artifact.record.id, kind, level)
        case Kind.LOOP:
            loop = LOOPS[level]
            decision = Decision.DEFER if loop is Loop.DECISION else None
            score = None if decision else 0.5
            draft = LoopDraft(loop, f"phase-{label}", score=score, decision=decision, reasoning=text)
            return Planted(RecordId((await workspace.record_loop(draft)).id), kind, level, draft.phase)
        case Kind.TASK:
            added = await workspace.tasks.add(TaskDraft(label, description=text, level=level))
            return Planted(added.id, kind, level)


async def revealed(workspace: Workspace, records: Iterable[Planted]) -> dict[str, set[str]]:
    """Ask for everything by every path; gives what came, by path."""
    planted = list(records)
    ids = {kind: [record.id for record in planted if record.kind is kind] for kind in Kind}
    conversations = await workspace.list_conversations(limit=200)
    found: dict[str, set[str]] = {
        "retrieved": await _retrieved(workspace, ""),
        "searched": await _retrieved(workspace, WORD),
        "memories": await _memories(workspace, ids[Kind.MEMORY]),
        "conversations": {summary.session_id for summary in conversations},
        "turns": await _turns(workspace, planted),
        "artifacts": {artifact.record.id for artifact in await workspace.list_artifacts(limit=200)},
        "bytes": await _bytes(workspace, ids[Kind.ARTIFACT]),
        "loops": await _loops(workspace, planted),
        "tasks": {task.record.id for task in (await workspace.tasks.list(TaskQuery(limit=100))).tasks},
        "opened tasks": await _opened(workspace.tasks.get, ids[Kind.TASK]),
        "documents": await _opened(workspace.documents.open, [record.id for record in planted]),
        "overview": await _overview(workspace),
    }
    for argument in ("memory_id", "artifact_id", "task_id", "session_id", "phase"):
        found[f"completed {argument}"] = set(await workspace.complete(argument, ""))
    assert sum(summary.turns for summary in conversations) == len(found["turns"])
    return found


def expected(visible: Iterable[Planted]) -> dict[str, set[str]]:
    """Give what ``revealed`` must give when exactly these records are visible."""
    seen = list(visible)

    def of(kind: Kind, name: Callable[[Planted], str] = lambda record: record.id) -> set[str]:
        return {name(record) for record in seen if record.kind is kind}

    every = {str(record.id) for record in seen}
    counts = Counter(record.kind.value for record in seen) + Counter(record.level.label for record in seen)
    return {
        "retrieved": every,
        "searched": every,
        "memories": of(Kind.MEMORY),
        "conversations": of(Kind.TURN, lambda record: record.place),
        "turns": of(Kind.TURN),
        "artifacts": of(Kind.ARTIFACT),
        "bytes": of(Kind.ARTIFACT),
        "loops": of(Kind.LOOP),
        "tasks": of(Kind.TASK),
        "opened tasks": of(Kind.TASK),
        "documents": every,
        "overview": _counted(counts),
        "completed memory_id": of(Kind.MEMORY),
        "completed artifact_id": of(Kind.ARTIFACT),
        "completed task_id": of(Kind.TASK),
        "completed session_id": of(Kind.TURN, lambda record: record.place),
        "completed phase": of(Kind.LOOP, lambda record: record.place),
    }


def _counted(counts: Mapping[str, int]) -> set[str]:
    return {f"{name} {count}" for name, count in counts.items()}


async def _retrieved(workspace: Workspace, text: str) -> set[str]:
    found: list[str] = []
    more, cursor = True, ""
    while more:
        context = await workspace.retrieve_context(ContextQuery(text, limit=7, max_tokens=20_000, cursor=cursor))
        found += [hit.record.id for hit in context.hits]
        cursor = context.cursor
        more = bool(cursor)
    assert len(found) == len(set(found)), "a record came twice"
    return set(found)


async def _memories(workspace: Workspace, ids: list[RecordId]) -> set[str]:
    try:
        found, missing = await workspace.get_memories(ids) if ids else ((), ())
    except NotFound:
        return set()
    assert {memory.record.id for memory in found} | set(missing) == set(ids)
    return {memory.record.id for memory in found}


async def _turns(workspace: Workspace, planted: list[Planted]) -> set[str]:
    seen: set[str] = set()
    for place in dict.fromkeys(record.place for record in planted if record.kind is Kind.TURN):
        try:
            seen |= {turn.record.id for turn in await workspace.read_conversation(SessionId(place))}
        except NotFound:
            continue
    return seen


async def _bytes(workspace: Workspace, ids: list[RecordId]) -> set[str]:
    seen: set[str] = set()
    for record_id in ids:
        try:
            _, data = await workspace.read_artifact(record_id)
        except NotFound:
            continue
        assert WORD.encode() in data
        seen.add(record_id)
    return seen


async def _loops(workspace: Workspace, planted: list[Planted]) -> set[str]:
    seen: set[str] = set()
    for place in dict.fromkeys(record.place for record in planted if record.kind is Kind.LOOP):
        try:
            seen |= {record.record.id for record in await workspace.read_loops(place)}
            status = await workspace.loops.status(place)
            assert {record.record.id for record in status.standing} <= seen
        except NotFound:
            continue
    by_time = await workspace.loops.read(limit=200)
    assert {record.record.id for record in by_time.records} == seen
    return seen


async def _opened(opening: Callable[[RecordId], Awaitable[object]], ids: list[RecordId]) -> set[str]:
    seen: set[str] = set()
    for record_id in ids:
        try:
            await opening(record_id)
        except NotFound:
            continue
        seen.add(record_id)
    return seen


async def _overview(workspace: Workspace) -> set[str]:
    overview = await workspace.project_overview()
    return _counted(dict(overview.records_by_kind) | dict(overview.records_by_level))
