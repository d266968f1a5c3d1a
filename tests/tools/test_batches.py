"""What stands beside a batch is the default of its items, or is refused: nothing a caller says is passed over."""

from typing import Any, Final

import pytest

from contextdna import Level
from contextdna_tools.memories import MemoryFields
from contextdna_tools.sessions import TurnFields
from tests.hub.rig import ALICE, BOB, public
from tests.tools.calling import calling

pytestmark = pytest.mark.anyio

MEMORY: Final[dict[str, tuple[Any, Any]]] = {
    "memory_type": ("decision", "preference"),
    "tier": ("episodic", "working"),
    "level": ("private", "team"),
    "importance": (0.9, 0.2),
    "tags": (["shared"], ["own"]),
    "metadata": ({"of": "all"}, {"of": "one"}),
    "valid_from": ("2025-01-01T00:00:00Z", "2025-02-01T00:00:00Z"),
    "retention_days": (10.0, 20.0),
    "relates_to": (["first"], []),
}
"""Each field of a memory: what stands beside the batch, and what an item says itself."""
TURN: Final[dict[str, tuple[Any, Any]]] = {
    "role": ("tool", "assistant"),
    "level": ("private", "team"),
    "metadata": ({"of": "all"}, {"of": "one"}),
}


def test_every_field_beside_a_batch_is_looked_at() -> None:
    assert set(MemoryFields.model_fields) == {*MEMORY, "content"}
    assert set(TurnFields.model_fields) == {*TURN, "content", "tool_calls"}


@pytest.mark.parametrize("name", MEMORY)
async def test_a_field_beside_memories_is_that_of_each_that_names_none_itself(name: str) -> None:
    async with calling(ALICE, "auto") as alice:
        [first] = (await alice.ok("store_memory", content="The first of all."))["stored"]
        beside, own = MEMORY[name] if name != "relates_to" else ([first["id"]], [])
        batch = [{"content": "Without."}, {"content": "With its own.", name: own}, {"content": "Null.", name: None}]
        stored = (await alice.ok("store_memory", memories=batch, **{name: beside}))["stored"]
        shown = (await alice.ok("get_memory", ids=[item["id"] for item in stored]))["memories"]
        field = "retention_until" if name == "retention_days" else name
        without, with_its_own, null = (memory.get(field) for memory in shown)
        assert without == null
        assert without != with_its_own
        if name != "retention_days":
            assert (without, with_its_own) == (beside, own or None)
        else:
            assert without < with_its_own


@pytest.mark.parametrize("name", TURN)
async def test_a_field_beside_turns_is_that_of_each_that_names_none_itself(name: str) -> None:
    async with calling(ALICE, "auto") as alice:
        session = (await alice.ok("begin_session"))["session_id"]
        beside, own = TURN[name]
        batch = [{"content": "Without."}, {"content": "With its own.", name: own}]
        await alice.ok("log_turn", session_id=session, turns=batch, **{name: beside})
        turns = await alice.hub.bind(ALICE, session_id=session).read_conversation(public(session))
        told = [
            {"role": turn.record.type, "level": turn.record.level.label, "metadata": dict(turn.metadata)}[name]
            for turn in turns
        ]
        assert told == [beside, own]


async def test_private_beside_a_batch_keeps_it_from_others() -> None:
    async with calling(ALICE, "auto") as alice:
        session = (await alice.ok("begin_session"))["session_id"]
        await alice.ok("store_memory", memories=[{"content": "My secret diary."}], level="private")
        await alice.ok("log_turn", session_id=session, turns=[{"content": "My secret turn."}], level="private")
        async with calling(BOB, "auto", hub=alice.hub) as bob:
            assert (await bob.ok("retrieve_context", query="secret"))["hits"] == []
        levels = {hit["level"] for hit in (await alice.ok("retrieve_context", query="secret"))["hits"]}
        assert levels == {Level.PRIVATE.label}


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("store_memory", {"memories": [{"content": "x"}], "level": "secret"}, "level_unknown"),
        ("store_memory", {"memories": [{"content": "x", "tier": "working"}], "tier": "none"}, "tier_unknown"),
        ("store_memory", {"memories": [{"content": "x"}], "content": "y"}, "content_and_memories"),
        ("log_turn", {"turns": [{"content": "x"}], "level": "secret"}, "level_unknown"),
        ("log_turn", {"turns": [{"content": "x"}], "content": "y"}, "content_and_turns"),
        ("share_memories", {"memory_ids": ["mem_1"], "min_importance": 0.9}, "ids_and_filters"),
        ("share_memories", {"memory_ids": ["mem_1"], "limit": 1}, "ids_and_filters"),
        ("forget_memory", {"ids": ["mem_1"], "restore": True, "purge": True}, "restore_takes_ids"),
        ("forget_memory", {"tags": ["x"], "restore": True}, "restore_takes_ids"),
        ("forget_memory", {"ids": ["mem_1"], "tags": ["x"], "restore": True}, "ids_and_filters"),
    ],
)
async def test_what_cannot_hold_beside_others_is_refused(tool: str, arguments: dict[str, Any], code: str) -> None:
    async with calling(ALICE, "auto") as alice:
        targets = {"target_agent_ids": ["bob"]} if tool == "share_memories" else {}
        assert (await alice.error(tool, **arguments, **targets))["code"] == code
