"""asyncpg: how a connection is set up, what its errors mean, and one connection with its prepared statements."""

import json
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import anyio
import asyncpg

from contextdna.backends.postgres.places import Stand
from contextdna.backends.relational.statements import Params, Row
from contextdna.errors import Conflict, ContextDnaError, IntegrityFault, InvalidInput, LimitExceeded, StorageUnavailable
from contextdna.values.ids import ProjectId

VERSION_MIN: Final = 15

DRIVER_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""Whatever asyncpg raises once it is connected."""

_SETTING: Final = "storage.database"
_CONNECT_S: Final = 10.0
_GOODBYE_S: Final = 2.0
SLACK_S: Final = 5.0
"""How much longer than the server itself we wait for it to give up a statement: past that, it hangs."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a database is, and how long we wait for it."""

    url: str
    acquire_timeout_s: float
    statement_timeout_s: float
    named_by: str = _SETTING
    """What the URL was given as: for messages."""

    def __repr__(self) -> str:
        return "Server(…)"  # the URL may hold a password


async def connect(server: Server) -> Any:
    """Open a connection.

    Raises:
        StorageUnavailable: The server cannot be reached, refuses us, or is too old.
    """
    failure: ContextDnaError
    try:
        connection = await asyncpg.connect(
            server.url,
            timeout=min(server.acquire_timeout_s, _CONNECT_S),
            command_timeout=server.statement_timeout_s + SLACK_S,
            statement_cache_size=0,  # each link prepares by name, once
            server_settings={
                "application_name": "contextdna",
                "statement_timeout": _millis(server.statement_timeout_s),
                "idle_in_transaction_session_timeout": _millis(server.statement_timeout_s + SLACK_S),
                "jit": "off",  # it costs more than these statements take
                "plan_cache_mode": "force_generic_plan",  # planning costs up to ten times what the statement takes
                "timezone": "UTC",
                "standard_conforming_strings": "on",
            },
        )
    except (*DRIVER_ERRORS, ValueError, OverflowError) as error:
        failure = connecting_error(error, server)
    else:
        try:
            await _set_up(connection)
        except DRIVER_ERRORS as error:
            failure = mapped_error(error)
        except BaseException:
            connection.terminate()
            raise
        else:
            return connection
        connection.terminate()
    raise failure


def _millis(seconds: float) -> str:
    """Write a deadline as the server takes it, to which 0 is none."""
    return str(max(1, int(seconds * 1000)))


async def _set_up(connection: Any) -> None:
    """Make a connection what we take it for.

    Raises:
        StorageUnavailable: ``engine_too_old``.
    """
    version = connection.get_server_version().major
    if version < VERSION_MIN:
        raise StorageUnavailable(
            f"PostgreSQL {version} is too old", code="engine_too_old", hint=f"Use PostgreSQL {VERSION_MIN} or newer."
        )
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", encoder=_ticks_of, decoder=_micros_of, format="tuple"
    )
    await connection.execute(_COMMIT_DURABLY)


_COMMIT_DURABLY: Final = """
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""
"""What is acknowledged outlives the server's end, whatever its default; one that promises more stays."""


# PostgreSQL counts microseconds from 2000-01-01, all else here from 1970-01-01.
_EPOCHS_APART: Final = 946_684_800_000_000


def _ticks_of(micros: int) -> tuple[int]:
    return (micros - _EPOCHS_APART,)


def _micros_of(ticks: tuple[int]) -> int:
    return ticks[0] + _EPOCHS_APART


_OF_READS: Final = frozenset({"audit_append", "audit_head_set", "record_touch", "access_token_note_use"})
"""What is written of reads: who reads next need not find it."""


