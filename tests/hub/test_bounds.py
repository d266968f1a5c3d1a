"""Bounds on what a call may leave behind or cost."""

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from contextdna import AgentId, ContextQuery, Hub, IntegrityFault, Level, MemoryDraft, Principal, open_hub
from contextdna.domain import packing
from contextdna.domain.frequencies import Frequencies
from tests.hub.rig import ALICE, DEFAULT, last_audit, raw_database, refused, remember, settings_in

pytestmark = pytest.mark.anyio


async def test_long_request_and_trace_ids_are_audited_short_and_told_apart(hub: Hub) -> None:
    audited = set()
    for last in "ab":
        name = "r" * 100_000 + last
        await hub.bind(ALICE, request_id=name, trace_id=name).retrieve_context(ContextQuery())
        draft = (await last_audit(hub)).draft
        assert len(draft.request_id) == 64
        assert draft.trace_id == draft.request_id
        assert draft.request_id.startswith("rrr")
        audited.add(draft.request_id)
    assert len(audited) == 2


async def test_a_request_id_within_the_bound_is_audited_as_it_is(hub: Hub) -> None:
    await hub.bind(ALICE, request_id="r" * 64).retrieve_context(ContextQuery())
    assert (await last_audit(hub)).draft.request_id == "r" * 64


async def test_an_empty_answer_repeats_no_more_of_a_type_than_a_name_is_long(hub: Hub) -> None:
    answer = await hub.bind(ALICE).retrieve_context(ContextQuery(types=("fact", "x" * 300_000)))
    assert answer.empty is not None
    assert answer.empty.suggestions[:2] == tuple(
        f"type {shown} has no visible records" for shown in ("fact", "x" * 128)
    )


LONG = " ".join(f"filler{number}" for number in range(780))


async def test_of_a_long_query_the_rarest_words_take_part(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    rare = await remember(alice, "the xylographer keeps the blocks")
    await alice.store_memories([MemoryDraft(f"common filler{n // 2} note {n}") for n in range(100)])
    await alice.store_memories([MemoryDraft(f"common filler{n // 2} note {n}") for n in range(100, 160)])
    await alice.store_memories([MemoryDraft(f"common entry {number}") for number in range(10)])
    answer = await alice.retrieve_context(ContextQuery(text=f"common {LONG} xylographer", limit=100, max_tokens=20_000))
    assert rare in [hit.record.id for hit in answer.hits]
    assert not any("entry" in hit.content for hit in answer.hits)
    assert not any("common" in reason for hit in answer.hits for reason in hit.why)
    short = await alice.retrieve_context(ContextQuery(text="common xylographer", limit=100, max_tokens=20_000))
    assert any("entry" in hit.content for hit in short.hits)


async def test_quoted_phrases_are_never_left_out(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    kept = await remember(alice, " ".join(f"filler{number}" for number in range(100)))
    await remember(alice, "filler1 filler2 alone")
    quoted = " ".join(f'"filler{number}"' for number in range(100))
    answer = await alice.retrieve_context(ContextQuery(text=f"{quoted} alone"))
    assert [hit.record.id for hit in answer.hits] == [kept]


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "mixed"])
async def test_the_work_of_a_query_does_not_grow_with_its_words(tmp_path: Path, *, sealed: bool) -> None:
    """Counted in instructions of SQLite, not in time."""
    async with open_hub(settings_in(tmp_path / "data", sqlite_readers=1)) as hub:
        alice = hub.bind(ALICE)
        levels = [Level.PRIVATE if sealed and number % 4 == 0 else Level.PROJECT for number in range(400)]
        drafts = [MemoryDraft(f"filler{n} filler{n + 1} filler{n + 2} {n}", level=levels[n]) for n in range(400)]
        for start in range(0, 400, 100):
            await alice.store_memories(drafts[start : start + 100])
        effort = [await _instructions(hub, " ".join(LONG.split()[:words])) for words in (64, 400)]
    assert effort[1] < 6 * effort[0]


async def _instructions(hub: Hub, text: str) -> int:
    """Count SQLite's virtual machine steps of a query, in thousands."""
    reader = hub._door.database._idle[0]  # type: ignore[attr-defined]
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    await reader.thread.run(reader.thread.raw.set_progress_handler, count, 100)
    await hub.bind(ALICE).retrieve_context(ContextQuery(text=text))
    await reader.thread.run(reader.thread.raw.set_progress_handler, None, 100)
    return counted


async def test_a_body_that_unpacks_without_end_is_stopped_at_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "_UNPACKED_BYTES_MAX", 1024 * 1024)
    async with open_hub(settings_in(tmp_path / "data")) as hub:
        memory = await remember(hub.bind(ALICE), "within the bound " * 1000)
        assert (await hub.bind(ALICE).get_memories([memory]))[0]
        bomb, _ = packing.pack({"content": " " * (64 * 1024 * 1024)}, compress_over_bytes=0)
        with raw_database(tmp_path / "data") as run:
            run("UPDATE records SET body = ? WHERE id = ?", bomb, memory)
        tracemalloc.start()
        try:
            await refused(hub.bind(ALICE).get_memories([memory]), IntegrityFault, "body_unreadable")
            assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
        finally:
            tracemalloc.stop()


async def test_of_a_long_text_its_two_ends_and_what_is_quoted_are_counted(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers = [hub.bind(Principal(AgentId(name), (DEFAULT,))) for name in ("ann", "ben", "cas", "dan")]
    texts = ("w0003 and more", "w0500 and more", "w0990 and more", "said before")
    begin, _, end, quoted = [await remember(one, text) for one, text in zip(writers, texts, strict=True)]
    counted: list[int] = []
    of = Frequencies.of

    async def counting(self: Frequencies, tx: Any, project_id: Any, phrases: Any) -> Any:
        counted.append(len(phrases))
        return await of(self, tx, project_id, phrases)

    monkeypatch.setattr(Frequencies, "of", counting)
    text = " ".join(f"w{number:04}" for number in range(1_000))
    alice = hub.bind(ALICE)
    assert {hit.record.id for hit in (await alice.retrieve_context(ContextQuery(text))).hits} == {begin, end}
    phrase = await alice.retrieve_context(ContextQuery(f'{text} "said before"'))
    assert [hit.record.id for hit in phrase.hits] == [quoted]
    assert max(counted) <= 2 * (256 + 2) + 2  # in two spaces, and whether records of other languages are there
