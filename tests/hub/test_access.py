"""Who sees what: the five levels by every path, and who may change what is seen."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from contextdna import (
    AccessDenied,
    BeginRequest,
    ContextDnaError,
    ContextQuery,
    Hub,
    InvalidInput,
    Kind,
    Level,
    MemoryChange,
    MemoryDraft,
    MemorySelection,
    NotFound,
    Outcome,
    Principal,
    RecordId,
    Risk,
    Role,
    SessionId,
    TaskChange,
    TaskDraft,
    TurnDraft,
    Workspace,
)
from tests.hub.revealing import LOOPS, Planted, expected, plant, revealed
from tests.hub.rig import (
    ALICE,
    BOB,
    DEFAULT,
    OTHER,
    OUTSIDER,
    PETE,
    ROOT,
    TESS,
    WRITER,
    audit_of,
    last_audit,
    refused,
    remember,
    unchanged,
)

pytestmark = pytest.mark.anyio

LEVELS_SEEN = {
    WRITER: set(Level),
    TESS: {Level.TEAM, Level.PROJECT},
    BOB: {Level.SWARM, Level.PROJECT},
    PETE: {Level.PROJECT},
    ROOT: {Level.PROJECT, Level.SYSTEM},
    OUTSIDER: set[Level](),
}
"""What each caller sees of the records of ``WRITER``: the table of the five levels, by hand."""


async def plant_all(hub: Hub, owner: Principal) -> list[Planted]:
    """Plant a record of each kind at each level that the kind can have."""
    return [
        await plant(hub, owner, kind, level, f"{kind}-{level.label}")
        for kind in Kind
        for level in Level
        if kind is not Kind.LOOP or level in LOOPS
    ]


@pytest.mark.parametrize("reader", LEVELS_SEEN, ids=lambda reader: reader.agent_id)
async def test_every_path_reveals_what_the_level_allows_and_nothing_else(hub: Hub, reader: Principal) -> None:
    records = await plant_all(hub, WRITER)
    seen = await revealed(hub.bind(reader), records)
    assert seen == expected(record for record in records if record.level in LEVELS_SEEN[reader])


async def test_an_agent_without_team_and_swarm_cannot_write_for_them(hub: Hub) -> None:
    for level, code in ((Level.TEAM, "level_needs_team"), (Level.SWARM, "level_needs_swarm")):
        await refused(hub.bind(PETE).store_memories([MemoryDraft("mine", level=level)]), InvalidInput, code)


async def test_only_the_role_system_writes_at_level_system(hub: Hub) -> None:
    for role in (Role.AGENT, Role.COORDINATOR):
        workspace = hub.bind(replace(ALICE, role=role))
        await unchanged(
            hub,
            lambda workspace=workspace: refused(  # type: ignore[misc]
                workspace.store_memories([MemoryDraft("top", level=Level.SYSTEM)]), AccessDenied, "role_required"
            ),
            audited=1,
        )


def shape(error: ContextDnaError, record_id: str) -> tuple[object, ...]:
    """Give all that a caller sees of an error, the asked id aside."""
    texts = tuple(text.replace(record_id, "ID") for text in (error.message, error.hint, str(error)))
    return type(error), error.code, error.retryable, *texts


ASKED: dict[str, Callable[[Workspace, RecordId], Awaitable[Any]]] = {
    "get": lambda w, i: w.get_memories([i]),
    "update": lambda w, i: w.update_memory(i, MemoryChange(content="x"), expected_version=1),
    "supersede": lambda w, i: w.update_memory(i, MemoryChange(superseded_by=i), expected_version=1),
    "forget": lambda w, i: w.forget_memories([i]),
    "purge": lambda w, i: w.forget_memories([i], purge=True),
    "restore": lambda w, i: w.restore_memories([i]),
    "share": lambda w, i: w.share_memories([BOB.agent_id], [i]),
    "relate": lambda w, i: w.store_memories([MemoryDraft("mine", relates_to=(i,))]),
    "read artifact": lambda w, i: w.read_artifact(i),
    "describe artifact": lambda w, i: w.describe_artifact(i),
    "read conversation": lambda w, i: w.read_conversation(SessionId(i)),
    "open": lambda w, i: w.documents.open(i),
    "link": lambda w, i: w.documents.link(i, [RecordId("mem_x")]),
    "get task": lambda w, i: w.tasks.get(i),
    "update task": lambda w, i: w.tasks.update(i, TaskChange(result="x"), expected_version=1),
    "depend": lambda w, i: w.tasks.depend(i, [RecordId("task_x")]),
    "depend on": lambda w, i: w.tasks.add(TaskDraft("mine", depends_on=(i,))),
}
_ASKED_FOR = {
    "read artifact": Kind.ARTIFACT,
    "describe artifact": Kind.ARTIFACT,
    "read conversation": Kind.TURN,
    "get task": Kind.TASK,
    "update task": Kind.TASK,
    "depend": Kind.TASK,
    "depend on": Kind.TASK,
}


@pytest.mark.parametrize("way", ASKED)
async def test_what_is_hidden_answers_as_what_is_absent(hub: Hub, way: str) -> None:
    hidden = await plant(hub, WRITER, _ASKED_FOR.get(way, Kind.MEMORY), Level.PRIVATE, "hidden")
    asked = hidden.place if way == "read conversation" else hidden.id
    absent = asked[:-4] + "zzzz"

    async def ask(name: str) -> tuple[object, ...]:
        with pytest.raises(NotFound) as caught:
            await ASKED[way](hub.bind(PETE), RecordId(name))
        return shape(caught.value, name)

    denied = await unchanged(hub, lambda: ask(asked), audited=1)
    entry = (await last_audit(hub)).draft
    assert (entry.outcome, entry.risk, entry.record_ids) == (Outcome.DENIED, Risk.HIGH, (asked,))
    missing = await unchanged(hub, lambda: ask(absent), audited=1)
    entry = (await last_audit(hub)).draft
    assert (entry.outcome, entry.risk) == (Outcome.ABSENT, Risk.LOW)
    assert denied == missing


async def test_hidden_and_absent_are_alike_beside_what_is_visible(hub: Hub) -> None:
    hidden = await remember(hub.bind(WRITER), "hidden", level=Level.PRIVATE)
    mine = await remember(hub.bind(PETE), "mine")
    absent = RecordId("mem_absent")
    found, missing = await hub.bind(PETE).get_memories([hidden, mine, absent])
    assert [memory.record.id for memory in found] == [mine]
    assert missing == (hidden, absent)
    entries = [entry.draft for entry in (await audit_of(hub, action="memory.get"))]
    assert [(entry.outcome, entry.risk, entry.record_ids) for entry in entries] == [
        (Outcome.DENIED, Risk.HIGH, (hidden,)),
        (Outcome.ALLOWED, Risk.LOW, (mine,)),
    ]


async def test_what_is_absent_costs_an_entry_before_the_answer_as_what_is_hidden_does(hub: Hub) -> None:
    hidden = await remember(hub.bind(WRITER), "hidden", level=Level.PRIVATE)
    mine = await remember(hub.bind(PETE), "mine")
    absent = RecordId(hidden[:-4] + "zzzz")
    entries = []
    for asked, outcome in ((hidden, Outcome.DENIED), (absent, Outcome.ABSENT)):
        found, missing = await hub.bind(PETE).get_memories([mine, asked])
        assert ([memory.record.id for memory in found], missing) == ([mine], (asked,))
        entries += [((asked,), outcome), ((mine,), Outcome.ALLOWED)]
        told = [entry.draft for entry in await audit_of(hub, action="memory.get")]
        assert [(draft.record_ids, draft.outcome) for draft in told] == entries  # what came before the answer is first


async def test_what_is_absent_leaves_an_entry_beside_what_a_call_changed_as_what_is_hidden_does(hub: Hub) -> None:
    hidden = await remember(hub.bind(WRITER), "hidden", level=Level.PRIVATE)
    absent = RecordId(hidden[:-4] + "zzzz")
    for asked in (hidden, absent):
        assert (await hub.bind(PETE).revoke_shares([ALICE.agent_id], [asked])).changed == 0
    told = [entry.draft.outcome for entry in await audit_of(hub, action="memory.unshare")]
    assert told == [Outcome.ALLOWED, Outcome.DENIED, Outcome.ALLOWED, Outcome.ABSENT]


async def test_a_phase_of_hidden_records_answers_as_an_unknown_one(hub: Hub) -> None:
    hidden = await plant(hub, WRITER, Kind.LOOP, Level.PRIVATE, "hidden")
    shapes = set()
    for phase in (hidden.place, "phase-absent"):
        with pytest.raises(NotFound) as caught:
            await hub.bind(PETE).read_loops(phase)
        shapes.add(shape(caught.value, phase))
    assert len(shapes) == 1


async def test_links_to_hidden_records_do_not_show(hub: Hub) -> None:
    secret = await remember(hub.bind(WRITER), "secret", level=Level.PRIVATE)
    open_ = await remember(hub.bind(WRITER), "open", relates_to=(secret,))
    [[memory], _] = await hub.bind(PETE).get_memories([open_])
    assert memory.relates_to == ()
    [[memory], _] = await hub.bind(WRITER).get_memories([open_])
    assert memory.relates_to == (secret,)


async def test_a_hidden_successor_does_not_show_in_a_document(hub: Hub) -> None:
    open_ = await remember(hub.bind(WRITER), "open")
    secret = await remember(hub.bind(WRITER), "secret", level=Level.PRIVATE)
    await hub.bind(WRITER).update_memory(open_, MemoryChange(superseded_by=secret), expected_version=1)
    for who, newer in ((PETE, ""), (WRITER, secret)):
        assert (await hub.bind(who).documents.open(open_)).record.superseded_by == newer
        [[memory], _] = await hub.bind(who).get_memories([open_])
        assert memory.record.superseded_by == newer


async def test_an_empty_answer_tells_nothing_of_hidden_records(hub: Hub) -> None:
    async def reason(text: str) -> object:
        return (await hub.bind(PETE).retrieve_context(ContextQuery(text))).empty

    await remember(hub.bind(WRITER), "zanzibar", level=Level.PRIVATE, memory_type="lesson")
    assert await reason("zanzibar") == await reason("wallaroo")


@pytest.mark.parametrize("way", ["update", "forget", "purge", "share"])
async def test_what_is_seen_but_not_owned_cannot_be_changed(hub: Hub, way: str) -> None:
    memory = await remember(hub.bind(ALICE), "for all")

    async def ask() -> None:
        await refused(ASKED[way](hub.bind(PETE), memory), AccessDenied, "not_owner")

    await unchanged(hub, ask, audited=1)
    entry = (await last_audit(hub)).draft
    assert (entry.outcome, entry.risk, entry.record_ids) == (Outcome.DENIED, Risk.HIGH, (memory,))


async def test_the_role_system_changes_what_it_does_not_own_even_unseen(hub: Hub) -> None:
    memory = await remember(hub.bind(ALICE), "private matter", level=Level.PRIVATE)
    await refused(hub.bind(ROOT).get_memories([memory]), NotFound, "not_found")
    updated = await hub.bind(ROOT).update_memory(memory, MemoryChange(importance=0.9), expected_version=1)
    assert updated.version == 2
    [[kept], _] = await hub.bind(ALICE).get_memories([memory])
    assert (kept.record.owner_id, kept.record.importance, kept.content) == ("alice", 0.9, "private matter")
    assert (await hub.bind(ROOT).forget_memories([memory], purge=True)).matched == 1
    await refused(hub.bind(ALICE).get_memories([memory]), NotFound, "not_found")


async def test_a_selection_never_reaches_beyond_ones_own(hub: Hub) -> None:
    await remember(hub.bind(ALICE), "hers", memory_type="lesson")
    for principal in (PETE, ROOT):
        report = await hub.bind(principal).forget_memories(selection=MemorySelection(memory_types=("lesson",)))
        assert (report.dry_run, report.matched) == (True, 0)


async def test_raising_the_level_hides_and_lowering_it_shows(hub: Hub) -> None:
    memory = await remember(hub.bind(ALICE), "shifting")
    await hub.bind(PETE).get_memories([memory])
    await hub.bind(ALICE).update_memory(memory, MemoryChange(level=Level.PRIVATE), expected_version=1)
    await refused(hub.bind(PETE).get_memories([memory]), NotFound, "not_found")
    await hub.bind(ALICE).update_memory(memory, MemoryChange(level=Level.SWARM), expected_version=2)
    await hub.bind(BOB).get_memories([memory])
    await refused(hub.bind(TESS).get_memories([memory]), NotFound, "not_found")


async def test_a_caller_of_several_projects_must_name_one_and_gets_only_that(hub: Hub) -> None:
    both = Principal(PETE.agent_id, (OTHER, DEFAULT))
    elsewhere = await remember(hub.bind(both, project_id=OTHER), "elsewhere")
    await refused(hub.bind(both).get_memories([elsewhere]), NotFound, "not_found")
    [[memory], _] = await hub.bind(both, project_id=OTHER).get_memories([elsewhere])
    assert memory.record.project_id == OTHER
    assert set(await hub.bind(both).list_projects()) == {OTHER, DEFAULT}


async def test_one_conversation_shows_each_reader_its_own_turns(hub: Hub) -> None:
    begun = await hub.bind(ALICE).begin_session(BeginRequest(ALICE.agent_id))
    levels = (Level.PROJECT, Level.PRIVATE, Level.TEAM, Level.SWARM)
    drafts = [TurnDraft("user", level.label, level=level) for level in levels]
    await hub.bind(ALICE, session_id=begun.handle).log_turns(drafts)

    async def heard(principal: Principal) -> list[str]:
        return [turn.content for turn in await hub.bind(principal).read_conversation(begun.session.id)]

    assert await heard(ALICE) == [level.label for level in levels]
    assert await heard(TESS) == ["project", "team"]
    assert await heard(BOB) == ["project", "swarm"]
    assert await heard(PETE) == ["project"]
    [summary] = await hub.bind(PETE).list_conversations()
    assert summary.turns == 1
