"""A database file that cannot be used: the server does not start, or keeps nothing and says so in every answer."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from mcp_types import TextResourceContents

from contextdna import ContextDnaError, HubSettings, IntegrityFault, ModeName, WhenUnusable, open_hub
from contextdna.hub.opening import DATABASE_FILE
from tests.hub.rig import ALICE, raw_database, remember, settings_in
from tests.tools.calling import calling

pytestmark = pytest.mark.anyio


@pytest.fixture
async def broken(anyio_backend: str, tmp_path: Path) -> HubSettings:
    folder = tmp_path / "data"
    async with open_hub(settings_in(folder)) as hub:
        await remember(hub.bind(ALICE), "kept")
    (folder / DATABASE_FILE).write_bytes(b"no database at all" * 500)
    for name in ("-wal", "-shm"):
        (folder / f"{DATABASE_FILE}{name}").unlink(missing_ok=True)
    return settings_in(folder)


async def test_by_default_the_server_does_not_start_and_says_what_to_do(broken: HubSettings) -> None:
    with pytest.raises(ContextDnaError) as failed:
        async with open_hub(broken):
            pass
    assert failed.value.code == "not_a_database"
    assert failed.value.hint


async def test_where_it_is_allowed_it_keeps_nothing_and_every_answer_says_so(
    broken: HubSettings, caplog: pytest.LogCaptureFixture
) -> None:
    before = (broken.data_dir / DATABASE_FILE).read_bytes() if broken.data_dir else b""
    settings = replace(broken, when_unusable=WhenUnusable.MEMORY)
    async with open_hub(settings) as hub, calling(ALICE, "auto", hub=hub) as alice:
        assert "NOTHING WILL BE KEPT" in caplog.text
        assert "not_a_database" in caplog.text
        [mode] = hub.modes
        assert (mode.name, mode.problem) == (ModeName.MEMORY_ONLY, "not_a_database")
        stored = await alice.ok("store_memory", content="for now")
        found = await alice.ok("retrieve_context", query="now")
        attached = await alice.ok("attach_artifact", name="a.txt", text="a")
        missed = await alice.error("get_memory", ids=["mem_0000000000000000000000"])
        for answer in (stored, found, attached, missed):
            assert answer["notice"].startswith("memory_only: nothing is kept")
        told = (await alice.client.read_resource("contextdna://health")).contents[0]
        assert isinstance(told, TextResourceContents)
        assert json.loads(told.text)["status"] == "degraded"
        assert told.meta is not None
        assert "nothing is kept" in told.meta["contextdna/notice"]
    assert broken.data_dir is not None
    assert (broken.data_dir / DATABASE_FILE).read_bytes() == before
    assert not any((broken.data_dir / "artifacts").rglob("*.txt"))


async def test_a_wrong_key_is_never_got_over(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data", master_key="11" * 32)
    async with open_hub(settings):
        pass
    other = replace(settings, master_key="22" * 32, when_unusable=WhenUnusable.MEMORY)
    with pytest.raises(IntegrityFault) as failed:
        async with open_hub(other):
            pass
    assert failed.value.code == "wrong_key"


async def test_a_newer_schema_is_unusable_too(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data")
    async with open_hub(settings):
        pass
    with raw_database(tmp_path / "data") as run:
        run("INSERT INTO schema_migrations SELECT 999, name, checksum, applied_at FROM schema_migrations")
    async with open_hub(replace(settings, when_unusable=WhenUnusable.MEMORY)) as hub:
        assert hub.modes[0].problem == "schema_newer"
