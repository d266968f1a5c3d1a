"""Log messages to a client, beside its results, from the level on that it asked for.

In the 2025 era a connection sets its level by logging/setLevel; in 2026-07-28 each request names its own, and without
one nothing is sent. A message rides on the stream of the request that it is about. None holds text of a record, a key
or a token: the code of an error, what it means, what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp_types import (
    LOG_LEVEL_META_KEY,
    EmptyResult,
    LoggingLevel,
    LoggingMessageNotification,
    LoggingMessageNotificationParams,
    SetLevelRequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from contextdna import ContextDnaError

LEVELS: Final[tuple[LoggingLevel, ...]] = get_args(LoggingLevel)
"""From debug to emergency, as the protocol orders them. Source: RFC 5424, 6.2.1."""

DEFAULT_LEVEL: Final[LoggingLevel] = "warning"
"""What a connection of the 2025 era is told of until it sets a level."""

LOGGER: Final = "contextdna"
_STATE_KEY: Final = "contextdna.logging_level"

Request = ServerRequestContext[Any, Any]


async def set_level(ctx: Request, params: SetLevelRequestParams) -> EmptyResult:
    """Serve logging/setLevel: the level holds for the connection. 2026-07-28 has no such request."""
    _connection(ctx).state[_STATE_KEY] = params.level
    return EmptyResult()


async def log(ctx: Request, level: LoggingLevel, data: Mapping[str, Any]) -> None:
    """Tell the client of a request, if it asked for this level."""
    lowest = asked_level(ctx)
    if lowest is None or LEVELS.index(level) < LEVELS.index(lowest):
        return
    params = LoggingMessageNotificationParams(level=level, logger=LOGGER, data=dict(data))
    await ctx.session.send_notification(LoggingMessageNotification(params=params), ctx.request_id)


async def log_refusal(ctx: Request, error: ContextDnaError, **about: str) -> None:
    """Tell of a refused or failed request: a failure of ours as an error, one worth a retry as a warning."""
    data = {"code": error.code, "message": error.message, "hint": error.hint, "method": ctx.method, **about}
    await log(ctx, severity(error), data)


def severity(error: ContextDnaError) -> LoggingLevel:
    """Say how much an error matters to who runs the client."""
    if error.code == "internal_error":
        return "error"
    return "warning" if error.retryable else "notice"


def asked_level(ctx: Request) -> LoggingLevel | None:
    """Give the lowest level that a request's client wants to hear of; None: nothing at all."""
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        asked = (ctx.meta or {}).get(LOG_LEVEL_META_KEY)
        return asked if asked in LEVELS else None
    level: LoggingLevel = _connection(ctx).state.get(_STATE_KEY, DEFAULT_LEVEL)
    return level


def _connection(ctx: Request) -> Connection:
    return ctx.session._connection  # the SDK gives handlers no other way to what outlives a request
