"""How values become columns and rows become values; the order of columns is that of the statements."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any, Final

from contextdna.backends.relational.statements import Row
from contextdna.values.level import Level
from contextdna.values.principal import Reader, Role
from contextdna.values.record import Codec, Kind, Record, RecordRef, Sealed

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS: Final = {kind.value: kind for kind in Kind}
_LEVELS: Final = {level.value: level for level in Level}
_CODECS: Final = {codec.value: codec for codec in Codec}


def micros(at: datetime) -> int:
    """Count the microseconds since the epoch.

    Raises:
        TypeError: The time is not aware.
    """
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def micros_or_none(at: datetime | None) -> int | None:
    """Count the microseconds since the epoch, or pass None on."""
    return None if at is None else micros(at)


def moment(since: int) -> datetime:
    """Make the aware UTC time of a count of microseconds (an addition: half the cost of fromtimestamp, and exact)."""
    return _EPOCH + timedelta(0, 0, since)


def moment_or_none(since: int | None) -> datetime | None:
    """Make the time of a count of microseconds, or pass None on."""
    return None if since is None else _EPOCH + timedelta(0, 0, since)


def json_list(texts: Iterable[str]) -> str:
    """Write a JSON array of texts, as statements take lists (a third of the time of json.dumps)."""
    return f"[{','.join(map(encode_basestring, texts))}]"


def json_list_or_none(texts: Sequence[str]) -> str | None:
    """Write a JSON array of texts; an empty one means any, and becomes None."""
    return json_list(texts) if texts else None


@lru_cache(maxsize=4096)
def texts_of(column: str) -> tuple[str, ...]:
    """Read a JSON array of texts. Tags and lineages repeat, hence the cache."""
    return tuple(json.loads(column)) if column != "[]" else ()


def reader_params(reader: Reader, now: datetime) -> tuple[Any, ...]:
    """Give parameters 1 to 6 of every statement that has a reader."""
    return (
        reader.project_id,
        reader.agent_id,
        reader.team_id,
        reader.swarm_id,
        int(reader.role is Role.SYSTEM),
        micros(now),
    )


def record_params(record: Record) -> tuple[Any, ...]:
    """Give a record's columns in the order of the ``record`` fragment."""
    sealed = record.sealed
    return (
        record.id,
        record.project_id,
        record.kind.value,
        int(record.level),
        record.owner_id,
        record.team_id,
        record.swarm_id,
        record.session_id,
        record.type,
        str(record.tier),
        record.importance,
        record.position,
        record.subject,
        record.version,
        micros(record.created_at),
        micros(record.updated_at),
        micros_or_none(record.valid_from),
        micros_or_none(record.valid_to),
        record.superseded_by,
        micros_or_none(record.retention_until),
        micros_or_none(record.deleted_at),
        record.content_hash,
        json_list(record.tag_tokens),
        record.blob_key,
        int(sealed.codec),
        sealed.key_id,
        sealed.salt,
        sealed.data,
    )


RECORD_COLUMNS: Final = 28


def record_of(row: Row) -> Record:
    """Make a record of a row that begins with the ``record`` fragment."""
    return Record(
        row[0],
        row[1],
        _KINDS[row[2]],
        _LEVELS[row[3]],
        row[4],
        row[5],
        row[6],
        row[7],
        row[8],
        row[9],
        row[10],
        row[11],
        row[12],
        row[13],
        moment(row[14]),
        moment(row[15]),
        moment_or_none(row[16]),
        moment_or_none(row[17]),
        row[18],
        moment_or_none(row[19]),
        moment_or_none(row[20]),
        row[21],
        texts_of(row[22]),
        row[23],
        Sealed(row[27], _CODECS[row[24]], row[25], row[26]),
    )


def ref_of(row: Row) -> RecordRef:
    """Make an access header of a row of the ``ref`` fragment."""
    return RecordRef(row[0], row[1], _KINDS[row[2]], _LEVELS[row[3]], row[4], row[5], row[6])


def kind_of(column: str) -> Kind:
    """Read a kind."""
    return _KINDS[column]


def level_of(column: int) -> Level:
    """Read a level."""
    return _LEVELS[column]


def sealed_params(sealed: Sealed) -> tuple[Any, ...]:
    """Give a body's columns: codec, key id, salt, data."""
    return (int(sealed.codec), sealed.key_id, sealed.salt, sealed.data)


def sealed_of(codec: int, key_id: str, salt: bytes, data: bytes) -> Sealed:
    """Make a body of its columns."""
    return Sealed(data, _CODECS[codec], key_id, salt)
