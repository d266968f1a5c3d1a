"""Searching by meaning, as a hub does it: embedded behind the writes, found through the door, open to nobody else."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import anyio
import pytest

from contextdna import (
    AgentId,
    ArtifactDraft,
    ContextQuery,
    Hub,
    HubSettings,
    Kind,
    Level,
    Loop,
    LoopDraft,
    MemoryChange,
    MemoryDraft,
    Principal,
    ProjectId,
    RecordId,
    SettingsInvalid,
    StorageUnavailable,
    TaskDraft,
    TurnDraft,
    open_hub,
)
from contextdna.domain import semantics
from contextdna.domain.access import Action, Caller
from contextdna.domain.operation import Operation
from contextdna.domain.recall import Recall
from contextdna.domain.vectors import Shelf
from contextdna.values.embedding import EmbeddingSpace
from contextdna.values.search import RecordFilter
from contextdna.values.settings import EmbedderKind, SearchSettings
from tests.doubles import LetterEmbedder
from tests.hub.rig import ALICE, BOB, DEFAULT, ROOT, Clock, audit_of, begin, raw_database, refused, remember

pytestmark = pytest.mark.anyio

ANY = RecordFilter()


@pytest.fixture(autouse=True)
def resting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the background out of the way: what it does is asked for."""
    monkeypatch.setattr("contextdna.hub.semantics._FIRST_AFTER_S", 3600.0)


@asynccontextmanager
async def opened(
    settings: HubSettings, embedder: LetterEmbedder | None = None, *, small: bool = False
) -> AsyncIterator[Hub]:
    """Open a hub with an embedder double; ``small`` leaves the cache no room for floats."""
    async with open_hub(settings, clock=Clock(), embedder=embedder or LetterEmbedder()) as hub:
        assert hub._door.recall is not None
        if small:
            hub._door.recall.project_bytes_max = 1
        yield hub


async def embed(hub: Hub) -> None:
    """Do now what the background does soon."""
    assert await hub._rooms.semantics.turn()


async def near(
    hub: Hub, principal: Principal, text: str, where: RecordFilter = ANY, *, limit: int = 10
) -> list[tuple[RecordId, float]]:
    """Ask as a search does: prepared, then within one reading transaction."""
    found = await _search(hub, principal, text, lambda op: semantics.nearest(op, text, where, limit=limit))
    return list(found)


async def _search(hub: Hub, principal: Principal, text: str, run: Callable[[Operation], Awaitable[Any]]) -> Any:
    caller = Caller(principal, "", DEFAULT, "", "")
    await hub._rooms.semantics.prepare(caller, Action.RETRIEVE_CONTEXT, text)
    return await hub._door.read(caller, Action.RETRIEVE_CONTEXT, run)


async def ids(hub: Hub, principal: Principal, text: str, where: RecordFilter = ANY, *, limit: int = 10) -> list[str]:
    return [record_id for record_id, _ in await near(hub, principal, text, where, limit=limit)]


async def test_what_was_written_is_found_by_meaning_best_first(settings: HubSettings) -> None:
    async with opened(settings) as hub:
        alice = hub.bind(ALICE)
        far = await remember(alice, "zzz xxx yyy")
        close = await remember(alice, "aaa bbb cab")
        between = await remember(alice, "aaa zzz")
        await embed(hub)
        found = await near(hub, BOB, "abc")
        assert [record_id for record_id, _ in found] == [close, between]
        assert found[0][1] > found[1][1] > 0
        assert far not in dict(found)
        assert await ids(hub, BOB, "abc", limit=1) == [close]


@pytest.mark.parametrize("small", [False, True], ids=["floats", "signatures"])
async def test_a_private_record_never_surfaces_for_others(settings: HubSettings, small: bool) -> None:
    async with opened(settings, small=small) as hub:
        mine = await remember(hub.bind(ALICE), "abc secret", level=Level.PRIVATE)
        team = await remember(hub.bind(ALICE), "abc for the team", level=Level.TEAM)
        shown = await remember(hub.bind(ALICE), "abc for all")
        await embed(hub)
        assert set(await ids(hub, ALICE, "abc secret")) == {mine, team, shown}
        assert await ids(hub, BOB, "abc secret") == [shown]
        await hub.bind(ALICE).share_memories([BOB.agent_id], [mine])
        assert set(await ids(hub, BOB, "abc secret")) == {mine, shown}
        await hub.bind(ALICE).revoke_shares([BOB.agent_id], [mine])
        assert await ids(hub, BOB, "abc secret") == [shown]


