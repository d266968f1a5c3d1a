"""The audit trail: every call leaves its entry, and no change of the trail goes unseen."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from contextdna import (
    AuditEntry,
    ContextQuery,
    Hub,
    IntegrityFault,
    Level,
    MemoryDraft,
    Outcome,
    ReadAudit,
    Risk,
    open_hub,
)
from contextdna.backends.sqlite.driver import library
from contextdna.values.ids import INSTALLATION
from tests.hub.methods import METHODS, furnish
from tests.hub.rig import (
    ALICE,
    DEFAULT,
    OTHER,
    ROOT,
    START,
    Clock,
    audit_of,
    raw_database,
    refused,
    remember,
    settings_in,
)

pytestmark = pytest.mark.anyio

RARE: Final = "xylographer"
TRIGGERS: Final = ("audit_log_keeps_on_update", "audit_log_keeps_on_delete", "audit_log_keeps_on_replace")


async def chain(hub: Hub) -> list[AuditEntry]:
    """Read a chain past the door, which leaves no entry of its own."""
    return await hub._door.database.read(lambda tx: tx.audit.entries(DEFAULT, after_seq=0, limit=10_000))


class TestEntries:
    @pytest.mark.parametrize("name", METHODS)
    async def test_every_method_leaves_its_entry(self, hub: Hub, name: str) -> None:
        furnished = await furnish(hub)
        before = len(await chain(hub))
        workspace = hub.bind(ROOT, session_id=furnished.handle, request_id="req_7", trace_id="trace_7")
        await METHODS[name].call(workspace, furnished)
        new = [entry.draft for entry in (await chain(hub))[before:]]
        assert new
        for draft in new:
            assert (draft.action, draft.outcome, draft.risk) == (
                METHODS[name].action,
                Outcome.ALLOWED,
                METHODS[name].risk,
            )
            assert (draft.principal_id, draft.agent_id, draft.session_id) == ("root", "root", furnished.conversation)
            assert (draft.request_id, draft.trace_id, draft.project_id, draft.at) == (
                "req_7",
                "trace_7",
                DEFAULT,
                START,
            )
        assert (await hub.bind(ROOT).verify_audit()).intact

    async def test_a_purge_is_of_high_risk(self, hub: Hub) -> None:
        furnished = await furnish(hub)
        await hub.bind(ROOT).forget_memories([furnished.memory], purge=True)
        [entry] = await audit_of(hub, action="memory.purge")
        assert (entry.draft.risk, entry.draft.record_ids) == (Risk.HIGH, (furnished.memory,))

    async def test_no_entry_holds_text_of_a_record_or_a_question(self, hub: Hub) -> None:
        memory = await remember(hub.bind(ALICE), RARE, level=Level.PROJECT, tags=(RARE,), metadata={RARE: RARE})
        await hub.bind(ALICE).retrieve_context(ContextQuery(RARE, tags=(RARE,)))
        await hub.bind(ALICE).get_memories([memory])
        assert RARE not in repr(await chain(hub))

    async def test_the_log_is_read_from_its_end_and_filtered(self, hub: Hub) -> None:
        memories = [await remember(hub.bind(ALICE), f"memory {number}") for number in range(5)]
        root = hub.bind(ROOT)
        stores = await root.query_audit(action="memory.store")
        assert [entry.draft.record_ids[0] for entry in stores] == list(reversed(memories))
        page = await root.query_audit(action="memory.store", limit=2)
        assert page == stores[:2]
        assert await root.query_audit(action="memory.store", limit=2, before_seq=page[-1].seq) == stores[2:4]
        assert await root.query_audit(record_id=memories[0]) == [stores[-1]]
        assert {entry.draft.agent_id for entry in await root.query_audit(agent_id="alice")} == {"alice"}

    async def test_an_export_gives_the_whole_chain_in_order(self, hub: Hub) -> None:
        for number in range(7):
            await remember(hub.bind(ALICE), f"memory {number}")
        wanted = await chain(hub)
        exported = [entry async for entry in hub.bind(ROOT).export_audit(page=3)]
        assert exported[: len(wanted)] == wanted
        assert {entry.draft.action for entry in exported[len(wanted) :]} <= {"audit.export"}
        assert [entry.seq for entry in exported] == list(range(1, len(exported) + 1))


class TestReads:
    @staticmethod
    async def read_entries(folder: Path, mode: ReadAudit, clock: Clock) -> tuple[int, int, int]:
        """Read three times; gives the entries at once, after a look at the log, and after closing and opening again."""
        settings = settings_in(folder, read_audit=mode)

        def reads(entries: list[AuditEntry]) -> int:
            return sum(1 for entry in entries if entry.draft.action == "memory.get")

        async with open_hub(settings, clock=clock) as hub:
            memory = await remember(hub.bind(ALICE), "read me")
            for _ in range(3):
                await hub.bind(ALICE).get_memories([memory])
            at_once = reads(await chain(hub))
            looked = reads(await hub.bind(ROOT).query_audit())
            await hub.bind(ALICE).get_memories([memory])
        async with open_hub(settings, clock=clock) as hub:
            [[opened], _] = await hub.bind(ALICE).get_memories([memory])
            assert opened.access_count == 4
            return at_once, looked, reads(await chain(hub))

    async def test_in_the_background_they_are_written_before_a_look_and_at_the_end(
        self, folder: Path, clock: Clock
    ) -> None:
        at_once, looked, closed = await self.read_entries(folder, ReadAudit.BACKGROUND, clock)
        assert (looked, closed) == (3, 4)
        assert at_once <= 3

    async def test_waited_for_they_are_written_before_the_answer(self, folder: Path, clock: Clock) -> None:
        assert await self.read_entries(folder, ReadAudit.WAIT, clock) == (3, 3, 5)

    async def test_off_they_are_not_written(self, folder: Path, clock: Clock) -> None:
        assert await self.read_entries(folder, ReadAudit.OFF, clock) == (0, 0, 0)

    @pytest.mark.parametrize("mode", list(ReadAudit))
    async def test_a_denied_read_is_always_written_at_once(self, folder: Path, clock: Clock, mode: ReadAudit) -> None:
        async with open_hub(settings_in(folder, read_audit=mode), clock=clock) as hub:
            memory = await remember(hub.bind(ROOT, project_id=DEFAULT), "hidden", level=Level.PRIVATE)
            with pytest.raises(Exception, match="not found"):
                await hub.bind(ALICE).get_memories([memory])
            assert (await chain(hub))[-1].draft.outcome is Outcome.DENIED


@dataclass(frozen=True)
class Tampered:
    """One way to change the log with SQL, and the entries that a verification may name."""

    statement: str
    seqs: set[int]
    project: str = DEFAULT


ENTRIES: Final = 6
"""Entries of the default project's chain: its creation, and five memories."""

