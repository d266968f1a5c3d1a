"""How a connection to PostgreSQL is set up, and what is told when it is lost then."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from contextdna.backends.postgres import open_postgres
from contextdna.backends.postgres.driver import SLACK_S, Link, Server, connect, connecting_error
from contextdna.errors import ContextDnaError, StorageUnavailable
from contextdna.hub.opening import open_hub
from contextdna.hub.spool import SPOOL_FOLDER
from contextdna.values.settings import PostgresSettings
from tests.hub.rig import settings_in
from tests.servers.certificates import make_certificate
from tests.servers.postgres import database_url, fresh_database_url
from tests.servers.relay import relayed

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


async def refusal(url: str) -> ContextDnaError:
    with pytest.raises(ContextDnaError) as caught:
        await connect(Server(url, 10, 10))
    return caught.value


@asynccontextmanager
async def by_tcp() -> AsyncIterator[str]:
    """Give the URL of this process's database over TCP; its server has no TLS."""
    parts = urlsplit(database_url())
    async with relayed(database_url()) as (relay, _):
        yield f"postgresql://{parts.username}@127.0.0.1:{await relay.open_tcp()}{parts.path}"


@asynccontextmanager
async def shaking_hands(certificate: tuple[Path, Path] | None) -> AsyncIterator[str]:
    """Give the URL of a server that agrees to TLS with a certificate; without one it ends then."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate:
        context.load_cert_chain(*certificate)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"S")
        try:
            if certificate:
                await writer.start_tls(context)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"postgresql://user@127.0.0.1:{server.sockets[0].getsockname()[1]}/none"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a home without certificates."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("sslmode=require", "sslmode"),
        ("sslmode=verify-full", "sslrootcert"),
        ("sslmode=verify-ca&sslrootcert=/nowhere/ca.pem", "sslrootcert"),
    ],
)
async def test_tls_that_is_not_to_be_had_is_insecure_and_not_away(options: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "data" / SPOOL_FOLDER).mkdir(parents=True)  # as after a run: one that is away would be waited for
    async with by_tcp() as url:
        await (await connect(Server(url, 10, 10))).close()
        with pytest.raises(StorageUnavailable) as caught:
            async with open_hub(settings_in(tmp_path / "data", database=f"{url}?{options}")):
                pass
    assert (caught.value.code, caught.value.retryable) == ("storage_insecure", False)
    assert told in caught.value.hint


@pytest.mark.parametrize(
    ("name", "mode", "trusts", "told"),
    [
        ("127.0.0.1", "verify-full", False, "sslrootcert"),
        ("elsewhere.example.org", "verify-full", True, "verify-ca"),
    ],
)
async def test_a_certificate_that_is_not_good_is_insecure(
    name: str, mode: str, trusts: bool, told: str, home: Path
) -> None:
    (home / "theirs").mkdir()
    (home / "ours").mkdir()
    theirs = make_certificate(home / "theirs", name)
    root = theirs[0] if trusts else make_certificate(home / "ours", name)[0]
    async with shaking_hands(theirs) as url:
        error = await refusal(f"{url}?sslmode={mode}&sslrootcert={root}")
    assert (error.code, error.retryable) == ("storage_insecure", False)
    assert told in error.hint


async def test_a_server_that_ends_while_hands_are_shaken_is_away(home: Path) -> None:
    async with shaking_hands(None) as url:
        error = await refusal(f"{url}?sslmode=require")
    assert (error.code, error.retryable) == ("storage_unreachable", True)


@pytest.mark.parametrize("query", ["connect_timeout=3", "sslmode=disable&connect_timeout=3", "work_mem=x"])
async def test_a_parameter_that_the_server_does_not_take_is_named(query: str) -> None:
    error = await refusal(f"{database_url()}&{query}")
    assert (error.code, error.retryable) == ("storage_url_invalid", False)
    assert error.message.endswith(query.rpartition("&")[2].partition("=")[0])


async def test_a_schema_that_is_not_there_and_a_port_that_cannot_be_are_of_the_url() -> None:
    assert (await refusal("postgresql://user@127.0.0.1:99999/none")).code == "storage_url_invalid"
    with pytest.raises(StorageUnavailable) as caught:
        async with open_postgres(f"{fresh_database_url()}&search_path=nowhere"):
            pass
    assert caught.value.code == "storage_url_invalid"


async def test_a_deadline_below_a_millisecond_is_one_and_not_none(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, str] = {}

    async def refusing(_url: str, **options: Any) -> None:
        asked.update(options["server_settings"])
        raise OSError

    monkeypatch.setattr(asyncpg, "connect", refusing)
    with pytest.raises(StorageUnavailable):
        await connect(Server(database_url(), 10, 0.0005))
    assert (asked["statement_timeout"], asked["idle_in_transaction_session_timeout"]) == ("1", "5000")


def test_an_at_sign_in_a_password_is_told_of() -> None:
    error = connecting_error(socket.gaierror(), Server("postgresql://user:pass@word@db.example.org/none", 10, 10))
    assert (error.code, error.retryable) == ("storage_url_invalid", False)
    assert "%40" in error.hint


def test_a_url_is_called_as_it_was_given() -> None:
    error = connecting_error(socket.gaierror(), Server("postgresql://user@db.example.org/none", 10, 10, "--to"))
    assert (error.code, error.retryable) == ("storage_unreachable", True)
    assert "--to" in error.hint
    assert "storage.database" not in error.message + error.hint


def test_who_meets_a_server_that_hangs_is_told_before_clients_give_up() -> None:
    own = PostgresSettings()
    assert own.statement_timeout_s + SLACK_S < 25  # many clients wait for 30 seconds
    assert own.acquire_timeout_s < 25


async def test_migrations_and_vacuum_have_longer_than_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, str] = {}
    script, execute = Link.script, asyncpg.Connection.execute

    async def noted(link: Link, text: str) -> str:
        told[text.split(maxsplit=1)[0]] = await link.connection.fetchval("SHOW statement_timeout")
        return await script(link, text)

    async def noted_too(connection: Any, text: str, *args: Any, **options: Any) -> Any:
        if "CREATE TABLE records " in text:
            told["migration"] = await connection.fetchval("SHOW statement_timeout")
            assert options["timeout"] > 600
        return await execute(connection, text, *args, **options)

    monkeypatch.setattr(Link, "script", noted)
    monkeypatch.setattr(asyncpg.Connection, "execute", noted_too)
    async with open_postgres(fresh_database_url(), statement_timeout_s=5) as database:
        await database.shred_remains()
    assert (told["migration"], told["VACUUM"]) == ("10min", "30s")
