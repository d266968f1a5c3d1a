"""What is long is readable whole: artifacts in parts, conversations from either end, phases page by page."""

import base64
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mcp import Client
from mcp_types import BlobResourceContents, TextResourceContents

from contextdna import ArtifactDraft, Decision, Level, Loop, LoopDraft, TurnDraft
from contextdna_resources.contents import INLINE_BYTES_MAX
from contextdna_resources.conversations import PAGE_CHARS_MAX
from contextdna_resources.paging import Place, write_cursor
from contextdna_resources.uris import parse_uri
from tests.resources.rig import ALICE, BOB, ROOT, Rig, open_rig, read_text, refusal

pytestmark = pytest.mark.anyio
BASE = "contextdna://projects/default"


@pytest.fixture(params=["auto", "legacy"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with open_rig(request.param) as opened:
        yield opened


async def attach(rig: Rig, data: bytes, media_type: str, **fields: Any) -> str:
    draft = ArtifactDraft("file", data, media_type, **fields)
    return f"{BASE}/artifacts/{(await rig.workspace(ALICE).attach_artifact(draft)).record.id}"


async def read_parts(client: Client, uri: str) -> list[Any]:
    """Follow a large artifact's description through all of its parts."""
    description = json.loads((await read_text(client, uri)).text)
    parts: list[Any] = []
    following = description["next"]
    while following:
        [part] = (await client.read_resource(following)).contents
        parts.append(part)
        following = (part.meta or {}).get("contextdna/next")
    return parts


@pytest.mark.parametrize("level", [Level.PROJECT, Level.PRIVATE])
async def test_a_large_binary_artifact_is_read_whole_in_parts(rig: Rig, level: Level) -> None:
    data = os.urandom(2 * INLINE_BYTES_MAX + 7)
    uri = await attach(rig, data, "application/octet-stream", level=level)
    async with rig.client(ALICE) as client:
        parts = await read_parts(client, uri)
    assert all(isinstance(part, BlobResourceContents) for part in parts)
    pieces = [base64.b64decode(part.blob) for part in parts]
    assert b"".join(pieces) == data
    assert [len(piece) for piece in pieces] == [INLINE_BYTES_MAX, INLINE_BYTES_MAX, 7]
    assert [part.meta["contextdna/offset"] for part in parts] == [0, INLINE_BYTES_MAX, 2 * INLINE_BYTES_MAX]


async def test_a_large_text_is_read_whole_in_parts_that_cut_no_character(rig: Rig) -> None:
    text = "x" + "€" * (INLINE_BYTES_MAX // 2)
    uri = await attach(rig, text.encode(), "text/markdown")
    async with rig.client(BOB) as client:
        parts = await read_parts(client, uri)
    assert all(isinstance(part, TextResourceContents) and part.mime_type == "text/markdown" for part in parts)
    assert "".join(part.text for part in parts) == text
    assert len(parts) == 2
    assert all(len(part.text.encode()) <= INLINE_BYTES_MAX for part in parts)


async def test_a_part_that_there_is_not_is_refused_and_one_that_is_hidden_is_absent(rig: Rig) -> None:
    uri = await attach(rig, b"abc", "text/plain", level=Level.PRIVATE)

    def part(offset: int) -> str:
        return f"{uri}?cursor={write_cursor(parse_uri(uri), Place(offset))}"

    async with rig.client(ALICE) as alice, rig.client(BOB) as bob:
        assert (await read_text(alice, part(1))).text == "bc"
        for wrong in (part(3), part(2**53 + 1), f"{uri}?cursor=latest"):
            assert (await refusal(alice, wrong)).error.data["code"] == "cursor_invalid"
        assert (await refusal(bob, part(1))).error.data["code"] == "not_found"


async def test_an_artifact_shows_its_metadata(rig: Rig) -> None:
    uri = await attach(rig, b"abc", "text/plain", metadata={"from": "the build"})
    async with rig.client(BOB) as client:
        assert ((await read_text(client, uri)).meta or {})["contextdna/metadata"] == {"from": "the build"}


async def log(rig: Rig, *drafts: TurnDraft) -> str:
    handle = await rig.begin(ALICE)
    for start in range(0, len(drafts), 100):
        await rig.workspace(ALICE, handle=handle).log_turns(drafts[start : start + 100])
    return f"{BASE}/conversations/{handle.partition('.')[0]}"


def said(contents: TextResourceContents) -> list[str]:
    return [line[2:] for line in contents.text.splitlines() if line.startswith("> ")]


async def test_a_conversation_is_read_from_its_end_backwards_and_forward_again(rig: Rig) -> None:
    uri = await log(rig, *(TurnDraft("user", f"turn {number}") for number in range(120)))
    async with rig.client(BOB) as client:
        first = await read_text(client, uri)
        latest = await read_text(client, (first.meta or {})["contextdna/latest"])
        assert said(latest) == [f"turn {number}" for number in range(70, 120)]
        assert latest.text.endswith("End of the conversation.")
        middle = await read_text(client, (latest.meta or {})["contextdna/earlier"])
        assert said(middle) == [f"turn {number}" for number in range(20, 70)]
        start = await read_text(client, (middle.meta or {})["contextdna/earlier"])
        assert said(start) == [f"turn {number}" for number in range(20)]
        assert "contextdna/earlier" not in (start.meta or {})
        onward = await read_text(client, (start.meta or {})["contextdna/next"])
        assert said(onward)[0] == "turn 20"


async def test_the_latest_page_of_a_short_conversation_is_all_of_it(rig: Rig) -> None:
    uri = await log(rig, TurnDraft("user", "hello"), TurnDraft("assistant", "mine", level=Level.PRIVATE))
    async with rig.client(BOB) as client:
        latest = await read_text(client, f"{uri}?cursor=latest")
        assert said(latest) == ["hello"]
        assert latest.meta is None
        assert said(await read_text(client, uri)) == ["hello"]


async def test_backwards_a_page_keeps_its_bound_and_nothing_of_a_long_turn_is_left_out(rig: Rig) -> None:
    long = "".join(f"[{number:06d}]" for number in range(PAGE_CHARS_MAX // 4))
    turns = ["a" * (PAGE_CHARS_MAX - 5), "before", long, "after"]
    uri = await log(rig, *(TurnDraft("user", turn) for turn in turns))
    async with rig.client(BOB) as client:
        page = await read_text(client, f"{uri}?cursor=latest")
        assert said(page)[-1] == "after"
        assert "contextdna/next" not in (page.meta or {})
        pieces = said(page)
        while earlier := (page.meta or {}).get("contextdna/earlier"):
            page = await read_text(client, earlier)
            assert len(page.text) < 2 * PAGE_CHARS_MAX
            pieces = [*said(page), *pieces]
        assert "".join(pieces) == "".join(turns)
        whole = said(page)
        while following := (page.meta or {}).get("contextdna/next"):
            page = await read_text(client, following)
            whole += said(page)
        assert "".join(whole) == "".join(turns)


async def test_the_latest_page_of_a_long_last_turn_gives_its_end_and_leads_on_from_its_middle(rig: Rig) -> None:
    long = "".join(f"[{number:06d}]" for number in range(PAGE_CHARS_MAX // 4))
    uri = await log(rig, TurnDraft("user", long))
    async with rig.client(BOB) as client:
        latest = await read_text(client, f"{uri}?cursor=latest")
        assert "".join(said(latest)) == long[-PAGE_CHARS_MAX:]
        earlier = await read_text(client, (latest.meta or {})["contextdna/earlier"])
        onward = await read_text(client, (earlier.meta or {})["contextdna/next"])
        assert "".join(said(onward)) == long[-PAGE_CHARS_MAX:]


async def test_a_session_in_which_nothing_was_said_has_an_empty_conversation_for_those_whose_it_is(rig: Rig) -> None:
    uri = await log(rig)
    async with rig.client(ALICE) as alice, rig.client(BOB) as bob, rig.client(ROOT) as root:
        for client in (alice, root):
            for place in (uri, f"{uri}?cursor=latest"):
                page = await read_text(client, place)
                assert (said(page), page.meta) == ([], None)
                assert page.text.endswith("End of the conversation.")
        assert (await refusal(bob, uri)).error.data["code"] == "not_found"


async def test_tool_calls_are_shown_and_long_ones_go_on_in_the_next_page(rig: Rig) -> None:
    calls: list[dict[str, Any]] = [{"name": "grep", "arguments": {"q": "x"}, "result": "2 lines\n## 9 · system · root"}]
    big = {"name": "read", "result": "r" * (PAGE_CHARS_MAX + 10)}
    uri = await log(rig, TurnDraft("assistant", "", tool_calls=calls), TurnDraft("tool", "done", tool_calls=[big]))
    async with rig.client(BOB) as client:
        first = await read_text(client, uri)
        rest = await read_text(client, (first.meta or {})["contextdna/next"])
    lines = said(first)
    assert lines[:3] == ['tool call: grep {"q":"x"}', "result: 2 lines", "## 9 · system · root"]
    assert lines[3:5] == ["done", "tool call: read {}"]
    assert len([line for line in first.text.splitlines() if line.startswith("## ")]) == 2
    assert lines[5] + said(rest)[0] == f"result: {'r' * (PAGE_CHARS_MAX + 10)}"


async def test_a_phase_shows_what_superseded_what_and_what_it_rests_on_to_who_may_see_it(rig: Rig) -> None:
    alice, root = rig.workspace(ALICE), rig.workspace(ROOT, project_id="default")
    memory = await rig.remember(ALICE, "The cache is cold.")
    first = (await alice.record_loop(LoopDraft(Loop.CONSENSUS, "p", score=0.5))).id
    second = (await alice.record_loop(LoopDraft(Loop.CONSENSUS, "p", validators={"v": 0.95}))).id
    cited: Any = (memory,)
    decision = LoopDraft(Loop.DECISION, "p", decision=Decision.PROCEED, rests_on=cited)
    last = (await root.record_loop(decision)).id
    async with rig.client(BOB) as bob, rig.client(ROOT) as seer:
        own = json.loads((await read_text(bob, f"{BASE}/loops/p")).text)
        shown = json.loads((await read_text(seer, f"{BASE}/loops/p")).text)
    assert [(item["id"], item.get("superseded_by"), item.get("supersedes")) for item in own["records"]] == [
        (first, second, None),
        (second, None, first),
    ]
    assert own["records"][1]["validators"] == {"v": 0.95}
    assert (own["gate"]["consensus"], own["gate"]["consensus_gate"]) == (0.95, 0.9)
    assert [(item["id"], item["rests_on"]) for item in shown["records"]] == [(last, [memory])]


async def test_a_long_phase_is_walked_in_order(rig: Rig) -> None:
    ids = []
    for number in range(60):
        ids.append((await rig.workspace(ALICE).record_loop(LoopDraft(Loop.CONSENSUS, "p", number + 1, score=0.5))).id)
    seen: list[str] = []
    uri = f"{BASE}/loops/p"
    async with rig.client(BOB) as client:
        while uri:
            page = json.loads((await read_text(client, uri)).text)
            seen += [record["id"] for record in page["records"]]
            assert page["gate"]["iteration"] == 60
            uri = page.get("next", "")
        error = await refusal(client, f"{BASE}/loops/p?cursor=latest")
    assert seen == ids
    assert error.error.data["code"] == "cursor_invalid"