COLUMNS: Final = {
    "at": "at + 1",
    "principal_id": "'mallory'",
    "agent_id": "'mallory'",
    "session_id": "'ses_forged'",
    "action": "'memory.get'",
    "outcome": "'denied'",
    "risk": "'high'",
    "record_ids": "'[\"mem_forged\"]'",
    "details": "'{}'",
    "request_id": "'req_forged'",
    "trace_id": "'forged'",
    "mac": "zeroblob(32)",
}
COPY: Final = (
    "at, principal_id, agent_id, session_id, action, outcome, risk, record_ids, details, request_id, trace_id, mac"
)

WAYS: Final = {
    **{
        f"change {column} of entry {seq}": Tampered(
            f"UPDATE audit_log SET {column} = {value} WHERE project_id = 'default' AND seq = {seq}",  # noqa: S608
            {seq},
        )
        for column, value in COLUMNS.items()
        for seq in (2, ENTRIES)
    },
    **{
        f"write nonsense into {column}": Tampered(
            f"UPDATE audit_log SET {column} = {value} WHERE project_id = 'default' AND seq = 3",  # noqa: S608
            {3},
        )
        for column, value in {"outcome": "'fine'", "risk": "'none'", "record_ids": "'broken'", "at": 2**63 - 1}.items()
    },
    "delete the first entry": Tampered("DELETE FROM audit_log WHERE project_id = 'default' AND seq = 1", {1}),
    "delete a middle entry": Tampered("DELETE FROM audit_log WHERE project_id = 'default' AND seq = 3", {3}),
    "delete the last entry": Tampered("DELETE FROM audit_log WHERE project_id = 'default' AND seq = {ENTRIES}", {5, 6}),
    "delete all entries": Tampered("DELETE FROM audit_log WHERE project_id = 'default'", {0, ENTRIES}),
    "delete an entry and close the gap": Tampered(
        "DELETE FROM audit_log WHERE project_id = 'default' AND seq = 3;"
        "UPDATE audit_log SET seq = seq - 1 WHERE project_id = 'default' AND seq > 3",
        {3},
    ),
    "swap two entries": Tampered(
        "UPDATE audit_log SET seq = -3 WHERE project_id = 'default' AND seq = 3;"
        "UPDATE audit_log SET seq = 3 WHERE project_id = 'default' AND seq = 4;"
        "UPDATE audit_log SET seq = 4 WHERE project_id = 'default' AND seq = -3",
        {3},
    ),
    "insert an entry at the end": Tampered(
        "INSERT INTO audit_log SELECT project_id, seq + 1, {COPY} FROM audit_log"
        " WHERE project_id = 'default' AND seq = {ENTRIES}",
        {ENTRIES + 1},
    ),
    "insert an entry before the first": Tampered(
        "INSERT INTO audit_log SELECT project_id, 0, {COPY} FROM audit_log WHERE project_id = 'default' AND seq = 3",
        {0},
    ),
    "insert an entry with a negative number": Tampered(
        "INSERT INTO audit_log SELECT project_id, -7, {COPY} FROM audit_log WHERE project_id = 'default' AND seq = 3",
        {-7},
    ),
    "copy an entry over another": Tampered(
        "INSERT OR REPLACE INTO audit_log SELECT project_id, 4, {COPY} FROM audit_log"
        " WHERE project_id = 'default' AND seq = 3",
        {4},
    ),
    "move an entry to another project": Tampered(
        "UPDATE audit_log SET project_id = 'other', seq = 2 WHERE project_id = 'default' AND seq = {ENTRIES}",
        {2},
        OTHER,
    ),
    "insert an entry for a project that never was": Tampered(
        "INSERT INTO audit_log SELECT 'ghost', 1, {COPY} FROM audit_log WHERE project_id = 'default' AND seq = 3",
        {0},
        "ghost",
    ),
    "delete the head": Tampered("DELETE FROM audit_heads WHERE project_id = 'default'", {ENTRIES}),
    "forge the head's number": Tampered("UPDATE audit_heads SET seq = seq + 1 WHERE project_id = 'default'", {ENTRIES}),
    "forge the head's mac": Tampered(
        "UPDATE audit_heads SET mac = zeroblob(32) WHERE project_id = 'default'", {ENTRIES}
    ),
    "forge the head's signature": Tampered(
        "UPDATE audit_heads SET signature = zeroblob(32) WHERE project_id = 'default'", {ENTRIES}
    ),
    "give a chain the head of another": Tampered(
        "UPDATE audit_heads SET (seq, mac, signature) ="
        " (SELECT seq, mac, signature FROM audit_heads WHERE project_id = 'other') WHERE project_id = 'default'",
        {ENTRIES},
    ),
    "delete entries and head": Tampered(
        "DELETE FROM audit_log WHERE project_id = 'default'; DELETE FROM audit_heads WHERE project_id = 'default'", {0}
    ),
    "delete the project with all its log": Tampered(
        "DELETE FROM audit_log WHERE project_id = 'other'; DELETE FROM audit_heads WHERE project_id = 'other';"
        "DELETE FROM projects WHERE id = 'other'",
        {0},
        OTHER,
    ),
    "change the installation's own chain": Tampered(
        "UPDATE audit_log SET agent_id = 'mallory' WHERE project_id = '' AND seq = 2", {2}, INSTALLATION
    ),
}