class Link:
    """One connection: named statements, prepared when they are first run, and their parameters made to fit.

    Tables give times as microseconds, lists as JSON arrays and truths as 0 and 1; the server says which parameter of a
    statement is of which type, and here what is given becomes that.
    """

    def __init__(
        self,
        connection: Any,
        statements: Mapping[str, str],
        written: Callable[[Iterable[ProjectId] | None], None] = lambda _: None,
    ) -> None:
        self.connection = connection
        self._written = written
        self._has_changed = False
        self.idle_since = 0.0
        self.is_hung = False
        """Whether the server did not even give up a statement here."""
        self.stands: dict[ProjectId, Stand] = {}
        """How far the server at the other end has come at least in projects, where it is a standby."""
        self._statements = statements
        self._prepared: dict[str, tuple[Any, _Fitting]] = {}

    async def rows(self, name: str, params: Params) -> list[Row]:
        """Run a query and fetch all its rows."""
        statement, fit = self._prepared.get(name) or await self._prepare(name)
        rows: list[Row] = await statement.fetch(*fit(params))
        return rows

    async def run(self, name: str, params: Params) -> int:
        """Run a statement and give how many rows it changed."""
        self._has_changed |= name not in _OF_READS
        statement, fit = self._prepared.get(name) or await self._prepare(name)
        await statement.fetch(*fit(params))
        return int(statement.get_statusmsg().rpartition(" ")[2])

    async def run_many(self, name: str, params: Sequence[Params]) -> None:
        """Run a statement once for each set of parameters, in one exchange with the server."""
        self._has_changed |= name not in _OF_READS
        statement, fit = self._prepared.get(name) or await self._prepare(name)
        if len(params) == 1:
            await statement.fetch(*fit(params[0]))
        else:
            await statement.executemany([fit(one) for one in params])

    async def rows_of_many(self, name: str, params: Sequence[Params]) -> list[Row]:
        """Run a query once for each set of parameters, in one exchange with the server; gives the rows of all."""
        statement, fit = self._prepared.get(name) or await self._prepare(name)
        rows: list[Row] = await statement.fetchmany([fit(one) for one in params])
        return rows

    async def script(self, text: str) -> str:
        """Run statements without parameters in one exchange; gives the status of the last."""
        status: str = await self.connection.execute(text)
        return status

    def tell_written(self, projects: Iterable[ProjectId] | None) -> None:
        """Tell which projects a commit was about, None for all, however it came out; not where it noted reads alone."""
        if self._has_changed:
            self._has_changed = False
            self._written(projects)

    def note(self, failure: BaseException) -> None:
        """Note what a statement failed with."""
        self.is_hung |= isinstance(failure, TimeoutError)

    def cut(self) -> None:
        """End the connection at once, without a word to the server."""
        self.connection.terminate()

    async def roll_back(self, *, within_s: float) -> None:
        """End a transaction that failed; a connection that does not take that in time is cut."""
        if not self.is_open:
            return
        with anyio.CancelScope(shield=True), anyio.move_on_after(within_s):
            try:
                await self.script("ROLLBACK")
            except DRIVER_ERRORS:
                self.cut()
            return
        self.cut()

    async def close(self) -> None:
        """Say goodbye to the server, or be cut where it does not answer."""
        try:
            await self.connection.close(timeout=_GOODBYE_S)
        except DRIVER_ERRORS:
            self.cut()

    @property
    def is_open(self) -> bool:
        """Whether it may be used, as far as is known."""
        return not self.connection.is_closed()

    async def _prepare(self, name: str) -> tuple[Any, "_Fitting"]:
        statement = await self.connection.prepare(self._statements[name], name=f"contextdna_{name}")
        entry = self._prepared[name] = (statement, _fitting([kind.name for kind in statement.get_parameters()]))
        return entry


_Fitting = Callable[[Params], Params]


def _fitting(types: Sequence[str]) -> _Fitting:
    """Make what fits parameters to their types; most statements need nothing."""
    changes: list[tuple[int, Callable[[Any], Any]]] = []
    for place, kind in enumerate(types):
        if kind.endswith("[]"):
            changes.append((place, json.loads))
        elif kind == "bool":
            changes.append((place, bool))
    if not changes:
        return _as_it_is

    def fit(params: Params) -> Params:
        fitted = list(params)
        for place, change in changes:
            if fitted[place] is not None:
                fitted[place] = change(fitted[place])
        return fitted

    return fit


def _as_it_is(params: Params) -> Params:
    return params


