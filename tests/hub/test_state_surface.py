"""Working state as a store of values and lists: every operation, the same on every database."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from contextdna import Hub, InvalidInput, LimitExceeded, Workspace, open_hub
from contextdna.domain.states import KEYS_MAX, VALUE_BYTES_MAX
from contextdna.hub.state import State
from tests.hub.rig import ALICE, ROOT, Clock, begin, refused, settings_in
from tests.servers.postgres import empty_database_url

pytestmark = pytest.mark.anyio


@pytest.fixture
async def workspace(hub: Hub) -> Workspace:
    return hub.bind(ALICE, session_id=await begin(hub, ALICE))


@pytest.fixture
def state(workspace: Workspace) -> State:
    return workspace.state


async def values(state: State) -> dict[str, Any]:
    return {entry.key: entry.value for entry in await state.mget()}


async def test_one_key_is_set_read_and_removed(state: State) -> None:
    assert await state.get("key") is None
    kept = await state.set("key", {"page": 1})
    assert await state.get("key") == kept
    assert await state.delete(["key"]) == 1
    assert await state.get("key") is None


async def test_several_keys_are_set_at_once_and_read_in_order(state: State) -> None:
    kept = await state.mset({"b": 1, "a": None, "c": [1, 2]})
    assert {entry.version for entry in kept} == {1}
    assert [entry.key for entry in await state.mget(["c", "absent", "a"])] == ["a", "c"]
    assert await values(state) == {"a": None, "b": 1, "c": [1, 2]}


async def test_of_several_keys_all_are_set_or_none(state: State) -> None:
    await refused(state.mset({"a": 1, "b": float("nan")}), InvalidInput, "value_invalid")
    await refused(state.mset({"a": 1, "two words": 2}), InvalidInput, "key_invalid")
    await refused(state.mset({}), LimitExceeded, "keys_out_of_range")
    many = {f"key{number}": number for number in range(KEYS_MAX)}
    await refused(state.mset({**many, "more": 1}), LimitExceeded, "keys_out_of_range")
    await state.mset(many)
    await refused(state.mset({"key1": 0, "more": 1}), LimitExceeded, "state_keys_too_many")
    assert await values(state) == many


async def test_lists_grow_at_their_end(state: State) -> None:
    assert await state.get_length("list") == 0
    assert await state.append("list", ["a"]) == 1
    assert await state.append("list", [{"b": 1}, None]) == 3
    assert await state.get_length("list") == 3
    entry = await state.get("list")
    assert entry is not None
    assert entry.value == ["a", {"b": 1}, None]
    await state.set("list", [])
    assert await state.append("list", [7]) == 1


@pytest.mark.parametrize(
    ("start", "end", "part"),
    [
        (0, -1, "abcde"),
        (0, 0, "a"),
        (1, 3, "bcd"),
        (-2, -1, "de"),
        (-100, 1, "ab"),
        (3, 100, "de"),
        (-3, 2, "c"),
        (3, 2, ""),
        (5, 9, ""),
        (0, -6, ""),
        (-1, 0, ""),
    ],
)
async def test_a_part_of_a_list_is_read_by_both_its_ends(state: State, start: int, end: int, part: str) -> None:
    await state.append("list", list("abcde"))
    assert await state.get_range("list", start, end) == tuple(part)
    assert await state.get_range("absent", start, end) == ()


async def test_what_is_no_list_is_not_taken_for_one(state: State) -> None:
    await state.set("key", "abc")
    for call in (state.append("key", [1]), state.get_range("key"), state.get_length("key")):
        await refused(call, InvalidInput, "value_not_list")
    assert await values(state) == {"key": "abc"}


async def test_a_list_has_a_largest_size(state: State) -> None:
    await state.append("list", ["x" * (VALUE_BYTES_MAX - 100)])
    await refused(state.append("list", ["y" * 100]), LimitExceeded, "value_too_large")
    await refused(state.append("list", []), LimitExceeded, "values_out_of_range")
    assert await state.get_length("list") == 1


async def test_those_who_append_at_once_all_are_heard(state: State) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(state.append, "list", [number])
    assert sorted(await state.get_range("list")) == list(range(20))


async def test_it_tells_which_keys_are_there(state: State) -> None:
    await state.mset({"page:1": 1, "page:22": 2, "other": 3})
    assert await state.exists(["page:1", "absent", "other", "page:1"]) == 2
    assert await state.exists([]) == 0
    assert await state.keys() == ("other", "page:1", "page:22")
    assert await state.keys("page:*") == ("page:1", "page:22")
    assert await state.keys("page:?") == ("page:1",)
    assert await state.keys("[po]*") == ()
    await refused(state.keys("x" * 200), LimitExceeded, "pattern_out_of_range")


async def test_clearing_removes_all_keys_of_the_session_alone(hub: Hub, state: State) -> None:
    other = hub.bind(ALICE, session_id=await begin(hub, ALICE)).state
    await other.set("key", "other's")
    await state.mset({"a": 1, "b": 2})
    assert await state.clear() == 2
    assert await state.clear() == 0
    assert await values(state) == {}
    assert await values(other) == {"key": "other's"}


async def test_what_is_past_its_time_is_gone_for_every_operation(state: State, clock: Clock) -> None:
    await state.append("list", [1, 2], ttl_s=60)
    await state.mset({"a": 1, "b": 2}, ttl_s=60)
    await state.set("stays", 1)
    clock.advance(seconds=60)
    assert await state.get("a") is None
    assert await state.exists(["a", "stays"]) == 1
    assert await state.keys() == ("stays",)
    assert await state.get_length("list") == 0
    assert await state.get_range("list") == ()
    assert await state.append("list", [3]) == 1
    assert await state.delete(["a"]) == 0
    assert await state.clear() == 2


async def test_every_operation_is_audited_like_state(hub: Hub, state: State) -> None:
    await state.append("list", [1])
    await state.get_range("list")
    await state.keys()
    await state.clear()
    entries = await hub.bind(ROOT, project_id="default").query_audit(agent_id="alice")
    actions = [entry.draft.action for entry in entries if entry.draft.action.startswith("state.")]
    assert sorted(actions) == ["state.delete", "state.get", "state.get", "state.set"]


async def every_operation(state: State, clock: Clock) -> list[Any]:
    """Go through all operations; gives what each has answered."""
    answers: list[Any] = [
        await state.mset({"b": 1, "a": {"deep": [None, 1.5]}, "u": "ß"}),
        await state.set("short", 1, ttl_s=60),
        await state.append("list", ["x", 2, None]),
        await state.append("list", ["y"], ttl_s=120),
        [await state.get_range("list", *part) for part in ((0, -1), (-2, -1), (1, 2), (-9, 0), (2, 1))],
        await state.get_length("list"),
        await state.get("a"),
        await state.mget(["u", "absent", "b"]),
        await state.exists(["a", "absent", "u"]),
        [await state.keys(pattern) for pattern in ("*", "?", "s*t", "[a]", "")],
    ]
    clock.advance(seconds=60)
    answers += [await state.keys(), await state.delete(["short", "b"]), await state.mget()]
    clock.advance(seconds=60)
    return [*answers, await state.get_length("list"), await state.clear(), await state.clear(), await state.mget()]


async def test_every_database_gives_the_same_answers(tmp_path: Path) -> None:
    found = []
    for settings in (
        settings_in(None),
        settings_in(tmp_path / "sqlite"),
        settings_in(tmp_path / "server", database=empty_database_url()),
    ):
        clock = Clock()
        async with open_hub(settings, clock=clock) as hub:
            found.append(await every_operation(hub.bind(ALICE, session_id=await begin(hub, ALICE)).state, clock))
    assert found[0] == found[1] == found[2]
    assert found[0][4][0] == ("x", 2, None, "y")
    assert found[0][-4:] == [0, 2, 0, ()]
