"""The access predicate of the queries is the pure rule, on random worlds."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contextdna.backends.in_memory import open_in_memory
from contextdna.backends.postgres import open_postgres
from contextdna.backends.sqlite import open_sqlite
from contextdna.ports.database import Database, Transaction
from contextdna.values.grant import Grant
from contextdna.values.ids import AgentId, GrantId, ProjectId, RecordId
from contextdna.values.level import Level
from contextdna.values.principal import Reader, Role
from contextdna.values.record import IndexedRecord, Kind, Record
from contextdna.values.search import Match, RecordFilter
from contextdna.values.visibility import visible
from tests.backends.samples import NOW, T0, record
from tests.servers.postgres import EVERYWHERE, database_url

PROJECTS: Final = ("p", "q")
AGENTS: Final = ("anna", "ben", "cleo")
CIRCLES: Final = ("", "red", "blue")
TOKEN: Final = "token"
LONG: Final = timedelta(days=400)


@dataclass(frozen=True)
class World:
    """Readers, records and grants that have nothing to do with one another but by chance."""

    readers: tuple[Reader, ...]
    records: tuple[Record, ...]
    grants: tuple[Grant, ...]


def in_force(grant: Grant, now: datetime) -> bool:
    return grant.revoked_at is None and (grant.expires_at is None or grant.expires_at > now)


def expected(world: World, reader: Reader) -> dict[RecordId, str]:
    """Give what the pure rule lets a reader see, and whose grant it takes."""
    seen: dict[RecordId, str] = {}
    for one in world.records:
        given_by = [
            grant.granted_by
            for grant in world.grants
            if (grant.project_id, grant.record_id, grant.grantee_id) == (one.project_id, one.id, reader.agent_id)
            and in_force(grant, NOW)
        ]
        if visible(reader, one, granted=bool(given_by)):
            seen[one.id] = "" if visible(reader, one, granted=False) else given_by[0]
    return seen


readers = st.builds(
    Reader,
    project_id=st.sampled_from(PROJECTS).map(ProjectId),
    agent_id=st.sampled_from(AGENTS).map(AgentId),
    team_id=st.sampled_from(CIRCLES),
    swarm_id=st.sampled_from(CIRCLES),
    role=st.sampled_from(Role),
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    records = tuple(
        record(
            f"mem_{number}",
            project_id=ProjectId(draw(st.sampled_from(PROJECTS))),
            kind=draw(st.sampled_from(Kind)),
            level=draw(st.sampled_from(Level)),
            owner_id=AgentId(draw(st.sampled_from(AGENTS))),
            team_id=draw(st.sampled_from(CIRCLES)),
            swarm_id=draw(st.sampled_from(CIRCLES)),
        )
        for number in range(draw(st.integers(1, 12)))
    )
    moments = st.sampled_from([T0, NOW - timedelta(microseconds=1), NOW, NOW + timedelta(microseconds=1), NOW + LONG])
    grants = tuple(
        Grant(
            id=GrantId(f"grt_{number:03d}"),
            project_id=ProjectId(draw(st.sampled_from(PROJECTS))),
            record_id=draw(st.sampled_from(records)).id,
            grantee_id=AgentId(draw(st.sampled_from(AGENTS))),
            granted_by=AgentId(f"giver_{number}"),
            created_at=T0,
            expires_at=draw(st.none() | moments),
            revoked_at=draw(st.none() | st.none() | st.just(T0)),
        )
        for number in range(draw(st.integers(0, 12)))
    )
    return World(tuple(draw(st.lists(readers, min_size=1, max_size=6))), records, grants)


async def clear(tx: Transaction) -> None:
    for project in map(ProjectId, PROJECTS):
        await tx.records.delete(project, [RecordId(f"mem_{number}") for number in range(12)])


async def check(database: Database, world: World) -> None:
    async def fill(tx: Transaction) -> None:
        await clear(tx)
        await tx.records.insert([IndexedRecord(one, (TOKEN,)) for one in world.records])
        # Grants on records of another project, too: they open nothing. Deleting their target clears them away.
        known = {(one.project_id, one.id) for one in world.records}
        await tx.grants.add([grant for grant in world.grants if (grant.project_id, grant.record_id) in known])

    await database.write(fill)
    for reader in world.readers:
        await check_reader(database, world, reader)


async def check_reader(database: Database, world: World, reader: Reader) -> None:
    wanted = expected(world, reader)
    ids = [one.id for one in world.records]

    async def ask(tx: Transaction) -> None:
        seen = await tx.records.read(reader, ids, now=NOW)
        assert {item.record.id: item.granted_by for item in seen} == wanted
        for name in ids:
            alone = await tx.records.read(reader, [name], now=NOW)
            assert {item.record.id: item.granted_by for item in alone} == {k: v for k, v in wanted.items() if k == name}

        recent = await tx.records.list_recent(reader, RecordFilter(), now=NOW, limit=100)
        assert {hit.id for hit in recent} == set(wanted)
        assert len(recent) == len(wanted)

        for match in (Match(((TOKEN,),)), Match((("absent",),), (((TOKEN,),),))):
            hits = await tx.records.search(reader, RecordFilter(), match, now=NOW, limit=100)
            assert {hit.id for hit in hits} == set(wanted)
            assert len(hits) == len(wanted)

        counts = await tx.records.count_visible(reader, now=NOW)
        records = [one for one in world.records if one.id in wanted and one.project_id == reader.project_id]
        assert counts == Counter((one.kind, one.level.label, one.type) for one in records)

    await database.read(ask)


@pytest.fixture(scope="module", params=["in_memory", "sqlite", "postgres"])
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[asyncio.Runner, Database]]:
    """Open one database for all worlds of a backend: each world starts by clearing the one before."""
    opening: AbstractAsyncContextManager[Database] = open_in_memory()
    if request.param == "sqlite":
        opening = open_sqlite(tmp_path_factory.mktemp("visibility") / "contextdna.db")
    if request.param == "postgres":
        opening = open_postgres(database_url())
    with asyncio.Runner() as runner:
        database = runner.run(opening.__aenter__())
        yield runner, database
        runner.run(opening.__aexit__(None, None, None))


@settings(max_examples=150 if EVERYWHERE else 75)
@given(world=worlds())
def test_queries_show_what_the_rule_allows_and_nothing_else(
    backend: tuple[asyncio.Runner, Database], world: World
) -> None:
    runner, database = backend
    runner.run(check(database, world))
