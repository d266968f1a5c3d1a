"""Conversations: turns with their tool calls, read from both ends, and in order however many append at once."""

from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from contextdna import (
    ContextDnaError,
    ContextQuery,
    Hub,
    HubSettings,
    Level,
    LimitExceeded,
    NotFound,
    SessionId,
    Turn,
    TurnDraft,
    Workspace,
    open_hub,
)
from contextdna.values.record import Kind
from tests.hub.rig import (
    ALICE,
    BOB,
    ROOT,
    audit_of,
    begin,
    public,
    raw_database,
    refused,
    settings_in,
    start_program,
    stored,
)

pytestmark = pytest.mark.anyio

TASKS: Final = 200
PROCESSES, TURNS = 8, 50


async def talk(hub: Hub, *contents: str, hidden: tuple[str, ...] = ()) -> tuple[str, SessionId]:
    """Log turns, the hidden ones private; gives the handle and the conversation."""
    handle = await begin(hub, ALICE)
    drafts = [
        TurnDraft("user", content, level=Level.PRIVATE if content in hidden else Level.PROJECT) for content in contents
    ]
    await hub.bind(ALICE, session_id=handle).log_turns(drafts)
    return handle, public(handle)


async def said(workspace: Workspace, conversation: SessionId, **asked: Any) -> list[str]:
    return [turn.content for turn in await workspace.read_conversation(conversation, **asked)]


async def every_turn(workspace: Workspace, conversation: SessionId) -> list[Turn]:
    turns: list[Turn] = []
    while page := await workspace.read_conversation(
        conversation, after=turns[-1].record.position if turns else 0, limit=200
    ):
        turns += page
    return turns


async def test_a_conversation_is_read_in_ranges_from_both_ends(hub: Hub) -> None:
    _, conversation = await talk(hub, *"abcdefg")
    bob = hub.bind(BOB)
    assert await said(bob, conversation) == [*"abcdefg"]
    assert await said(bob, conversation, after=2, before=6) == [*"cde"]
    assert await said(bob, conversation, after=2, limit=2) == [*"cd"]
    assert await said(bob, conversation, newest_first=True, limit=3) == [*"gfe"]
    assert await said(bob, conversation, newest_first=True, before=5, limit=3) == [*"dcb"]
    assert await said(bob, conversation, newest_first=True, after=2, before=5) == [*"dc"]
    assert await said(bob, conversation, before=1) == []
    assert await said(bob, conversation, after=7) == []


async def test_of_a_session_without_visible_turns_those_whose_business_it_is_read_none(hub: Hub) -> None:
    empty = public(await begin(hub, ALICE))
    for principal in (ALICE, ROOT):
        assert await said(hub.bind(principal), empty) == []
        assert await said(hub.bind(principal), empty, after=-5) == []
    await refused(hub.bind(BOB).read_conversation(empty), NotFound, "not_found")
    _, hidden = await talk(hub, "a", hidden=("a",))
    assert await said(hub.bind(ROOT), hidden) == []
    outcomes = {entry.draft.outcome for entry in await audit_of(hub, action="conversation.read", record_id=hidden)}
    assert outcomes == {"allowed", "denied"}
    await refused(hub.bind(BOB).read_conversation(hidden), NotFound, "not_found")


async def test_what_counts_from_the_end_counts_only_what_the_reader_sees(hub: Hub) -> None:
    _, conversation = await talk(hub, *"abcdefg", hidden=("c", "f", "g"))
    bob, alice = hub.bind(BOB), hub.bind(ALICE)
    assert await said(bob, conversation, after=-2) == [*"de"]
    assert await said(bob, conversation, after=-3, limit=2) == [*"bd"]
    assert await said(bob, conversation, after=-3, limit=2, newest_first=True) == [*"ed"]
    assert await said(alice, conversation, after=-2) == [*"fg"]
    assert await said(bob, conversation, after=-200) == [*"abde"]


@pytest.mark.parametrize("asked", [{"after": -201}, {"after": 2**60}, {"before": -1}, {"limit": 201}, {"limit": 0}])
async def test_a_range_is_bounded(hub: Hub, asked: dict[str, Any]) -> None:
    _, conversation = await talk(hub, "a")
    [name] = asked
    await refused(hub.bind(BOB).read_conversation(conversation, **asked), LimitExceeded, f"{name}_out_of_range")


CALLS: Final = (
    {"name": "grep_logs", "arguments": {"pattern": "zeppelin"}, "result": {"lines": ["quokka found"]}},
    {"name": "list_files"},
)


