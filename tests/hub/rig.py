"""What the tests of the hub share: a clock to turn, callers, and a look past the door at what is stored."""

import dataclasses
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg
import pytest

from contextdna import (
    AgentId,
    AuditEntry,
    BeginRequest,
    ContextDnaError,
    Hub,
    HubSettings,
    MemoryDraft,
    Principal,
    ProjectId,
    ReadAudit,
    RecordId,
    Role,
    SessionId,
    Workspace,
)
from contextdna.backends.sqlite.driver import library
from contextdna.hub.opening import DATABASE_FILE
from tests.forked import Forked

DEFAULT: Final = ProjectId("default")
OTHER: Final = ProjectId("other")
PROJECTS: Final = (DEFAULT, OTHER)
START: Final = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)

ALICE: Final = Principal(AgentId("alice"), (DEFAULT,), team_id="core", swarm_id="lift")
TESS: Final = Principal(AgentId("tess"), (DEFAULT,), team_id="core")
BOB: Final = Principal(AgentId("bob"), (DEFAULT,), team_id="edge", swarm_id="lift")
PETE: Final = Principal(AgentId("pete"), (DEFAULT,))
ROOT: Final = Principal(AgentId("root"), PROJECTS, role=Role.SYSTEM)
WRITER: Final = Principal(AgentId("writer"), (DEFAULT,), team_id="core", swarm_id="lift", role=Role.SYSTEM)
"""Belongs everywhere: writes at every level."""
OUTSIDER: Final = Principal(AgentId("outsider"), (OTHER,), team_id="core", swarm_id="lift", role=Role.SYSTEM)
STRANGER: Final = Principal(AgentId("stranger"))

R = TypeVar("R")
Error = TypeVar("Error", bound=ContextDnaError)


class Clock:
    """The time as a test sets it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **span: float) -> None:
        self.now += timedelta(**span)


async def begin(hub: Hub, principal: Principal, agent_id: str = "", **fields: object) -> str:
    """Begin a session; gives its handle."""
    request = replace(BeginRequest(AgentId(agent_id or principal.agent_id)), **fields)  # type: ignore[arg-type]
    return (await hub.bind(principal).begin_session(request)).handle


async def remember(workspace: Workspace, content: str, **fields: Any) -> RecordId:
    """Store one memory; gives its id."""
    return (await workspace.store_memories([MemoryDraft(content, **fields)]))[0].id


def public(handle: str) -> SessionId:
    """Give the public half of a session handle."""
    return SessionId(handle.partition(".")[0])


async def refused(call: Awaitable[object], kind: type[Error], code: str) -> Error:
    """Await a call that must be refused with a code, and with advice; gives the error."""
    with pytest.raises(kind) as caught:
        await call
    error = caught.value
    assert error.code == code
    assert error.message
    assert error.hint
    return error


@dataclass(frozen=True)
class Stored:
    """Everything that lies in the database, table by table."""

    data: dict[str, list[Any]]
    audit: list[tuple[str, int]]
    """(project, seq) of every audit entry."""


async def stored(hub: Hub) -> Stored:
    """Read all tables past the door: through a second connection, or the rows of a read unit."""
    folder = None if hub.settings.write_ahead else hub.settings.data_dir
    if hub.settings.database:
        tables = await _rows(hub.settings.database)
    else:
        tables = await _sheets(hub) if folder is None else _tables(folder)
    audit = tables.pop("audit_log", None) or tables.pop("audit", [])
    tables.pop("audit_heads", None)
    tables.pop("heads", None)
    return Stored(tables, sorted(tuple(row[:2]) if folder else row[0] for row in audit))


async def _sheets(hub: Hub) -> dict[str, list[Any]]:
    async def unit(tx: Any) -> dict[str, list[Any]]:
        sheets = tx.records._sheets
        return {field.name: list(getattr(sheets, field.name).rows.items()) for field in dataclasses.fields(sheets)}

    return await hub._door.database.read(unit)


async def _rows(url: str) -> dict[str, list[Any]]:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SELECT set_config('contextdna.project', '*', false)")
        names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        return {name: sorted(map(tuple, await connection.fetch(f"TABLE {name}")), key=repr) for (name,) in names}
    finally:
        await connection.close()


def _tables(folder: Path) -> dict[str, list[Any]]:
    with raw_database(folder) as run:
        names = [row[0] for row in run("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
        readable = [name for name in names if name != "records_index"]  # contentless: its shadow tables hold it
        return {name: run(f"SELECT * FROM {name}") for name in readable}  # noqa: S608 - names of the schema


@contextmanager
def raw_database(folder: Path) -> Iterator[Callable[..., list[Any]]]:
    """Run SQL on the database file, as whoever got hold of it could; the library is the product's own."""
    with closing(library.connect(str(folder / DATABASE_FILE), isolation_level=None)) as connection:
        yield lambda statement, *params: connection.execute(statement, params).fetchall()


async def audit_of(hub: Hub, project_id: ProjectId = DEFAULT, **filters: Any) -> list[AuditEntry]:
    """Read a project's audit log as the role system does, oldest first, without the entry of this look."""
    entries = await hub.bind(ROOT, project_id=project_id).query_audit(limit=1000, **filters)
    return list(reversed(entries))


async def last_audit(hub: Hub, project_id: ProjectId = DEFAULT) -> AuditEntry:
    """Give a project's last audit entry."""
    return (await audit_of(hub, project_id))[-1]


async def unchanged(hub: Hub, call: Callable[[], Awaitable[R]], *, audited: int) -> R:
    """Await a call that must change nothing but the audit log, by so many entries."""
    before = await stored(hub)
    answer = await call()
    after = await stored(hub)
    assert after.data == before.data
    assert sum((Counter(after.audit) - Counter(before.audit)).values()) == audited
    return answer


def settings_in(folder: Path | None, **changes: Any) -> HubSettings:
    """Make settings whose reads are audited at once, so that what is read has left its traces."""
    plain = HubSettings(data_dir=folder, projects=PROJECTS, read_audit=ReadAudit.WAIT)
    return dataclasses.replace(plain, **changes)


def start_program(name: str, *arguments: object) -> Forked:
    """Run a program of this folder in a process of its own."""
    return Forked(Path(__file__).with_name(name), *arguments)