async def test_more_is_looked_at_until_enough_are_visible(settings: HubSettings) -> None:
    async with opened(settings) as hub:
        for number in range(0, 300, 100):
            drafts = [MemoryDraft(f"aaa hidden {number + n}", level=Level.PRIVATE) for n in range(100)]
            await hub.bind(ALICE).store_memories(drafts)
        shown = await remember(hub.bind(ALICE), "a open zz")
        await embed(hub)
        assert await ids(hub, BOB, "aaa", limit=1) == [shown]


async def test_a_search_finds_what_says_it_in_other_words(settings: HubSettings) -> None:
    async with opened(settings) as hub:
        memory = await remember(hub.bind(ALICE), "abba cab")
        private = await remember(hub.bind(ALICE), "abba cad", level=Level.PRIVATE)
        await embed(hub)
        for principal, expected in ((ALICE, {memory, private}), (BOB, {memory})):
            context = await hub.bind(principal).retrieve_context(ContextQuery("bac"))
            assert {hit.record.id for hit in context.hits} == expected


@pytest.mark.parametrize("small", [False, True], ids=["floats", "signatures"])
async def test_a_narrow_filter_is_asked_from_the_other_side(
    settings: HubSettings, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    monkeypatch.setattr(semantics, "_LOOKED_AT_MAX", 1)
    monkeypatch.setattr(semantics, "_FIRST_HANDFUL_MIN", 1)
    async with opened(settings, small=small) as hub:
        drafts = [MemoryDraft(f"aaa {number}", level=Level.PRIVATE) for number in range(100)]
        await hub.bind(ALICE).store_memories(drafts)
        near_ = await remember(hub.bind(ALICE), "ab", importance=0.9)
        far = await remember(hub.bind(ALICE), "abbb", importance=0.9)
        await remember(hub.bind(ALICE), "zzz", importance=0.9)
        await remember(hub.bind(ALICE), "aaa", level=Level.PRIVATE, importance=0.9)
        await embed(hub)
        assert await ids(hub, BOB, "aaa", RecordFilter(min_importance=0.9)) == [near_, far]


async def test_a_filter_is_part_of_the_choice(settings: HubSettings) -> None:
    async with opened(settings) as hub:
        memory = await remember(hub.bind(ALICE), "abc")
        task = (await hub.bind(ALICE).tasks.add(TaskDraft("abc task"))).id
        await embed(hub)
        assert await ids(hub, ALICE, "abc", RecordFilter(kinds=(Kind.TASK,))) == [task]
        assert await ids(hub, ALICE, "abc", RecordFilter(kinds=(Kind.MEMORY,))) == [memory]


async def test_every_kind_that_is_searched_gets_a_vector(settings: HubSettings) -> None:
    async with opened(settings) as hub:
        handle = await begin(hub, ALICE)
        acting = hub.bind(ALICE, session_id=handle)
        await acting.log_turns([TurnDraft("user", "abc turn")])
        await acting.record_loop(LoopDraft(Loop.CONFIDENCE, "p1", score=0.9, reasoning="abc loop"))
        await acting.attach_artifact(ArtifactDraft("abc.txt", b"abc artifact"))
        await acting.tasks.add(TaskDraft("abc task"))
        await remember(acting, "abc memory")
        await embed(hub)
        for kind in Kind:
            assert len(await ids(hub, ALICE, "abc", RecordFilter(kinds=(kind,)))) == 1, kind


async def test_a_changed_record_is_found_by_its_new_text_only(settings: HubSettings) -> None:
    async with opened(settings) as hub:
        alice = hub.bind(ALICE)
        memory = await remember(alice, "aaa")
        await embed(hub)
        assert await ids(hub, ALICE, "aaa") == [memory]
        await alice.update_memory(memory, MemoryChange(content="zzz"), expected_version=1)
        assert await ids(hub, ALICE, "aaa") == []
        await embed(hub)
        assert await ids(hub, ALICE, "aaa") == []
        assert await ids(hub, ALICE, "zzz") == [memory]


async def test_a_purged_record_is_found_no_more_and_its_vector_is_gone(settings: HubSettings) -> None:
    async with opened(settings) as hub:
        memory = await remember(hub.bind(ALICE), "aaa", level=Level.PRIVATE)
        await embed(hub)
        await hub.bind(ALICE).forget_memories([memory], purge=True)
        assert await ids(hub, ALICE, "aaa") == []
        assert await hub._door.database.read(lambda tx: tx.embeddings.serials(DEFAULT)) == []


async def test_vectors_that_stand_no_longer_leave_the_memory_of_the_process(settings: HubSettings) -> None:
    async with opened(settings) as hub:
        kept = await remember(hub.bind(ALICE), "aaa")
        stored = await hub.bind(ALICE).store_memories([MemoryDraft(f"ab {number}") for number in range(70)])
        memories = [one.id for one in stored]
        await embed(hub)
        assert len(await ids(hub, ALICE, "aaa", limit=100)) == 71
        await hub.bind(ALICE).forget_memories(memories, purge=True)
        assert await ids(hub, ALICE, "aaa", limit=100) == [kept]
        recall = hub._door.recall
        assert recall is not None
        assert recall._shelves[DEFAULT].count == 1


async def test_a_restart_embeds_what_was_left(folder: Path) -> None:
    settings = HubSettings(data_dir=folder)
    async with open_hub(settings, clock=Clock()) as hub:
        memory = await remember(hub.bind(ALICE), "aaa")
        assert await hub._door.database.read(lambda tx: tx.embeddings.space(DEFAULT)) is None
    async with opened(settings) as hub:
        await embed(hub)
        assert await ids(hub, ALICE, "aaa") == [memory]
    async with opened(settings, LetterEmbedder(broken=True)) as hub:
        assert await hub._rooms.semantics.turn()  # nothing is left to embed


async def test_what_another_process_wrote_is_embedded_and_what_it_embedded_is_found(folder: Path) -> None:
    settings = HubSettings(data_dir=folder)
    async with open_hub(settings, clock=Clock()) as writer, opened(settings) as one, opened(settings) as two:
        memory = await remember(writer.bind(ALICE), "aaa", level=Level.PRIVATE)
        await embed(one)
        assert await ids(two, ALICE, "aaa") == [memory]
        later = await remember(writer.bind(ALICE), "aab")
        await embed(two)
        await embed(one)
        assert await ids(one, ALICE, "aaa") == [memory, later]


async def test_vectors_of_encrypted_records_cannot_be_read_in_the_file(folder: Path) -> None:
    async with opened(HubSettings(data_dir=folder)) as hub:
        await remember(hub.bind(ALICE), "aaa", level=Level.PROJECT)
        await remember(hub.bind(ALICE), "aaa", level=Level.PRIVATE)
        await embed(hub)
        with raw_database(folder) as run:
            rows = run("SELECT e.key_id, e.salt, e.vector FROM embeddings e ORDER BY e.serial")
    (plain_key, plain_salt, plain), (key_id, salt, sealed) = rows
    assert (plain_key, plain_salt) == ("", b"")
    assert key_id
    assert len(salt) == 16
    assert plain not in sealed
    assert len(sealed) == len(plain) + 28


async def test_a_record_that_becomes_private_leaves_no_plain_vector(folder: Path) -> None:
    async with opened(HubSettings(data_dir=folder)) as hub:
        memory = await remember(hub.bind(ALICE), "aaaaabbbcceeeeee nothing but these words here")
        await embed(hub)
        with raw_database(folder) as run:
            [[plain]] = run("SELECT vector FROM embeddings")
        assert _is_in_files(plain, folder)
        await hub.bind(ALICE).update_memory(memory, MemoryChange(level=Level.PRIVATE), expected_version=1)
        with raw_database(folder) as run:
            assert run("SELECT vector FROM embeddings") == [(b"",)]
        assert not _is_in_files(plain, folder)
        await embed(hub)
        with raw_database(folder) as run:
            [[sealed]] = run("SELECT vector FROM embeddings")
        assert plain not in sealed


def _is_in_files(data: bytes, folder: Path) -> bool:
    return any(data in path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_a_vector_moved_to_another_record_does_not_open(folder: Path) -> None:
    async with opened(HubSettings(data_dir=folder)) as hub:
        await remember(hub.bind(ALICE), "aaa", level=Level.PRIVATE)
        two = await remember(hub.bind(ALICE), "zzz", level=Level.PRIVATE)
        await embed(hub)
        with raw_database(folder) as run:
            run(
                "UPDATE embeddings SET (key_id, salt, vector) ="
                " (SELECT key_id, salt, vector FROM embeddings WHERE seq = 1) WHERE seq = 2"
            )
        assert two not in await ids(hub, ALICE, "aaa")


async def test_another_model_is_refused_until_reindexed(folder: Path) -> None:
    settings = HubSettings(data_dir=folder)
    async with opened(settings) as hub:
        memory = await remember(hub.bind(ALICE), "aaa", level=Level.PRIVATE)
        await embed(hub)
    async with opened(settings, LetterEmbedder("other", spare=3)) as hub:
        error = await refused(near(hub, ALICE, "aaa"), SettingsInvalid, "embedding_model_mixed")
        assert "contextdna reindex" in error.hint
        assert not await hub._rooms.semantics.turn()
        health = await hub.bind(ROOT, project_id=DEFAULT).health()
        assert health.semantics is not None
        assert health.semantics.problem == "embedding_model_mixed"
        report = await hub.bind(ROOT, project_id=DEFAULT).reindex()
        assert (report.model, report.dimension, report.embedded, report.model_changed) == ("other", 29, 1, True)
        assert await ids(hub, ALICE, "aaa") == [memory]
        assert (await audit_of(hub, action=Action.REINDEX))[-1].draft.agent_id == ROOT.agent_id


async def test_another_dimension_under_the_same_name_is_refused(folder: Path) -> None:
    async with opened(HubSettings(data_dir=folder)) as hub:
        await remember(hub.bind(ALICE), "aaa")
        await embed(hub)
    async with opened(HubSettings(data_dir=folder), LetterEmbedder(spare=3)) as hub:
        await refused(near(hub, ALICE, "aaa"), SettingsInvalid, "embedding_model_mixed")
        await remember(hub.bind(ALICE), "bbb")
        assert not await hub._rooms.semantics.turn()
        assert (await hub.bind(ROOT, project_id=DEFAULT).reindex()).embedded == 2


async def test_reindexing_tells_how_far_it_is_and_goes_on_where_it_was(settings: HubSettings) -> None:
    async with opened(settings, LetterEmbedder(batch=2, fails_at=3)) as hub:
        for number in range(5):
            await remember(hub.bind(ALICE), f"abc {number}")
        told: list[int] = []
        root = hub.bind(ROOT, project_id=DEFAULT)
        await refused(root.reindex(progress=told.append), StorageUnavailable, "embedder_unavailable")
        assert told == [2]
        assert (await root.reindex(progress=told.append)).embedded == 3
        assert told == [2, 2, 3]


async def test_what_is_near_in_meaning_alone_says_so(settings: HubSettings) -> None:
    async with opened(settings) as hub:
        await remember(hub.bind(ALICE), "aaa")
        near_by = await remember(hub.bind(BOB), "aaaa")
        await embed(hub)
        hits = (await hub.bind(ALICE).retrieve_context(ContextQuery("aaa"))).hits
        [why] = [hit.why for hit in hits if hit.record.id == near_by]
        assert [reason.split()[0] for reason in why] == ["semantic", "importance"]


class LoadingEmbedder(LetterEmbedder):
    """Answers when it is ``loaded``."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.loaded = anyio.Event(), anyio.Event()

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        self.asked.set()
        await self.loaded.wait()
        return await super().embed(texts)


async def test_the_background_takes_nothing_from_who_reindexes(settings: HubSettings) -> None:
    embedder = LoadingEmbedder()
    async with opened(settings, embedder) as hub:
        await remember(hub.bind(ALICE), "aaa")
        told: list[int] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(hub.bind(ROOT, project_id=DEFAULT).reindex, progress=told.append))
            await embedder.asked.wait()
            tasks.start_soon(embed, hub)
            await anyio.wait_all_tasks_blocked()
            embedder.loaded.set()
        assert told == [1]


async def test_only_the_role_system_reindexes(settings: HubSettings) -> None:
    async with opened(settings) as hub:
        with pytest.raises(Exception, match="system"):
            await hub.bind(ALICE).reindex()


async def test_a_broken_embedder_blocks_nothing_and_shows_in_health(settings: HubSettings) -> None:
    embedder = LetterEmbedder(broken=True)
    async with opened(settings, embedder) as hub:
        memory = await remember(hub.bind(ALICE), "aaa words")
        assert not await hub._rooms.semantics.turn()
        context = await hub.bind(ALICE).retrieve_context(ContextQuery("words"))
        assert [hit.record.id for hit in context.hits] == [memory]
        health = await hub.bind(ALICE).health()
        assert health.semantics is not None
        assert (health.semantics.problem, health.semantics.waiting) == ("embedder_unavailable", 1)
        embedder.broken = False
        await embed(hub)
        health = await hub.bind(ALICE).health()
        assert health.semantics is not None
        assert (health.semantics.problem, health.semantics.waiting) == ("", 0)


async def test_the_background_embeds_by_itself_and_tries_again(
    settings: HubSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_FIRST_AFTER_S", "_LOOK_EVERY_S", "_PAUSE_S"):
        monkeypatch.setattr(f"contextdna.hub.semantics.{name}", 0.0)
    async with opened(settings, LetterEmbedder(fails_at=1)) as hub:
        for text in ("aaa", "aab"):  # the first fails at first; the second comes while it waits for news
            await remember(hub.bind(ALICE), text)
            with anyio.fail_after(30):
                while await hub._door.database.read(lambda tx: tx.embeddings.backlog(DEFAULT)):
                    pass  # each look lets the background work
        hub._rooms.semantics._rest_until = 0.0  # where the call that failed was the one that loads the model
        assert len(await ids(hub, ALICE, "aaa")) == 2


async def test_a_question_that_fails_rests_the_embedder_and_finds_nothing_by_meaning(settings: HubSettings) -> None:
    embedder = LetterEmbedder()
    async with opened(settings, embedder) as hub:
        await remember(hub.bind(ALICE), "aaa")
        await embed(hub)
        embedder.broken = True
        calls = embedder.calls
        assert await ids(hub, ALICE, "aaa") == []
        assert await ids(hub, ALICE, "aab") == []
        assert embedder.calls == calls + 1


async def test_without_an_embedder_nothing_is_embedded_or_found(settings: HubSettings) -> None:
    async with open_hub(settings, clock=Clock()) as hub:
        await remember(hub.bind(ALICE), "aaa")
        assert await ids(hub, ALICE, "aaa") == []
        assert (await hub.bind(ALICE).health()).semantics is None
        assert (await hub.bind(ROOT, project_id=DEFAULT).reindex()).embedded == 0


async def test_a_text_without_a_letter_has_no_vector_and_holds_up_nothing(settings: HubSettings) -> None:
    async with opened(settings) as hub:
        await remember(hub.bind(ALICE), "123")
        memory = await remember(hub.bind(ALICE), "abc")
        await embed(hub)
        assert await ids(hub, ALICE, "abc") == [memory]
        assert await ids(hub, ALICE, "456") == []
        assert await hub._door.database.read(lambda tx: tx.embeddings.backlog(DEFAULT)) == 0


async def test_a_rotation_makes_vectors_of_encrypted_records_anew(folder: Path) -> None:
    async with opened(HubSettings(data_dir=folder)) as hub:
        memory = await remember(hub.bind(ALICE), "aaa", level=Level.PRIVATE)
        await embed(hub)
        with raw_database(folder) as run:
            [[before]] = run("SELECT key_id FROM embeddings")
        await hub.bind(ROOT).rotate_keys()
        await embed(hub)
        with raw_database(folder) as run:
            [[after]] = run("SELECT key_id FROM embeddings")
        assert after not in ("", before)
        assert await ids(hub, ALICE, "aaa") == [memory]


async def test_the_caches_are_bounded() -> None:
    one, two, three = (Shelf(1, 4).with_more([1], [b"\x01\x02\x03\x04"], newest=1, bytes_max=10_000) for _ in range(3))
    recall = Recall("m", all_bytes_max=2 * one.size_bytes)
    for number in range(1_200):
        recall.keep_question(f"q{number}", b"1234")
    assert recall.question("q0") is None
    assert recall.question("q1199") == b"1234"
    space = EmbeddingSpace("m", 4, 1, 1, 0)
    projects = [ProjectId(name) for name in ("a", "b", "c")]
    recall.keep_shelf(projects[0], one)
    recall.keep_shelf(projects[1], two)
    assert recall.shelf(projects[0], space) is one  # asked for later than the second
    recall.keep_shelf(projects[2], three)
    assert [recall.shelf(project_id, space).count for project_id in projects] == [1, 0, 1]
    large = one.with_more([2, 3], [b"\x01\x02\x03\x04"] * 2, newest=3, bytes_max=10_000)
    recall.keep_shelf(projects[0], large)  # alone it may be too large
    assert [recall.shelf(project_id, space).count for project_id in projects] == [3, 0, 0]


async def test_the_cache_may_be_asked_while_it_is_written_to() -> None:
    recall, space = Recall("m", all_bytes_max=1), EmbeddingSpace("m", 4, 1, 1, 0)
    first, second, third = (ProjectId(name) for name in ("first", "second", "third"))
    failed: list[str] = []

    def search() -> None:
        try:
            recall.shelf(first, space)
        except RuntimeError as error:
            failed.append(str(error))

    class Asked(Shelf):
        """While its size is asked for, another thread searches."""

        @property
        def size_bytes(self) -> int:
            searcher = Thread(target=search)
            searchers.append(searcher)
            searcher.start()
            searcher.join(timeout=0.02)  # it may have to wait for us
            return 0

    searchers: list[Thread] = []
    for project_id in (first, second, third):
        recall.keep_shelf(project_id, Asked(1, 4))
    for searcher in searchers:
        searcher.join()
    assert searchers
    assert not failed


class Odd(LetterEmbedder):
    """Gives vectors that are no rows of floats."""

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        return [b"123456" for _ in texts]


async def test_vectors_that_are_no_floats_are_a_failure_of_the_embedder(settings: HubSettings) -> None:
    async with opened(settings, Odd()) as hub:
        memory = await remember(hub.bind(ALICE), "aaa")
        assert not await hub._rooms.semantics.turn()
        health = await hub._rooms.semantics.health(DEFAULT)
        assert health is not None
        assert health.problem == "embedder_unavailable"
        assert [hit.record.id for hit in (await hub.bind(ALICE).retrieve_context(ContextQuery("aaa"))).hits] == [memory]


async def test_what_nobody_foresaw_ends_neither_the_job_nor_a_search(
    settings: HubSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(settings) as hub:
        jobs = hub._rooms.semantics
        memory = await remember(hub.bind(ALICE), "aaa")
        await embed(hub)

        def broken(*_: object) -> None:
            raise RuntimeError("nobody foresaw this")

        monkeypatch.setattr(Recall, "keep_shelf", broken)
        await jobs._warm()
        assert [hit.record.id for hit in (await hub.bind(ALICE).retrieve_context(ContextQuery("aaa"))).hits] == [memory]
        monkeypatch.setattr("contextdna.domain.embedding.waiting", broken)
        assert not await jobs.turn()
        monkeypatch.undo()
        assert await jobs.turn()


async def test_a_project_that_cannot_be_embedded_does_not_hold_up_the_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = ProjectId("bad"), ProjectId("good")
    settings = HubSettings(data_dir=folder, projects=(bad, good))
    author = Principal(AgentId("alice"), (bad, good))
    async with opened(settings) as hub:
        await remember(hub.bind(author, project_id=bad), "aaa")
        await embed(hub)
    for name, seconds in (("_LOOK_EVERY_S", 0.01), ("_PAUSE_S", 3600.0), ("_PAUSE_S_MAX", 3600.0)):
        monkeypatch.setattr(f"contextdna.hub.semantics.{name}", seconds)
    async with opened(settings, LetterEmbedder("another")) as hub, anyio.create_task_group() as tasks:
        monkeypatch.setattr("contextdna.hub.semantics._FIRST_AFTER_S", 0.0)
        tasks.start_soon(hub._rooms.semantics.run)
        workspace = hub.bind(author, project_id=good)
        for number in range(3):
            await remember(workspace, f"bbb {number}")
            with anyio.fail_after(2):
                while await hub._door.database.read(lambda tx: tx.embeddings.backlog(good)):
                    await anyio.lowlevel.checkpoint()
        assert set(hub._rooms.semantics._problems) == {bad}
        tasks.cancel_scope.cancel()


async def test_an_embedder_whose_package_is_missing_is_named_with_its_extra(
    settings: HubSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contextdna.hub.embedders.find_spec", lambda _: None)
    for kind, extra in ((EmbedderKind.WORDLLAMA, "semantic"), (EmbedderKind.FASTEMBED, "fastembed")):
        wanted = replace(settings, search=SearchSettings(embedder=kind))
        with pytest.raises(SettingsInvalid) as caught:
            async with open_hub(wanted):
                pass
        assert caught.value.code == "embedder_missing"
        assert f"contextdna[{extra}]" in caught.value.hint
