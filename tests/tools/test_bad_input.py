"""Wrong requests through the tools: a code, what to do next, nothing changed, and nothing of the value repeated."""

import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import ValidationError

from contextdna import Hub, InvalidInput, Level, open_hub
from contextdna_tools.boundary import parsed
from contextdna_tools.memories import MemoryFields
from tests.hub.rig import ALICE, BOB, remember, settings_in, stored
from tests.tools.calling import Caller, calling, text_of

pytestmark = pytest.mark.anyio

MARK: Final = "zyzzyva"
"""Stands in rejected values, and must stand in no answer."""

MIB: Final = 1024 * 1024


@pytest.fixture(params=["auto", "legacy"])
async def alice(request: pytest.FixtureRequest) -> AsyncIterator[Caller]:
    async with calling(ALICE, request.param) as caller:
        yield caller


@dataclass(frozen=True)
class Bad:
    """A call that must be refused."""

    tool: str
    code: str
    arguments: dict[str, Any] = field(default_factory=dict)
    hint: str = ""
    """What the advice must hold."""


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {MARK: MARK}
    for _ in range(depth):
        inner = {"a": inner}
    return inner


def storing(code: str, hint: str = "", **arguments: Any) -> Bad:
    return Bad("store_memory", code, {"content": f"{MARK} content", **arguments}, hint)