@pytest.mark.parametrize("level", [Level.PROJECT, Level.PRIVATE])
async def test_turns_keep_their_tool_calls_and_are_found_by_them(hub: Hub, level: Level) -> None:
    acting = hub.bind(ALICE, session_id=await begin(hub, ALICE))
    [turn_id] = await acting.log_turns([TurnDraft("assistant", "", level=level, tool_calls=CALLS)])
    await acting.log_turns([TurnDraft("assistant", "nothing of the sort", level=level)])
    turns = await every_turn(acting, SessionId((await acting.list_conversations())[0].session_id))
    assert [tuple(turn.tool_calls) for turn in turns] == [CALLS, ()]
    for words in ("grep", '"list files"', "zeppelin", "quokka"):
        hit = (await acting.retrieve_context(ContextQuery(words, kinds=(Kind.TURN,)))).hits[0]
        assert hit.record.id == turn_id
        assert hit.content.startswith('tool call: grep_logs {"pattern":"zeppelin"}\nresult: ')
    assert (await hub.bind(BOB).retrieve_context(ContextQuery("quokka"))).hits == () or level is Level.PROJECT


DEEP: Final[Any] = {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {}}}}}}}}}}}}}}}
WRONG: Final[dict[str, tuple[str, Any]]] = {
    "no object": ("tool_calls_invalid", ["grep"]),
    "no name": ("tool_calls_invalid", [{"arguments": {}}]),
    "no text for a name": ("tool_calls_invalid", [{"name": 1}]),
    "more than is known": ("tool_calls_invalid", [{"name": "a", "id": "1"}]),
    "arguments that are no object": ("tool_calls_invalid", [{"name": "a", "arguments": ["x"]}]),
    "no JSON": ("tool_calls_invalid", [{"name": "a", "result": float("nan")}]),
    "too deep": ("tool_calls_invalid", [{"name": "a", "result": DEEP}]),
    "an empty name": ("tool_name_empty", [{"name": " "}]),
    "a long name": ("tool_name_too_large", [{"name": "a" * 257}]),
    "too much": ("tool_calls_too_large", [{"name": "a", "result": "x" * 70_000}]),
    "too many": ("tool_calls_out_of_range", [{"name": "a"}] * 101),
    "what cannot be stored": ("text_unstorable", [{"name": "a", "result": "a\x00b"}]),
}


@pytest.mark.parametrize("what", WRONG)
async def test_wrong_tool_calls_are_refused_and_nothing_is_kept(hub: Hub, what: str) -> None:
    code, calls = WRONG[what]
    acting = hub.bind(ALICE, session_id=await begin(hub, ALICE))
    before = await stored(hub)
    drafts = [TurnDraft("user", "kept?"), TurnDraft("assistant", "it", tool_calls=calls)]
    await refused(acting.log_turns(drafts), ContextDnaError, code)
    assert (await stored(hub)).data == before.data


def expect_one_order(turns: list[Turn], written: int) -> None:
    """No turn is lost or comes twice, positions rise, and what a writer logged last is its last."""
    positions = [turn.record.position for turn in turns]
    assert positions == sorted(set(positions))
    assert len(positions) == written
    assert len({turn.content for turn in turns}) == written
    numbers: dict[str, list[int]] = defaultdict(list)
    for turn in turns:
        name, _, number = turn.content.partition(" ")
        numbers[name].append(int(number))
    for own in numbers.values():
        assert own[-1] == max(own)


async def test_two_hundred_tasks_append_to_one_conversation_in_one_order(settings: HubSettings) -> None:
    async with open_hub(settings) as hub:
        handle = await begin(hub, ALICE)
        acting = hub.bind(ALICE, session_id=handle)

        async def write(name: str) -> None:
            await acting.log_turns([TurnDraft("user", f"{name} 0")])
            await acting.log_turns([TurnDraft("assistant", f"{name} {number}") for number in (1, 2)])

        async with anyio.create_task_group() as tasks:
            for number in range(TASKS):
                tasks.start_soon(write, f"task{number}")
        turns = await every_turn(acting, public(handle))
        expect_one_order(turns, 3 * TASKS)
        places = {turn.content: turn.record.position for turn in turns}
        for number in range(TASKS):
            first, second, third = (places[f"task{number} {part}"] for part in range(3))
            assert first < second == third - 1, "a batch stays together, behind what was answered before it"


async def test_eight_processes_append_to_one_conversation_in_one_order(folder: Path) -> None:
    async with open_hub(settings_in(folder)) as hub:
        handle = await begin(hub, ALICE)
    processes = [start_program("logging_process.py", folder, handle, f"p{n}", TURNS) for n in range(PROCESSES)]
    told: set[str] = set()
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        told |= set(out.split())
    with raw_database(folder) as run:
        assert {row[0] for row in run("SELECT id FROM records")} == told
    async with open_hub(settings_in(folder)) as hub:
        turns = await every_turn(hub.bind(BOB), public(handle))
    assert {turn.record.id for turn in turns} == told
    expect_one_order(turns, PROCESSES * TURNS)
