"""A process that opens a hub on PostgreSQL: `python replaying_process.py <folder> <url> [store]`.

It replays what waits in the data folder. With ``store`` it stores memories, too, whatever the database does, and prints
the id and status of each once its call is answered.
"""

import asyncio
import sys
from contextlib import suppress
from itertools import count
from pathlib import Path

from contextdna import Hub, MemoryDraft, StorageUnavailable, open_hub
from tests.hub.rig import ALICE, settings_in


async def store(hub: Hub, name: int) -> None:
    """Store without end."""
    for number in count():
        with suppress(StorageUnavailable):
            [one] = await hub.bind(ALICE).store_memories([MemoryDraft(f"memory {number} of {name}")])
            print(one.id, one.status, flush=True)  # noqa: T201 - the protocol with the test


async def main(folder: Path, url: str, *, is_storing: bool) -> None:
    """Open it, say so, and go on until killed."""
    async with open_hub(settings_in(folder, database=url)) as hub:
        print("opened", flush=True)  # noqa: T201 - the protocol with the test
        if is_storing:
            await asyncio.gather(*(store(hub, name) for name in range(4)))
        await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], is_storing=sys.argv[3:] == ["store"]))
