"""Queued writes that were refused when they were replayed: kept, sealed, until an operator has looked at them.

Of what was dropped a mark stays for as long as the write would be done, should it come again: from a log that has not
forgotten it yet, or was put back from a backup.
"""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, Final

import anyio.to_thread

from contextdna.backends.folders import make_folder, write_whole
from contextdna.backends.segmented_log.files import disk_error
from contextdna.domain.queued_writes import unpacked
from contextdna.errors import ContextDnaError, IntegrityFault, NotFound
from contextdna.ports.write_ahead_log import Sealer
from contextdna.values.aside_write import AsideWrite

ASIDE_FOLDER: Final = "aside"
ASIDE_SUFFIX: Final = ".sealed"
_DROPPED_SUFFIX: Final = ".dropped"


class WritesAside:
    """A folder with one file for each write that was refused.

    Args:
        folder: Made on first use.
        sealer: Encrypts what is kept.
    """

    def __init__(self, folder: Path, sealer: Sealer) -> None:
        self._folder = folder
        self._sealer = sealer
        self.count = 0
        """How many there are, as of the last look."""

    async def open(self) -> None:
        """Count what there is.

        Raises:
            StorageUnavailable: The folder cannot be read.
        """
        self.count = len(await anyio.to_thread.run_sync(self._paths))

    async def forget_dropped(self, *, before: datetime) -> None:
        """Remove the marks of what was dropped before a time.

        Raises:
            StorageUnavailable: The folder cannot be used.
        """
        await anyio.to_thread.run_sync(self._forget_dropped, before)

    async def put(self, name: str, data: bytes, *, error: ContextDnaError, at: datetime) -> None:
        """Keep a write that was refused, durably; the same one again takes its own place.

        Args:
            name: Names the write, and no other ever.
            data: What was queued.
            error: What refused it.
            at: When.

        Raises:
            StorageUnavailable: The folder cannot take it.
        """
        document = {
            "at": at.isoformat(),
            "code": error.code,
            "message": error.message,
            "data": base64.b64encode(data).decode(),
        }
        sealed = self._sealer.seal(json.dumps(document).encode(), name.encode())
        await anyio.to_thread.run_sync(self._put, name, sealed)
        await self.open()

    async def holds(self, *names: str) -> bool:
        """Tell whether a write was refused before: it is here, or was until it was done after all, or dropped.

        Args:
            names: All that it may be here under.

        Raises:
            StorageUnavailable: The folder cannot be read: nobody can tell.
        """
        return await anyio.to_thread.run_sync(self._holds, names)

    async def names(self) -> set[str]:
        """Name all that ``holds`` is true of.

        Raises:
            StorageUnavailable: The folder cannot be read.
        """
        paths = await anyio.to_thread.run_sync(lambda: [*self._paths(), *self._paths(_DROPPED_SUFFIX)])
        return {path.stem for path in paths}

    async def all(self) -> list[AsideWrite]:
        """Give all, the oldest first; of one that cannot be read, what is known of it.

        Raises:
            StorageUnavailable: The folder cannot be read.
        """
        found = await anyio.to_thread.run_sync(self._looked_at)
        self.count = len(found)
        return sorted(found, key=lambda one: (one.at, one.id))

    async def drop(self, name: str, *, at: datetime) -> None:
        """Remove one for good; it is not done should it come again.

        Args:
            name: Names the write.
            at: When.

        Raises:
            NotFound: ``queued_unknown``.
            StorageUnavailable: The folder cannot be written.
        """
        await anyio.to_thread.run_sync(self._drop, name, at)
        await self.open()

    async def get(self, name: str) -> bytes:
        """Give what was queued.

        Raises:
            NotFound: ``queued_unknown``.
            IntegrityFault: ``queued_unreadable``.
            StorageUnavailable: The folder cannot be read.
        """
        return await anyio.to_thread.run_sync(self._get, name)

    def _get(self, name: str) -> bytes:
        try:
            return base64.b64decode(self._document(self._known(name))["data"])
        except FileNotFoundError:
            raise _unknown() from None

    def _looked_at(self) -> list[AsideWrite]:
        found = []
        for path in self._paths():
            with suppress(FileNotFoundError):  # dropped meanwhile
                try:
                    found.append(self._opened(path))
                except IntegrityFault as error:
                    written_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                    found.append(AsideWrite(_name_of(path), written_at, error.code, error.message))
        return found

    def _opened(self, path: Path) -> AsideWrite:
        name, document = _name_of(path), self._document(path)
        at = datetime.fromisoformat(document["at"])
        try:
            write = unpacked(base64.b64decode(document["data"]))
        except IntegrityFault:
            return AsideWrite(name, at, document["code"], document["message"])
        return AsideWrite(
            name,
            at,
            document["code"],
            document["message"],
            action=write.action,
            project_id=write.project_id,
            agent_id=write.agent_id,
            record_ids=write.ids,
            queued_at=write.at,
        )

    def _document(self, path: Path) -> dict[str, Any]:
        try:
            document: dict[str, Any] = json.loads(self._sealer.open(path.read_bytes(), _name_of(path).encode()))
        except FileNotFoundError:
            raise
        except (IntegrityFault, OSError) as error:
            raise _unreadable() from error
        return document

    def _known(self, name: str) -> Path:
        """Find a file by its name, which comes from outside.

        Raises:
            NotFound: ``queued_unknown``.
        """
        for path in self._paths():
            if _name_of(path) == name:
                return path
        raise _unknown()

    def _paths(self, suffix: str = ASIDE_SUFFIX) -> list[Path]:
        with storage_errors():
            return sorted(self._folder.glob(f"*{suffix}"))

    def _holds(self, names: tuple[str, ...]) -> bool:
        for name, suffix in product(names, (ASIDE_SUFFIX, _DROPPED_SUFFIX)):
            with storage_errors(), suppress(FileNotFoundError):
                (self._folder / f"{name}{suffix}").stat()
                return True
        return False

    def _forget_dropped(self, before: datetime) -> None:
        for path in self._paths(_DROPPED_SUFFIX):
            with storage_errors(), suppress(FileNotFoundError, ValueError):
                if datetime.fromisoformat(path.read_text()) < before:
                    path.unlink()

    def _put(self, name: str, sealed: bytes) -> None:
        with storage_errors():
            make_folder(self._folder.parent)
            make_folder(self._folder)
            write_whole(self._folder / f"{name}{ASIDE_SUFFIX}", sealed)

    def _drop(self, name: str, at: datetime) -> None:
        path = self._known(name)
        with storage_errors():
            write_whole(path.with_suffix(_DROPPED_SUFFIX), at.isoformat().encode())
            path.unlink(missing_ok=True)


def _name_of(path: Path) -> str:
    return path.name.removesuffix(ASIDE_SUFFIX)


def _unreadable() -> IntegrityFault:
    return IntegrityFault(
        "the file of a write that was set aside is damaged, sealed with another master key, or cannot be read",
        code="queued_unreadable",
        hint="Bring back the key file or a backup of the data folder, or drop it: `contextdna spool --drop`.",
    )


def _unknown() -> NotFound:
    return NotFound("no such write is set aside", code="queued_unknown", hint="List them: `contextdna spool`.")


@contextmanager
def storage_errors() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise disk_error(error, of="spool") from error
