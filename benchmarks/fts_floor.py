"""The least that a full-text question can cost: bare FTS5 over the same texts, in process.

No access rule, no ranking but BM25, no audit and no encryption: the words as they are, and a project to keep to.
"""

import asyncio
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from contextdna.backends.sqlite.driver import library
from contextdna.domain.stop_words import STOP_WORDS
from contextdna.domain.tokens import words
from contextdna.values.language import Language

_SCHEMA = "CREATE VIRTUAL TABLE notes USING fts5(project UNINDEXED, content)"
_ASK = "SELECT content, rank FROM notes WHERE notes MATCH ? AND project = ? ORDER BY rank LIMIT 30"
_STORE = "INSERT INTO notes (project, content) VALUES (?, ?)"


def write_floor(path: Path, placed: Iterable[tuple[str, str]]) -> None:
    """Write texts, each with its project, into a new database."""
    with closing(_connect(path)) as connection:
        connection.execute(_SCHEMA)
        connection.execute("BEGIN")
        connection.executemany(_STORE, placed)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def expression(question: str) -> str:
    """Give the match expression for a question: any of its words that tell something."""
    telling = (word for word in dict.fromkeys(words(question)) if word not in STOP_WORDS[Language.ENGLISH])
    return " OR ".join(f'"{word}"' for word in telling)


class FtsFloor:
    """Asks and stores: for one caller at once, for several in as many threads as there are connections."""

    def __init__(self, path: Path, project: str, *, connections: int) -> None:
        self._path, self._project = path, project
        self._held = threading.local()
        self._opened: list[Any] = []
        self._writing = threading.Lock()
        self._threads = ThreadPoolExecutor(connections) if connections > 1 else None

    async def ask(self, question: str) -> list[str]:
        """Give the texts of the best 30 matches."""
        return [text for text, _ in await self._run(self._asked, expression(question))]

    async def store(self, text: str) -> None:
        """Store one text, durably."""
        await self._run(self._stored, text)

    async def _run(self, call: Any, argument: str) -> Any:
        if self._threads is None:
            return call(argument)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, argument)

    def _asked(self, matched: str) -> list[tuple[str, float]]:
        found: list[tuple[str, float]] = self._connection().execute(_ASK, (matched, self._project)).fetchall()
        return found

    def _stored(self, text: str) -> None:
        with self._writing:
            self._connection().execute(_STORE, (self._project, text))

    def _connection(self) -> Any:
        if not hasattr(self._held, "connection"):
            self._held.connection = _connect(self._path)
            self._opened.append(self._held.connection)
        return self._held.connection

    def close(self) -> None:
        """End the threads and the connections."""
        if self._threads:
            self._threads.shutdown()
        for connection in self._opened:
            connection.close()


def _connect(path: Path) -> Any:
    connection = library.connect(str(path), isolation_level=None, check_same_thread=False)  # closed by another thread
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


@contextmanager
def fts_floor(path: Path, project: str, *, connections: int) -> Iterator[FtsFloor]:
    """Open the floor's database."""
    floor = FtsFloor(path, project, connections=connections)
    with closing(floor):
        yield floor
