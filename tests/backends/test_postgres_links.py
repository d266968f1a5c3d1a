"""The connections to PostgreSQL: who waits for one while the server hangs."""

from typing import Any

import anyio
import pytest

from contextdna.backends.postgres import open_postgres
from contextdna.backends.postgres.driver import Link
from contextdna.errors import StorageUnavailable
from contextdna.ports.database import Transaction
from tests.builders import PROJECT
from tests.servers.postgres import empty_database_url

pytestmark = pytest.mark.anyio


async def test_who_waits_for_a_connection_to_a_server_that_hangs_tries_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hung, given_up, refusals = anyio.Event(), anyio.Event(), list[str]()

    async def hang(_link: Link, _name: str, _params: Any) -> Any:
        hung.set()
        await given_up.wait()
        raise TimeoutError

    async def look(tx: Transaction) -> int:
        return await tx.records.total(PROJECT)

    async with open_postgres(empty_database_url(), pool_max=1) as database:

        async def read() -> None:
            with pytest.raises(StorageUnavailable) as refused:
                await database.read(look)
            refusals.append(refused.value.code)

        async with anyio.create_task_group() as tasks:
            with monkeypatch.context() as hanging:
                hanging.setattr(Link, "rows", hang)
                tasks.start_soon(read)
                await hung.wait()
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            given_up.set()
        assert refusals == ["storage_unreachable"] * 2
        assert await database.read(look) == 0
