"""How a connection to PostgreSQL is set up, and what is told when it is lost then."""

from typing import Any

import asyncpg
import pytest

from contextdna.backends.postgres.driver import Server, connect
from contextdna.errors import StorageUnavailable
from tests.servers.postgres import database_url

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("its_own", "used"), [("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")])
async def test_commits_are_durable_and_more_where_the_server_says_so(its_own: str, used: str) -> None:
    url = f"{database_url()}&options=-c%20synchronous_commit%3D{its_own}"
    connection = await connect(Server(url, 10, 10))
    try:
        assert await connection.fetchval("SHOW synchronous_commit") == used
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "error", [asyncpg.ConnectionDoesNotExistError("lost"), asyncpg.InterfaceError("closed"), OSError("reset")]
)
async def test_a_connection_that_is_lost_while_it_is_set_up_is_one_that_cannot_be_had(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    async def lost(connection: Any, *_: object, **__: object) -> None:
        made.append(connection)
        raise error

    monkeypatch.setattr(asyncpg.Connection, "set_type_codec", lost)
    with pytest.raises(StorageUnavailable) as caught:
        await connect(Server(database_url(), 10, 10))
    assert (caught.value.code, caught.value.retryable) == ("storage_unreachable", True)
    assert made[0].is_closed()
