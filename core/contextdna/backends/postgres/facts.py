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


async def standby_problem(server: Server) -> str:
    """Give the code of what keeps a server from answering reads as a standby; empty where nothing does."""
    try:
        connection = await connect(server)
    except ContextDnaError as error:
        return error.code
    try:
        is_standby = await connection.fetchval("SELECT pg_is_in_recovery()")
    except DRIVER_ERRORS as error:
        return mapped_error(error).code
    finally:
        await connection.close()
    return "" if is_standby else "storage_not_standby"


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
