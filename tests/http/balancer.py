"""A load balancer as operators run one: each request goes to the next server, whatever it belongs to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import anyio
import httpx2
from starlette.types import Receive, Scope, Send

HOP_BY_HOP = {b"connection", b"keep-alive", b"transfer-encoding"}


class RoundRobin:
    """An ASGI application that hands every request to the next of several servers, and streams the answer."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._next = itertools.cycle(addresses)
        self._client = httpx2.AsyncClient(timeout=None, limits=httpx2.Limits(max_connections=None))

    async def aclose(self) -> None:
        """Close the connections to the servers."""
        await self._client.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand one request on."""
        body, more = b"", scope["method"] == "POST"
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        query = scope["query_string"].decode()
        url = f"{next(self._next)}{scope['path']}" + (f"?{query}" if query else "")
        request = self._client.build_request(
            scope["method"], url, headers=[h for h in scope["headers"] if h[0] not in HOP_BY_HOP], content=body or None
        )

        async def leave_with_client(cancel: anyio.CancelScope) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            cancel.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leave_with_client, tasks.cancel_scope)
            response = await self._client.send(request, stream=True)
            try:
                headers = [(n.lower(), v) for n, v in response.headers.raw if n.lower() not in HOP_BY_HOP]
                await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
                async for chunk in response.aiter_raw():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
            tasks.cancel_scope.cancel()
