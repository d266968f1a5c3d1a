"""A process that signals on a shared data folder: `signalling_process.py <folder> <number> <processes> <rounds>`.

In each round it signals its neighbour, waits for the signal of the one before it, acknowledges it twice, and waits for
the acknowledgement of its own. Prints `sent <id>`, `got <id>` and `first <id>` as it learns them. All processes also
acknowledge the signals of an agent called `caller` as one and the same agent, and print `shared <id>` for those that
each was the first to acknowledge.
"""

import asyncio
import sys
from pathlib import Path
from typing import Final

from contextdna import AgentId, Hub, Principal, SignalDraft, SignalId, WaitOutcome, open_hub
from tests.hub.rig import DEFAULT, settings_in

DEADLINE_S: Final = 120.0


def tell(word: str, signal_id: str) -> None:
    print(word, signal_id, flush=True)  # noqa: T201 - the protocol with the test


def agent(number: int) -> Principal:
    return Principal(AgentId(f"agent-{number}"), (DEFAULT,))


async def send(hub: Hub, number: int, processes: int, rounds: int) -> None:
    """Signal the neighbour, one round after the other."""
    signals = hub.bind(agent(number)).signals
    for round_ in range(rounds):
        sent = await signals.send(SignalDraft(f"round-{round_}", (agent((number + 1) % processes).agent_id,)))
        tell("sent", sent.id)
        found = await signals.wait_for_acknowledgements(sent.id, timeout_s=DEADLINE_S)
        if found.outcome is not WaitOutcome.ACKNOWLEDGED:
            raise RuntimeError(found.outcome)


async def receive(hub: Hub, number: int, processes: int, rounds: int) -> None:
    """Acknowledge what the one before sends."""
    signals = hub.bind(agent(number)).signals
    sender = agent((number - 1) % processes).agent_id
    for _ in range(rounds):
        found = await signals.wait_for(sender=sender, timeout_s=DEADLINE_S)
        if found.signal is None:
            raise RuntimeError(found.outcome)
        tell("got", found.signal.id)
        reports = await asyncio.gather(*(signals.acknowledge(found.signal.id) for _ in range(2)))
        for report in reports:
            if not report.already:
                tell("first", report.signal_id)


async def share(hub: Hub, shared: list[SignalId]) -> None:
    """Acknowledge as the agent that all processes act as."""
    signals = hub.bind(Principal(AgentId("shared"), (DEFAULT,))).signals
    for report in await asyncio.gather(*(signals.acknowledge(signal_id) for signal_id in shared)):
        if not report.already:
            tell("shared", report.signal_id)


async def main(folder: Path, number: int, processes: int, rounds: int) -> None:
    """Wait for all processes, then signal."""
    async with open_hub(settings_in(folder)) as hub:
        tell("opened", "")
        shared = [SignalId(line) for line in sys.stdin.readline().split()]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(share(hub, shared))
            tasks.create_task(receive(hub, number, processes, rounds))
            tasks.create_task(send(hub, number, processes, rounds))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *map(int, sys.argv[2:5])))
