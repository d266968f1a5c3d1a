"""The other process of `signals`: waits for so many signals and prints when each was there.

`python -m benchmarks.signal_waiter FOLDER ROUNDS`
"""

import asyncio
import sys
import time
from pathlib import Path

from contextdna import AgentId, Hub, HubSettings, Principal, ProjectId, SignalId, open_hub

WAITER = Principal(AgentId("waiter"), (ProjectId("default"),))
DEADLINE_S = 600.0


async def receive(hub: Hub) -> tuple[float, SignalId]:
    """Wait for one signal and acknowledge it; give when it was there.

    Raises:
        RuntimeError: The wait ended without one.
    """
    signals = hub.bind(WAITER).signals
    found = await signals.wait_for(timeout_s=DEADLINE_S)
    woken = time.time()
    if found.signal is None:
        raise RuntimeError(f"the wait ended: {found.outcome}")
    await signals.acknowledge(found.signal.id)
    return woken, found.signal.id


async def wait_in(folder: Path, rounds: int) -> None:
    """Wait again and again."""
    async with open_hub(HubSettings(data_dir=folder)) as hub:
        for _ in range(rounds):
            print("waiting", flush=True)
            woken, _ = await receive(hub)
            print(repr(woken), flush=True)


if __name__ == "__main__":
    asyncio.run(wait_in(Path(sys.argv[1]), int(sys.argv[2])))
