"""One damaged row hides no other: conversations and lists of artifacts go on behind it, page by page."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contextdna import ArtifactDraft, Hub, IntegrityFault, Risk, TurnDraft, open_hub
from tests.hub.rig import ALICE, BOB, begin, last_audit, public, raw_database, refused, settings_in

pytestmark = pytest.mark.anyio

PAGE = 50


@pytest.fixture
async def stored_hub(folder: Path) -> AsyncIterator[Hub]:
    async with open_hub(settings_in(folder)) as hub:
        yield hub


def damage(folder: Path, *record_ids: str) -> None:
    with raw_database(folder) as run:
        for record_id in record_ids:
            run("UPDATE records SET body = x'00' WHERE id = ?", record_id)


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
async def test_a_conversation_is_read_past_damaged_turns(stored_hub: Hub, folder: Path, limit: int) -> None:
    handle = await begin(stored_hub, ALICE)
    turns = await stored_hub.bind(ALICE, session_id=handle).log_turns([TurnDraft("user", name) for name in "abcdef"])
    damage(folder, turns[0], turns[2], turns[3], turns[5])
    bob = stored_hub.bind(BOB)
    for newest_first in (False, True):
        said: list[str] = []
        after = before = 0
        while page := await bob.read_conversation(
            public(handle), after=after, before=before, limit=limit, newest_first=newest_first
        ):
            said += [turn.content for turn in page]
            assert (await last_audit(stored_hub)).draft.risk is Risk.CRITICAL
            after, before = (0, page[-1].record.position) if newest_first else (page[-1].record.position, 0)
        assert said == [*("eb" if newest_first else "be")]
    assert [turn.content for turn in await bob.read_conversation(public(handle), after=-5)] == [*"be"]
    damage(folder, *turns)
    await refused(bob.read_conversation(public(handle)), IntegrityFault, "body_unreadable")


async def test_artifacts_are_listed_past_damaged_ones(stored_hub: Hub, folder: Path) -> None:
    alice = stored_hub.bind(ALICE)
    ids = [(await alice.attach_artifact(ArtifactDraft(f"{n}.txt", b"x"))).record.id for n in range(PAGE + 3)]
    damage(folder, ids[-1], ids[1])
    names: list[str] = []
    page = await alice.artifacts.page(limit=PAGE)
    names += [artifact.name for artifact in page.artifacts]
    while page.cursor:
        page = await alice.artifacts.page(limit=PAGE, cursor=page.cursor)
        names += [artifact.name for artifact in page.artifacts]
    assert names == [f"{n}.txt" for n in reversed(range(PAGE + 3)) if n not in (1, PAGE + 2)]
    assert len(await alice.list_artifacts(limit=2)) == 2


async def test_versions_of_an_artifact_are_listed_past_damaged_ones(stored_hub: Hub, folder: Path) -> None:
    alice = stored_hub.bind(ALICE)
    ids = [(await alice.attach_artifact(ArtifactDraft("a.txt", text))).record.id for text in (b"1", b"2", b"3")]
    damage(folder, ids[2])
    assert [artifact.record.position for artifact in await alice.artifacts.versions("a.txt")] == [2, 1]
    _, data = await alice.artifacts.read("a.txt", version=1)
    assert data == b"1"
