"""Snapshots in a folder: each a file of checksummed frames, renamed into place when it is whole."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import anyio.to_thread

from contextdna.backends.folders import flush_folder, make_folder
from contextdna.backends.log_entries import damaged
from contextdna.backends.segmented_log.files import disk_errors, write_all
from contextdna.backends.segmented_log.frames import HEAD_BYTES, Codec, Kind, SegmentHead, read_head
from contextdna.values.log_entry import LogSnapshot

_SUFFIX: Final = ".snapshot"
_NEW: Final = ".new"
_BINARY: Final = getattr(os, "O_BINARY", 0)


class SnapshotFolder:
    """``Snapshots`` as files that one process owns.

    Args:
        folder: Made on first use.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def save(self, log_id: str, seq: int, chunks: Iterable[bytes]) -> None:
        """Keep a snapshot, whole or not at all, in place of the one before it.

        Raises:
            StorageUnavailable: ``storage_full`` and the like; the one before it is still there.
        """
        await anyio.to_thread.run_sync(self._save, bytes.fromhex(log_id), seq, chunks)

    async def load(self) -> LogSnapshot | None:
        """Give the newest snapshot; None where there was never one.

        Raises:
            IntegrityFault: ``log_damaged``: it is not what was written.
            StorageUnavailable: It cannot be read.
        """
        return await anyio.to_thread.run_sync(self._load)

    def _save(self, log_id: bytes, seq: int, chunks: Iterable[bytes]) -> None:
        with disk_errors():
            make_folder(self._folder)
            old = self._found()
            path = self._folder / f"{seq:020}{_SUFFIX}"
            unfinished = path.with_suffix(_NEW)
            descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC | _BINARY, 0o600)
            try:
                _write(descriptor, log_id, seq, chunks)
            finally:
                os.close(descriptor)
            unfinished.replace(path)
            flush_folder(self._folder)
            for other in old:
                if other != path:
                    other.unlink()

    def _load(self) -> LogSnapshot | None:
        with disk_errors():
            if not self._folder.is_dir():
                return None
            for unfinished in self._folder.glob(f"*{_NEW}"):
                unfinished.unlink()
            found = self._found()
            if not found:
                return None
            data = found[-1].read_bytes()
        return _read(data)

    def _found(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{_SUFFIX}"))


def _write(descriptor: int, log_id: bytes, seq: int, chunks: Iterable[bytes]) -> None:
    write_all(descriptor, SegmentHead(log_id, seq + 1, seq).encode())
    codec, number = Codec(log_id), 0
    for number, chunk in enumerate(chunks, 1):
        write_all(descriptor, codec.encode(Kind.UNIT, number, 0, (chunk,)))
    write_all(descriptor, codec.encode(Kind.CLOSED, number, 0))
    os.fsync(descriptor)


def _read(data: bytes) -> LogSnapshot:
    head = read_head(data)
    chunks: list[bytes] = []
    last, end = 0, HEAD_BYTES
    for frame in Codec(head.log_id).frames(data):
        chunks += frame.entries(data)
        last, end = frame.kind, frame.end
        if frame.seq != len(chunks):
            raise damaged("a part of the snapshot is missing")
    if last != Kind.CLOSED or end != len(data):
        raise damaged(f"the snapshot is not what was written, from byte {end} on")
    return LogSnapshot(head.log_id.hex(), head.forgotten, tuple(chunks), len(data))
