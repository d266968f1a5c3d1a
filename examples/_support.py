"""What the examples share: a server in its own process, a client, and checks that end in an exit code."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from mcp.types import TextContent

from contextdna import client

PROGRAM = (sys.executable, "-P", "-m", "contextdna_server")  # the same as the command `contextdna`
CALL_S_MAX = 30.0


class Failed(Exception):
    """An expectation did not hold."""


class Refused(Exception):
    """A tool answered with an error."""

    def __init__(self, tool: str, error: dict[str, Any]) -> None:
        super().__init__(f"{tool}: [{error['code']}] {error['message']}. {error['hint']}")
        self.code = str(error["code"])


class Memory:
    """The server as an agent meets it: tools with arguments, answers as JSON objects."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.called: list[str] = []

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool.

        Raises:
            Refused: It answered with an error.
        """
        self.called.append(tool)
        result = await self.client.call_tool(tool, arguments)
        if result.is_error:
            text = next(part.text for part in result.content if isinstance(part, TextContent))
            raise Refused(tool, json.loads(text)["error"])
        return dict(result.structured_content or {})

    async def refusal(self, tool: str, **arguments: Any) -> str:
        """Call a tool that should refuse, and give the code of its error; empty when it did not."""
        try:
            await self.call(tool, **arguments)
        except Refused as error:
            return error.code
        return ""


def title(text: str) -> None:
    """Print a heading."""
    print(f"\n{text}")


def say(text: str) -> None:
    """Print what happened."""
    print(f"    {text}")


def clipped(text: str, chars_max: int = 70) -> str:
    """Give the beginning of a text that is long."""
    return text if len(text) <= chars_max else f"{text[:chars_max]}…"


def expect(claim: bool, text: str) -> None:
    """Print what was expected, and stop when it is not so.

    Raises:
        Failed: The claim does not hold.
    """
    if not claim:
        raise Failed(text)
    print(f"    ok: {text}")


@asynccontextmanager
async def open_memory(data: Path) -> AsyncIterator[Memory]:
    """Start a server on a data folder and connect to it over stdio."""
    async with Client(server_on(data), read_timeout_seconds=CALL_S_MAX) as caller:
        yield Memory(caller)


def server_on(data: Path) -> StdioServerParameters:
    """Say how a server on a data folder is started."""
    return StdioServerParameters(command=PROGRAM[0], args=[*PROGRAM[1:], "serve", "--data", str(data)])


async def refusal_of(call: Awaitable[Any]) -> str:
    """Make a call of `contextdna.client` that should be refused, and give the code; empty when it was not."""
    try:
        await call
    except client.Refused as error:
        return error.code
    return ""


async def verify_audit(data: Path) -> None:
    """Check the audit trail with the command line, after the server has left.

    Raises:
        Failed: An entry was changed, removed or inserted.
    """
    title("The audit trail")
    done = await anyio.run_process([*PROGRAM, "audit", "verify", "--data", str(data)], check=False, stderr=None)
    say(done.stdout.decode().strip())
    expect(done.returncode == 0, "contextdna audit verify finds every entry as it was written")


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Give the errors in a group: task groups wrap what ends them, once for each level."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


def run_example(story: Callable[[Path], Awaitable[None]]) -> None:
    """Run an example in a temporary folder, or in --data DIR; exit 1 when an expectation fails."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--data", type=Path, help="a folder that stays (default: a temporary one)")
    data = parser.parse_args().data
    with nullcontext(str(data)) if data else tempfile.TemporaryDirectory(prefix="contextdna-example-") as folder:
        try:
            anyio.run(story, Path(folder))
        except* (Failed, Refused, client.ClientError) as failures:
            for failure in leaves(failures):
                print(f"    FAILED: {failure}", file=sys.stderr)
            sys.exit(1)
    print("\nAll as expected.")
