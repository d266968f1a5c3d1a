"""Working state: durable, encrypted, never stale, and gone with its session."""

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from contextdna import (
    AgentId,
    BeginRequest,
    DelegationRequest,
    Hub,
    HubSettings,
    InvalidInput,
    LimitExceeded,
    SessionInvalid,
    Workspace,
    open_hub,
)
from contextdna.domain.states import KEYS_MAX, VALUE_BYTES_MAX
from tests.hub.rig import ALICE, BOB, DEFAULT, ROOT, Clock, begin, public, refused, settings_in, stored

pytestmark = pytest.mark.anyio

RARE = "xylographer"


async def state_of(workspace: Workspace, keys: Sequence[str] = ()) -> dict[str, Any]:
    return {entry.key: entry.value for entry in await workspace.state.mget(keys)}


async def held(hub: Hub, handle: str) -> bytes:
    """Give what the cache holds of a session's state."""
    data = await hub._rooms.commons.cache.get(f"state:{public(handle)}")
    assert data is not None
    return data


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "text ✓", [], {}, {"list": [1, {"deep": None}]}, " "])
async def test_any_json_comes_back_as_it_went_in(hub: Hub, value: Any) -> None:
    alice = hub.bind(ALICE, session_id=await begin(hub, ALICE))
    kept = await alice.state.set("key", value)
    assert (kept.key, kept.value, kept.version) == ("key", value, 1)
    assert await alice.state.mget() == (kept,)


async def test_keys_are_read_by_name_written_over_and_removed(hub: Hub) -> None:
    alice = hub.bind(ALICE, session_id=await begin(hub, ALICE))
    for number, key in enumerate(("b", "a", "c", "a")):
        await alice.state.set(key, number)
    assert await state_of(alice) == {"a": 3, "b": 0, "c": 2}
    assert list(await state_of(alice)) == ["a", "b", "c"]
    assert await state_of(alice, ["c", "absent"]) == {"c": 2}
    assert await alice.state.delete(["a", "absent"]) == 1
    assert await alice.state.delete(["a"]) == 0
    assert await state_of(alice) == {"b": 0, "c": 2}


async def test_two_sessions_of_one_agent_hold_their_own(hub: Hub) -> None:
    one = hub.bind(ALICE, session_id=await begin(hub, ALICE))
    two = hub.bind(ALICE, session_id=await begin(hub, ALICE))
    await one.state.set("key", 1)
    assert await state_of(two) == {}


async def test_state_needs_a_session(hub: Hub) -> None:
    alice = hub.bind(ALICE).state
    await refused(alice.set("key", 1), SessionInvalid, "session_required")
    await refused(alice.mget(), SessionInvalid, "session_required")
    await refused(alice.delete(["key"]), SessionInvalid, "session_required")


async def test_nobody_else_reads_it(hub: Hub) -> None:
    handle = await begin(hub, ALICE)
    await hub.bind(ALICE, session_id=handle).state.set("key", 1)
    await hub.bind(ALICE, session_id=handle).state.mget()
    await refused(hub.bind(BOB, session_id=handle).state.mget(), SessionInvalid, "session_invalid")
    await refused(hub.bind(BOB, session_id=f"{public(handle)}.x").state.mget(), SessionInvalid, "session_invalid")


@pytest.mark.parametrize(
    ("key", "value", "ttl_s", "code"),
    [
        ("", 1, None, "key_invalid"),
        ("two words", 1, None, "key_invalid"),
        ("k" * 129, 1, None, "key_invalid"),
        ("key", float("nan"), None, "value_invalid"),
        ("key", {1, 2}, None, "value_invalid"),
        ("key", json.loads("[" * 17 + "]" * 17), None, "value_invalid"),
        ("key", "nul\0", None, "text_unstorable"),
        ("key", "x" * (VALUE_BYTES_MAX - 1), None, "value_too_large"),
        ("key", 1, 0.0, "ttl_out_of_range"),
        ("key", 1, float("nan"), "ttl_out_of_range"),
        ("key", 1, float("inf"), "ttl_out_of_range"),
    ],
)
async def test_what_cannot_be_kept_is_refused(hub: Hub, key: str, value: Any, ttl_s: float | None, code: str) -> None:
    alice = hub.bind(ALICE, session_id=await begin(hub, ALICE))
    await refused(alice.state.set(key, value, ttl_s=ttl_s), InvalidInput, code)
    assert await state_of(alice) == {}