_LOST: Final = "storage_unreachable"
_HINTS: Final[Mapping[str, str]] = {
    "storage_unreachable": "Check that PostgreSQL runs and that storage.database names it; the call may be repeated.",
    "storage_login_refused": "Check user, password and database of storage.database, and pg_hba.conf of the server.",
    "storage_insecure": "Check sslmode and sslrootcert of storage.database, and the server's certificate.",
    "storage_url_invalid": "Write it as postgresql://user:password@host:5432/name; in a password write @ : / ? # % as "
    "%40 %3A %2F %3F %23 %25.",
    "storage_no_permission": "Let the role of storage.database own the tables of contextdna.",
    "storage_busy": "Other transactions are in the way; try again.",
    "storage_timeout": "Try again; a longer storage.postgres.statement_timeout_s gives a busy server more time.",
    "storage_full": "Free disk space or raise the limits of the server; nothing was written.",
    "storage_no_memory": "Give the server more memory or work_mem, and try again.",
    "storage_read_only": "Name the primary server in storage.database, not a standby.",
    "storage_not_standby": "Name only standbys of storage.database in storage.postgres.replicas.",
    "storage_other_history": "If it stays so, make that standby anew from the primary: pg_basebackup.",
    "storage_io_error": "Check the disk and the log of the server.",
    "storage_interrupted": "Try again.",
    "storage_closed": "Open it again.",
    "storage_outcome_unknown": "Look whether it was stored before repeating it, or repeat it with its idempotency_key.",
    "storage_error": "Run the doctor command; if it finds nothing, report this as a bug.",
}
_RETRYABLE: Final = frozenset(
    {_LOST, "storage_busy", "storage_timeout", "storage_full", "storage_no_memory", "storage_interrupted"}
)
READ_ONLY: Final = "25006"
# SQLSTATE, or its class of two letters -> code of ours. Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
_UNAVAILABLE: Final[Mapping[str, tuple[str, str]]] = {
    "08": (_LOST, "the connection to PostgreSQL was lost"),
    "57P01": (_LOST, "PostgreSQL is shutting down"),
    "57P02": (_LOST, "PostgreSQL has crashed and restarts"),
    "57P03": (_LOST, "PostgreSQL is starting"),
    "57P05": (_LOST, "PostgreSQL ended an idle connection"),
    "25P03": (_LOST, "PostgreSQL ended an idle transaction"),
    "26000": (_LOST, "PostgreSQL has forgotten a prepared statement"),
    "53300": ("storage_busy", "PostgreSQL has no connection to spare"),
    "28": ("storage_login_refused", "PostgreSQL refused the login"),
    "3D000": ("storage_login_refused", "PostgreSQL has no such database"),
    "3F000": ("storage_url_invalid", "PostgreSQL has no schema of the search_path"),
    "42501": ("storage_no_permission", "PostgreSQL refused a permission"),
    "40": ("storage_busy", "the transaction lost against another one"),
    "55P03": ("storage_busy", "a lock was not to be had in time"),
    "57014": ("storage_timeout", "PostgreSQL gave up a statement that took too long"),
    READ_ONLY: ("storage_read_only", "the database is read-only"),
    "53100": ("storage_full", "the disk of PostgreSQL is full"),
    "53200": ("storage_no_memory", "PostgreSQL ran out of memory"),
    "53": ("storage_busy", "PostgreSQL is short of resources"),
    "58": ("storage_io_error", "the system under PostgreSQL reported an error"),
}
_LOSSES: Final = ("40001", "40P01")
_TOO_LARGE: Final = ("54", "22001", "22003")
_CORRUPT: Final = ("XX001", "XX002")


def sqlstate_of(error: BaseException) -> str:
    """Give the SQLSTATE of a driver's error; empty where it has none."""
    return getattr(error, "sqlstate", None) or ""


def has_lost(error: BaseException) -> bool:
    """Tell whether a transaction lost against another one, and may win when it is run again."""
    return sqlstate_of(error) in _LOSSES


def has_run_out(error: BaseException) -> bool:
    """Tell whether the server gave up a statement, or the wait for a lock, that took too long."""
    return sqlstate_of(error) == "57014"


def is_cut_off(error: BaseException) -> bool:
    """Tell whether the server is not there any more, or does not answer."""
    if isinstance(error, asyncpg.PostgresError):
        return _entry(sqlstate_of(error))[0] == _LOST
    return isinstance(error, (OSError, asyncpg.InternalClientError)) or (
        isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError)
    )


def mapped_error(error: BaseException) -> ContextDnaError:
    """Say in our tree what an error of the driver means. No text of the driver is passed on: it may quote values."""
    state = sqlstate_of(error)
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return _unfit("a value cannot be stored in PostgreSQL")
    if is_cut_off(error):
        return unavailable(_LOST, f"PostgreSQL is not there ({state or type(error).__name__})")
    if state == "23505":
        return Conflict(
            f"a row of that key is there already ({state})",
            code="already_exists",
            hint="Nothing was written; use a new id.",
        )
    if state.startswith("23"):
        return IntegrityFault(
            f"the change breaks a rule of the schema ({state})",
            code="constraint_violated",
            hint="Nothing was written; an id may be in use already, or the row may not be changed.",
        )
    if state in _CORRUPT:
        return IntegrityFault(
            f"the database is damaged ({state})",
            code="database_corrupt",
            hint="Stop all processes that use it, keep a copy, and restore a backup.",
        )
    if state.startswith(_TOO_LARGE):
        return LimitExceeded(f"a value is over the limit of PostgreSQL ({state})", hint="Send less at once.")
    if state.startswith("22"):
        return _unfit(f"a value cannot be stored in PostgreSQL ({state})")
    code, message = _entry(state)
    return unavailable(code, f"{message} ({state or type(error).__name__})")


