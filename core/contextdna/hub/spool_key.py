"""A sealed word in the spool's folder: the key of the installation whose writes are queued there, and where it is.

By it a server that starts while the database is away knows its master key; else it would queue writes under another
one, which no server opens that has the right one. And a server that was given another database does not store there
what was promised to be stored in this one, nor queue for the other what would be stored in this one.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from contextdna.backends.folders import make_folder, write_whole
from contextdna.backends.sealing import RingSealer
from contextdna.backends.segmented_log import files
from contextdna.errors import IntegrityFault, StorageUnavailable
from contextdna.hub.slots import count_aside, look_into_slots
from contextdna.hub.writes_aside import storage_errors
from contextdna.ports.database import Transaction
from contextdna.values.ids import INSTALLATION
from contextdna.values.key import KeyPurpose

_FILE: Final = "key"
_WORD: Final = b"spool"
_NAMING: Final = ("host", "port", "dbname", "database", "options", "search_path")
"""What of a URL's query tells which database is meant, and which of its schemas."""


async def root_key_id(tx: Transaction) -> str:
    """Name an installation, wherever its rows were moved: by the key that is never rotated."""
    return next(key.key_id for key in await tx.keys.all(INSTALLATION) if key.purpose is KeyPurpose.ROOT)


def note_key(folder: Path, sealer: RingSealer, root: str, *, url: str) -> None:
    """Keep the key of the database and where it is, under the master key that it has confirmed.

    Args:
        folder: Of the spool.
        sealer: Seals under the master key.
        root: The key that names the installation.
        url: Where it was reached.

    Raises:
        StorageUnavailable: ``spool_of_another``: writes of another installation are in the folder, or a server of it
            is at work there. Or the folder cannot be written.
    """
    sealed, known, place = _read(folder), "", ""
    with suppress(IntegrityFault):  # of a master key that the database knows no longer
        known, place = _opened(sealed, sealer)
    if (known, place) == (root, _place(url)) and sealer.is_current(sealed):
        return
    if known not in {"", root} and not _is_idle(folder):
        raise StorageUnavailable(
            "the queued writes in the data folder are of another database than the one that storage.database names",
            code="spool_of_another",
            hint="Set storage.database back until `contextdna doctor` tells of none, or take another data folder.",
        )
    with storage_errors():
        make_folder(folder)
        write_whole(folder / _FILE, sealer.seal(f"{root}\n{_place(url)}".encode(), _WORD))


def require_key(folder: Path, sealer: RingSealer, *, url: str) -> bool:
    """Refuse another master key than the one that the word is under; without a word nothing is known.

    Gives whether the word is of the database that the URL names.

    Raises:
        IntegrityFault: ``wrong_key``.
        StorageUnavailable: The folder cannot be read.
    """
    _, place = _opened(_read(folder), sealer)
    return place == _place(url)


def _read(folder: Path) -> bytes:
    with storage_errors(), suppress(FileNotFoundError):
        return (folder / _FILE).read_bytes()
    return b""


def _opened(sealed: bytes, sealer: RingSealer) -> tuple[str, str]:
    """Give the key that names the installation, and its place; both empty where there is no word.

    Raises:
        IntegrityFault: ``wrong_key``.
    """
    if not sealed:
        return "", ""
    root, _, place = sealer.open(sealed, _WORD).decode().partition("\n")
    return root, place


def _place(url: str) -> str:
    """Name a database by its servers and its name; users, passwords and certificates may change."""
    parts = urlsplit(url)
    user, _, servers = parts.netloc.rpartition("@")
    asked = [f"{key}={value}" for key, value in sorted(parse_qsl(parts.query)) if key in _NAMING]
    name = parts.path.strip("/") or user.partition(":")[0]  # as libpq has it
    return "\n".join((servers.lower(), name, *asked))


def _is_idle(folder: Path) -> bool:
    """Tell whether nothing is in the slots, nobody has one, and nothing is set aside."""
    slots = look_into_slots(folder.parent)
    if count_aside(folder.parent) or any(slot.waiting or slot.problem for slot in slots):
        return False
    try:
        for slot in slots:
            os.close(files.own(folder / str(slot.number)))
    except StorageUnavailable as error:
        if error.code == "log_in_use":
            return False
        raise
    return True
