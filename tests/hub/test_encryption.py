"""What lies on disk: nothing of encrypted records, nothing after a purge, and nothing that opens in another place."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from contextdna import (
    AgentId,
    ArtifactDraft,
    BeginRequest,
    ContextQuery,
    Decision,
    DelegationRequest,
    Hub,
    IntegrityFault,
    Level,
    Loop,
    LoopDraft,
    MemoryChange,
    RecordId,
    Risk,
    Role,
    SettingsInvalid,
    TurnDraft,
    open_hub,
)
from contextdna.backends.key_ring import add_master_key
from contextdna.domain import rotation
from contextdna.hub.blob_stores import ARTIFACTS_FOLDER
from contextdna.hub.opening import DATABASE_FILE, KEY_FILE
from tests.hub.rig import (
    ALICE,
    DEFAULT,
    PETE,
    ROOT,
    TESS,
    WRITER,
    Clock,
    last_audit,
    raw_database,
    refused,
    remember,
    settings_in,
)

pytestmark = pytest.mark.anyio

RARE: Final = ("xylographer", "quinquereme", "brobdingnag", "zwitterion")
SENTENCE: Final = "The xylographer rows a quinquereme to Brobdingnag with a zwitterion."
KEY_A, KEY_B = "11" * 32, "22" * 32


@pytest.fixture
async def hub(anyio_backend: str, folder: Path, clock: Clock) -> AsyncIterator[Hub]:
    """Open an installation on disk: these tests are about its files."""
    async with open_hub(settings_in(folder), clock=clock) as opened:
        yield opened


def traces(folder: Path, *texts: str) -> list[str]:
    """Name the files that hold a text, in any case, in UTF-8 or UTF-16."""
    found = []
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        data = file.read_bytes().lower()
        for text in texts:
            forms = [text.lower().encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be")]
            if any(form in data for form in forms):
                found.append(f"{file.name}: {text}")
    return found


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def files(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


async def plant_sentence(hub: Hub) -> None:
    """Put the sentence wherever something encrypted takes text."""
    for level in (Level.PRIVATE, Level.TEAM, Level.SYSTEM):
        writer = hub.bind(WRITER)
        memory = await remember(
            writer,
            f"{SENTENCE} {level}",
            level=level,
            tags=(RARE[0], SENTENCE[:60]),
            metadata={RARE[1]: [SENTENCE, {"deep": RARE[2]}]},
        )
        await writer.update_memory(memory, MemoryChange(content=f"{SENTENCE} again {level}"), expected_version=1)
        await remember(writer, f"{SENTENCE} forgotten {level}" + SENTENCE * 200, level=level)
        draft = ArtifactDraft(f"{RARE[3]}.txt", SENTENCE.encode(), level=level, metadata={"k": SENTENCE})
        await writer.attach_artifact(draft)
    handle = (await hub.bind(WRITER).begin_session(BeginRequest(WRITER.agent_id, SENTENCE, role=Role.SYSTEM))).handle
    acting = hub.bind(WRITER, session_id=handle)
    await acting.log_turns([TurnDraft("user", SENTENCE, Level.PRIVATE, {"k": SENTENCE})])
    decision = LoopDraft(Loop.DECISION, "phase", decision=Decision.DEFER, reasoning=SENTENCE, details={"k": SENTENCE})
    await acting.record_loop(decision)
    await acting.record_loop(LoopDraft(Loop.CONFIDENCE, "phase", score=0.5, reasoning=SENTENCE))
    await acting.delegate(DelegationRequest(AgentId("carol"), SENTENCE, query=SENTENCE))
    await acting.end_session(success=True, output=SENTENCE, learnings=[SENTENCE + "!"], level=Level.PRIVATE)


async def test_nothing_of_what_is_encrypted_lies_on_disk(folder: Path, clock: Clock) -> None:
    async with open_hub(settings_in(folder), clock=clock) as hub:
        await plant_sentence(hub)
        for word in (*RARE, SENTENCE, '"rows a quinquereme to"'):
            context = await hub.bind(WRITER).retrieve_context(ContextQuery(word, tags=(RARE[0],)))
            assert context.hits, "what is encrypted is found all the same"
        await hub.bind(PETE).retrieve_context(ContextQuery(SENTENCE))
        assert traces(folder, SENTENCE, *RARE) == []
    assert traces(folder, SENTENCE, *RARE) == []
    assert names(folder) == {DATABASE_FILE, KEY_FILE, ARTIFACTS_FOLDER}


async def test_the_search_for_traces_finds_plain_text(hub: Hub, folder: Path) -> None:
    await remember(hub.bind(ALICE), SENTENCE, level=Level.PROJECT)
    assert traces(folder, RARE[0]) == [f"{DATABASE_FILE}-wal: {RARE[0]}"]


@pytest.mark.parametrize("level", [Level.PRIVATE, Level.PROJECT])
async def test_nothing_of_what_is_purged_lies_on_disk(folder: Path, clock: Clock, level: Level) -> None:
    text = SENTENCE * 500
    async with open_hub(settings_in(folder), clock=clock) as hub:
        alice = hub.bind(ALICE)
        kept = await remember(alice, "the neighbour stays", level=level)
        memory = await remember(alice, text, level=level, tags=(RARE[0],))
        artifact = await alice.attach_artifact(ArtifactDraft("a.bin", bytes(range(256)) * 40, level=level))
        with raw_database(folder) as run:
            sealed = [row[0] for row in run("SELECT body FROM records WHERE id <> ?", kept)]
        blobs = [file.read_bytes() for file in (folder / ARTIFACTS_FOLDER).rglob("*") if file.is_file()]
        assert len(sealed) == 2
        assert all(piece in files(folder) for piece in (*sealed, *blobs))
        await alice.forget_memories([memory, artifact.record.id], purge=True)
        assert not any(piece[:64] in files(folder) for piece in (*sealed, *blobs))
        assert traces(folder, *RARE) == []
        [[left], _] = await alice.get_memories([kept])
        assert left.content == "the neighbour stays"
    assert not any(piece[:64] in files(folder) for piece in (*sealed, *blobs))


async def expect_unreadable(hub: Hub, memory: RecordId, **query: Any) -> None:
    """A record that was tampered with never opens, by id or by question; the log says so."""
    await refused(hub.bind(WRITER).get_memories([memory]), IntegrityFault, "body_unreadable")
    assert (await last_audit(hub)).draft.risk is Risk.CRITICAL
    answer = await hub.bind(WRITER).retrieve_context(ContextQuery(**query))
    assert memory not in [hit.record.id for hit in answer.hits]
    assert (await last_audit(hub)).draft.risk is Risk.CRITICAL


BODY: Final = "sealed_codec, sealed_key_id, sealed_salt, body"


async def test_a_body_does_not_open_in_another_row(hub: Hub, folder: Path) -> None:
    writer = hub.bind(WRITER)
    mine = await remember(writer, "mine", level=Level.PRIVATE)
    theirs = await remember(writer, "theirs", level=Level.PRIVATE)
    with raw_database(folder) as run:
        run(f"UPDATE records SET ({BODY}) = (SELECT {BODY} FROM records WHERE id = ?) WHERE id = ?", theirs, mine)  # noqa: S608
    await expect_unreadable(hub, mine, text="mine")
    [[opened], _] = await writer.get_memories([theirs])
    assert opened.content == "theirs"


@pytest.mark.parametrize(
    "change",
    [
        "level = 2",
        "level = 5",
        "version = 2",
        "version = 0",
        "sealed_salt = zeroblob(16)",
        "body = substr(body, 1, length(body) - 1)",
        "body = substr(body, 2)",
        "body = zeroblob(length(body))",
        "body = x''",
        "sealed_key_id = 'key_other'",
        "sealed_key_id = (SELECT key_id FROM keys WHERE project_id = 'other' AND purpose = 'data')",
        "sealed_codec = 1",
        "sealed_key_id = ''",
        'sealed_key_id = \'\', sealed_codec = 0, body = CAST(\'{"content":"forged","tags":[]}\' AS BLOB)',
    ],
)
async def test_a_body_does_not_open_under_another_header(hub: Hub, folder: Path, change: str) -> None:
    memory = await remember(hub.bind(WRITER), "bound to its row", level=Level.PRIVATE)
    with raw_database(folder) as run:
        run(f"UPDATE records SET {change} WHERE id = ?", memory)  # noqa: S608
    await expect_unreadable(hub, memory)


async def test_an_older_version_does_not_come_back(hub: Hub, folder: Path) -> None:
    writer = hub.bind(WRITER)
    memory = await remember(writer, "first words", level=Level.PRIVATE)
    with raw_database(folder) as run:
        [old] = run(f"SELECT {BODY} FROM records WHERE id = ?", memory)  # noqa: S608
        await writer.update_memory(memory, MemoryChange(content="second words"), expected_version=1)
        run(f"UPDATE records SET ({BODY}) = (?, ?, ?, ?) WHERE id = ?", *old, memory)  # noqa: S608
    await expect_unreadable(hub, memory)


async def test_a_changed_artifact_is_not_given_out(hub: Hub, folder: Path) -> None:
    for level in (Level.PRIVATE, Level.PROJECT):
        artifact = await hub.bind(WRITER).attach_artifact(ArtifactDraft("a.bin", b"as it was" * 50, level=level))
        [file] = (folder / ARTIFACTS_FOLDER).rglob(artifact.record.blob_key)
        file.write_bytes(file.read_bytes()[:-1] + b"!")
        await refused(hub.bind(WRITER).read_artifact(artifact.record.id), IntegrityFault, "blob_changed")
        file.unlink()
        await refused(hub.bind(WRITER).read_artifact(artifact.record.id), IntegrityFault, "artifact_missing")


async def expect_closed(folder: Path, kind: type[Any], code: str, **settings: Any) -> None:
    before = files(folder)

    async def open_it() -> None:
        async with open_hub(settings_in(folder, **settings)):
            raise AssertionError("it opened")

    await refused(open_it(), kind, code)
    assert files(folder) == before


async def test_a_wrong_master_key_opens_nothing(folder: Path) -> None:
    async with open_hub(settings_in(folder, master_key=KEY_A)) as hub:
        memory = await remember(hub.bind(ALICE), SENTENCE, level=Level.PRIVATE)
    assert not (folder / KEY_FILE).exists()
    await expect_closed(folder, IntegrityFault, "wrong_key", master_key=KEY_B)
    await expect_closed(folder, SettingsInvalid, "master_key_invalid", master_key="short")
    await expect_closed(folder, SettingsInvalid, "key_missing")
    async with open_hub(settings_in(folder, master_key=KEY_A)) as hub:
        [[opened], _] = await hub.bind(ALICE).get_memories([memory])
        assert opened.content == SENTENCE


async def test_a_database_without_its_key_file_is_not_given_a_new_one(folder: Path) -> None:
    async with open_hub(settings_in(folder)):
        pass
    key = (folder / KEY_FILE).read_bytes()
    (folder / KEY_FILE).unlink()
    await expect_closed(folder, SettingsInvalid, "key_missing")
    (folder / KEY_FILE).write_bytes(key[:-10])
    (folder / KEY_FILE).chmod(0o600)
    await expect_closed(folder, SettingsInvalid, "key_file_invalid")
    (folder / KEY_FILE).write_bytes(key)
    (folder / KEY_FILE).chmod(0o644)
    await expect_closed(folder, SettingsInvalid, "key_file_permissions")
    (folder / KEY_FILE).chmod(0o600)
    async with open_hub(settings_in(folder)):
        pass


async def test_a_rotation_reseals_every_record_and_all_stays_readable(hub: Hub, folder: Path) -> None:
    await plant_sentence(hub)
    writer = hub.bind(WRITER)
    before = await writer.retrieve_context(ContextQuery(max_tokens=20_000, limit=100))
    artifacts = await writer.list_artifacts()
    with raw_database(folder) as run:
        old = {row[0] for row in run("SELECT body FROM records WHERE sealed_key_id <> ''")}
    progress: list[int] = []
    report = await hub.bind(ROOT, project_id=DEFAULT).rotate_keys(progress=progress.append)
    assert (report.resealed, progress[-1]) == (len(old), len(old))
    with raw_database(folder) as run:
        rows = run("SELECT sealed_key_id, body FROM records WHERE sealed_key_id <> ''")
    assert {row[0] for row in rows} == {report.key_id}
    assert not old & {row[1] for row in rows}
    after = await writer.retrieve_context(ContextQuery(max_tokens=20_000, limit=100))
    assert [(hit.record.id, hit.content) for hit in after.hits] == [(h.record.id, h.content) for h in before.hits]
    for artifact in artifacts:
        assert (await writer.read_artifact(artifact.record.id))[1] == SENTENCE.encode()
    assert (await hub.bind(ROOT).verify_audit()).intact


async def test_a_rotation_leaves_sessions_working(hub: Hub) -> None:
    handle = (await hub.bind(ALICE).begin_session(BeginRequest(ALICE.agent_id, SENTENCE))).handle
    await hub.bind(ROOT).rotate_keys()
    resumed = await hub.bind(ALICE, session_id=handle).resume_session()
    assert resumed.task == SENTENCE
    assert (await hub.bind(ALICE, session_id=handle).end_session(success=True, output="done")).stored


async def test_a_running_hub_seals_under_the_new_key_once_another_process_has_rotated(
    hub: Hub, folder: Path, clock: Clock
) -> None:
    await remember(hub.bind(ALICE), "before", level=Level.PRIVATE)
    async with open_hub(settings_in(folder), clock=clock) as other:  # as the command line does
        report = await other.bind(ROOT, project_id=DEFAULT).rotate_keys()
    memory = await remember(hub.bind(ALICE), "after", level=Level.PRIVATE)
    with raw_database(folder) as run:
        assert run("SELECT sealed_key_id FROM records WHERE id = ?", memory) == [(report.key_id,)]


async def test_a_rotation_leaves_out_what_does_not_open_and_counts_it(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "BATCH", 3)
    memories = [await remember(hub.bind(ALICE), f"memory {n}", level=Level.PRIVATE) for n in range(10)]
    broken = memories[:4]
    with raw_database(folder) as run:
        for memory in broken:
            run("UPDATE records SET sealed_salt = zeroblob(16) WHERE id = ?", memory)
        before = run("SELECT * FROM records WHERE sealed_salt = zeroblob(16)")
        report = await hub.bind(ROOT, project_id=DEFAULT).rotate_keys()
        assert (report.resealed, report.unreadable) == (6, 4)
        assert run("SELECT * FROM records WHERE sealed_salt = zeroblob(16)") == before
        assert run("SELECT count(*) FROM records WHERE sealed_key_id = ?", report.key_id) == [(6,)]
    found, _ = await hub.bind(ALICE).get_memories(memories[4:])
    assert len(found) == 6


async def test_two_hubs_on_one_folder_go_on_while_a_third_rotates(hub: Hub, folder: Path, clock: Clock) -> None:
    async with open_hub(settings_in(folder), clock=clock) as other:
        early = await remember(other.bind(TESS), "early", level=Level.TEAM)
        for number in range(3):
            add_master_key(folder / KEY_FILE)
            async with open_hub(settings_in(folder), clock=clock) as third:  # as the command line does
                assert (await third.bind(ROOT).rotate_keys()).rewrapped > 0
            late = await remember(hub.bind(ALICE), f"late {number}", level=Level.TEAM)
            picture = await hub.bind(ALICE).attach_artifact(ArtifactDraft("a", b"bytes", level=Level.TEAM))
            found, missing = await other.bind(TESS).get_memories([early, late])
            assert ([memory.content for memory in found], missing) == (["early", f"late {number}"], ())
            assert (await other.bind(TESS).read_artifact(picture.record.id))[1] == b"bytes"
            mine = await remember(other.bind(TESS), f"written meanwhile {number}", level=Level.TEAM)
            [[opened], _] = await hub.bind(ALICE).get_memories([mine])
            assert opened.content == f"written meanwhile {number}"
            handle = (await hub.bind(ALICE).begin_session(BeginRequest(ALICE.agent_id, "task"))).handle
            assert (await other.bind(ALICE, session_id=handle).resume_session()).task == "task"
        assert (await other.bind(ROOT).verify_audit()).intact
    async with open_hub(settings_in(folder), clock=clock) as again:
        found, _ = await again.bind(TESS).get_memories([early])
        assert found[0].content == "early"


async def test_a_master_key_that_was_replaced_still_opens_until_keys_are_wrapped_anew(
    folder: Path, clock: Clock
) -> None:
    async with open_hub(settings_in(folder), clock=clock) as hub:
        memory = await remember(hub.bind(ALICE), SENTENCE, level=Level.PRIVATE)
    lines = (folder / KEY_FILE).read_text().splitlines(keepends=True)
    add_master_key(folder / KEY_FILE)
    async with open_hub(settings_in(folder), clock=clock) as hub:
        await hub.bind(ALICE).get_memories([memory])
        assert (await hub.bind(ROOT).rotate_keys()).rewrapped > 0
    only_new = [line for line in (folder / KEY_FILE).read_text().splitlines(keepends=True) if line not in lines[1:]]
    (folder / KEY_FILE).write_text("".join(only_new))
    async with open_hub(settings_in(folder), clock=clock) as hub:
        [[opened], _] = await hub.bind(ALICE).get_memories([memory])
        assert opened.content == SENTENCE
