"""The table of vectors, on every backend."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from contextdna.ports.database import Database, Transaction
from contextdna.values.embedding import Embedding, StoredEmbedding, VectorCodec
from contextdna.values.ids import RecordId
from contextdna.values.level import Level
from contextdna.values.record import IndexedRecord, Kind, Sealed
from contextdna.values.search import RecordFilter
from tests.builders import BOB, NOW, OTHER_PROJECT, PROJECT, make_grant, make_indexed, make_reader, minutes

pytestmark = pytest.mark.anyio

ANY = RecordFilter()
MODEL = "double/3"


def vector(record_id: str, **changes: Any) -> Embedding:
    plain = Embedding(PROJECT, RecordId(record_id), 1, 1, VectorCodec.INT8, record_id.encode())
    return replace(plain, **changes)


async def put(
    database: Database, records: Sequence[IndexedRecord] = (), vectors: Sequence[Embedding] = (), *, adopt: bool = False
) -> None:
    async def unit(tx: Transaction) -> None:
        await tx.records.insert(records)
        if adopt:
            await tx.embeddings.adopt(PROJECT, MODEL, 3)
        await tx.embeddings.put(vectors)

    await database.write(unit)


async def seeded(database: Database, *names: str) -> None:
    """Store records that all have a vector."""
    await put(database, [make_indexed(name) for name in names], [vector(name) for name in names], adopt=True)


async def missing(database: Database, *, limit: int = 100) -> list[str]:
    return [record.id for record in await database.read(lambda tx: tx.embeddings.missing(PROJECT, limit=limit))]


async def after(database: Database, serial: int = 0, *, limit: int = 100) -> list[StoredEmbedding]:
    return await database.read(lambda tx: tx.embeddings.after(PROJECT, serial, limit=limit))


async def held(database: Database) -> list[bytes]:
    return [stored.embedding.vector for stored in await after(database)]


async def among(database: Database, where: RecordFilter = ANY, **reader: Any) -> list[str]:
    serials = [stored.serial for stored in await after(database)]
    found = await database.read(
        lambda tx: tx.embeddings.among(make_reader(**reader), where, [*serials, 10_000], now=NOW)
    )
    assert set(found) <= set(serials)
    return sorted(found.values())


async def replaced(database: Database, name: str, **changes: Any) -> None:
    new = make_indexed(name, version=2, **changes)
    assert await database.write(lambda tx: tx.records.replace(new, expected_version=1, reindex=True))


async def test_without_a_space_every_record_lacks_a_vector(database: Database) -> None:
    await put(database, [make_indexed("mem_1"), make_indexed("mem_2"), make_indexed("x", project_id=OTHER_PROJECT)])
    assert await database.read(lambda tx: tx.embeddings.space(PROJECT)) is None
    assert await missing(database) == ["mem_1", "mem_2"]
    assert await missing(database, limit=1) == ["mem_1"]
    assert await database.read(lambda tx: tx.embeddings.backlog(PROJECT)) == 2


async def test_a_vector_is_kept_with_what_it_is_bound_to(database: Database) -> None:
    record = make_indexed("mem_1", level=Level.PRIVATE, sealed=Sealed(b"body", key_id="key_1", salt=b"s"))
    await put(database, [record], [vector("mem_1", key_id="key_1", salt=b"salt")], adopt=True)
    [stored] = await after(database)
    assert stored.embedding == vector("mem_1", key_id="key_1", salt=b"salt")
    assert (stored.level, stored.circle) == (Level.PRIVATE, ("alice", "core", "lift"))
    assert await missing(database) == []
    assert await database.read(lambda tx: tx.embeddings.of_records(PROJECT, [RecordId("mem_1")])) == [stored]


async def test_the_space_tells_model_and_dimension_and_how_far_its_vectors_are(database: Database) -> None:
    await seeded(database, "mem_1", "mem_2")
    space = await database.read(lambda tx: tx.embeddings.space(PROJECT))
    assert space is not None
    assert (space.model, space.dimension, space.number) == (MODEL, 3, 1)
    assert space.newest == (await after(database))[-1].serial
    assert await database.read(lambda tx: tx.embeddings.space(OTHER_PROJECT)) is None


async def test_vectors_are_read_in_pages_by_their_serials(database: Database) -> None:
    await seeded(database, "mem_1", "mem_2", "mem_3")
    [first] = await after(database, limit=1)
    assert [one.embedding.record_id for one in await after(database, first.serial)] == ["mem_2", "mem_3"]
    serials = await database.read(lambda tx: tx.embeddings.serials(PROJECT))
    assert serials == [stored.serial for stored in await after(database)]


async def test_storing_a_vector_again_changes_nothing(database: Database) -> None:
    await seeded(database, "mem_1")
    before = await after(database)
    await put(database, vectors=[vector("mem_1", vector=b"other")])
    assert await after(database) == before


async def test_a_vector_goes_when_its_record_moves_on_and_the_record_waits_again(database: Database) -> None:
    await seeded(database, "mem_1", "mem_2")
    before = [stored.serial for stored in await after(database)]
    await replaced(database, "mem_1", importance=0.9)
    assert await held(database) == [b"mem_2"]
    assert await missing(database) == ["mem_1"]
    assert await database.read(lambda tx: tx.embeddings.backlog(PROJECT)) == 1
    await put(database, vectors=[vector("mem_1"), vector("mem_1", version=2, vector=b"new")])
    assert await held(database) == [b"mem_2", b"new"]
    assert (await after(database))[-1].serial not in before
    assert await missing(database) == []
    space = await database.read(lambda tx: tx.embeddings.space(PROJECT))
    assert space is not None
    assert space.gone == 1


async def test_a_vector_goes_when_its_record_is_sealed_with_another_key(database: Database) -> None:
    record = make_indexed("mem_1", level=Level.PRIVATE, sealed=Sealed(b"body", key_id="key_1", salt=b"s"))
    await put(database, [record], [vector("mem_1", key_id="key_1", salt=b"salt")], adopt=True)
    resealed = replace(record.record, sealed=Sealed(b"body", key_id="key_2", salt=b"t"))
    await database.write(lambda tx: tx.records.reseal([resealed]))
    assert await held(database) == []
    assert await missing(database) == ["mem_1"]


async def test_a_vector_goes_with_its_record(database: Database) -> None:
    await seeded(database, "mem_1", "mem_2")
    await database.write(lambda tx: tx.records.delete(PROJECT, [RecordId("mem_2")]))
    assert await held(database) == [b"mem_1"]
    assert await missing(database) == []
    space = await database.read(lambda tx: tx.embeddings.space(PROJECT))
    assert space is not None
    assert space.gone == 1


async def test_a_record_that_takes_the_place_of_the_newest_purged_one_has_its_turn(database: Database) -> None:
    await seeded(database, "mem_1", "mem_2")
    await database.write(lambda tx: tx.records.delete(PROJECT, [RecordId("mem_2")]))
    await put(database, [make_indexed("mem_3")])
    assert await missing(database) == ["mem_3"]


async def test_records_of_other_projects_do_not_hold_up_and_are_not_listed(database: Database) -> None:
    await put(database, [make_indexed("x", project_id=OTHER_PROJECT)])
    await seeded(database, "mem_1")
    await put(database, [make_indexed("y", project_id=OTHER_PROJECT), make_indexed("mem_2")])
    assert await missing(database) == ["mem_2"]


async def test_soft_deleted_records_get_a_vector_too_for_they_may_be_restored(database: Database) -> None:
    await seeded(database, "mem_1")
    await put(database, [make_indexed("mem_2", deleted_at=minutes(-1))])
    assert await missing(database) == ["mem_2"]


async def test_what_has_no_vector_to_give_is_done_all_the_same(database: Database) -> None:
    nothing = vector("mem_1", codec=VectorCodec.NOTHING, vector=b"")
    await put(database, [make_indexed("mem_1")], [nothing], adopt=True)
    assert await missing(database) == []
    assert await after(database) == []
    assert await among(database) == []


async def test_a_new_space_makes_all_wait_and_takes_no_vector_of_the_old_one(database: Database) -> None:
    await seeded(database, "mem_1", "mem_2")
    await database.write(lambda tx: tx.embeddings.adopt(PROJECT, "other/4", 4))
    assert await held(database) == []
    assert await missing(database) == ["mem_1", "mem_2"]
    await put(database, vectors=[vector("mem_1"), vector("mem_2", space=2, vector=b"new")])
    assert await held(database) == [b"new"]
    assert await missing(database) == ["mem_1"]


async def test_a_vector_of_a_record_that_is_gone_is_left_out(database: Database) -> None:
    await seeded(database, "mem_1")
    await put(database, vectors=[vector("mem_9")])
    assert await held(database) == [b"mem_1"]


async def test_only_visible_records_that_pass_the_filter_are_chosen(database: Database) -> None:
    records = [
        make_indexed("open"),
        make_indexed("mine", level=Level.PRIVATE),
        make_indexed("his", level=Level.PRIVATE, owner_id=BOB),
        make_indexed("lent", level=Level.PRIVATE, owner_id=BOB),
        make_indexed("system", level=Level.SYSTEM, owner_id=BOB),
        make_indexed("task", kind=Kind.TASK),
        make_indexed("forgotten", deleted_at=minutes(-1)),
    ]
    await put(database, records, [vector(item.record.id) for item in records], adopt=True)
    grant = make_grant(record_id="lent", grantee_id="alice")
    await database.write(lambda tx: tx.grants.add([grant]))
    assert await among(database) == ["lent", "mine", "open", "task"]
    assert await among(database, agent_id=BOB) == ["his", "lent", "open", "system", "task"]
    assert await among(database, RecordFilter(kinds=(Kind.TASK,))) == ["task"]
    assert await among(database, RecordFilter(deleted=True)) == ["forgotten"]
    assert await among(database, project_id=OTHER_PROJECT) == []