def filled(statement: str) -> str:
    """Put the columns and the last number into a statement."""
    return statement.replace("{COPY}", COPY).replace("{ENTRIES}", str(ENTRIES))


def tamper(folder: Path, statements: str) -> None:
    """Change the log as somebody would who has the file: without its triggers."""
    with raw_database(folder) as run:
        for trigger in TRIGGERS:
            run(f"DROP TRIGGER {trigger}")
        for statement in filled(statements).split(";"):
            run(statement)


@asynccontextmanager
async def written(folder: Path, clock: Clock) -> AsyncIterator[Hub]:
    """Open an installation whose default chain has so many entries."""
    async with open_hub(settings_in(folder, read_audit=ReadAudit.BACKGROUND), clock=clock) as hub:
        for number in range(ENTRIES - 1):
            await remember(hub.bind(ALICE), f"memory {number}")
        assert [entry.seq for entry in await chain(hub)] == list(range(1, ENTRIES + 1))
        yield hub


class TestTampering:
    async def test_an_untouched_log_is_intact(self, hub: Hub) -> None:
        await furnish(hub)
        report = await hub.bind(ROOT).verify_audit()
        assert (report.intact, report.chains, report.faults) == (True, 3, ())
        assert report.entries > len(await chain(hub)) - 1

    @pytest.mark.parametrize("way", WAYS)
    async def test_a_change_is_found_where_it_was_made(self, folder: Path, clock: Clock, way: str) -> None:
        tampered = WAYS[way]
        async with written(folder, clock) as hub:
            tamper(folder, tampered.statement)
            report = await hub.bind(ROOT).verify_audit()
            assert not report.intact
            first = next(fault for fault in report.faults if fault.project_id == tampered.project)
            assert first.seq in tampered.seqs
            assert first.problem

    @pytest.mark.parametrize("way", ["delete the head", "forge the head's signature", "forge the head's number"])
    async def test_nothing_is_built_on_a_head_that_was_changed(self, folder: Path, clock: Clock, way: str) -> None:
        async with written(folder, clock) as hub:
            tamper(folder, WAYS[way].statement)
            await refused(hub.bind(ALICE).store_memories([MemoryDraft("x")]), IntegrityFault, "audit_head_invalid")
            for _ in range(2):  # its own entry cannot be written either, which must not hide the report
                assert not (await hub.bind(ROOT).verify_audit()).intact
        async with open_hub(settings_in(folder), clock=clock) as hub:
            assert not (await hub.bind(ROOT).verify_audit()).intact

    async def test_a_change_is_found_after_more_was_written(self, folder: Path, clock: Clock) -> None:
        async with written(folder, clock) as hub:
            tamper(folder, WAYS["change agent_id of entry 2"].statement)
            await remember(hub.bind(ALICE), "later")
        async with open_hub(settings_in(folder), clock=clock) as hub:
            report = await hub.bind(ROOT).verify_audit()
            assert [fault.seq for fault in report.faults] == [2]

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE audit_log SET agent_id = 'mallory'",
            "DELETE FROM audit_log",
            "REPLACE INTO audit_log SELECT project_id, seq, {COPY} FROM audit_log",
            "INSERT OR REPLACE INTO audit_log SELECT project_id, 3, {COPY} FROM audit_log WHERE seq = 2",
        ],
    )
    async def test_the_database_itself_refuses(self, folder: Path, clock: Clock, statement: str) -> None:
        async with written(folder, clock) as hub:
            with raw_database(folder) as run, pytest.raises(library.IntegrityError, match="append-only"):
                run(filled(statement))
            assert (await hub.bind(ROOT).verify_audit()).intact


ERASED: Final = {
    "the installation's rows": (
        "DELETE FROM audit_log WHERE project_id = ''; DELETE FROM audit_heads WHERE project_id = '';"
        "DELETE FROM keys WHERE project_id = ''",
        "installation_erased",
    ),
    "the installation's log": (
        "DELETE FROM audit_log WHERE project_id = ''; DELETE FROM audit_heads WHERE project_id = ''",
        "installation_erased",
    ),
    "a project's rows": (
        "DELETE FROM audit_log WHERE project_id = 'default'; DELETE FROM audit_heads WHERE project_id = 'default';"
        "DELETE FROM keys WHERE project_id = 'default'; DELETE FROM projects WHERE id = 'default'",
        "project_erased",
    ),
}


@pytest.mark.parametrize("what", ERASED)
async def test_what_was_erased_is_not_made_anew(folder: Path, clock: Clock, what: str) -> None:
    statement, code = ERASED[what]
    async with written(folder, clock):
        pass
    tamper(folder, statement)
    with pytest.raises(IntegrityFault) as refusal:
        async with open_hub(settings_in(folder), clock=clock):
            pass
    assert refusal.value.code == code