def connecting_error(error: BaseException, server: Server) -> ContextDnaError:
    """Say in our tree why no connection could be made."""
    why = _why_unconnected(error, server.url)
    message, hint = (text.replace(_SETTING, server.named_by) for text in (why.message, why.hint))
    return type(why)(message, code=why.code, hint=hint, retryable=why.retryable)


def _why_unconnected(error: BaseException, url: str) -> ContextDnaError:
    if found := _insecurity(error, url):
        message, hint = found
        return unavailable("storage_insecure", message, hint)
    if isinstance(error, TimeoutError):
        return unavailable(_LOST, "PostgreSQL did not answer in time")
    if isinstance(error, asyncpg.PostgresError):
        return _unknown_parameter(url) if sqlstate_of(error) in _NO_PARAMETER else mapped_error(error)
    if isinstance(error, socket.gaierror):
        if url.partition("?")[0].count("@") > 1:  # the driver took what follows the first one for the host
            return unavailable("storage_url_invalid", "storage.database has an @ that belongs to no host")
        hint = "Check the host in storage.database; in a password write / as %2F, ? as %3F and # as %23."
        return unavailable(_LOST, "the name of PostgreSQL's host is not known (gaierror)", hint)
    if isinstance(error, OSError | asyncpg.InternalClientError):
        return unavailable(_LOST, f"PostgreSQL cannot be reached ({type(error).__name__})")
    return unavailable("storage_url_invalid", "storage.database is no URL of a PostgreSQL database")


_NO_PARAMETER: Final = ("42704", "22023", "55P02")
_DRIVERS_OWN: Final = frozenset(
    {
        *("host", "port", "dbname", "database", "user", "password", "passfile", "service", "servicefile", "options"),
        *("sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs", "krbsrvname", "gsslib"),
    }
)
"""What the driver reads of a URL; all else it sends to the server as settings. Source: asyncpg.connect()."""


def _unknown_parameter(url: str) -> ContextDnaError:
    """Name what a URL says behind its question mark that the server does not take; never its values."""
    named = sorted(set(parse_qs(urlsplit(url).query, keep_blank_values=True)) - _DRIVERS_OWN)
    return unavailable(
        "storage_url_invalid",
        f"PostgreSQL does not take a parameter of storage.database: {', '.join(named) or 'options'}",
        "Behind ? it may have the TLS options of libpq and settings of the server; deadlines are in storage.postgres.",
    )


_OTHER_HOST: Final = (62, 64)  # Source: X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH of OpenSSL's x509_vfy.h
_ENDED: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""The server went away during the handshake."""


def _insecurity(error: BaseException, url: str) -> tuple[str, str] | None:
    """Tell (what, what to do) where the TLS that a URL asks for is not to be had."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OTHER_HOST:
            hint = "Name the host in the URL as the certificate does, or use sslmode=verify-ca."
            return "the certificate of PostgreSQL is for another host", hint
        hint = "Name the certificate of the authority that signed it by sslrootcert=FILE in the URL."
        return f"the certificate of PostgreSQL is not good: {error.verify_message}", hint
    if isinstance(error, ssl.SSLError) and not isinstance(error, _ENDED):
        return "the connection to PostgreSQL cannot be made secure", _HINTS["storage_insecure"]
    # asyncpg has no class of its own for either.
    if type(error) is ConnectionError and "rejected SSL" in str(error):
        hint = "Turn on ssl at the server, or, where nobody else is on the way, leave sslmode out of the URL."
        return "PostgreSQL does not offer the TLS that sslmode asks for", hint
    if _lacks_root(error, url):
        hint = "Add sslrootcert=FILE to the URL: the certificate of the authority that signed the server's."
        return "there is no root certificate to check PostgreSQL's by", hint
    return None


def _lacks_root(error: BaseException, url: str) -> bool:
    if isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError):
        named = parse_qs(urlsplit(url).query).get("sslrootcert", [])
        return any(not Path(file).is_file() for file in named)
    return isinstance(error, asyncpg.ClientConfigurationError) and "root certificate" in str(error)


def unavailable(code: str, message: str, hint: str = "") -> StorageUnavailable:
    """Make an error with its advice."""
    return StorageUnavailable(message, code=code, hint=hint or _HINTS[code], retryable=code in _RETRYABLE)


def _unfit(message: str) -> InvalidInput:
    return InvalidInput(message, code="value_unstorable", hint="Leave out NUL characters and numbers beyond 64 bits.")


def _entry(state: str) -> tuple[str, str]:
    found = _UNAVAILABLE.get(state) or _UNAVAILABLE.get(state[:2])
    return found or ("storage_error", "PostgreSQL refused the statement")
