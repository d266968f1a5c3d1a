"""What waits in the spool of a data folder: looked at from outside, with no database and whoever owns the slots."""

from dataclasses import dataclass
from pathlib import Path

from contextdna.backends.sealing import RingSealer
from contextdna.backends.segmented_log import look_into_log
from contextdna.errors import StorageUnavailable
from contextdna.hub.damaged_slots import is_read_up
from contextdna.hub.done_ahead import count_ahead, read_ahead
from contextdna.hub.spool import SPOOL_FOLDER
from contextdna.hub.storages import open_ring
from contextdna.hub.writes_aside import ASIDE_FOLDER, ASIDE_SUFFIX, WritesAside
from contextdna.values.aside_write import AsideWrite
from contextdna.values.settings import HubSettings


@dataclass(frozen=True, slots=True)
class Slot:
    """What a slot held at one look."""

    number: int
    waiting: int
    """How many writes wait that can be read."""
    problem: str = ""
    """Code of what is wrong with it; empty where nothing is."""
    message: str = ""
    is_readable: bool = True
    """Whether what it holds is known, up to its damage where there is one."""


def look_into_slots(data_dir: Path) -> list[Slot]:
    """Look into all slots of a data folder; nothing is changed."""
    folders = [path for path in (data_dir / SPOOL_FOLDER).glob("*") if path.name.isdecimal() and path.is_dir()]
    return [_look(folder) for folder in sorted(folders, key=lambda folder: int(folder.name))]


def count_aside(data_dir: Path) -> int:
    """Count the writes that are set aside."""
    return len(list((data_dir / SPOOL_FOLDER / ASIDE_FOLDER).glob(f"*{ASIDE_SUFFIX}")))


async def read_aside(settings: HubSettings) -> list[AsideWrite]:
    """Read what is set aside in the data folder of the settings, the oldest first.

    Of one that does not open, with another master key for example, it gives what is known: ``queued_unreadable``.

    Raises:
        SettingsInvalid: ``key_missing``, or the key cannot be used.
        StorageUnavailable: The folder, or the key file in it, cannot be read.
    """
    if settings.data_dir is None or not count_aside(settings.data_dir):
        return []
    sealer = RingSealer(open_ring(settings, has_database=True), "spool")
    return await WritesAside(settings.data_dir / SPOOL_FOLDER / ASIDE_FOLDER, sealer).all()


def _look(folder: Path) -> Slot:
    number = int(folder.name)
    try:
        over = read_ahead(folder)  # first: an owner at work may go on meanwhile
        view = look_into_log(folder)
        ahead = count_ahead(over, view.log_id.hex(), after=view.forgotten, last=view.last_seq)
        waiting = 0 if view.damage and is_read_up(folder, view) else view.entries - ahead
    except StorageUnavailable as error:
        return Slot(number, 0, error.code, error.message, is_readable=False)
    if view.damage is None:
        return Slot(number, waiting)
    return Slot(number, waiting, view.damage.code, view.damage.message)
