"""A process that begins a session, leaves traces in it and waits to be killed: `python resting_process.py <folder>`.

It prints the session's handle once all of it is answered.
"""

import asyncio
import sys
from pathlib import Path

from contextdna import AgentId, Principal, TurnDraft, open_hub
from tests.hub.rig import DEFAULT, begin, settings_in


async def main(folder: Path) -> None:
    """Work, print the handle, wait."""
    worker = Principal(AgentId("worker"), (DEFAULT,))
    async with open_hub(settings_in(folder)) as hub:
        handle = await begin(hub, worker, task="count the stars")
        acting = hub.bind(worker, session_id=handle)
        await acting.sessions.progress(status="half of the sky", thoughts=7)
        await acting.state.set("counted", {"stars": 4711})
        await acting.log_turns([TurnDraft("user", "how many?"), TurnDraft("assistant", "I am counting")])
        print(handle, flush=True)  # noqa: T201 - the protocol with the test
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
