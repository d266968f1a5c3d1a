"""How much one caller may do: requests in a second, and calls at the same time.

A caller is an agent with all its credentials: else it would have as much again with each token. Counts are of this
process: several workers, or servers, each allow as much.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self

from starlette.types import ASGIApp, Receive, Scope, Send

from contextdna import AgentId, LimitExceeded
from contextdna_server.http.refusals import NoteRefusal, Refusal, answer
from contextdna_server.settings import HttpSection

if TYPE_CHECKING:
    from contextdna_server.http.identity import Credential

CALLERS_MAX: Final = 10_000
"""Callers that are remembered; of those that have nothing open, the ones longest unseen are forgotten."""

_SHARES: Final = 4
"""A caller may have one of so many parts of ``http.bodies_bytes_max``, and always one body of the largest size."""

Clock = Callable[[], float]
CallerKey = AgentId


@dataclass(slots=True)
class Bucket:
    """A token bucket: it holds ``burst`` and gains ``rate_per_s``.

    Attributes:
        held: Tokens in it at ``at``.
        at: When it was last looked at, in seconds of the clock.
    """

    rate_per_s: float
    burst: float
    held: float
    at: float

    def take(self, now: float) -> float:
        """Take a token, and give 0; without one, give the seconds until there is one."""
        self.held = self.level(now)
        self.at = now
        if self.held >= 1:
            self.held -= 1
            return 0.0
        return (1 - self.held) / self.rate_per_s

    def level(self, now: float) -> float:
        """Give the tokens that are in it."""
        return min(self.burst, self.held + (now - self.at) * self.rate_per_s)


@dataclass(slots=True)
class Caller:
    """What one caller is doing now."""

    bucket: Bucket
    calls: int = 0
    streams: int = 0
    others: int = 0
    """Requests that are neither, or not known to be yet: they are quickly over, and may end calls and streams."""
    body_bytes: int = 0
    """Bytes of the bodies that came with all of these."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it is open."""
        return not (self.calls or self.streams or self.others)


