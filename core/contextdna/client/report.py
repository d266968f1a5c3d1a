"""What became of a run: what was stored, what was not and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from contextdna.client.connection import Request, Tally
from contextdna.client.errors import ClientError


class RunOutcome(StrEnum):
    """How the body of a run ended."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Kept:
    """Something that the server has answered for."""

    what: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unstored:
    """Something that was not stored, or of which nobody knows (``uncertain``).

    ``arguments`` are what the tool was to be called with, for whoever wants to keep them elsewhere; no log shows them.
    """

    what: str
    tool: str
    code: str
    message: str
    uncertain: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class RunReport:
    """The account of one run.

    Attributes:
        agent_id: Who worked.
        conversation: The public id of the session; empty when none was begun.
        outcome: How the body ended.
        ended: Whether the server has recorded the end of the session.
        degraded: Whether the server was away, or could not do its work, for any part of the run.
        stored: What the server has answered for, in order.
        unstored: What it has not, in order; empty when nothing is missing.
        promoted: The ids of working memories that stay, as episodic ones.
        expired: The ids of the other working memories, which were forgotten with the session.
        waiting: Writes that wait for the server; 0 once the run is left.
        unanswered: Questions to the memory that got an empty answer because the server was away.
        calls: Calls made.
        attempts: Times that a server was asked; more than `calls` when some were tried again.
    """

    agent_id: str
    conversation: str
    outcome: RunOutcome
    ended: bool
    degraded: bool
    stored: tuple[Kept, ...]
    unstored: tuple[Unstored, ...]
    waiting: int
    unanswered: int
    calls: int
    attempts: int
    promoted: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all of the run is stored, its end included."""
        return self.ended and not self.unstored and not self.waiting

    def __str__(self) -> str:
        """Give the account in lines for a person; no text of a memory is in it."""
        kept = sum(len(item.ids) for item in self.stored)
        records = "1 record" if kept == 1 else f"{kept} records"
        lines = [f"{self.agent_id or 'agent'} {self.outcome}: {records} stored, {len(self.unstored)} not"]
        for item in self.unstored:
            missing = "perhaps stored" if item.uncertain else "not stored"
            lines.append(f"  {missing}: {item.what} ({item.code}: {item.message})")
        if self.expired:
            lines.append(f"  forgotten with the session, of tier working: {', '.join(self.expired)}")
        if not self.ended and self.outcome is not RunOutcome.RUNNING:
            lines.append("  the server does not know that the session has ended")
        return "\n".join(lines)


@dataclass(slots=True, eq=False)
class Waiting:
    """A write that the server has not answered for yet; ``uncertain`` once it may have been carried out.

    ``parts`` are what to write instead when it is refused for one of its texts: the same, one by one.
    """

    what: str
    request: Request
    size: int = 0
    uncertain: bool = False
    parts: tuple[Waiting, ...] = ()
    learned: bool = False
    """Whether it is what the run learned, which whoever delegated it is to read."""
    ids: tuple[str, ...] = ()
    """What it is stored as, once it is."""


@dataclass(slots=True)
class Ledger:
    """The books of a run while it goes on: what waits, what is stored, what is given up."""

    waiting_max: int
    waiting_bytes_max: int
    waiting: list[Waiting] = field(default_factory=list)
    stored: list[Kept] = field(default_factory=list)
    unstored: list[Unstored] = field(default_factory=list)
    promoted: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    unanswered: int = 0
    degraded: bool = False
    tally: Tally = field(default_factory=Tally)

    def wait(self, item: Waiting, error: ClientError) -> None:
        """Keep a write for later; where too much waits already, give it up."""
        self.degraded = True
        size = sum(waiting.size for waiting in self.waiting) + item.size
        if len(self.waiting) >= self.waiting_max or size > self.waiting_bytes_max:
            self.unstored.append(_unstored(item, code="backlog_full", message=f"too much waits: {error.message}"))
        else:
            self.waiting.append(item)

    def keep(self, what: str, ids: Iterable[str]) -> None:
        """Note what the server has answered for."""
        self.stored.append(Kept(what, tuple(ids)))

    def give_up(self, item: Waiting, error: ClientError) -> Unstored:
        """Note what is not stored, or perhaps; gives the note."""
        self.degraded = self.degraded or error.retryable
        missing = _unstored(item, code=error.code, message=error.message)
        self.unstored.append(missing)
        return missing

    def give_up_all(self, error: ClientError) -> None:
        """Note that nothing which waits is stored."""
        for item in self.waiting:
            self.give_up(item, error)
        self.waiting.clear()


def _unstored(item: Waiting, *, code: str, message: str) -> Unstored:
    return Unstored(item.what, item.request.tool, code, message, item.uncertain, item.request.arguments)
