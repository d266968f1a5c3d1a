"""A sealed word in the spool's folder: the key of the installation whose writes are queued there.

By it a server that starts while the database is away knows its master key; else it would queue writes under another
one, which no server opens that has the right one. And a server that was given another database does not store there
what was promised to be stored in this one.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from contextdna.backends.folders import make_folder, write_whole
from contextdna.backends.segmented_log import files
from contextdna.errors import IntegrityFault, StorageUnavailable
from contextdna.hub.slots import count_aside, look_into_slots
from contextdna.hub.writes_aside import storage_errors
from contextdna.ports.database import Transaction
from contextdna.ports.write_ahead_log import Sealer
from contextdna.values.ids import INSTALLATION
from contextdna.values.key import KeyPurpose

_FILE: Final = "key"
_WORD: Final = b"spool"


async def root_key_id(tx: Transaction) -> str:
    """Name an installation, wherever its rows were moved: by the key that is never rotated."""
    return next(key.key_id for key in await tx.keys.all(INSTALLATION) if key.purpose is KeyPurpose.ROOT)


def note_key(folder: Path, sealer: Sealer, root: str) -> None:
    """Keep the key of the database, under the master key that it has confirmed.

    Args:
        folder: Of the spool.
        sealer: Seals under the master key.
        root: The key that names the installation.

    Raises:
        StorageUnavailable: ``spool_of_another``: writes of another installation are in the folder, or a server of it
            is at work there. Or the folder cannot be written.
    """
    known = ""
    with suppress(IntegrityFault):  # of a master key that the database knows no longer
        known = _read(folder, sealer)
    if known == root:
        return
    if known and not _is_idle(folder):
        raise StorageUnavailable(
            "the queued writes in the data folder are of another database than the one that storage.database names",
            code="spool_of_another",
            hint="Set storage.database back until `contextdna doctor` tells of none, or take another data folder.",
        )
    with storage_errors():
        make_folder(folder)
        write_whole(folder / _FILE, sealer.seal(root.encode(), _WORD))


def require_key(folder: Path, sealer: Sealer) -> None:
    """Refuse another master key than the one that the word is under; without a word nothing is known.

    Raises:
        IntegrityFault: ``wrong_key``.
        StorageUnavailable: The folder cannot be read.
    """
    _read(folder, sealer)


def _read(folder: Path, sealer: Sealer) -> str:
    with storage_errors(), suppress(FileNotFoundError):
        return sealer.open((folder / _FILE).read_bytes(), _WORD).decode()
    return ""


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
