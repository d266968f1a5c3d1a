"""The bucket that artifacts in the data folder wait for, noted beside them: no other settings leave them behind."""

from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio.to_thread

from contextdna.backends.folders import make_folder, write_whole
from contextdna.errors import SettingsInvalid
from contextdna.hub.blob_stores import SPOOL_FOLDER, artifacts_place
from contextdna.hub.writes_aside import storage_errors
from contextdna.values.settings import HubSettings

NOTE_FILE: Final = "bucket"
_KEY_CHARS: Final = 64  # a SHA-256 in hexadecimal


async def require_bucket(settings: HubSettings) -> None:
    """Refuse to leave artifacts behind that wait for a bucket, and note which one those wait for that are to come.

    Raises:
        SettingsInvalid: ``artifacts_waiting``: the settings give them to no bucket, or to another one.
        StorageUnavailable: The folder cannot be read or written.
    """
    if settings.data_dir is not None:
        await anyio.to_thread.run_sync(_require, settings, settings.data_dir / SPOOL_FOLDER)


def _require(settings: HubSettings, folder: Path) -> None:
    place = _named(settings) if settings.artifacts and settings.spool else ""
    with storage_errors():
        noted = _noted(folder)
        if (not place or noted not in ("", place)) and (waiting := _waiting(folder)):
            raise SettingsInvalid(
                f"{waiting} artifacts in the data folder wait for {noted or 'a bucket'}, and would be left behind",
                code="artifacts_waiting",
                hint="Start a server with that bucket in storage.artifacts and storage.spool on, until "
                "`contextdna doctor` says that none waits. Where only its address is another one now, remove "
                f"{SPOOL_FOLDER}/{NOTE_FILE}.",
            )
        if place and noted != place:
            make_folder(folder)
            write_whole(folder / NOTE_FILE, place.encode())


def _named(settings: HubSettings) -> str:
    store = artifacts_place(settings)
    return f"{store.place} of {store.endpoint_url}" if store.endpoint_url else store.place


def _noted(folder: Path) -> str:
    with suppress(FileNotFoundError):
        return (folder / NOTE_FILE).read_text(errors="replace")
    return ""


def _waiting(folder: Path) -> int:
    return sum(len(path.name) == _KEY_CHARS for path in folder.glob("[0-9a-f][0-9a-f]/*/*"))
