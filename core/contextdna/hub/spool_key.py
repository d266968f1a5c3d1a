"""A sealed word in the spool's folder: by it a server that starts while the database is away knows its master key.

Else it would queue writes under another key, which no server opens that has the right one.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

from contextdna.backends.folders import make_folder, write_whole
from contextdna.errors import IntegrityFault
from contextdna.hub.writes_aside import storage_errors
from contextdna.ports.write_ahead_log import Sealer

_FILE: Final = "key"
_WORD: Final = b"spool"


def note_key(folder: Path, sealer: Sealer) -> None:
    """Keep a word under the key that the database has confirmed, where none is that opens with it.

    Raises:
        StorageUnavailable: The folder cannot be written.
    """
    try:
        require_key(folder, sealer)
        if (folder / _FILE).exists():
            return
    except IntegrityFault:
        pass  # of a key that the database knows no longer
    with storage_errors():
        make_folder(folder)
        write_whole(folder / _FILE, sealer.seal(_WORD, _WORD))


def require_key(folder: Path, sealer: Sealer) -> None:
    """Refuse another key than the one that the word is under; without a word nothing is known.

    Raises:
        IntegrityFault: ``wrong_key``.
        StorageUnavailable: The folder cannot be read.
    """
    with storage_errors(), suppress(FileNotFoundError):
        sealer.open((folder / _FILE).read_bytes(), _WORD)