async def test_a_value_at_the_limit_is_kept(hub: Hub) -> None:
    alice = hub.bind(ALICE, session_id=await begin(hub, ALICE))
    await alice.state.set("key", "x" * (VALUE_BYTES_MAX - 2))
    assert len((await state_of(alice))["key"]) == VALUE_BYTES_MAX - 2


async def test_a_session_holds_so_many_keys_and_no_more(hub: Hub, clock: Clock) -> None:
    alice = hub.bind(ALICE, session_id=await begin(hub, ALICE))
    for number in range(KEYS_MAX):
        await alice.state.set(f"key{number}", number, ttl_s=60 if number else None)
    await refused(alice.state.set("more", 1), LimitExceeded, "state_keys_too_many")
    await alice.state.set("key7", "over")
    clock.advance(seconds=60)
    await alice.state.set("more", 1)
    assert set(await state_of(alice)) == {"key0", "key7", "more"}


async def test_a_key_ends_at_its_time_to_the_microsecond_and_with_its_session_at_the_latest(
    hub: Hub, clock: Clock
) -> None:
    alice = hub.bind(ALICE, session_id=await begin(hub, ALICE, ttl_s=3600))
    await alice.state.set("short", 1, ttl_s=60)
    long = await alice.state.set("long", 2, ttl_s=86_400)
    assert (long.expires_at - clock.now).total_seconds() == 3600
    assert set(await state_of(alice)) == {"short", "long"}
    clock.advance(seconds=60, microseconds=-1)
    assert set(await state_of(alice)) == {"short", "long"}
    clock.advance(microseconds=1)
    assert set(await state_of(alice)) == {"long"}


async def test_without_a_time_of_its_own_a_key_lives_as_long_as_the_settings_say(hub: Hub, clock: Clock) -> None:
    alice = hub.bind(ALICE, session_id=await begin(hub, ALICE, ttl_s=7 * 86_400))
    kept = await alice.state.set("key", 1)
    assert (kept.expires_at - clock.now).total_seconds() == hub.settings.work.state_ttl_s


async def test_state_ends_with_its_session_and_with_those_above_it(hub: Hub) -> None:
    parent = await begin(hub, ALICE)
    alice = hub.bind(ALICE, session_id=parent)
    below = [
        (await alice.begin_session(BeginRequest(AgentId("")))).handle,
        (await alice.delegate(DelegationRequest(AgentId("carol"), "help"))).begun.handle,
    ]
    for handle in (parent, *below):
        await hub.bind(ALICE, session_id=handle).state.set("key", RARE)
    assert len(_rows(await stored(hub))) == 3
    await hub.bind(ALICE, session_id=below[0]).end_session(success=True)
    assert len(_rows(await stored(hub))) == 2
    await alice.end_session(success=True)
    assert _rows(await stored(hub)) == []


def _rows(everything: Any) -> list[Any]:
    rows: list[Any] = everything.data.get("session_states", everything.data.get("states"))
    return rows


async def test_it_is_read_from_the_cache_until_it_changes(hub: Hub) -> None:
    handle = await begin(hub, ALICE)
    alice = hub.bind(ALICE, session_id=handle)
    await alice.state.set("key", 1)
    first = await held(hub, handle)
    assert await state_of(alice) == {"key": 1}
    assert await held(hub, handle) is first
    await alice.state.set("key", 2)
    second = await held(hub, handle)
    assert second != first
    assert await state_of(alice) == {"key": 2}
    assert await held(hub, handle) is second
    await alice.end_session(success=True)
    assert await hub._rooms.commons.cache.get(f"state:{public(handle)}") is None


async def test_a_large_state_is_read_each_time_and_not_held(hub: Hub) -> None:
    handle = await begin(hub, ALICE)
    alice = hub.bind(ALICE, session_id=handle)
    noise = {key: Random(key).randbytes(30_000).hex() for key in "abc"}  # noqa: S311
    for key, value in noise.items():
        await alice.state.set(key, value)
    assert await state_of(alice) == noise
    assert await hub._rooms.commons.cache.get(f"state:{public(handle)}") is None


