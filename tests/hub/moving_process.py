"""Moves an installation, and is killed in the middle of a table."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from contextdna import HubSettings
from contextdna.hub.moving import Place, move_storage
from contextdna.values.move import MoveProgress

folder, url, part = Path(sys.argv[1]), sys.argv[2], sys.argv[3]


def told(progress: MoveProgress) -> None:
    if progress.part == part and progress.done >= 100:
        os.kill(os.getpid(), signal.SIGKILL)


asyncio.run(move_storage(HubSettings(data_dir=folder), Place(folder), Place(folder, url), told=told, batch_rows=50))