BAD: Final = {
    "empty content": Bad("store_memory", "content_empty", {"content": ""}),
    "nothing at all": Bad("store_memory", "content_empty"),
    "white space only": Bad("store_memory", "content_empty", {"content": " \n\t\u2003 "}),
    "NUL": Bad("store_memory", "text_unstorable", {"content": f"{MARK}\x00"}),
    "eleven mebibytes": Bad("store_memory", "content_too_large", {"content": MARK * (11 * MIB // len(MARK))}),
    "unknown type": storing("memory_type_unknown", "preference", memory_type=f"preference_{MARK[0]}"),
    "unknown type like nothing": storing("memory_type_unknown", "success_pattern", memory_type=MARK),
    "unknown level": storing("level_unknown", "private", level=MARK),
    "level of another circle": storing("role_required", "level project", level="system"),
    "unknown tier": storing("tier_unknown", "episodic", tier=MARK),
    "importance above one": storing("importance_out_of_range", "0.0 to 1.0", importance=1.01),
    "importance below zero": storing("importance_out_of_range", importance=-0.01),
    "importance not a number": storing("importance_out_of_range", importance="NaN"),
    "importance infinite": storing("importance_out_of_range", importance="Infinity"),
    "importance a word": storing("argument_invalid", importance=MARK),
    "unknown argument": storing("argument_unknown", "importance", importanse=MARK),
    "unknown argument like nothing": storing("argument_unknown", "content", xyz=MARK),
    "thousands of unknown arguments": storing("argument_unknown", "content", **{f"n{n}": MARK for n in range(9000)}),
    "a name of megabytes": storing("argument_unknown", "content", **{"nnnnnnnn" * MIB: MARK}),
    "a type of megabytes": storing("memory_type_unknown", memory_type=MARK * MIB),
    "a batch of thousands": Bad("store_memory", "memories_out_of_range", {"memories": [{}] * 50_000}, "100"),
    "a list that is only text and long": storing("argument_invalid", tags="[" + "{}," * 50_000 + "{}]"),
    "thousands of wrong items": storing("argument_invalid", tags=[None] * 50_000),
    "thousands of types": Bad("retrieve_context", "types_out_of_range", {"types": ["a"] * 101}, "100"),
    "thousands of tags": Bad("retrieve_context", "tags_out_of_range", {"tags": ["a"] * 101}, "100"),
    "content of another type": Bad("store_memory", "argument_invalid", {"content": [MARK]}),
    "content and a batch": storing("content_and_memories", memories=[{"content": MARK}]),
    "a batch of 101": Bad("store_memory", "memories_out_of_range", {"memories": [{"content": MARK}] * 101}, "100"),
    "unknown field in a batch": Bad(
        "store_memory", "argument_unknown", {"memories": [{"content": "x"}, {"contents": MARK}]}, "content"
    ),
    "a batch of strings": Bad("store_memory", "argument_invalid", {"memories": [MARK]}),
    "metadata too deep": storing("metadata_invalid", metadata=nested(17)),
    "metadata very deep": storing("metadata_invalid", metadata=nested(100)),
    "metadata too large": storing("metadata_too_large", metadata={"k": MARK * 10_000}),
    "metadata with NUL": storing("text_unstorable", metadata={"k": f"{MARK}\x00"}),
    "metadata no object": storing("argument_invalid", metadata=[MARK]),
    "metadata broken text": storing("argument_invalid", metadata='{"a": "' + MARK),
    "metadata endless text": storing("argument_invalid", metadata='{"a":' * 100_000),
    "33 tags": storing("tags_too_many", tags=[f"{MARK}{number}" for number in range(33)]),
    "an empty tag": storing("tag_empty", tags=[""]),
    "a long tag": storing("tag_too_large", tags=[MARK * 100]),
    "no days": storing("retention_days_out_of_range", retention_days=0),
    "too many days": storing("retention_days_out_of_range", retention_days=1e9),
    "no time": storing("valid_from_invalid", "2026", valid_from=MARK),
    "a link to nothing": storing("not_found", relates_to=["mem_absent"]),
    "unknown way with duplicates": storing("on_duplicate_unknown", "merge", on_duplicate=MARK),
    "bad idempotency key": storing("idempotency_key_invalid", idempotency_key=f"{MARK} {MARK}"),
    "unknown project": storing("project_not_found", "default", project_id=MARK),
    "project no name": storing("project_not_found", project_id=f"../{MARK}"),
    "foreign handle": storing("session_invalid", "begin_session", session_id=f"ses_1.{MARK}"),
    "no handle": storing("session_invalid", session_id=MARK),
    "broken cursor": Bad("retrieve_context", "cursor_invalid", {"cursor": MARK}),
    "cursor no JSON": Bad("retrieve_context", "cursor_invalid", {"cursor": "AAAA"}),
    "cursor endless": Bad("retrieve_context", "cursor_invalid", {"cursor": urlsafe_b64encode(b"[" * 200_000).decode()}),
    "cursor nested": Bad("retrieve_context", "cursor_invalid", {"cursor": urlsafe_b64encode(b"[" * 150).decode()}),
    "cursor no ASCII": Bad("retrieve_context", "cursor_invalid", {"cursor": "é" + MARK}),
    "query too long": Bad("retrieve_context", "query_too_large", {"query": MARK * 8000}),
    "limit zero": Bad("retrieve_context", "limit_out_of_range", {"limit": 0}, "1 to 100"),
    "limit huge": Bad("retrieve_context", "limit_out_of_range", {"limit": 10**30}),
    "limit of a word": Bad("retrieve_context", "argument_invalid", {"limit": MARK}),
    "no tokens": Bad("retrieve_context", "max_tokens_out_of_range", {"max_tokens": 0}),
    "since after until": Bad("retrieve_context", "period_invalid", {"since": "2026-02-01", "until": "2026-01-01"}),
    "since at the end of time": Bad("retrieve_context", "since_invalid", {"since": "0001-01-01T00:00:00+14:00"}),
    "unknown kind": Bad("retrieve_context", "kind_unknown", {"kinds": [MARK]}, "artifact"),
    "no ids": Bad("get_memory", "argument_missing", {}, "ids"),
    "an empty list of ids": Bad("get_memory", "ids_out_of_range", {"ids": []}),
    "101 ids": Bad("get_memory", "ids_out_of_range", {"ids": [f"mem_{number}" for number in range(101)]}),
    "version zero": Bad(
        "update_memory", "expected_version_out_of_range", {"id": "mem_1", "expected_version": 0, "content": "x"}
    ),
    "nothing to change": Bad("update_memory", "change_empty", {"id": "mem_1", "expected_version": 1}),
    "no target": Bad("share_memories", "target_agent_ids_out_of_range", {"target_agent_ids": []}),
    "target no name": Bad(
        "share_memories", "target_agent_id_invalid", {"target_agent_ids": [f"{MARK} !"], "memory_ids": ["mem_1"]}
    ),
    "nothing to share": Bad("share_memories", "selection_empty", {"target_agent_ids": ["bob"]}),
    "nothing to forget": Bad("forget_memory", "selection_empty"),
    "loop one": Bad("record_loop_decision", "loop_unknown", {"loop": 1, "phase": "p"}, "2"),
    "no score": Bad("record_loop_decision", "score_missing", {"loop": 3, "phase": "p"}),
    "score above one": Bad("record_loop_decision", "score_out_of_range", {"loop": 3, "phase": "p", "score": 1.5}),
    "no decision": Bad("record_loop_decision", "decision_missing", {"loop": 4, "phase": "p"}),
    "unknown decision": Bad("record_loop_decision", "decision_unknown", {"loop": 4, "phase": "p", "decision": MARK}),
    "phase no name": Bad("record_loop_decision", "phase_invalid", {"loop": 3, "phase": f"{MARK} /", "score": 1.0}),
    "unknown role": Bad("begin_session", "role_unknown", {"role": MARK}, "agent"),
    "agent no name": Bad("begin_session", "agent_id_invalid", {"agent_id": f"{MARK} /"}),
    "no time to live": Bad("begin_session", "ttl_out_of_range", {"ttl_s": -1}),
    "a turn without a session": Bad("log_turn", "session_required", {"content": MARK}, "begin_session"),
    "an end without a session": Bad("end_session", "session_required", {"output": MARK}),
    "no task": Bad("delegate_with_context", "task_empty", {"child_agent_id": "carol", "task": " "}),
    "itself as a child": Bad("delegate_with_context", "delegation_cycle", {"child_agent_id": "alice", "task": "x"}),
    "no artifact": Bad("attach_artifact", "artifact_source", {"name": "a.txt"}),
    "no name": Bad("attach_artifact", "name_empty", {"text": MARK}),
    "broken base64": Bad("attach_artifact", "base64_invalid", {"name": "a", "base64": f"{MARK}!"}),
    "a path outside": Bad("attach_artifact", "path_not_allowed", {"path": f"/etc/{MARK}"}),
    "an object in a store": Bad("attach_artifact", "object_unsupported", {"path": f"s3://bucket/{MARK}"}),
    "media type no such": Bad("attach_artifact", "media_type_invalid", {"name": "a", "text": "a", "media_type": MARK}),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_wrong_request_is_refused_and_changes_nothing(alice: Caller, case: str) -> None:
    bad = BAD[case]
    before = await stored(alice.hub)
    error = await alice.error(bad.tool, **bad.arguments)
    assert error["code"] == bad.code
    assert bad.hint in error["hint"]
    assert error["retryable"] is False
    assert MARK not in json.dumps(error).casefold()
    assert len(json.dumps(error)) < 1500
    assert (await stored(alice.hub)).data == before.data


async def test_a_lone_surrogate_cannot_come_in_as_text(alice: Caller) -> None:
    """On the wire it is refused (tests/server/test_stdio.py); lists and objects may come as JSON text, parsed by us."""
    broken = '"\\ud800"'
    calls: list[tuple[str, dict[str, Any]]] = [
        ("store_memory", {"content": "x", "tags": f"[{broken}]"}),
        ("store_memory", {"content": "x", "metadata": f'{{"k": {broken}}}'}),
        ("store_memory", {"content": "x", "relates_to": f"[{broken}]"}),
        ("store_memory", {"memories": f'[{{"content": {broken}}}]'}),
        ("retrieve_context", {"types": f"[{broken}]"}),
        ("get_memory", {"ids": f"[{broken}]"}),
    ]
    before = await stored(alice.hub)
    for tool, arguments in calls:
        assert (await alice.error(tool, **arguments))["code"] == "argument_invalid"
    assert (await stored(alice.hub)).data == before.data


async def test_a_cursor_belongs_to_its_query_and_reader(alice: Caller) -> None:
    for number in range(4):
        await alice.ok("store_memory", content=f"Deploy note number {number}.")
    cursor = (await alice.ok("retrieve_context", query="deploy", limit=2))["cursor"]
    for other in ({"query": "note"}, {"query": "deploy", "min_importance": 0.1}, {"query": "deploy", "tags": ["a"]}):
        error = await alice.error("retrieve_context", cursor=cursor, **other)
        assert error["code"] == "cursor_invalid"
    assert (await alice.ok("retrieve_context", query="deploy", limit=2, cursor=cursor))["hits"]
    async with calling(BOB, "auto", hub=alice.hub) as bob:
        assert (await bob.error("retrieve_context", query="deploy", cursor=cursor))["code"] == "cursor_invalid"


async def test_a_stale_version_says_the_current_one(alice: Caller) -> None:
    [kept] = (await alice.ok("store_memory", content="one"))["stored"]
    await alice.ok("update_memory", id=kept["id"], expected_version=1, content="two")
    error = await alice.error("update_memory", id=kept["id"], expected_version=1, content=MARK)
    assert (error["code"], error["current_version"]) == ("version_conflict", 2)
    assert "get_memory" in error["hint"]


async def test_a_handle_of_another_agent_is_refused_like_an_unknown_one(alice: Caller) -> None:
    async with calling(BOB, "auto", hub=alice.hub) as bob:
        handle = (await bob.ok("begin_session"))["session_id"]
    foreign = await alice.error("get_memory", ids=["mem_1"], session_id=handle)
    unknown = await alice.error("get_memory", ids=["mem_1"], session_id="ses_0.zzzz")
    assert foreign == unknown
    assert handle not in json.dumps(foreign)


async def test_what_is_hidden_reads_as_what_is_absent(alice: Caller) -> None:
    hidden = await remember(alice.hub.bind(BOB), "his", level=Level.PRIVATE)
    absent = hidden[:-4] + "zzzz"
    for tool, arguments in (
        ("get_memory", {"ids": ["ID"]}),
        ("update_memory", {"id": "ID", "expected_version": 1, "content": "x"}),
        ("forget_memory", {"ids": ["ID"], "purge": True}),
        ("share_memories", {"target_agent_ids": ["carol"], "memory_ids": ["ID"]}),
        ("delegate_with_context", {"child_agent_id": "carol", "task": "x", "memory_ids": ["ID"]}),
    ):
        texts = set()
        for name in (hidden, absent):
            named = json.loads(json.dumps(arguments).replace("ID", name))
            result = await alice.client.call_tool(tool, named)
            assert result.is_error
            texts.add(text_of(result).replace(name, "ID"))
        assert len(texts) == 1, tool


async def test_an_id_of_any_length_makes_a_short_error(alice: Caller) -> None:
    error = await alice.error("get_memory", ids=["x" * 100_000] * 50 + ["y" * 100_000])
    assert error["code"] == "not_found"
    assert len(json.dumps(error)) < 1500


async def test_lists_and_objects_may_come_as_text(alice: Caller) -> None:
    [kept] = (
        await alice.ok("store_memory", content="text", tags='["a", "b"]', metadata='{"k": {"n": 1}}', importance="0.9")
    )["stored"]
    [memory] = (await alice.ok("get_memory", ids=json.dumps([kept["id"]])))["memories"]
    assert (memory["tags"], memory["metadata"], memory["importance"]) == (["a", "b"], {"k": {"n": 1}}, 0.9)
    batch = await alice.ok("store_memory", memories='[{"content": "one"}, {"content": "two", "tags": "[\\"c\\"]"}]')
    assert len(batch["stored"]) == 2
    assert len((await alice.ok("retrieve_context", tags='["c"]'))["hits"]) == 1


async def test_null_means_left_out(alice: Caller) -> None:
    nothing = dict.fromkeys(("tags", "metadata", "retention_days", "session_id", "level", "valid_from"))
    [kept] = (await alice.ok("store_memory", content="plain", **nothing))["stored"]
    assert kept["status"] == "stored"


async def test_content_that_looks_like_json_stays_text(alice: Caller) -> None:
    for content in ('["not", "a list"]', '{"not": "an object"}', "null", "0", "true"):
        [kept] = (await alice.ok("store_memory", content=content))["stored"]
        [memory] = (await alice.ok("get_memory", ids=[kept["id"]]))["memories"]
        assert memory["content"] == content


async def test_a_refused_batch_says_which_memory_it_was(alice: Caller) -> None:
    good = {"content": "good"}
    for position, bad in enumerate([{"content": " "}, {"content": "x", "importance": 3}, {"content": "x", "tagz": []}]):
        batch = [*[good] * position, bad]
        error = await alice.error("store_memory", memories=[*batch, good])
        assert f"memories[{position}]" in error["message"]


async def test_the_store_on_disk_stays_as_it_was(tmp_path: Path) -> None:
    async def refuse_all(hub: Hub) -> None:
        async with calling(ALICE, "auto", hub=hub) as alice:
            before = await stored(hub)
            for case, bad in BAD.items():
                assert (await alice.error(bad.tool, **bad.arguments))["code"] == bad.code, case
            assert (await stored(hub)).data == before.data

    async with open_hub(settings_in(tmp_path / "data")) as hub:
        await refuse_all(hub)


def test_of_thousands_of_wrong_names_and_items_one_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def compare(name: str, _names: object, **_options: object) -> list[str]:
        compared.append(name)
        return []

    monkeypatch.setattr("difflib.get_close_matches", compare)
    with pytest.raises(InvalidInput, match="unknown argument n0"):
        parsed(MemoryFields, {f"n{number}" * 100: 0 for number in range(1000)})
    assert [len(name) for name in compared] == [64]
    wrong = {"tags": [None] * 1000, "content": "x"}
    with pytest.raises(ValidationError) as refused:
        MemoryFields.model_validate(wrong)
    assert refused.value.error_count() == 1