class Callers:
    """What all callers are doing, shared by ``LimitLayer`` and ``StreamLayer``; bounded by ``callers_max``.

    Beyond that bound stand only callers with something open, of which there are no more than connections.

    Args:
        settings: The bounds of one caller.
        clock: Seconds that only grow.
        callers_max: How many callers are remembered.
    """

    def __init__(self, settings: HttpSection, *, clock: Clock = time.monotonic, callers_max: int = CALLERS_MAX) -> None:
        self._settings = settings
        self._callers: OrderedDict[CallerKey, Caller] = OrderedDict()
        self._callers_max = callers_max
        self.clock = clock
        self.body_bytes = 0
        """Bytes of the bodies of all of them."""

    def __len__(self) -> int:
        return len(self._callers)

    def of(self, credential: Credential) -> Caller:
        """Give a caller's entry."""
        key = caller_key(credential)
        caller = self._callers.get(key)
        if caller is None:
            burst = self._settings.rate_burst
            caller = Caller(Bucket(self._settings.rate_per_s, burst, burst, self.clock()))
            self._callers[key] = caller
            self._forget_idle()
        self._callers.move_to_end(key)
        return caller

    def has_room(self, caller: Caller, more_bytes: int) -> bool:
        """Tell whether a caller may send so much: it has a share, so that none takes the room of all others."""
        share = max(self._settings.bodies_bytes_max // _SHARES, self._settings.body_bytes_max)
        is_in_share = caller.body_bytes + more_bytes <= share
        return is_in_share and self.body_bytes + more_bytes <= self._settings.bodies_bytes_max

    def _forget_idle(self) -> None:
        if len(self._callers) <= self._callers_max:
            return
        for key, caller in self._callers.items():
            if caller.is_idle:
                del self._callers[key]
                return


class Slot:
    """The place that a request takes at its caller: among the calls or the streams, once it is known to be one.

    It is held by the request, and by the call that came with it, until both are over. So long its body counts.
    """

    def __init__(self, caller: Caller, callers: Callers) -> None:
        self._caller = caller
        self._callers = callers
        self._body_bytes = 0
        self._among: Literal["calls", "streams", "others"] = "others"
        self._holders = 0

    @property
    def calls(self) -> int:
        """How many calls its caller has."""
        return self._caller.calls

    @property
    def is_left(self) -> bool:
        """Whether nothing holds it."""
        return not self._holders

    def is_full(self, calls_max: int) -> bool:
        """Tell whether its caller may have no more calls."""
        return self._caller.calls >= calls_max

    def hold(self) -> None:
        """Take the place, or hold it once more."""
        self._holders += 1
        if self._holders == 1:
            self._count(1)

    def release(self) -> None:
        """Make room, if nothing else holds it."""
        self._holders -= 1
        if not self._holders:
            self._count(-1)

    def take_bytes(self, more: int) -> bool:
        """Count more of its body, which is held, and tell whether there was room for it."""
        if not self._callers.has_room(self._caller, more):
            return False
        self._count_bytes(more)
        self._body_bytes += more
        return True

    def drop_body(self) -> None:
        """Count its body, which was refused, no longer."""
        self._count_bytes(-self._body_bytes)
        self._body_bytes = 0

    def become_call(self) -> None:
        """Count the request, which is held, among the calls from now on."""
        self._move("calls")

    def become_stream(self) -> None:
        """Count the request, which is held, among the streams from now on."""
        self._move("streams")

    def _move(self, among: Literal["calls", "streams"]) -> None:
        self._count(-1)
        self._among = among
        self._count(1)

    def _count(self, more: int) -> None:
        setattr(self._caller, self._among, getattr(self._caller, self._among) + more)
        self._count_bytes(more * self._body_bytes)

    def _count_bytes(self, more: int) -> None:
        self._caller.body_bytes += more
        self._callers.body_bytes += more

    def __enter__(self) -> Self:
        """Hold it."""
        self.hold()
        return self

    def __exit__(self, *_: object) -> None:
        """Hold it no longer."""
        self.release()


class LimitLayer:
    """Passes on what a caller may do now; it needs ``scope["state"]["credential"]``.

    Which requests are calls is known when they were read: ``StreamLayer`` bounds those. Here the ones that are read, or
    are notifications, are bounded, so that at its last call a caller can still cancel one, and end its session.

    Args:
        app: What serves the requests.
        settings: The bounds.
        callers: What callers are doing.
        note: Audits a refusal.
    """

    def __init__(self, app: ASGIApp, settings: HttpSection, *, callers: Callers, note: NoteRefusal) -> None:
        self._app = app
        self._settings = settings
        self._callers = callers
        self._note = note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        credential: Credential = scope["state"]["credential"]
        caller = self._callers.of(credential)
        if refusal := self._judge(caller):
            await self._note(credential.principal, refusal.error)
            await answer(refusal, send)
            return
        with Slot(caller, self._callers) as slot:
            scope["state"]["slot"] = slot
            await self._app(scope, receive, send)

    def _judge(self, caller: Caller) -> Refusal | None:
        if wait_s := caller.bucket.take(self._callers.clock()):
            return too_many(
                f"more than {self._settings.rate_per_s:g} requests in a second", wait_s, code="rate_limited"
            )
        if caller.others >= self._settings.calls_max:
            reason = f"{caller.others} requests of this agent are being taken in"
            return too_many(reason, 1, code="too_many_calls")
        return None


def caller_key(credential: Credential) -> CallerKey:
    """Name a caller."""
    return credential.principal.agent_id


def too_many_calls(calls: int) -> Refusal:
    """Refuse a call beside so many of its caller."""
    return too_many(f"{calls} calls of this agent are running", 1, code="too_many_calls")


def too_many(message: str, wait_s: float, *, code: str) -> Refusal:
    """Refuse what would be let through later.

    Args:
        message: What there is too much of.
        wait_s: Seconds after which it may be let through.
        code: Its error code.

    Source: RFC 6585, 4 (429); RFC 9110, 10.2.3 (Retry-After is in whole seconds).
    """
    after = str(max(1, math.ceil(wait_s)))
    error = LimitExceeded(message, code=code, hint=f"Wait for {after} s, then retry.", retryable=True)
    return Refusal(error, 429, (("Retry-After", after),))