async def test_a_snapshot_of_another_session_or_version_does_not_count(hub: Hub) -> None:
    handle, other = await begin(hub, ALICE), await begin(hub, ALICE)
    alice = hub.bind(ALICE, session_id=handle)
    await alice.state.set("key", "old")
    await alice.state.mget()
    old = await held(hub, handle)
    await alice.state.set("key", "new")
    await hub._rooms.commons.cache.set(f"state:{public(handle)}", old, ttl_s=60)
    assert await state_of(alice) == {"key": "new"}
    await hub.bind(ALICE, session_id=other).state.set("key", "other's")
    await hub._rooms.commons.cache.set(f"state:{public(other)}", old, ttl_s=60)
    assert await state_of(hub.bind(ALICE, session_id=other)) == {"key": "other's"}


@pytest.mark.parametrize("place", [0, 4, 40, -1])
async def test_what_a_cache_changed_is_not_believed(hub: Hub, place: int) -> None:
    handle = await begin(hub, ALICE)
    alice = hub.bind(ALICE, session_id=handle)
    await alice.state.set("key", "right")
    changed = bytearray(await held(hub, handle))
    changed[place] ^= 1
    for data in (bytes(changed), bytes(changed[:50]), b"", b"\0\0\0\x02[]"):
        await hub._rooms.commons.cache.set(f"state:{public(handle)}", data, ttl_s=60)
        assert await state_of(alice) == {"key": "right"}


async def test_neither_the_cache_nor_the_disk_holds_a_value_in_the_clear(hub: Hub, settings: HubSettings) -> None:
    handle = await begin(hub, ALICE)
    alice = hub.bind(ALICE, session_id=handle)
    await alice.state.set("key", {"word": RARE})
    await alice.sessions.progress(status=RARE)
    await alice.state.mget()
    everything = repr(await held(hub, handle)) + repr((await stored(hub)).data)
    for file in settings.data_dir.rglob("*") if settings.data_dir else ():
        everything += file.read_bytes().decode("latin-1") if file.is_file() else ""
    assert RARE not in everything


@pytest.mark.parametrize("key", ["", "two words", "k" * 300_000])
async def test_no_answer_repeats_a_key_that_could_never_be_set(hub: Hub, key: str) -> None:
    state = hub.bind(ALICE, session_id=await begin(hub, ALICE)).state
    for call in (state.mget([key]), state.delete(["fine", key])):
        error = await refused(call, InvalidInput, "key_invalid")
        assert len(f"{error.message}{error.hint}") < 500


async def test_another_process_s_write_is_seen_by_the_next_read(folder: Path, clock: Clock) -> None:
    settings = settings_in(folder)
    async with open_hub(settings, clock=clock) as here, open_hub(settings, clock=clock) as there:
        handle = await begin(here, ALICE)
        for number in range(5):
            writer, reader = (here, there) if number % 2 else (there, here)
            await writer.bind(ALICE, session_id=handle).state.set("key", number)
            for hub in (reader, writer):
                assert await state_of(hub.bind(ALICE, session_id=handle)) == {"key": number}
        await there.bind(ALICE, session_id=handle).state.delete(["key"])
        assert await state_of(here.bind(ALICE, session_id=handle)) == {}


async def test_what_was_turned_over_to_a_new_key_can_still_be_read(hub: Hub) -> None:
    alice = hub.bind(ALICE, session_id=await begin(hub, ALICE, task="rotate"))
    await alice.state.set("key", 1)
    await alice.state.mget()
    await hub.bind(ROOT, project_id=DEFAULT).rotate_keys()
    assert await state_of(alice) == {"key": 1}
    await alice.state.set("more", 2)
    assert await state_of(alice) == {"key": 1, "more": 2}


async def test_a_key_past_its_time_is_not_there_to_be_removed(hub: Hub, clock: Clock) -> None:
    alice = hub.bind(ALICE, session_id=await begin(hub, ALICE))
    for key, ttl_s in (("short", 60), ("long", 3600)):
        await alice.state.set(key, 1, ttl_s=ttl_s)
    clock.advance(seconds=60)
    assert await alice.state.delete(["short", "long"]) == 1
    assert await alice.state.mget() == ()
