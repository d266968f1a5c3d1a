"""Artifacts: versions by name, kinds by name and bytes, and references that stay small whatever they refer to."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from contextdna import (
    AgentId,
    Artifact,
    ArtifactDraft,
    ContextDnaError,
    Hub,
    IntegrityFault,
    InvalidInput,
    Level,
    LimitExceeded,
    Limits,
    NotFound,
    Outcome,
    Principal,
    RecordId,
    Risk,
    Workspace,
    open_hub,
)
from contextdna.hub.blob_stores import ARTIFACTS_FOLDER
from tests.hub.rig import ALICE, BOB, PETE, ROOT, last_audit, raw_database, refused, settings_in

pytestmark = pytest.mark.anyio

REFERENCE_BYTES_MAX: Final = 1000
KIB: Final = 1024


async def attach(hub: Hub, name: str, data: bytes, who: Principal = ALICE, **fields: Any) -> Artifact:
    return await hub.bind(who).attach_artifact(ArtifactDraft(name, data, **fields))


async def test_each_version_of_a_name_is_read_and_listed_by_who_may_see_it(hub: Hub) -> None:
    await attach(hub, "plan.md", b"one")
    await attach(hub, "plan.md", b"two", level=Level.PRIVATE)
    await attach(hub, "plan.md", b"three")
    await attach(hub, "plan.md", b"bob's", BOB)
    await attach(hub, "other.md", b"other")
    own, other = hub.bind(ALICE).artifacts, hub.bind(PETE).artifacts
    assert [item.record.position for item in await own.versions("plan.md")] == [3, 2, 1]
    assert [(await own.read("plan.md", version=number))[1] for number in (0, 1, 2, 3)] == [
        b"three",
        b"one",
        b"two",
        b"three",
    ]
    alice = ALICE.agent_id
    assert [item.record.position for item in await other.versions("plan.md", owner_id=alice)] == [3, 1]
    assert (await other.read("plan.md", version=1, owner_id=alice))[1] == b"one"
    assert (await other.read("plan.md", owner_id=BOB.agent_id))[1] == b"bob's"
    assert await other.versions("plan.md") == ()


async def test_the_latest_version_is_the_latest_that_the_reader_sees(hub: Hub) -> None:
    await attach(hub, "plan.md", b"for all")
    await attach(hub, "plan.md", b"for me", level=Level.PRIVATE)
    artifact, data = await hub.bind(PETE).artifacts.read("plan.md", owner_id=ALICE.agent_id)
    assert (artifact.record.position, data) == (1, b"for all")


async def test_a_hidden_version_answers_as_an_absent_one_and_is_audited(hub: Hub) -> None:
    hidden = await attach(hub, "secret.md", b"mine", level=Level.PRIVATE)
    shapes = set()
    for version, outcome, risk in ((1, Outcome.DENIED, Risk.HIGH), (2, Outcome.ABSENT, Risk.LOW)):
        with pytest.raises(NotFound) as caught:
            await hub.bind(PETE).artifacts.read("secret.md", version=version, owner_id=ALICE.agent_id)
        shapes.add((caught.value.code, str(caught.value), caught.value.hint))
        entry = (await last_audit(hub)).draft
        assert (entry.outcome, entry.risk) == (outcome, risk)
        assert entry.record_ids == ((hidden.record.id,) if outcome is Outcome.DENIED else ())
        assert "secret" not in entry.details
    assert len(shapes) == 1


ASKED: Final[dict[str, tuple[str, Callable[[Workspace], Awaitable[Any]]]]] = {
    "no name": ("name_empty", lambda w: w.artifacts.versions(" ")),
    "a long name": ("name_too_large", lambda w: w.artifacts.read("x" * 513)),
    "no owner": ("owner_invalid", lambda w: w.artifacts.versions("a", owner_id=AgentId("b/"))),
    "no version": ("version_out_of_range", lambda w: w.artifacts.read("a", version=-1)),
}


@pytest.mark.parametrize("what", ASKED)
async def test_what_cannot_be_a_version_is_refused(hub: Hub, what: str) -> None:
    code, ask = ASKED[what]
    await refused(ask(hub.bind(ALICE)), ContextDnaError, code)


TYPES: Final = {
    ("notes.md", b"# x"): "text/markdown",
    ("run.sh", b"ls"): "text/x-shellscript",
    ("app.ts", b"let x"): "text/typescript",
    ("data.JSON", b"{}"): "application/json",
    ("conf.yaml", b"a: 1"): "application/yaml",
    ("page.html", b"<p>"): "text/html",
    ("logs.tar.gz", b"\x1f\x8b"): "application/gzip",
    ("picture", b"\x89PNG\r\n\x1a\n0"): "image/png",
    ("photo.unknown", b"\xff\xd8\xff\xe0"): "image/jpeg",
    ("sticker", b"RIFF\x00\x00\x00\x00WEBPVP8"): "image/webp",
    ("paper", b"%PDF-1.7"): "application/pdf",
    ("LICENSE", b"Permission is granted"): "text/plain",
    ("greeting", "Grüße €".encode()): "text/plain",
    ("cut off", b"a" * (64 * KIB - 1) + "€".encode()): "text/plain",
    ("latin", "Grüße".encode("latin-1")): "application/octet-stream",
    ("zeros", b"a\x00b"): "application/octet-stream",
}


@pytest.mark.parametrize(("name", "data"), TYPES)
async def test_a_media_type_is_told_by_the_name_else_by_the_bytes(hub: Hub, name: str, data: bytes) -> None:
    assert (await attach(hub, name, data)).media_type == TYPES[name, data]


async def test_a_media_type_that_is_given_stays(hub: Hub) -> None:
    assert (await attach(hub, "notes.md", b"x", media_type="text/x-own")).media_type == "text/x-own"
    await refused(attach(hub, "notes.md", b"x", media_type="own"), InvalidInput, "media_type_invalid")


async def test_metadata_comes_back_and_is_bounded(hub: Hub) -> None:
    artifact = await attach(hub, "a", b"x", metadata={"build": 7}, level=Level.PRIVATE)
    assert (await hub.bind(ALICE).describe_artifact(artifact.record.id)).metadata == {"build": 7}
    await refused(attach(hub, "a", b"x", metadata={"a": "b" * 70_000}), LimitExceeded, "metadata_too_large")


@pytest.mark.parametrize("level", [Level.PROJECT, Level.PRIVATE])
async def test_a_reference_has_a_few_hundred_bytes_whatever_the_size(folder: Path, level: Level) -> None:
    sizes = (1, 100 * KIB, 8 * KIB * KIB)
    async with open_hub(settings_in(folder)) as hub:
        for size in sizes:
            await attach(hub, "dump.bin", os.urandom(size), level=level)
            await attach(hub, "text.txt", b"all work and no play " * (size // 21 + 1), level=level)
    with raw_database(folder) as run:
        columns = [row[1] for row in run("PRAGMA table_info(records)")]
        columns.remove("sketch")  # the words of its beginning, to be searched by
        measured = " + ".join(f"coalesce(length(CAST({name} AS BLOB)), 0)" for name in columns)
        rows = [row[0] for row in run(f"SELECT {measured} FROM records WHERE kind = 'artifact'")]  # noqa: S608
    assert len(rows) == 2 * len(sizes)
    assert max(rows) < REFERENCE_BYTES_MAX


async def test_equal_bytes_are_kept_once_where_they_are_plain_and_apart_where_they_are_encrypted(folder: Path) -> None:
    async with open_hub(settings_in(folder)) as hub:
        for name in ("a", "b"):
            await attach(hub, name, b"the same bytes")
            await attach(hub, name, b"the same bytes", level=Level.PRIVATE)
        files = [file for file in (folder / ARTIFACTS_FOLDER).rglob("*") if file.is_file()]
        assert len(files) == 3
        assert sum(b"the same bytes" in file.read_bytes() for file in files) == 1


async def test_bytes_that_were_changed_on_disk_are_not_given(folder: Path) -> None:
    async with open_hub(settings_in(folder)) as hub:
        artifact = await attach(hub, "a", b"the right bytes")
        [file] = [file for file in (folder / ARTIFACTS_FOLDER).rglob("*") if file.is_file()]
        file.write_bytes(b"the wrong bytes")
        await refused(hub.bind(ALICE).artifacts.read("a"), IntegrityFault, "blob_changed")
        await refused(hub.bind(ALICE).read_artifact(artifact.record.id), IntegrityFault, "blob_changed")


async def test_an_artifact_over_the_limit_leaves_nothing(folder: Path) -> None:
    settings = replace(settings_in(folder), limits=Limits(artifact_bytes_max=10))
    async with open_hub(settings) as hub:
        await attach(hub, "a", b"0123456789")
        await refused(attach(hub, "a", b"0123456789+"), LimitExceeded, "artifact_too_large")
        assert len(await hub.bind(ROOT, project_id="default").list_artifacts()) == 1
        assert len([file for file in (folder / ARTIFACTS_FOLDER).rglob("*") if file.is_file()]) == 1


async def test_of_one_moment_too_a_listing_leaves_none_out(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    ids = [(await alice.attach_artifact(ArtifactDraft(f"{number}.txt", b"x"))).record.id for number in range(8)][::-1]

    async def listed(cursor: str) -> tuple[list[RecordId], str]:
        page = await alice.artifacts.page(limit=3, cursor=cursor)
        return [artifact.record.id for artifact in page.artifacts], page.cursor

    first, cursor = await listed("")
    assert (first, (await listed(cursor))[0]) == (ids[:3], ids[3:6])
    await alice.forget_memories(first[:2])
    assert (await listed(cursor))[0] == ids[3:6]
    await alice.forget_memories(first[2:])
    second, cursor = await listed(cursor)
    assert second == ids[3:6]
    last, cursor = await listed(cursor)
    assert (last, cursor) == (ids[6:], "")
