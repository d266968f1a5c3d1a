"""Small limits and large answers: defaults fit whatever the limits are, and an answer says what it leaves out."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from contextdna import MemoryChange, MemoryDraft, Workspace, open_hub
from contextdna.errors import InvalidInput, StorageUnavailable
from contextdna.values.settings import Limits
from tests.hub.rig import ALICE, START, Clock, refused, remember, settings_in
from tests.tools.calling import calling

pytestmark = pytest.mark.anyio

SMALL = replace(settings_in(None), limits=Limits(hits_max=5, batch_max=5, answer_tokens_max=200))


async def test_defaults_fit_small_limits() -> None:
    async with open_hub(SMALL) as hub, calling(ALICE, "legacy", hub=hub) as alice:
        kept = (await alice.ok("store_memory", content="Mend the login first.", importance=0.9))["stored"][0]["id"]
        begun = await alice.ok("begin_session", task="mend the login")
        assert kept in begun["briefing"][0]
        handle = begun["session_id"]
        assert (await alice.ok("retrieve_context", query="login"))["hits"]
        child = await alice.ok("delegate_with_context", child_agent_id="carol", task="mend", session_id=handle)
        assert child["inherited"]["memories"] == 1
        await alice.ok("share_memories", target_agent_ids=["bob"], memory_types=["fact"])
        for name, asked in {"limit": 6, "max_tokens": 201}.items():
            error = await alice.error("retrieve_context", query="login", **{name: asked})
            assert error["code"] == f"{name}_out_of_range"


async def test_a_failing_briefing_does_not_keep_the_handle_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise StorageUnavailable("the database is busy", code="storage_busy", hint="Retry.")

    async with calling(ALICE, "legacy") as alice:
        with monkeypatch.context() as patched:
            patched.setattr(Workspace, "retrieve_context", fail)
            begun = await alice.ok("begin_session", task="mend the login")
        assert begun["briefing"] == ["No briefing: the database is busy [storage_busy]. Ask retrieve_context."]
        assert (await alice.ok("begin_session", session_id=begun["session_id"]))["resumed"]


async def test_a_session_id_beside_another_parent_is_refused() -> None:
    async with calling(ALICE, "legacy") as alice:
        parent = (await alice.ok("begin_session"))["session_id"]
        error = await alice.error("begin_session", session_id="garbage", parent=parent)
        assert error["code"] == "session_and_parent"
        assert (await alice.ok("begin_session", session_id=parent, parent=parent))["resumed"] is False


async def test_a_delegation_refuses_an_unknown_memory_type() -> None:
    async with calling(ALICE, "legacy") as alice:
        error = await alice.error("delegate_with_context", child_agent_id="c", task="t", memory_types=["factt"])
        assert error["code"] == "memory_type_unknown"
        assert "fact" in error["hint"]


async def test_the_bound_of_get_memory_counts_metadata_and_names_what_it_leaves_out() -> None:
    async with calling(ALICE, "legacy") as alice:
        batch = [{"content": f"memory {n}", "metadata": {"k": "v" * 30_000}} for n in range(6)]
        ids = [item["id"] for item in (await alice.ok("store_memory", memories=batch))["stored"]]
        answer = await alice.ok("get_memory", ids=[*ids, "mem_absent"])
        assert len(json.dumps(answer)) < 62_000
        shown = [memory["id"] for memory in answer["memories"]]
        assert shown + answer["left_out"] == ids
        assert answer["missing"] == ["mem_absent"]
        rest = await alice.ok("get_memory", ids=answer["left_out"][:1])
        assert rest["memories"][0]["metadata"] == batch[0]["metadata"]
        assert "clipped" not in rest["memories"][0]
        assert "left_out" not in rest


async def test_a_memory_over_the_bound_is_clipped_and_says_so() -> None:
    async with calling(ALICE, "legacy") as alice:
        [item] = (await alice.ok("store_memory", content="x" * 100_000, metadata={"k": "v" * 60_000}))["stored"]
        [shown] = (await alice.ok("get_memory", ids=[item["id"]]))["memories"]
        assert shown["clipped"]
        assert 0 < len(json.dumps(shown)) <= 61_000


async def test_a_memory_is_kept_for_an_hour_or_more() -> None:
    async with calling(ALICE, "legacy") as alice:
        error = await alice.error("store_memory", content="gone at once", retention_days=0.01)
        assert error["code"] == "retention_days_out_of_range"
        await alice.ok("store_memory", content="for an hour", retention_days=1 / 24)


@pytest.fixture
async def workspace(anyio_backend: str) -> Any:
    async with open_hub(settings_in(None), clock=Clock()) as hub:
        yield hub.bind(ALICE)


async def test_validity_does_not_end_before_it_begins(workspace: Workspace) -> None:
    early = MemoryDraft("never true", valid_to=START - timedelta(days=1))
    await refused(workspace.store_memories([early]), InvalidInput, "period_invalid")
    memory = await remember(workspace, "true from now")
    change = MemoryChange(valid_to=START - timedelta(days=1))
    await refused(workspace.update_memory(memory, change, expected_version=1), InvalidInput, "period_invalid")
    long_ago = await remember(workspace, "was true", valid_from=START - timedelta(days=9), valid_to=START)
    assert (await workspace.get_memories([long_ago]))[0]


async def test_what_is_superseded_before_it_is_valid_never_becomes_valid(workspace: Workspace) -> None:
    future = await remember(workspace, "the plan for May", valid_from=START + timedelta(days=60))
    newer = await remember(workspace, "the newer plan")
    await workspace.update_memory(future, MemoryChange(superseded_by=newer), expected_version=1)
    record = (await workspace.get_memories([future]))[0][0].record
    assert record.valid_to == record.valid_from
