"""Plain records are no dictionary of encrypted ones: nothing that is keyed lies in the file under one key for both."""

from collections import defaultdict
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from contextdna import (
    AgentId,
    ArtifactDraft,
    BeginRequest,
    ContextQuery,
    Hub,
    Level,
    Loop,
    LoopDraft,
    MemoryChange,
    MemoryDraft,
    MemorySelection,
    OnDuplicate,
    RecordId,
    Role,
    StoreStatus,
    TurnDraft,
    open_hub,
)
from contextdna.values.level import ENCRYPTED_LEVELS
from tests.hub.rig import WRITER, Clock, raw_database, remember, settings_in

pytestmark = pytest.mark.anyio

PLAIN = [level for level in Level if level not in ENCRYPTED_LEVELS]
SECRET = "The launch code of project Aurora is rotated every Tuesday by Marisol"
OTHER = replace(WRITER, agent_id=AgentId("other"))
TAGS = ("launch", "aurora")


async def found(hub: Hub, **query: Any) -> set[RecordId]:
    context = await hub.bind(WRITER).retrieve_context(ContextQuery(limit=100, max_tokens=20_000, **query))
    return {hit.record.id for hit in context.hits}


async def store_everywhere(hub: Hub) -> None:
    """Store the same text, under the same tags and names, as every kind of record at every level."""
    writer = hub.bind(WRITER)
    session = await writer.begin_session(BeginRequest(WRITER.agent_id, role=Role.SYSTEM))
    inside = hub.bind(WRITER, session_id=session.handle)
    for level in Level:
        await writer.store_memories([MemoryDraft(SECRET, level=level, tags=TAGS)])
        await inside.log_turns([TurnDraft("user", SECRET, level=level)])
        await writer.attach_artifact(ArtifactDraft("aurora.txt", SECRET.encode(), level=level))
    for loop in (Loop.CONFIDENCE, Loop.CONSENSUS):
        await writer.record_loop(LoopDraft(loop, "aurora", 1, score=0.9, reasoning=SECRET))


def tokens_by_level(folder: Path) -> dict[Level, set[str]]:
    """Read the index as a thief of the file does: every token, with the record that it stands in."""
    held = defaultdict(set)
    with raw_database(folder) as run:
        run("CREATE VIRTUAL TABLE temp.stolen USING fts5vocab('main', 'records_index', 'instance')")
        for level, token in run("SELECT r.level, s.term FROM stolen s JOIN records r ON r.seq = s.doc"):
            held[Level(level)].add(token)
    return held


def keyed_columns_by_level(folder: Path) -> dict[Level, set[Any]]:
    """Read what else is keyed: content hashes, tag tokens, and the hashes of artifacts' names."""
    held = defaultdict(set)
    statement = """SELECT level, content_hash FROM records WHERE content_hash <> x'' UNION ALL
        SELECT level, value FROM records, json_each(tag_tokens) UNION ALL
        SELECT level, subject FROM records WHERE kind = 'artifact'"""
    with raw_database(folder) as run:
        for level, value in run(statement):
            held[Level(level)].add(value)
    return held


async def test_plain_records_are_no_dictionary_of_encrypted_ones(folder: Path) -> None:
    async with open_hub(settings_in(folder)) as hub:
        await store_everywhere(hub)
    for held in (tokens_by_level(folder), keyed_columns_by_level(folder)):
        assert set(held) == set(Level)
        for plain, encrypted in product(PLAIN, ENCRYPTED_LEVELS):
            assert len(held[plain]) > 3
            assert not held[plain] & held[encrypted]


async def test_every_level_is_found_by_word_phrase_and_tag(hub: Hub) -> None:
    writer = hub.bind(WRITER)
    ids = {await remember(writer, SECRET, level=level, tags=TAGS) for level in Level}
    await remember(hub.bind(OTHER), "an aurora elsewhere", tags=("sky",))
    for query in ({"text": "rotated"}, {"text": '"launch code"'}, {"text": '"code of project" "every tuesday" lost'}):
        assert await found(hub, **query) == ids
    for tags in (("aurora",), ("aurora", "launch")):
        assert await found(hub, tags=tags) == ids
        assert await found(hub, text="aurora", tags=tags) == ids
    dry = await writer.forget_memories(selection=MemorySelection(tags=TAGS))
    assert dry.matched == len(ids)


async def test_the_reasons_name_the_words_at_every_level(hub: Hub) -> None:
    for level in Level:
        await remember(hub.bind(WRITER), SECRET, level=level)
    context = await hub.bind(WRITER).retrieve_context(ContextQuery(text="rotating codes"))
    assert [hit.why[0].partition(": ")[2] for hit in context.hits] == ["rotating, codes"] * len(Level)


@pytest.mark.parametrize(("before", "after"), [(Level.PROJECT, Level.PRIVATE), (Level.PRIVATE, Level.PROJECT)])
class TestMoves:
    async def test_a_memory_that_moves_is_found_and_known_again(self, hub: Hub, before: Level, after: Level) -> None:
        writer = hub.bind(WRITER)
        memory = await remember(writer, SECRET, level=before, tags=TAGS)
        await writer.update_memory(memory, MemoryChange(level=after), expected_version=1)
        assert await found(hub, text='"launch code" rotated', tags=TAGS) == {memory}
        [again] = await writer.store_memories([MemoryDraft(SECRET, level=after)], on_duplicate=OnDuplicate.MERGE)
        assert (again.id, again.status) == (memory, StoreStatus.MERGED)
        [other] = await writer.store_memories([MemoryDraft(SECRET, level=before)], on_duplicate=OnDuplicate.MERGE)
        assert other.status is StoreStatus.STORED

    async def test_a_memory_that_moved_shares_nothing_with_its_old_level(
        self, folder: Path, clock: Clock, before: Level, after: Level
    ) -> None:
        async with open_hub(settings_in(folder), clock=clock) as hub:
            writer = hub.bind(WRITER)
            memory = await remember(writer, SECRET, level=before, tags=TAGS)
            await writer.update_memory(memory, MemoryChange(level=after), expected_version=1)
            [stays] = await writer.store_memories([MemoryDraft(SECRET, level=before, tags=TAGS)])
        assert stays.id != memory
        for held in (tokens_by_level(folder), keyed_columns_by_level(folder)):
            assert set(held) == {before, after}
            assert not held[before] & held[after]


async def test_plain_and_encrypted_artifacts_of_one_name_are_versions_of_one_thing(hub: Hub) -> None:
    levels = [Level.PROJECT, Level.PRIVATE, Level.SWARM, Level.TEAM]
    attached = [
        await hub.bind(WRITER).attach_artifact(ArtifactDraft("plan.md", b"# Plan", level=level)) for level in levels
    ]
    assert [artifact.record.position for artifact in attached] == [1, 2, 3, 4]
