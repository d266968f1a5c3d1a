"""What every write-ahead log promises."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from contextdna.backends.key_ring import MasterKeyRing
from contextdna.backends.sealing import RingSealer
from contextdna.errors import IntegrityFault, InvalidInput, LimitExceeded, StorageUnavailable
from contextdna.ports.write_ahead_log import ENTRY_BYTES_MAX, WriteAheadLog
from tests.write_ahead_log.logs import LOGS, commit, held, open_log

pytestmark = pytest.mark.anyio


@pytest.fixture(params=LOGS)
def engine(request: pytest.FixtureRequest) -> str:
    """Name each log."""
    return str(request.param)


@pytest.fixture
async def log(engine: str, anyio_backend: str, tmp_path: Path) -> AsyncIterator[WriteAheadLog]:
    """Give an empty log, once for each engine."""
    async with open_log(engine, tmp_path) as opened:
        yield opened


async def test_units_are_recovered_whole_and_in_order(log: WriteAheadLog) -> None:
    assert await commit(log, b"a", b"b") == 2
    assert await commit(log, b"") == 3
    assert await held(log) == [(1, b"a"), (2, b"b"), (3, b"")]
    assert await held(log) == [(1, b"a"), (2, b"b"), (3, b"")]
    assert await held(log, after=2) == [(3, b"")]


async def test_a_unit_counts_when_it_is_committed(log: WriteAheadLog) -> None:
    first, second = await log.begin(), await log.begin()
    await log.write_entry(first, b"first")
    await log.write_entry(second, b"second")
    assert await held(log) == []
    await log.commit(second)
    await log.commit(first)
    assert await held(log) == [(1, b"second"), (2, b"first")]


async def test_nothing_of_a_unit_that_was_rolled_back_is_kept(log: WriteAheadLog) -> None:
    unit = await log.begin()
    await log.write_entry(unit, b"dropped")
    await log.rollback(unit)
    await log.rollback(unit)
    with pytest.raises(InvalidInput, match="no such unit") as refused:
        await log.commit(unit)
    assert refused.value.code == "log_unit_unknown"
    assert await commit(log, b"kept") == 1
    assert await held(log) == [(1, b"kept")]


async def test_a_unit_without_entries_takes_no_number(log: WriteAheadLog) -> None:
    await commit(log, b"a")
    assert await commit(log) == 1
    assert await commit(log, b"b") == 2


async def test_units_that_are_committed_at_once_stand_in_the_order_of_their_calls(log: WriteAheadLog) -> None:
    numbers: dict[int, int] = {}

    async def one(i: int) -> None:
        numbers[i] = await commit(log, b"%d" % i, b"!")

    async with anyio.create_task_group() as tasks:
        for i in range(50):
            tasks.start_soon(one, i)
    assert sorted(numbers.values()) == list(range(2, 101, 2))
    found = dict(await held(log))
    assert all(found[numbers[i] - 1] == b"%d" % i and found[numbers[i]] == b"!" for i in range(50))


async def test_what_is_forgotten_stays_so_and_no_number_is_given_twice(engine: str, tmp_path: Path) -> None:
    async with open_log(engine, tmp_path) as log:
        for i in range(20):
            await commit(log, b"x" * 50 + b"%d" % i)
        await log.forget(15)
        await log.forget(3)
        assert [seq for seq, _ in await held(log)] == [16, 17, 18, 19, 20]
        assert (await log.status()).entries == 5
    async with open_log(engine, tmp_path) as log:
        assert [seq for seq, _ in await held(log)] == [16, 17, 18, 19, 20]
        await log.forget(20)
        assert await held(log) == []
    async with open_log(engine, tmp_path) as log:
        assert (await log.status()).entries == 0
        assert await commit(log, b"next") == 21
        assert await held(log) == [(21, b"next")]


async def test_only_what_has_a_number_can_be_forgotten(log: WriteAheadLog) -> None:
    await commit(log, b"a")
    with pytest.raises(InvalidInput) as refused:
        await log.forget(2)
    assert refused.value.code == "log_seq_unknown"


async def test_entries_may_be_forgotten_and_added_while_others_are_recovered(log: WriteAheadLog) -> None:
    for i in range(20):
        await commit(log, b"x" * 50 + b"%d" % i)
    seen = []
    async for entry in log.recover():
        seen.append(entry.seq)
        await log.forget(entry.seq)
        await commit(log, b"later")
    assert seen == list(range(1, 21))
    assert [seq for seq, _ in await held(log)] == list(range(21, 41))


async def test_names_of_entries_last_and_are_of_their_log_alone(engine: str, tmp_path: Path) -> None:
    async with open_log(engine, tmp_path / "one") as log:
        await commit(log, b"a", b"b")
        names = [entry.id async for entry in log.recover()]
    async with open_log(engine, tmp_path / "one") as log:
        assert [entry.id async for entry in log.recover()] == names
    async with open_log(engine, tmp_path / "two") as log:
        await commit(log, b"a")
        names += [entry.id async for entry in log.recover()]
    assert len(set(names)) == 3


async def test_a_unit_has_a_size_at_most(log: WriteAheadLog) -> None:
    unit = await log.begin()
    half = bytes(ENTRY_BYTES_MAX // 2)
    await log.write_entry(unit, half)
    await log.write_entry(unit, half)
    with pytest.raises(LimitExceeded) as refused:
        await log.write_entry(unit, b"x")
    assert refused.value.code == "log_entry_too_large"
    await log.rollback(unit)


async def test_a_log_has_one_owner(engine: str, tmp_path: Path) -> None:
    async with open_log(engine, tmp_path):
        with pytest.raises(StorageUnavailable) as refused:
            async with open_log(engine, tmp_path):
                pass
        assert refused.value.code == "log_in_use"
    async with open_log(engine, tmp_path) as log:
        assert await commit(log, b"a") == 1


async def test_a_closed_log_takes_nothing(engine: str, tmp_path: Path) -> None:
    async with open_log(engine, tmp_path) as log:
        unit = await log.begin()
        await log.write_entry(unit, b"a")
    with pytest.raises(StorageUnavailable) as refused:
        await log.commit(unit)
    assert refused.value.code == "log_closed"


async def test_what_is_sealed_opens_with_the_key_only(engine: str, tmp_path: Path) -> None:
    ring = MasterKeyRing({"mk_1": b"1" * 32}, "mk_1")
    async with open_log(engine, tmp_path, sealer=RingSealer(ring, "test")) as log:
        await commit(log, b"the secret", b"another")
        await commit(log, b"third")
    assert not _is_readable(b"secret", tmp_path)
    async with open_log(engine, tmp_path, sealer=RingSealer(ring, "test")) as log:
        assert await held(log) == [(1, b"the secret"), (2, b"another"), (3, b"third")]
    strangers = RingSealer(MasterKeyRing({"mk_1": b"2" * 32}, "mk_1"), "test"), RingSealer(ring, "else"), None
    for stranger in strangers:
        async with open_log(engine, tmp_path, sealer=stranger) as log:
            with pytest.raises(IntegrityFault) as refused:
                await held(log)
            assert refused.value.code == "wrong_key"


def _is_readable(text: bytes, folder: Path) -> bool:
    return any(text in path.read_bytes() for path in folder.rglob("*") if path.is_file())
