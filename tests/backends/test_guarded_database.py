"""The breakers around a database: who comes after the first that met it away is told at once."""

from typing import Any, cast

import anyio
import pytest

from contextdna.backends.breaker import Breaker
from contextdna.backends.guarded_database import GuardedDatabase
from contextdna.errors import IntegrityFault, StorageUnavailable
from contextdna.ports.database import Database, Transaction

pytestmark = pytest.mark.anyio


class Hung:
    """A database that gives up each call at its deadline."""

    def __init__(self) -> None:
        self.asked = 0

    async def read(self, _unit: Any, **_options: Any) -> Any:
        await self.revision()

    async def write(self, _unit: Any) -> Any:
        await self.revision()

    async def revision(self) -> int:
        self.asked += 1
        raise StorageUnavailable("no answer in time", code="storage_unreachable", retryable=True)


async def look(_tx: Transaction) -> None: ...


@pytest.mark.parametrize("may_lag", [False, True])
async def test_a_read_that_a_replica_may_answer_does_not_wait_for_a_primary_that_hangs(may_lag: bool) -> None:
    hung = Hung()
    guarded = GuardedDatabase(cast(Database, hung))
    for _ in range(3):
        with pytest.raises(StorageUnavailable) as refused:
            await guarded.read(look, enough=(lambda _: True) if may_lag else None)
        assert (refused.value.code, refused.value.retryable) == ("storage_unreachable", True)
    assert hung.asked == 1


async def test_a_server_that_is_back_and_damaged_is_asked_on() -> None:
    problems: list[str] = []
    answers = iter([IntegrityFault("a page is damaged", code="database_corrupt", hint="Restore it."), None])

    async def ask() -> None:
        problems.append(breaker.problem.code if breaker.problem else "")
        if error := next(answers):
            raise error

    breaker = Breaker(ask, pause_s=0.001)
    breaker.trip(StorageUnavailable("gone", code="storage_unreachable", retryable=True))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(breaker.run)
            await breaker.until_back()
            tasks.cancel_scope.cancel()
    assert problems == ["storage_unreachable", "database_corrupt"]


@pytest.mark.parametrize("first", ["read", "write", "revision"])
async def test_a_call_that_does_several_things_waits_once_for_a_server_that_hangs(first: str) -> None:
    """Over HTTP each one reads first who bears its token."""
    hung = Hung()
    guarded = GuardedDatabase(cast(Database, hung))
    calls = {
        "read": lambda: guarded.read(look),
        "write": lambda: guarded.write(look),
        "revision": guarded.revision,
    }
    for name in (first, *calls):
        with pytest.raises(StorageUnavailable, match="no answer in time"):
            await calls[name]()
    assert hung.asked == 1
    assert not guarded.is_writable
