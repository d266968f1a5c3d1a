"""A process that appends to a conversation: `python logging_process.py <folder> <handle> <name> <turns>`.

Some turns go one by one, several calls at a time, the rest in batches.
"""

import asyncio
import sys
from pathlib import Path
from typing import Final

from contextdna import TurnDraft, Workspace, open_hub
from tests.hub.rig import ALICE, settings_in

AT_A_TIME: Final = 5
BATCH: Final = 5


async def log(workspace: Workspace, name: str, start: int, count: int) -> None:
    """Append turns in one call, and print their ids."""
    drafts = [TurnDraft("assistant", f"{name} {start + number}") for number in range(count)]
    print(*await workspace.log_turns(drafts), flush=True)  # noqa: T201 - the protocol with the test


async def main(folder: Path, handle: str, name: str, turns: int) -> None:
    """Append, and print."""
    async with open_hub(settings_in(folder)) as hub:
        workspace = hub.bind(ALICE, session_id=handle)
        for start in range(0, turns, AT_A_TIME + BATCH):
            async with asyncio.TaskGroup() as tasks:
                for number in range(start, start + AT_A_TIME):
                    tasks.create_task(log(workspace, name, number, 1))
            await log(workspace, name, start + AT_A_TIME, BATCH)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
