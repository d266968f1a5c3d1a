"""Calls that survive a server which goes away: reconnecting, retries with backoff, and a pause when it stays away."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup

from contextdna.client.errors import ClientError, Refused, ServerAway
from contextdna.client.link import Link, Target
from contextdna.client.retry import Retry

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """One tool call.

    ``repeatable`` says that carrying it out twice is the same as once, so that it may be sent again when nobody knows
    whether it arrived. ``within_s`` is how long one answer may take, when not as long as others.
    """

    tool: str
    arguments: dict[str, Any] = field(repr=False)
    repeatable: bool = False
    within_s: float | None = None


@dataclass(slots=True)
class Tally:
    """What calls cost: how often servers were asked."""

    calls: int = 0
    attempts: int = 0


class Connection:
    """The way to one server. At most one link is open; whoever finds it lost starts the next, and all wait for it."""

    def __init__(self, target: Target, retry: Retry) -> None:
        self._target = target
        self._retry = retry
        self._tasks: TaskGroup | None = None
        self._link: Link | None = None
        self._paused_until: float | None = None

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the link. The body's error stays as it is: no task of ours raises, so there is nothing to group."""
        tasks, self._tasks = self._tasks, None
        if self._link is not None:
            self._link.leave()
        if tasks is not None:
            tasks.cancel_scope.cancel()  # hearts that still beat; a link is shielded, and says goodbye
            await tasks.__aexit__(None, None, None)

    async def call(self, request: Request, tally: Tally, *, patient: bool = False) -> dict[str, Any]:
        """Call a tool, again where that is safe and of use, within the limits of `Retry`.

        Args:
            request: What to call.
            tally: Where attempts are counted.
            patient: Try also in the pause after calls that failed.

        Raises:
            ServerAway: All tries failed; says whether one may have been carried out.
            Refused: The server said no; when that is retryable, it said so at each try.
            AnswerInvalid: It is another server, or another version.
            RuntimeError: The connection is not open.
        """
        _require_json(request)
        if not patient:
            self._fail_in_a_pause()
        tally.calls += 1
        unknown = False
        for delay_s in (*self._retry.delays(), None):
            tally.attempts += 1
            try:
                answer = await self._once(request)
            except ClientError as error:
                unknown = _marked(error, unknown)
                if not error.retryable or delay_s is None or (unknown and not request.repeatable):
                    self._note_failure(error, last=delay_s is None)
                    raise
                logger.info("%s failed, trying again: %s", request.tool, error.code)
                await self._retry.sleep(delay_s)
            else:
                self._paused_until = None
                return answer
        raise AssertionError("the last try returns or raises")

    def start(self, work: Callable[[], Coroutine[Any, Any, None]], *, name: str) -> None:
        """Run something beside the calls, until it ends or the connection is left. It raises nothing.

        Raises:
            RuntimeError: The connection is not open.
        """
        self._require_open().start_soon(work, name=name)

    async def call_once(self, request: Request) -> None:
        """Call a tool over the link that is there; where none is, do nothing.

        Raises:
            ClientError: It was not answered, or refused.
        """
        link = self._link
        if link is not None and link.ready:
            await link.call(request.tool, request.arguments)

    async def _once(self, request: Request) -> dict[str, Any]:
        link = self._current()
        try:
            await link.connected()
        except ClientError:
            self._drop(link)
            raise
        return await link.call(request.tool, request.arguments, within_s=request.within_s)

    def _current(self) -> Link:
        tasks = self._require_open()
        if self._link is None or self._link.lost:
            if self._link is not None:
                self._link.leave()
            self._link = Link(self._target)
            tasks.start_soon(self._link.keep, name="contextdna.client link")
        return self._link

    def _require_open(self) -> TaskGroup:
        if self._tasks is None:
            raise RuntimeError("the connection is not open: use it inside `async with connect(...)`")
        return self._tasks

    def _drop(self, link: Link) -> None:
        link.leave()
        if self._link is link:
            self._link = None

    def _fail_in_a_pause(self) -> None:
        if self._paused_until is not None and self._retry.clock() < self._paused_until:
            raise ServerAway("the server was away a moment ago; it is not asked again yet")

    def _note_failure(self, error: ClientError, *, last: bool) -> None:
        if isinstance(error, ServerAway) and last:
            self._paused_until = self._retry.clock() + self._retry.pause_s


def _require_json(request: Request) -> None:
    """Refuse what cannot be sent: the SDK's transport would break off the connection over it, at each try.

    Raises:
        Refused: ``arguments_not_json``.
    """
    try:
        json.dumps(request.arguments, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused(
            f"{request.tool}: the arguments are not JSON",
            code="arguments_not_json",
            hint="Use text without lone surrogates, finite numbers, booleans, None, and lists and dicts of them.",
        ) from error


def _marked(error: ClientError, unknown: bool) -> bool:
    """Write into an error whether any try so far may have been carried out, and give that."""
    if isinstance(error, ServerAway):
        error.outcome_unknown = unknown or error.outcome_unknown
        return error.outcome_unknown
    if isinstance(error, Refused):
        error.repeated = unknown
    return unknown
