"""PostgreSQL: one database for several servers, by asyncpg (extra ``postgres``). Imported only when it is used."""

from contextdna.backends.postgres.channel import PostgresChannel, open_channel
from contextdna.backends.postgres.database import PostgresDatabase, open_postgres, read_once
from contextdna.backends.postgres.driver import VERSION_MIN, Server
from contextdna.backends.postgres.facts import ServerFacts, server_facts, standby_problem
from contextdna.backends.postgres.schema import migrate_postgres, postgres_schema_status

__all__ = [
    "VERSION_MIN",
    "PostgresChannel",
    "PostgresDatabase",
    "Server",
    "ServerFacts",
    "migrate_postgres",
    "open_channel",
    "open_postgres",
    "postgres_schema_status",
    "read_once",
    "server_facts",
    "standby_problem",
]
