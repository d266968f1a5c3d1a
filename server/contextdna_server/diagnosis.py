"""The checks of doctor. None changes anything; each works on an installation that is broken, or not there yet."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Final

from contextdna.backends.key_ring import parse_master_key, read_key_file
from contextdna.backends.local_files import DAMAGED_SUFFIX
from contextdna.backends.moving import incomplete
from contextdna.backends.os_keyring import read_os_keyring
from contextdna.backends.sqlite.driver import ENGINE_VERSION, has_wal_reset_bug, library, version_tuple
from contextdna.domain import audit
from contextdna.domain.encryption import Vault
from contextdna.errors import ContextDnaError, StorageUnavailable
from contextdna.hub.blob_stores import ARTIFACTS_FOLDER
from contextdna.hub.blob_stores import SPOOL_FOLDER as ARTIFACTS_SPOOL_FOLDER
from contextdna.hub.opening import DATABASE_FILE, KEY_FILE, MEMORY_FOLDER
from contextdna.hub.slots import count_aside, look_into_slots
from contextdna.hub.spool import SPOOL_FOLDER
from contextdna.ports.database import Transaction
from contextdna.ports.storage import KeyRing
from contextdna.values.audit import AuditReport
from contextdna.values.ids import INSTALLATION
from contextdna_server.installation import (
    bucket_facts,
    facts_of,
    has_keys,
    is_installed,
    look_at,
    look_into,
    look_into_memory,
    newest_entry_at,
    redis_facts_of,
    replica_problems,
)
from contextdna_server.settings import Settings


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what to do when it is not good."""

    name: str
    verdict: Verdict
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined."""

    settings: Settings
    now: datetime

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.settings.data

    @property
    def has_database(self) -> bool:
        """Whether there is an installation."""
        return is_installed(self.settings)

    @property
    def is_begun(self) -> bool:
        """Whether that was ever opened: a first start that fails may leave tables only."""
        return has_keys(self.settings)

    @property
    def on_server(self) -> bool:
        """Whether the database is PostgreSQL."""
        return bool(self.settings.storage.postgres_url)

    @property
    def on_s3(self) -> bool:
        """Whether artifacts lie in S3."""
        return bool(self.settings.storage.artifacts)

    @property
    def has_spool(self) -> bool:
        """Whether writes or artifacts may wait in the data folder, or did once."""
        return self.on_server or self.on_s3 or (self.data / SPOOL_FOLDER).is_dir()

    @property
    def on_redis(self) -> bool:
        """Whether servers share Redis."""
        return bool(self.settings.storage.cache.get_secret_value())


Result = tuple[Verdict, str, str]
Check = Callable[[Patient], Result]

_ENGINE_MIN: Final = "3.43.0"
_DISK_FAIL_BYTES: Final = 50 * 1024**2
_DISK_WARN_BYTES: Final = 1024**3
_YEARS: Final = (2026, 2100)
_CLOCK_SLACK: Final = timedelta(minutes=5)


def examine(settings: Settings, *, deep: bool = False, now: datetime | None = None) -> Iterator[Finding]:
    """Run the checks, one after the other; ``deep`` also reads every page and every audit entry."""
    patient = Patient(settings, now or datetime.now(UTC))
    causes: dict[str, str] = {}
    for name, check in checks(
        deep=deep,
        on_server=patient.on_server,
        on_s3=patient.on_s3,
        on_redis=patient.on_redis,
        has_spool=patient.has_spool,
    ).items():
        finding = _run(name, check, patient)
        cause = causes.setdefault(finding.detail, name) if finding.verdict is Verdict.FAIL else name
        yield finding if cause == name else Finding(name, Verdict.FAIL, f"not checked: see {cause}")


def checks(
    *,
    deep: bool = False,
    on_server: bool = False,
    on_s3: bool = False,
    on_redis: bool = False,
    has_spool: bool = False,
) -> dict[str, Check]:
    """Give the checks by name."""
    thorough: dict[str, Check] = {"database": _database_deep, "audit": _audit} if deep else {"database": _database}
    engine: dict[str, Check] = {"postgres": _postgres} if on_server else {"sqlite": _sqlite, "fts5": _fts5}
    return {
        "python": _python,
        "mcp": _mcp,
        **engine,
        **({"s3": _s3} if on_s3 else {}),
        **({"redis": _redis} if on_redis else {}),
        **({"spool": _spool} if has_spool else {}),
        "folder": _folder,
        "disk": _disk,
        "schema": _schema,
        "key": _key,
        "clock": _clock,
        **thorough,
    }


def _run(name: str, check: Check, patient: Patient) -> Finding:
    try:
        verdict, detail, remedy = check(patient)
    except ContextDnaError as error:
        verdict, detail, remedy = Verdict.FAIL, f"{error.message} [{error.code}]", error.hint
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        verdict, detail = Verdict.FAIL, f"{where}{error.strerror}"
        remedy = "Give this user the right to read it, or choose another folder with --data DIR."
    return Finding(name, verdict, detail, remedy)


def _ok(detail: str) -> Result:
    return Verdict.OK, detail, ""


def _absent(detail: str) -> Result:
    return Verdict.OK, f"none yet: {detail}", ""


def _python(_patient: Patient) -> Result:
    return _ok(f"{sys.version.split()[0]} at {sys.executable}")


def _mcp(_patient: Patient) -> Result:
    found = version("mcp")
    if found.split(".")[0] != "2":
        return Verdict.FAIL, f"MCP SDK {found}", "Install contextdna anew: it needs mcp 2.3 or newer, below 3."
    return _ok(f"MCP SDK {found}")


def _sqlite(_patient: Patient) -> Result:
    module = library.__name__.partition(".")[0]
    detail = f"SQLite {ENGINE_VERSION} from {module}"
    remedy = "Install the package pysqlite3, or a Python with a newer SQLite."
    if version_tuple(ENGINE_VERSION) < version_tuple(_ENGINE_MIN):
        return Verdict.FAIL, f"{detail} is older than {_ENGINE_MIN}", remedy
    if has_wal_reset_bug():
        problem = "may damage a file that several processes write (https://sqlite.org/wal.html#the_wal_reset_bug)"
        return Verdict.WARN, f"{detail} {problem}", f"{remedy} Until then let one host at a time use this folder."
    return _ok(detail)


def _fts5(_patient: Patient) -> Result:
    connection = library.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE t USING fts5(content, content = '', contentless_delete = 1)")
    except library.Error:
        remedy = "Install the package pysqlite3, or a Python whose SQLite has FTS5."
        return Verdict.FAIL, "this SQLite cannot search: FTS5 is missing or too old", remedy
    finally:
        connection.close()
    return _ok("available")


def _postgres(patient: Patient) -> Result:
    found = facts_of(patient.settings)
    detail = f"PostgreSQL {found.version} as {found.role}, {'by TLS' if found.is_secure else 'without TLS'}"
    if found.bypasses_policies:
        remedy = "Let a role without SUPERUSER and BYPASSRLS own the tables, and name that in storage.database."
        return Verdict.WARN, f"{detail}; row-level security does not hold for this role", remedy
    problems = replica_problems(patient.settings)
    if any(problems):
        told = ", ".join(f"replica {number} [{code}]" for number, code in enumerate(problems, start=1) if code)
        remedy = "Reads go to the primary meanwhile. Name only standbys of storage.database that this server reaches."
        return Verdict.WARN, f"{detail}; no answer from {told}", remedy
    return _ok(f"{detail}; {len(problems)} replicas answer" if problems else detail)


def _redis(patient: Patient) -> Result:
    try:
        found = redis_facts_of(patient.settings)
    except StorageUnavailable as error:  # no data is in it alone
        return Verdict.WARN, f"{error.message} [{error.code}]", error.hint
    kind = "a cluster of Redis" if found.is_cluster else "Redis"
    by = "" if found.is_secure else ", without TLS"
    detail = f"{kind} {found.version} answers in {found.latency_ms:.1f} ms{by}"
    if found.fills_up:
        remedy = "Set maxmemory-policy allkeys-lru there: when it is full it is to forget, not to refuse."
        return Verdict.WARN, f"{detail}; it refuses writes when it is full", remedy
    return _ok(detail)


def _s3(patient: Patient) -> Result:
    found = bucket_facts(patient.settings)
    detail = f"{found.place} answers in {found.latency_ms:.0f} ms, {'by TLS' if found.is_secure else 'without TLS'}"
    if found.keeps_versions:
        remedy = "Turn versioning off, or add a lifecycle rule that ends older versions after some days."
        return Verdict.WARN, f"{detail}; the bucket keeps what is purged, as older versions", remedy
    return _ok(detail)


def _spool(patient: Patient) -> Result:
    slots = look_into_slots(patient.data)
    if broken := [slot for slot in slots if slot.problem]:
        remedy = "See `contextdna spool`; check the disk. Restore the folders, or keep them elsewhere; remove none."
        numbers = ", ".join(str(slot.number) for slot in broken)
        detail = f"slots of queued writes cannot be read to their end: {numbers} [{broken[0].problem}]"
        return Verdict.FAIL, detail, remedy
    found = [path.suffix for path in (patient.data / ARTIFACTS_SPOOL_FOLDER).glob("*/*/*")]
    damaged = found.count(DAMAGED_SUFFIX)
    waiting = len(found) - damaged
    if damaged:
        remedy = "Attach the same bytes anew, or restore the files from a backup."
        return Verdict.FAIL, f"{damaged} artifacts that waited for S3 were damaged on the disk", remedy
    aside, queued = count_aside(patient.data), sum(slot.waiting for slot in slots)
    if queued and not patient.on_server:
        remedy = "Set storage.database back and let a server run until they are stored; without it none starts."
        return Verdict.FAIL, f"{queued} queued writes wait for PostgreSQL, and storage.database names none", remedy
    told = [
        (aside, "queued writes were refused when PostgreSQL was back", "See `contextdna spool`: retry or drop them."),
        (queued, "queued writes wait for PostgreSQL", "Let a server run: it stores them when PostgreSQL is there."),
        (waiting, "artifacts wait for S3", "Let a server run: it gives them to S3."),
    ]
    if found_any := [(f"{count} {what}", remedy) for count, what, remedy in told if count]:
        details, remedies = zip(*found_any, strict=True)
        return Verdict.WARN, "; ".join(details), " ".join(remedies)
    return _ok("nothing is set aside, nothing waits")


def _sound_server(patient: Patient) -> Result:
    found = facts_of(patient.settings)
    if found.faults:
        return Verdict.FAIL, f"the server has met {found.faults} damaged pages", "Restore a backup to another disk."
    return _ok(f"no damaged pages met ({found.size_bytes / 1024**2:.1f} MiB)")


def _folder(patient: Patient) -> Result:
    folder = patient.data
    if not folder.exists():
        parent = _nearest(folder)
        if not os.access(parent, os.W_OK | os.X_OK):
            remedy = "Make the folder yourself, or choose another with --data DIR."
            return Verdict.FAIL, f"{folder} is not there and {parent} is not writable", remedy
        return _absent(f"`contextdna serve` makes {folder} with {DATABASE_FILE}, {KEY_FILE} and artifacts")
    if not folder.is_dir():
        return Verdict.FAIL, f"{folder} is not a folder", "Choose another with --data DIR."
    return _folder_rights(folder)


def _folder_rights(folder: Path) -> Result:
    for path in (folder, folder / DATABASE_FILE):
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            return Verdict.FAIL, f"{path} is not writable", f"Run `chmod u+rw {path}`, or check its owner and the disk."
    for path in (folder, folder / ARTIFACTS_FOLDER, *sorted(folder.glob(f"{DATABASE_FILE}*"))):
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0
        if os.name == "posix" and mode & 0o077:
            return Verdict.WARN, f"{path} is open to other users (mode {mode:04o})", f"Run `chmod go= {path}`."
    return _ok(f"{folder}, writable")


def _disk(patient: Patient) -> Result:
    free = shutil.disk_usage(_nearest(patient.data)).free
    detail = f"{free / 1024**3:.1f} GiB free"
    if free < _DISK_WARN_BYTES:
        verdict = Verdict.FAIL if free < _DISK_FAIL_BYTES else Verdict.WARN
        return verdict, detail, "Free disk space, or choose another folder with --data DIR."
    return _ok(detail)


def _nearest(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _schema(patient: Patient) -> Result:
    if not patient.has_database:
        return _absent("`contextdna serve` makes the newest")
    with look_at(patient.settings) as view:
        status = view.schema()
    if status.moving:
        raise incomplete()
    if status.pending:
        detail = f"version {status.current} of {status.latest}: {len(status.pending)} migrations pending"
        return Verdict.WARN, detail, "Make a backup and run `contextdna migrate up`; `contextdna serve` does it too."
    return _ok(f"version {status.current}")


def _key(patient: Patient) -> Result:
    settings, path = patient.settings, patient.data / KEY_FILE
    in_file = not settings.master_key.get_secret_value() and not settings.os_keyring
    if in_file and not path.exists():
        if not patient.is_begun:
            return _absent(f"`contextdna serve` or `contextdna keys init` makes {path}")
        remedy = f"Put {KEY_FILE} back from a backup, or set CONTEXTDNA_MASTER_KEY; no other key opens the data."
        return Verdict.FAIL, f"{path} is gone", remedy
    ring = _ring(settings, path)
    source = str(path) if in_file else "the system's keyring"
    if settings.master_key.get_secret_value():
        source = "the setting master_key"
    if not patient.is_begun:
        return _ok(f"{ring.current_id} from {source}")
    with look_at(patient.settings) as view:
        view.ask(lambda tx: _unwrap(tx, ring))
    return _ok(f"{ring.current_id} from {source} opens the data")


def _ring(settings: Settings, path: Path) -> KeyRing:
    if given := settings.master_key.get_secret_value():
        return parse_master_key(given)
    return read_os_keyring() if settings.os_keyring else read_key_file(path)


async def _unwrap(tx: Transaction, ring: KeyRing) -> None:
    vault = Vault(ring)
    await vault.keys(tx, INSTALLATION)
    for project in await tx.projects.all():
        await vault.keys(tx, project.id)


def _database(patient: Patient) -> Result:
    return _sound(patient, "quick_check")


def _database_deep(patient: Patient) -> Result:
    return _sound(patient, "integrity_check")


def _sound(patient: Patient, pragma: str) -> Result:
    path = patient.data / DATABASE_FILE
    if not patient.has_database:
        return _absent("`contextdna serve` makes it")
    if patient.on_server:
        return _sound_server(patient)
    if patient.settings.storage.is_in_memory:
        size = look_into_memory(patient.settings).size_bytes()
        return _ok(f"{patient.data / MEMORY_FOLDER} is sound (all of it read, {size / 1024**2:.1f} MiB)")
    with look_into(patient.settings) as file:
        found = str(file.value(f"PRAGMA {pragma}(1)"))
    if found != "ok":
        remedy = "Stop all servers, keep a copy of the folder, and restore a backup."
        return Verdict.FAIL, f"{path} is damaged ({pragma})", remedy
    return _ok(f"{path} is sound ({pragma}, {path.stat().st_size / 1024**2:.1f} MiB)")


def _clock(patient: Patient) -> Result:
    now = patient.now
    shown = now.isoformat(sep=" ", timespec="seconds")
    remedy = "Set the system's clock: times order memories, and expiry depends on them."
    if not _YEARS[0] <= now.year < _YEARS[1]:
        return Verdict.FAIL, f"it is {shown} by this machine's clock", remedy
    newest = _newest_entry(patient)
    if newest and newest > now + _CLOCK_SLACK:
        detail = f"it is {shown} by this machine's clock, but the audit trail reaches {newest:%Y-%m-%d %H:%M:%S}"
        return Verdict.FAIL, detail, remedy
    return _ok(shown)


def _newest_entry(patient: Patient) -> datetime | None:
    if not patient.has_database:
        return None
    with look_at(patient.settings) as view:
        return newest_entry_at(view) if view.schema().current else None


def _audit(patient: Patient) -> Result:
    if not patient.is_begun:
        return _absent("it begins with the installation")
    ring = _ring(patient.settings, patient.data / KEY_FILE)

    async def unit(tx: Transaction) -> AuditReport:
        entries, chains, faults = await audit.verify_all(tx, Vault(ring))
        return AuditReport(entries, chains, tuple(faults))

    with look_at(patient.settings) as view:
        report = view.ask(unit)
    if not report.intact:
        remedy = "Run `contextdna audit verify` for the entries; restore a backup, and find out who changed the file."
        return Verdict.FAIL, f"{len(report.faults)} faults in {report.entries} entries", remedy
    return _ok(f"{report.entries} entries in {report.chains} chains, intact")
