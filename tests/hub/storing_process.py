"""A process that opens a hub on a data folder and stores: `python storing_process.py <folder> <name> <memories>`.

Half of the memories go one by one, several calls at a time, the rest in batches of ten; each id is printed once its
call is answered, so that whoever reads it knows it to be durable.
"""

import asyncio
import sys
from pathlib import Path
from typing import Final

from contextdna import AgentId, Hub, MemoryDraft, Principal, open_hub
from tests.hub.rig import DEFAULT, settings_in

AT_A_TIME: Final = 5
BATCH: Final = 10


async def store(hub: Hub, name: str, start: int, count: int) -> None:
    """Store so many memories in one call, and print their ids."""
    drafts = [MemoryDraft(f"memory {start + number} of {name}") for number in range(count)]
    for item in await hub.bind(Principal(AgentId(name), (DEFAULT,))).store_memories(drafts):
        print(item.id, flush=True)  # noqa: T201 - the protocol with the test


async def main(folder: Path, name: str, memories: int) -> None:
    """Store, and print."""
    async with open_hub(settings_in(folder)) as hub:
        print("opened", flush=True)  # noqa: T201 - the protocol with the test
        for start in range(0, memories, 2 * BATCH):
            for single in range(start, start + BATCH, AT_A_TIME):
                async with asyncio.TaskGroup() as tasks:
                    for number in range(single, single + AT_A_TIME):
                        tasks.create_task(store(hub, name, number, 1))
            await store(hub, name, start + BATCH, BATCH)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
