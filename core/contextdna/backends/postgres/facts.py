"""What a PostgreSQL server says of itself and of us."""

from dataclasses import dataclass
from typing import Final

from contextdna.backends.postgres.driver import DRIVER_ERRORS, Server, connect, mapped_error
from contextdna.errors import ContextDnaError

_FACTS: Final = """
SELECT
  current_setting('server_version'),
  current_user::text,
  coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false),
  (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user),
  coalesce((SELECT checksum_failures FROM pg_stat_database WHERE datname = current_database()), 0),
  pg_database_size(current_database())
"""
_MARK: Final = "SELECT mark::text FROM histories WHERE $1 OR server_start = server_start()"


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A server, and the role that we have there."""

    version: str
    role: str
    is_secure: bool
    """Whether this connection is encrypted."""
    bypasses_policies: bool
    """Whether row-level security does not hold for the role."""
    faults: int
    """Damaged pages that were met in this database, where the server keeps checksums."""
    size_bytes: int


async def standby_problem(server: Server, *, primary: Server) -> str:
    """Give the code of what keeps a server from answering reads as a standby of another; empty where nothing does."""
    try:
        is_primary, mark = await _history(server)
        _, present = await _history(primary)
    except ContextDnaError as error:
        return error.code
    if is_primary:
        return "storage_not_standby"
    return "storage_other_history" if present and mark != present else ""


async def _history(server: Server) -> tuple[bool, str]:
    """Tell whether a server is a primary, and its mark, of a primary that of its present run; empty where it has none.

    Raises:
        StorageUnavailable: It cannot be reached, or refuses us.
    """
    failure: ContextDnaError
    connection = await connect(server)
    try:
        is_primary = not await connection.fetchval("SELECT pg_is_in_recovery()")
        if await connection.fetchval("SELECT to_regclass('histories') IS NULL"):
            return is_primary, ""  # nothing was ever stored there
        return is_primary, await connection.fetchval(_MARK, not is_primary) or ""
    except DRIVER_ERRORS as error:
        failure = mapped_error(error)
    finally:
        await connection.close()
    raise failure


async def server_facts(server: Server) -> ServerFacts:
    """Ask a server.

    Raises:
        StorageUnavailable: It cannot be reached, or refuses us.
    """
    connection = await connect(server)
    failure: ContextDnaError
    try:
        version, *others = await connection.fetchrow(_FACTS)
        return ServerFacts(version.split()[0], *others)
    except DRIVER_ERRORS as error:
        failure = mapped_error(error)
    finally:
        await connection.close()
    raise failure
