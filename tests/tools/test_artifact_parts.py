"""get_artifact: by id or name, in parts, and only what the caller may see."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from contextdna import Level
from contextdna_tools import FULL_TOOLS
from tests.hub.rig import ALICE, BOB
from tests.tools.calling import Caller, calling

pytestmark = pytest.mark.anyio


@pytest.fixture
async def alice() -> AsyncIterator[Caller]:
    async with calling(ALICE, "auto", tools=FULL_TOOLS) as caller:
        yield caller


async def parts(caller: Caller, **asked: Any) -> list[dict[str, Any]]:
    found = [await caller.ok("get_artifact", **asked)]
    while "next_offset" in found[-1]:
        found.append(await caller.ok("get_artifact", **asked, offset=found[-1]["next_offset"]))
    return found


async def test_a_text_is_read_whole_in_parts_that_cut_no_character(alice: Caller) -> None:
    text = "".join(f"{number} €\n" for number in range(30))
    attached = await alice.ok("attach_artifact", name="prices.txt", text=text, metadata={"from": "shop"})
    for max_bytes in (1, 2, 7, 100, 100_000):
        found = await parts(alice, id=attached["id"], max_bytes=max_bytes)
        assert "".join(part["text"] for part in found) == text
        assert all(len(part["text"].encode()) <= max(max_bytes, 3) for part in found)
    assert (found[0]["name"], found[0]["sha256"]) == ("prices.txt", attached["sha256"])
    assert found[0]["metadata"] == {"from": "shop"}


async def test_bytes_are_read_whole_in_base64(alice: Caller) -> None:
    data = bytes(range(256)) * 5
    attached = await alice.ok("attach_artifact", name="a.bin", base64=base64.b64encode(data).decode())
    found = await parts(alice, id=attached["id"], max_bytes=500)
    assert b"".join(base64.b64decode(part["base64"]) for part in found) == data
    assert len(found) == 3


async def test_a_name_gives_its_versions_to_those_who_may_see_them(alice: Caller) -> None:
    for text, level in (("one", ""), ("two", "private"), ("three", "")):
        await alice.ok("attach_artifact", name="plan.md", text=text, level=level)
    latest = await alice.ok("get_artifact", name="plan.md")
    assert (latest["version"], latest["text"], latest["media_type"]) == (3, "three", "text/markdown")
    assert [item["version"] for item in latest["versions"]] == [3, 2, 1]
    assert (await alice.ok("get_artifact", name="plan.md", version=2))["level"] == Level.PRIVATE.label
    async with calling(BOB, "auto", hub=alice.hub, tools=FULL_TOOLS) as bob:
        seen = await bob.ok("get_artifact", name="plan.md", owner="alice", version=1)
        assert (seen["text"], [item["version"] for item in seen["versions"]]) == ("one", [3, 1])
        hidden = await bob.error("get_artifact", name="plan.md", owner="alice", version=2)
        absent = await bob.error("get_artifact", name="plan.md", owner="alice", version=9)
        assert hidden == absent
        assert (await bob.error("get_artifact", name="plan.md"))["code"] == "not_found"


async def test_what_a_session_keeps_for_itself_is_read_with_its_handle(alice: Caller) -> None:
    handle = (await alice.ok("begin_session", task="mine"))["session_id"]
    await alice.ok("attach_artifact", name="own.txt", text="kept", level="private", session_id=handle)
    assert (await alice.ok("get_artifact", name="own.txt", session_id=handle))["text"] == "kept"


@pytest.mark.parametrize(
    ("code", "asked"),
    [
        ("artifact_unnamed", {}),
        ("artifact_unnamed", {"id": "{id}", "name": "a.txt"}),
        ("offset_out_of_range", {"id": "{id}", "offset": 3}),
        ("offset_out_of_range", {"id": "{id}", "offset": -1}),
        ("max_bytes_out_of_range", {"id": "{id}", "max_bytes": 0}),
        ("max_bytes_out_of_range", {"id": "{id}", "max_bytes": 300_000}),
        ("version_out_of_range", {"name": "a.txt", "version": -1}),
        ("not_found", {"id": "art_absent"}),
    ],
)
async def test_wrong_questions_are_refused(alice: Caller, code: str, asked: dict[str, Any]) -> None:
    attached = await alice.ok("attach_artifact", name="a.txt", text="abc")
    asked = {key: value.format(**attached) if key == "id" else value for key, value in asked.items()}
    assert (await alice.error("get_artifact", **asked))["code"] == code
