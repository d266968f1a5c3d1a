"""A process that stores until its disk is full: `python filling_process.py <folder>`.

The disk's end is a limit on the size of files, which the process cannot take back. It prints how many memories were
stored before the first refusal, and the refusal's code.
"""

import asyncio
import resource
import signal
import sys
from pathlib import Path
from typing import Final

from contextdna import MemoryDraft, StorageUnavailable, open_hub
from tests.hub.rig import ALICE, settings_in

FILE_BYTES_MAX: Final = 600_000
MEMORIES_MAX: Final = 2_000


async def main(folder: Path) -> None:
    """Store until refused, and print."""
    async with open_hub(settings_in(folder)) as hub:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, FILE_BYTES_MAX))
        for number in range(MEMORIES_MAX):
            try:
                await hub.bind(ALICE).store_memories([MemoryDraft(f"memory {number}")])
            except StorageUnavailable as error:
                print(number, error.code)  # noqa: T201 - the protocol with the test
                return


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
