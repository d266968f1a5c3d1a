"""A process that opens a hub whose data folder holds queued writes: `python replaying_process.py <folder> <url>`."""

import asyncio
import sys
from pathlib import Path

from contextdna import open_hub
from tests.hub.rig import settings_in


async def main(folder: Path, url: str) -> None:
    """Open it, say so, and go on until killed."""
    async with open_hub(settings_in(folder, database=url)):
        print("opened", flush=True)  # noqa: T201 - the protocol with the test
        await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
