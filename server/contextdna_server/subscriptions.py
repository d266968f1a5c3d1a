"""Resource updates: events become notifications to 2025-era subscribers and to 2026-07-28 listeners.

Who may not read a resource cannot subscribe to it, and every event is judged again as it is told. The SDK checks
neither. A client that does not read its notifications holds up nothing but its own.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, TypedDict

import anyio
from anyio.abc import TaskGroup, TaskStatus
from mcp.server.connection import Connection
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp_types import (
    EmptyResult,
    ResourceUpdatedNotification,
    ResourceUpdatedNotificationParams,
    SubscribeRequestParams,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)

from contextdna import ContextDnaError, LimitExceeded, Principal, StorageUnavailable, Workspace
from contextdna_server.protocol import BindWorkspace, Handler, Request, guarded
from contextdna_server.served_resources import ServedResources
from contextdna_tools import unforeseen

SUBSCRIPTIONS_MAX: Final = 200
"""How many resources and streams one caller may be subscribed to at once, over all its connections to a server."""

LOST_S: Final = 60.0
"""How long the subscriptions of a connection without a stream are spared when its caller has no room for others."""

SPACING_S: Final = 0.05
"""A resource is told of at most once in this time; what changes meanwhile is told of at its end."""

_RETRY_S: Final = 1.0
_STATE_KEY: Final = "contextdna.subscriber"

logger = logging.getLogger(__name__)

Tell = Callable[[str], Awaitable[None]]
"""Notifies a client that a resource has changed, by the URI as the client wrote it."""


@dataclass(slots=True, weakref_slot=True)
class Hearing:
    """Whether a connection of the 2025 era has a stream to be told on, in ``scope["state"]["hearing"]`` over HTTP."""

    streams: int = 0
    """How many are open: none or one."""
    heard_at: float = -math.inf
    """When there was one last, in seconds of the event loop."""

    @contextmanager
    def on_stream(self) -> Iterator[None]:
        """Count a stream for as long as it is open."""
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1
            self.heard_at = anyio.current_time()

    def is_lost(self) -> bool:
        """Tell whether nobody hears: no stream came again for a while, or none ever came."""
        return not self.streams and anyio.current_time() - self.heard_at >= LOST_S


@dataclass(slots=True, eq=False)
class _Place:
    count: int
    subscriber: Subscriber | None


class Places:
    """How many subscriptions each caller has, over all its connections; one that nobody hears makes room for others."""

    def __init__(self) -> None:
        self._taken: dict[Principal, dict[_Place, None]] = {}

    @contextmanager
    def room(self, holder: Principal, count: int = 1, subscriber: Subscriber | None = None) -> Iterator[None]:
        """Hold places of a caller.

        Args:
            holder: The caller. One of the same agent id in other projects is another.
            count: How many.
            subscriber: What they are for, if that can be ended to make room.

        Raises:
            LimitExceeded: ``subscriptions_too_many``.
        """
        places = self._taken.setdefault(holder, {})
        try:
            _make_room(places, count, subscriber)
            place = _Place(count, subscriber)
            places[place] = None
            try:
                yield
            finally:
                places.pop(place, None)
        finally:
            if not places and self._taken.get(holder) is places:
                del self._taken[holder]


def _make_room(places: dict[_Place, None], count: int, asking: Subscriber | None) -> None:
    """End what other connections hold that nobody hears, the oldest first, as far as it takes."""
    over = sum(place.count for place in places) + count - SUBSCRIPTIONS_MAX
    others = dict.fromkeys(place.subscriber for place in places if place.subscriber is not asking) if over > 0 else {}
    for other in others:
        if over > 0 and other is not None and other.is_lost():
            for place in [taken for taken in places if taken.subscriber is other]:
                del places[place]
                over -= place.count
            other.leave_all()
    if over > 0:
        raise LimitExceeded(
            f"an agent may be subscribed to {SUBSCRIPTIONS_MAX} resources at once",
            code="subscriptions_too_many",
            hint="Leave what you no longer need, or subscribe to a list in place of its items.",
        )


class Subscriptions:
    """The lifetime of a running server's subscriptions.

    Args:
        tasks: Where they live.
        places: How many each caller has, over all connections: a lifetime may be that of one connection only.
        resources: What they are to.
    """

    def __init__(self, tasks: TaskGroup, places: Places, resources: ServedResources) -> None:
        self._tasks = tasks
        self._places = places
        self._resources = resources

    async def begin(self, subscriber: Subscriber, uri: str, workspace: Workspace, holder: Principal | None) -> None:
        """Begin to tell a subscriber of a resource; from when this returns on, nothing is missed.

        Args:
            subscriber: Whom to tell.
            uri: The resource.
            workspace: The subscriber's rights.
            holder: The caller whose place it takes; None where that is held already.

        Raises:
            ContextDnaError: There is no room, or the events cannot be read.
        """
        if not subscriber.has(uri):
            await self._tasks.start(self._run, subscriber, uri, workspace, holder)

    async def _run(
        self,
        subscriber: Subscriber,
        uri: str,
        workspace: Workspace,
        holder: Principal | None,
        *,
        task_status: TaskStatus[None],
    ) -> None:
        room = self._places.room(holder, subscriber=subscriber) if holder else nullcontext()
        with room, subscriber.reached(uri) as ready:

            def begun() -> None:
                ready()
                task_status.started()

            await _tell_changes(self._resources, uri, workspace, subscriber.tell, begun)


class Subscriber:
    """One connection of the 2025 era, or one stream of 2026-07-28: whom to tell, and of what."""

    def __init__(self, tell: Tell, hearing: Hearing | None = None) -> None:
        self.tell = tell
        self._hearing = hearing
        self.failed = anyio.Event()
        """Set when a resource can no longer be told of."""
        self._scopes: dict[str, anyio.CancelScope] = {}

    @contextmanager
    def reached(self, uri: str) -> Iterator[Callable[[], None]]:
        """Keep a resource until it is left. What fails is raised until ``ready`` was called, then logged."""
        ready = False

        def note() -> None:
            nonlocal ready
            ready = True
            if self._scopes.setdefault(uri, scope) is not scope:
                scope.cancel()  # asked for twice at once

        with anyio.CancelScope() as scope:
            try:
                yield note
            except Exception as error:  # here an owned job ends: alone, not with all the others
                if not ready:
                    raise
                _log_end(error)
                self.failed.set()
        if self._scopes.get(uri) is scope:
            del self._scopes[uri]

    def has(self, uri: str) -> bool:
        """Tell whether it is told of a resource."""
        return uri in self._scopes

    def leave(self, uri: str) -> None:
        """Stop telling of a resource; nothing happens where there is nothing to stop."""
        if scope := self._scopes.pop(uri, None):
            scope.cancel()

    def is_lost(self) -> bool:
        """Tell whether nobody hears what it tells."""
        return self._hearing is not None and self._hearing.is_lost()

    def leave_all(self) -> None:
        """Stop telling of anything."""
        for uri in list(self._scopes):
            self.leave(uri)


async def _tell_changes(
    resources: ServedResources, uri: str, workspace: Workspace, tell: Tell, begun: Callable[[], None]
) -> None:
    """Tell of every change of a resource, until cancelled. Where the events cannot be read for a while, tell then."""
    ready = False
    while True:
        try:
            async with aclosing(resources.changes(uri, workspace)) as signs:
                await anext(signs)
                if ready:
                    await resources.check(uri, workspace)
                    await tell(uri)  # what happened meanwhile is not known
                else:
                    ready = True
                    begun()
                async for _ in signs:
                    await tell(uri)
                    await anyio.sleep(SPACING_S)
            await anyio.sleep_forever()  # it never changes
        except StorageUnavailable as error:
            if not ready or not error.retryable:
                raise
            await anyio.sleep(_RETRY_S)


def _log_end(error: Exception) -> None:
    known = error if isinstance(error, ContextDnaError) else unforeseen("a subscription", error)
    logger.info("a subscription ended: %s", known.code)


# --- the protocol ---------------------------------------------------------------------------------


class SubscriptionHandlers(TypedDict):
    """What the low-level server takes for subscriptions."""

    on_subscribe_resource: Handler[SubscribeRequestParams, EmptyResult]
    on_unsubscribe_resource: Handler[UnsubscribeRequestParams, EmptyResult]
    on_subscriptions_listen: Handler[SubscriptionsListenRequestParams, SubscriptionsListenResult]


def subscription_handlers(
    resources: ServedResources, workspace_for: BindWorkspace, identity: Callable[[], Principal]
) -> SubscriptionHandlers:
    """Build the handlers for resources/subscribe, resources/unsubscribe and subscriptions/listen.

    Args:
        resources: What can be subscribed to.
        workspace_for: Binds the verified caller of a request in a project.
        identity: Gives the verified caller of the request at hand.
    """

    places = Places()

    def subscriptions(ctx: Request) -> Subscriptions:
        return Subscriptions(ctx.lifespan_context, places, resources)

    async def admitted(ctx: Request, uri: str) -> Workspace:
        workspace = workspace_for(ctx, resources.project_of(uri))
        await resources.check(uri, workspace)
        return workspace

    async def subscribe(ctx: Request, params: SubscribeRequestParams) -> EmptyResult:
        workspace = await admitted(ctx, params.uri)
        await subscriptions(ctx).begin(_of_connection(ctx), params.uri, workspace, identity())
        return EmptyResult()

    async def unsubscribe(ctx: Request, params: UnsubscribeRequestParams) -> EmptyResult:
        resources.project_of(params.uri)
        _of_connection(ctx).leave(params.uri)
        return EmptyResult()

    async def listen(ctx: Request, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        uris = list(dict.fromkeys(params.notifications.resource_subscriptions or ()))
        with places.room(identity(), len(uris) + 1):
            workspaces = {uri: await admitted(ctx, uri) for uri in uris}
            await _serve_stream(ctx, workspaces, subscriptions(ctx))
        return SubscriptionsListenResult(_meta=_stamp(ctx))

    return {
        "on_subscribe_resource": guarded(subscribe),
        "on_unsubscribe_resource": guarded(unsubscribe),
        "on_subscriptions_listen": guarded(listen),
    }


def _of_connection(ctx: Request) -> Subscriber:
    """Give the subscriber that a 2025-era connection is; it leaves everything when the connection closes."""
    connection: Connection = ctx.session._connection  # the SDK gives handlers no other way to its end
    if _STATE_KEY not in connection.state:
        subscriber = connection.state[_STATE_KEY] = Subscriber(connection.send_resource_updated, _hearing_of(ctx))
        connection.exit_stack.callback(subscriber.leave_all)
    known: Subscriber = connection.state[_STATE_KEY]
    return known


def _hearing_of(ctx: Request) -> Hearing | None:
    """Tell how a connection is heard; None for one that is its stream itself."""
    if ctx.request is None:
        return None
    hearing: Hearing | None = ctx.request.scope["state"].get("hearing")
    return hearing


async def _serve_stream(ctx: Request, workspaces: dict[str, Workspace], subscriptions: Subscriptions) -> None:
    """Acknowledge, then tell, until the client cancels or something can no longer be told of."""
    acknowledged = anyio.Event()

    async def tell(uri: str) -> None:
        await acknowledged.wait()
        params = ResourceUpdatedNotificationParams(uri=uri, _meta=_stamp(ctx))
        await ctx.session.send_notification(ResourceUpdatedNotification(params=params), ctx.request_id)

    stream = Subscriber(tell)
    try:
        for uri, workspace in workspaces.items():
            await subscriptions.begin(stream, uri, workspace, None)
        params = SubscriptionsAcknowledgedNotificationParams(
            notifications=_honoured(list(workspaces)), _meta=_stamp(ctx)
        )
        await ctx.session.send_notification(SubscriptionsAcknowledgedNotification(params=params), ctx.request_id)
        acknowledged.set()
        await stream.failed.wait()
    finally:
        stream.leave_all()


def _honoured(uris: list[str]) -> SubscriptionFilter:
    """Agree to what was admitted: our lists of tools, prompts and resources never change, so no change is told of."""
    return SubscriptionFilter(resource_subscriptions=uris or None)


def _stamp(ctx: Request) -> dict[str, Any]:
    """Mark a frame of a stream: by the id of the request that opened it."""
    return {SUBSCRIPTION_ID_META_KEY: ctx.request_id}
