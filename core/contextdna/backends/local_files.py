"""Blobs as files: one file a blob, named by the SHA-256 of its bytes."""

import contextlib
import errno
import hashlib
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import anyio.to_thread

from contextdna.backends.folders import PART_SUFFIX, flush_folder, make_folder, write_whole
from contextdna.errors import IntegrityFault, NotFound, StorageUnavailable
from contextdna.ports.storage import Progress
from contextdna.values.backend_health import BackendHealth

_KEY: Final = re.compile(r"[0-9a-f]{64}")
DAMAGED_SUFFIX: Final = ".damaged"
"""Of a copy that is not what its name says, and is given to nobody any more."""
LEFTOVER_AGE_S: Final = 86_400
"""A temporary file that is older was left by a process that died while writing."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM})


class LocalBlobStore:
    """``BlobStore`` in a folder; several processes may share it.

    Files lie two levels deep (``ab/cd/abcd…``), readable by their owner only. Each appears whole or not at all: it is
    written beside its place, flushed, and renamed.

    Args:
        folder: Created on first use, with parents.
    """

    has_links = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def open(self) -> None:
        """Make the folder and remove what dead processes left half-written.

        Raises:
            StorageUnavailable: The folder cannot be made or written.
        """
        await anyio.to_thread.run_sync(self._open)

    async def put(self, data: bytes, *, progress: Progress | None = None) -> str:
        """Store bytes durably and give their key; storing the same bytes twice keeps one copy.

        Raises:
            StorageUnavailable: ``storage_full``, ``storage_read_only``, ``storage_denied`` or ``storage_unavailable``.
                Nothing was kept.
        """
        key = await anyio.to_thread.run_sync(self._put, data)
        if progress is not None:
            await progress(len(data), len(data))
        return key

    async def get(self, key: str) -> bytes:
        """Fetch bytes, checked against their key.

        Raises:
            NotFound: ``blob_not_found``.
            IntegrityFault: ``blob_changed``: the bytes are not what the key says.
            StorageUnavailable: The file cannot be read.
        """
        return await anyio.to_thread.run_sync(self._get, key)

    async def has(self, key: str) -> bool:
        """Tell whether a blob is there, without reading it.

        Raises:
            StorageUnavailable: The folder cannot be read.
        """
        return await anyio.to_thread.run_sync(self._has, key)

    async def waits(self, key: str) -> bool:  # noqa: ARG002 - the port's
        """Nothing waits: a blob is here, or nowhere."""
        return False

    async def delete(self, key: str) -> None:
        """Remove a blob; one that is not there is no error.

        Raises:
            StorageUnavailable: The file cannot be removed.
        """
        await anyio.to_thread.run_sync(self._delete, key)

    async def keys_older_than(self, at: datetime) -> AsyncIterator[str]:
        """Go through the keys of blobs that were last put before a time, one folder at a time.

        Raises:
            StorageUnavailable: The folder cannot be read.
        """
        for folder in await anyio.to_thread.run_sync(self._subfolders):
            for key in await anyio.to_thread.run_sync(self._older_in, folder, at.timestamp()):
                yield key

    async def set_aside(self, key: str) -> bool:
        """Rename a copy that is not what its key says; tells whether it was one.

        Raises:
            StorageUnavailable: The folder cannot be written.
        """
        return await anyio.to_thread.run_sync(self._set_aside, key)

    async def drop_aside(self, key: str) -> None:
        """Remove the copy that was set aside, if there is one.

        Raises:
            StorageUnavailable: It cannot be removed.
        """
        await anyio.to_thread.run_sync(self._drop_aside, key)

    async def aside_older_than(self, at: datetime) -> AsyncIterator[str]:
        """Go through the keys of copies that were set aside and written before a time.

        Raises:
            StorageUnavailable: The folder cannot be read.
        """
        for folder in await anyio.to_thread.run_sync(self._subfolders):
            for key in await anyio.to_thread.run_sync(self._older_in, folder, at.timestamp(), DAMAGED_SUFFIX):
                yield key

    async def drop_unfinished(self, at: datetime) -> None:
        """Remove temporary files that were begun before a time.

        Raises:
            StorageUnavailable: The folder cannot be read or written.
        """
        await anyio.to_thread.run_sync(self._drop_unfinished, at.timestamp())

    async def link(self, key: str, *, name: str, media_type: str, valid_s: int) -> str:  # noqa: ARG002 - the port's
        """Give no link: files are read through the server."""
        return ""

    async def health(self) -> BackendHealth:
        """Look whether the folder can be read and written."""
        begun = time.monotonic()
        problem = ""
        try:
            await anyio.to_thread.run_sync(self._look)
        except StorageUnavailable as error:
            problem = error.code
        return BackendHealth("files", not problem, (time.monotonic() - begun) * 1000, problem)

    def _look(self) -> None:
        with _storage_errors():
            if not self._folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "no folder")
            if not os.access(self._folder, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "no access")

    def _subfolders(self) -> list[Path]:
        with _storage_errors():
            return sorted(path for path in self._folder.glob("[0-9a-f][0-9a-f]") if path.is_dir())

    def _older_in(self, folder: Path, time_s: float, suffix: str = "") -> list[str]:
        found = []
        with _storage_errors():
            for path in folder.glob(f"*/*{suffix}"):
                key = path.name.removesuffix(suffix)
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    if _KEY.fullmatch(key) and path.stat().st_mtime < time_s:
                        found.append(key)
        return found

    def _has(self, key: str) -> bool:
        with _storage_errors():
            return bool(_KEY.fullmatch(key)) and self._path(key).is_file()

    def _open(self) -> None:
        with _storage_errors():
            make_folder(self._folder)
        self._drop_unfinished(time.time() - LEFTOVER_AGE_S)

    def _drop_unfinished(self, oldest: float) -> None:
        with _storage_errors():
            for leftover in self._folder.glob(f"*/*/*{PART_SUFFIX}"):
                with contextlib.suppress(FileNotFoundError):  # another process cleans up too
                    if leftover.stat().st_mtime < oldest:
                        leftover.unlink()

    def _put(self, data: bytes) -> str:
        key = hashlib.sha256(data).hexdigest()
        path = self._path(key)
        with _storage_errors():
            make_folder(self._folder)
            make_folder(path.parent.parent)
            make_folder(path.parent)
            if _holds(path, data):
                with contextlib.suppress(FileNotFoundError):
                    os.utime(path)  # young again, so that no sweep takes it for an orphan
                    return key
            write_whole(path, data)
        return key

    def _get(self, key: str) -> bytes:
        if not _KEY.fullmatch(key):
            raise _no_blob()
        with _storage_errors():
            try:
                data = self._path(key).read_bytes()
            except FileNotFoundError as error:
                raise _no_blob() from error
        if hashlib.sha256(data).hexdigest() != key:
            raise changed_blob()
        return data

    def _delete(self, key: str) -> None:
        if not _KEY.fullmatch(key):
            return
        self._unlink(self._path(key))

    def _unlink(self, path: Path) -> None:
        with _storage_errors():
            try:
                path.unlink()
            except FileNotFoundError:
                return
            flush_folder(path.parent)

    def _set_aside(self, key: str) -> bool:
        path, aside = self._path(key), self._aside(key)
        with _storage_errors():
            try:
                path.replace(aside)
                if hashlib.sha256(aside.read_bytes()).hexdigest() == key:
                    aside.replace(path)  # another process has put it anew meanwhile
                    return False
            except FileNotFoundError:
                return False
            flush_folder(path.parent)
        return True

    def _drop_aside(self, key: str) -> None:
        if _KEY.fullmatch(key):
            self._unlink(self._aside(key))

    def _aside(self, key: str) -> Path:
        return self._path(key).with_name(f"{key}{DAMAGED_SUFFIX}")

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / key[2:4] / key


def _holds(path: Path, data: bytes) -> bool:
    """Tell whether a file holds exactly these bytes; a damaged copy is written anew."""
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except FileNotFoundError:
        return False


def changed_blob() -> IntegrityFault:
    """Make the error for a copy that is not what its key says."""
    return IntegrityFault(
        "a blob's bytes are not what its key says",
        code="blob_changed",
        hint="The file was changed or damaged: restore it from a backup, or attach the same bytes anew.",
    )


def _no_blob() -> NotFound:
    return NotFound("no such blob", code="blob_not_found", hint="It was never stored here, or it was purged.")


@contextlib.contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _storage_error(error) from error


def _storage_error(error: OSError) -> StorageUnavailable:
    # The message names no path: it may reach an agent.
    if error.errno in _FULL:
        return StorageUnavailable(
            "the blob folder's disk is full", code="storage_full", hint="Free some space, then retry.", retryable=True
        )
    if error.errno == errno.EROFS:
        return StorageUnavailable(
            "the blob folder is read-only", code="storage_read_only", hint="Remount it, or set another folder."
        )
    if error.errno in _DENIED:
        return StorageUnavailable(
            "the blob folder denies access",
            code="storage_denied",
            hint="Give the user that runs the server read and write access to the folder.",
        )
    return StorageUnavailable(
        f"the blob folder cannot do this now ({errno.errorcode.get(error.errno or 0, 'unknown error')})",
        hint="Check the disk, then retry.",
        retryable=True,
    )
