"""The settings of where the data is: the database and its connections, the cache, artifacts, what waits for them."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from contextdna.domain.object_sources import OWN_PROJECT
from contextdna.values.object_place import OBJECT_SCHEME, is_endpoint, parse_object_prefix, parse_object_store
from contextdna.values.settings import HubSettings, PostgresSettings, WhenUnusable
from contextdna_server.settings_fields import Bytes, Count, Few, Name, Seconds, Section, listed

IN_MEMORY: Final = "memory:"
"""The database that is in the memory of the server."""

_HUB: Final = HubSettings()


def _of_replica(value: SecretStr) -> SecretStr:
    if value.get_secret_value() and not _is_of_postgres(value):
        raise ValueError("use postgresql://user@host:5432/name for each, or leave the list empty")
    return value


def _of_database(value: SecretStr) -> SecretStr:
    if value.get_secret_value() not in ("", IN_MEMORY) and not _is_of_postgres(value):
        known = f"postgresql://user@host:5432/name, or {IN_MEMORY} for one in memory"
        raise ValueError(f"use {known}, or leave it empty for SQLite in the data folder")
    return value


def _is_of_postgres(value: SecretStr) -> bool:
    return value.get_secret_value().startswith(("postgresql://", "postgres://"))


def _of_redis(value: SecretStr) -> SecretStr:
    schemes = ("redis://", "rediss://", "redis+cluster://", "rediss+cluster://", "unix://")
    if value.get_secret_value() and not value.get_secret_value().startswith(schemes):
        raise ValueError("use redis://…, rediss://… or redis+cluster://…, or leave it empty to cache in the process")
    return value


def _of_s3(value: str) -> str:
    if value:
        parse_object_store(value)
    return value


def _of_source(value: str) -> str:
    parse_object_prefix(value.replace(OWN_PROJECT, "default"))
    return value


def _of_endpoint(value: str) -> str:
    if value and not is_endpoint(value):
        raise ValueError("use http(s)://host:port, without user, path and query")
    return value


def _of_import(value: str) -> str:
    if value:
        _of_source(f"{OBJECT_SCHEME}bucket/{value}")
    return value


PostgresUrl = Annotated[SecretStr, AfterValidator(_of_replica)]


class PostgresSection(Section):
    """The connections of each server process to PostgreSQL."""

    pool_min: Few = _HUB.postgres.pool_min
    pool_max: Few = _HUB.postgres.pool_max
    acquire_timeout_s: Annotated[Seconds, Field(le=3600)] = _HUB.postgres.acquire_timeout_s
    statement_timeout_s: Annotated[Seconds, Field(le=3600)] = _HUB.postgres.statement_timeout_s
    replicas: Annotated[tuple[PostgresUrl, ...], NoDecode, BeforeValidator(listed)] = ()
    """postgresql://… of streaming standbys, which may hold passwords."""
    replica_lag_max_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = _HUB.postgres.replica_lag_max_s

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.pool_min > self.pool_max:
            raise ValueError("pool_min is greater than pool_max")
        return self

    def to_postgres_settings(self) -> PostgresSettings:
        """Give what the core needs."""
        replicas = tuple(url for one in self.replicas if (url := one.get_secret_value()))
        return PostgresSettings(**{**self.model_dump(), "replicas": replicas})


class RedisSection(Section):
    """The connections of each server process to Redis, and what it keeps there."""

    key_prefix: Name = _HUB.redis.key_prefix
    timeout_s: Annotated[Seconds, Field(le=60)] = _HUB.redis.timeout_s
    connections_max: Few = _HUB.redis.connections_max
    write_behind: bool = _HUB.redis.write_behind


class S3Section(Section):
    """How S3 is talked to. Credentials are none of the settings: the environment or the SDK's own files give them."""

    connect_timeout_s: Annotated[Seconds, Field(le=60)] = _HUB.s3.connect_timeout_s
    read_timeout_s: Annotated[Seconds, Field(le=600)] = _HUB.s3.read_timeout_s
    deadline_s: Annotated[Seconds, Field(le=3600)] = _HUB.s3.deadline_s
    threads_max: Annotated[int, Field(ge=1, le=256)] = _HUB.s3.threads_max
    multipart_over_bytes: Bytes = _HUB.s3.multipart_over_bytes
    part_bytes: Annotated[int, Field(ge=5 * 1024 * 1024, le=1024**3)] = _HUB.s3.part_bytes
    """S3 takes no smaller parts but the last."""
    checksum: Literal["sha256", "md5"] = "sha256"
    encryption: Literal["", "AES256", "aws:kms"] = ""
    kms_key_id: Annotated[str, Field(max_length=2048)] = _HUB.s3.kms_key_id
    presign_s: Annotated[int, Field(ge=1, le=7 * 86_400)] = _HUB.s3.presign_s
    """S3 takes no link that is good for more than a week."""
    link_endpoint_url: Annotated[str, AfterValidator(_of_endpoint)] = _HUB.s3.link_endpoint_url
    import_prefix: Annotated[str, AfterValidator(_of_import)] = _HUB.s3.import_prefix
    allowed_sources: Annotated[
        tuple[Annotated[str, AfterValidator(_of_source)], ...], NoDecode, BeforeValidator(listed)
    ] = ()

    @model_validator(mode="after")
    def _check_key(self) -> Self:
        if self.kms_key_id and self.encryption != "aws:kms":
            raise ValueError("kms_key_id goes with an encryption of aws:kms")
        return self


class StorageSection(Section):
    """Where the data is, when the data folder is not all."""

    database: Annotated[SecretStr, AfterValidator(_of_database)] = SecretStr("")
    """postgresql://…, which may hold a password; memory:; empty: SQLite in the data folder."""
    write_ahead: bool = False
    """Whether a write-ahead log in the data folder keeps what is in memory:."""
    postgres: PostgresSection = PostgresSection()
    cache: Annotated[SecretStr, AfterValidator(_of_redis)] = SecretStr("")
    """rediss://…, which may hold a password; empty: each process caches by itself."""
    redis: RedisSection = RedisSection()
    artifacts: Annotated[str, AfterValidator(_of_s3)] = ""
    """s3://bucket/prefix?endpoint_url=…&region=…, without credentials; empty: files in the data folder."""
    s3: S3Section = S3Section()
    spool: bool = _HUB.spool
    """Whether writes wait in the data folder while PostgreSQL or S3 is away."""
    spool_bytes_max: Bytes = _HUB.spool_bytes_max
    when_unusable: WhenUnusable = _HUB.when_unusable
    """What a server on stdio does whose database file cannot be used."""

    @property
    def is_in_memory(self) -> bool:
        """Whether the database is in the memory of the server."""
        return self.database.get_secret_value() == IN_MEMORY

    @property
    def postgres_url(self) -> str:
        """The URL of the database, where that is PostgreSQL; else empty."""
        return "" if self.is_in_memory else self.database.get_secret_value()

    @model_validator(mode="after")
    def _check_log(self) -> Self:
        if self.write_ahead and not self.is_in_memory:
            raise ValueError("write_ahead goes with a database of memory:")
        return self


class SqliteSection(Section):
    """The database file's connections."""

    readers: Few = _HUB.sqlite_readers
    busy_timeout_s: Annotated[Seconds, Field(le=3600)] = _HUB.sqlite_busy_timeout_s
    group_max: Count = _HUB.sqlite_group_max
