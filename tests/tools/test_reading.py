"""read_conversation and list_artifacts: all that one may see, in order, page by page."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from contextdna import ArtifactDraft, Level, TurnDraft
from contextdna_tools import FULL_TOOLS
from tests.hub.rig import ALICE, BOB, public
from tests.tools.calling import Caller, calling

pytestmark = pytest.mark.anyio


@pytest.fixture
async def alice() -> AsyncIterator[Caller]:
    async with calling(ALICE, "auto", tools=FULL_TOOLS) as caller:
        yield caller


async def talk(alice: Caller, *contents: str, level: Level = Level.PRIVATE) -> str:
    """Log turns; gives the session's handle."""
    handle = str((await alice.ok("begin_session", agent_id="alice"))["session_id"])
    await alice.hub.bind(ALICE, session_id=handle).log_turns([TurnDraft("user", c, level=level) for c in contents])
    return handle


async def pages(caller: Caller, name: str, **arguments: Any) -> list[dict[str, Any]]:
    found = [await caller.ok(name, **arguments)]
    while found[-1]["cursor"]:
        found.append(await caller.ok(name, **arguments, cursor=found[-1]["cursor"]))
    return found


async def said(caller: Caller, **arguments: Any) -> list[str]:
    found = await pages(caller, "read_conversation", **arguments)
    return [turn["content"] for page in found for turn in page["turns"]]


async def test_an_agent_reads_its_own_private_turns_in_order_and_from_the_end(alice: Caller) -> None:
    handle = await talk(alice, *"abcde")
    for limit in (1, 2, 3, 100):
        assert await said(alice, session_id=handle, limit=limit) == [*"abcde"], limit
        assert await said(alice, session_id=handle, limit=limit, newest_first=True) == [*"edcba"], limit
        assert await said(alice, session_id=handle, limit=limit, after=-2) == [*"de"], limit
    by_id = await alice.ok("read_conversation", conversation=public(handle))
    assert [turn["content"] for turn in by_id["turns"]] == [*"abcde"]
    first, *_, last = [turn["position"] for turn in by_id["turns"]]
    for reverse in (False, True):
        between = await said(
            alice, conversation=public(handle), after=first, before=last, limit=2, newest_first=reverse
        )
        assert between == [*("dcb" if reverse else "bcd")]


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("max_chars", [1, 3, 7, 10, 200_000])
async def test_a_long_turn_comes_whole_over_pages(alice: Caller, max_chars: int, newest_first: bool) -> None:
    handle = await talk(alice, "ab", "0123456789", "yz")
    found = await pages(alice, "read_conversation", session_id=handle, max_chars=max_chars, newest_first=newest_first)
    texts: dict[int, str] = {}
    for page in found:
        assert sum(len(turn["content"]) for turn in page["turns"]) <= max_chars
        for turn in page["turns"]:
            assert len(texts.get(turn["position"], "")) == turn.get("offset", 0)
            texts[turn["position"]] = texts.get(turn["position"], "") + turn["content"]
    assert [*texts.values()] == (["yz", "0123456789", "ab"] if newest_first else ["ab", "0123456789", "yz"])


async def test_what_is_hidden_answers_as_absent_and_what_is_wrong_is_refused(alice: Caller) -> None:
    handle = await talk(alice, "mine", "mine too")
    cursor = (await alice.ok("read_conversation", session_id=handle, limit=1))["cursor"]
    for wrong in ({"newest_first": True}, {"conversation": "ses_other"}):
        error = await alice.error("read_conversation", session_id=handle, cursor=cursor, **wrong)
        assert error["code"] == "cursor_invalid"
    for arguments, code in (
        ({}, "session_required"),
        ({"session_id": handle, "cursor": "x"}, "cursor_invalid"),
        ({"session_id": handle, "limit": 101}, "limit_out_of_range"),
        ({"session_id": handle, "max_chars": 0}, "max_chars_out_of_range"),
        ({"session_id": handle, "after": -1, "newest_first": True}, "after_out_of_range"),
    ):
        assert (await alice.error("read_conversation", **arguments))["code"] == code
    async with calling(BOB, "auto", hub=alice.hub, tools=FULL_TOOLS) as bob:
        assert (await bob.error("read_conversation", conversation=public(handle)))["code"] == "not_found"


async def test_what_is_forgotten_between_two_pages_of_artifacts_leaves_none_out(alice: Caller) -> None:
    workspace = alice.hub.bind(ALICE)
    for number in range(10):
        await workspace.attach_artifact(ArtifactDraft(f"{number}.txt", b"x"))
    first = await alice.ok("list_artifacts", limit=4)
    await workspace.forget_memories([artifact["id"] for artifact in first["artifacts"]])
    second = await alice.ok("list_artifacts", limit=4, cursor=first["cursor"])
    assert [artifact["name"] for artifact in second["artifacts"]] == ["5.txt", "4.txt", "3.txt", "2.txt"]
    await workspace.forget_memories([artifact["id"] for artifact in second["artifacts"]])
    last = await alice.ok("list_artifacts", limit=4, cursor=second["cursor"])
    assert ([artifact["name"] for artifact in last["artifacts"]], last["cursor"]) == (["1.txt", "0.txt"], "")


async def test_artifacts_are_listed_newest_first_by_prefix_and_only_what_one_may_see(alice: Caller) -> None:
    workspace = alice.hub.bind(ALICE)
    for number in range(5):
        await workspace.attach_artifact(ArtifactDraft(f"{'ab'[number % 2]}{number}.txt", b"x"))
    await workspace.attach_artifact(ArtifactDraft("a-private.txt", b"x", level=Level.PRIVATE))

    async def names(caller: Caller, **arguments: Any) -> list[str]:
        found = await pages(caller, "list_artifacts", **arguments)
        return [artifact["name"] for page in found for artifact in page["artifacts"]]

    for limit in (1, 2, 6, 200):
        assert await names(alice, limit=limit, name_prefix="a") == ["a-private.txt", "a4.txt", "a2.txt", "a0.txt"]
        assert await names(alice, limit=limit, name_prefix="b") == ["b3.txt", "b1.txt"]
        assert len(await names(alice, limit=limit)) == 6
    async with calling(BOB, "auto", hub=alice.hub, tools=FULL_TOOLS) as bob:
        assert await names(bob, limit=2, name_prefix="a") == ["a4.txt", "a2.txt", "a0.txt"]
        assert await names(bob, name_prefix="é" * 40) == []
    cursor = (await alice.ok("list_artifacts", limit=1, name_prefix="a"))["cursor"]
    for wrong in ({"cursor": cursor}, {"cursor": "x"}):
        assert (await alice.error("list_artifacts", **wrong))["code"] == "cursor_invalid"
