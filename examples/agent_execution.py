"""One execution of an agent, wrapped by `contextdna.client`: what it leaves when it ends, fails, or loses its server.

Run it with `uv run python examples/agent_execution.py`; `--data DIR` keeps the folder to look around in.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from mcp import StdioServerParameters

from _support import expect, run_example, say, title, verify_audit
from contextdna.client import AgentRun, Memory, Retry, connect

REACHED = "The report service is reached at port 9000, by HTTP only from inside."
LESSON = "Ask a service for its port before reading its documentation: the answer is newer."


async def story(data: Path) -> None:
    """Run an agent five times."""
    server = Switchable(data)
    async with connect(server.parameters, retry=Retry(attempts=2, delay_s=0.1, pause_s=0)) as memory:
        await it_works(memory)
        await the_next_one_knows(memory)
        await it_fails(memory)
        await the_server_goes_and_comes_back(memory, server)
        await the_server_goes(memory, server)
        await what_is_there(memory)
    server.clean_up()
    await verify_audit(data)


async def it_works(memory: Memory) -> None:
    """Begin, retrieve, work, store, end: all of it is the `async with`."""
    title("An agent does its task")
    async with memory.run("surveyor", task="Find out how the report service is reached") as run:
        known = await run.retrieve("How is the report service reached?")
        say(f"known before: {len(known.hits) or 'no'} memories")
        await run.log("user", "Which port do I open for the colleagues?")
        await run.store(REACHED, importance=0.8)
        await run.log("assistant", "9000, and only from inside.")
        run.learn(LESSON)
        run.result = "The report service is reached at port 9000."
    show(run)
    expect(run.report.complete, "its turns, memory, lesson and result are stored, and its session has ended")


async def the_next_one_knows(memory: Memory) -> None:
    """A run begins with a briefing about its task."""
    title("The next agent begins with what the first has found out")
    async with memory.run("builder", task="Call the report service from the shop") as run:
        for line in run.briefing.splitlines():
            say(f"| {line}")
        expect(REACHED in run.briefing, "the briefing says how the service is reached")
        run.result = "The shop calls the report service."


async def it_fails(memory: Memory) -> None:
    """An exception is stored as a failure pattern, ends the session, and passes."""
    title("An agent fails")
    run = memory.run("builder", task="Call the report service from outside")
    try:
        async with run:
            raise ConnectionRefusedError("port 9000 of the report service refuses what comes from outside")
    except ConnectionRefusedError:
        say("the exception is the program's, as if nobody had looked")
    show(run)
    failures = await memory.retrieve("report service from outside", types=["failure_pattern"])
    say(failures.hits[0].content)
    expect(failures.hits[0].content.startswith("ConnectionRefusedError: "), "whoever tries it next can know")


async def the_server_goes_and_comes_back(memory: Memory, server: Switchable) -> None:
    """While the server is away questions get empty answers and writes wait; what waits is stored when it is back."""
    title("The server is killed while an agent works, and comes back")
    async with memory.run("builder", task="Measure the report service") as run:
        await run.log("assistant", "First measurement: 40 ms.")
        server.kill()
        known = await run.retrieve("How fast was the report service last week?")
        expect(known.degraded and not known.hits, "a question gets an empty answer, marked as degraded")
        stored = await run.store("The report service answers within 50 ms.")
        expect(stored.status == "queued", "a memory waits, and is not called stored")
        server.switch_on()
        await run.log("assistant", "Second measurement: 45 ms.")
        run.result = "Both measurements are below 50 ms."
    show(run)
    expect(run.report.complete and run.report.degraded, "in the end all is stored, in order, and nothing twice")


async def the_server_goes(memory: Memory, server: Switchable) -> None:
    """The agent's work is done in any case. What is not stored stands in the report."""
    title("The server is killed, and stays away")
    async with memory.run("builder", task="Measure the report service again") as run:
        server.kill()
        await run.store("On Sundays the report service is slower.")
        run.result = "On Sundays it takes 80 ms."
    show(run)
    expect(not run.report.complete, "the report does not claim what did not happen")
    server.switch_on()


async def what_is_there(memory: Memory) -> None:
    """Ask, as anyone may."""
    title("What the project knows now")
    results = await memory.retrieve(types=["result"])
    for hit in results.hits:
        say(f"{hit.owner}: {hit.content}")
    expect(len(results.hits) == 3, "three results: those of the runs that could store theirs")
    measured = await memory.retrieve("the report service answers within 50 ms", kinds=["memory"], types=["fact"])
    expect(sum("50 ms" in hit.content for hit in measured.hits) == 1, "the memory that waited is there once")


def show(run: AgentRun) -> None:
    """Print the account of a run."""
    for line in str(run.report).splitlines():
        say(line)


class Switchable:
    """A server that can be killed, and kept from starting again."""

    def __init__(self, data: Path) -> None:
        self._switch = data / "switch"
        program = str(Path(__file__).with_name("_unsteady_server.py"))
        arguments = ["-P", program, str(self._switch), str(data)]
        self.parameters = StdioServerParameters(command=sys.executable, args=arguments)

    def kill(self) -> None:
        """Kill it, as a crash does."""
        (self._switch / "off").touch()
        os.kill(int((self._switch / "pid").read_text(encoding="ascii")), getattr(signal, "SIGKILL", signal.SIGTERM))
        say("the server is killed")

    def switch_on(self) -> None:
        """Let it start again, at the next call."""
        (self._switch / "off").unlink()
        say("the server can be started again")

    def clean_up(self) -> None:
        """Remove the switch from the data folder."""
        shutil.rmtree(self._switch)


if __name__ == "__main__":
    run_example(story)
