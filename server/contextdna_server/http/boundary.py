"""The last boundary of a request: what nobody foresaw becomes an answer with a reference; its text is not logged."""

from __future__ import annotations

from mcp_types import INTERNAL_ERROR
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contextdna_server.http.refusals import Refusal, answer
from contextdna_tools import unforeseen


class BoundaryLayer:
    """Answers 500 where what serves a request fails; uvicorn would log the error's text, which may quote a memory.

    An answer that has begun is cut off instead: uvicorn closes its connection.

    Args:
        app: What serves the requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        begun = False

        async def watch(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:  # noqa: BLE001 - here the unforeseen becomes an answer
            failure = unforeseen(f"a request with {scope.get('method', 'no method')[:20]}", error)
            if not begun:
                await answer(Refusal(failure, 500, rpc_code=INTERNAL_ERROR), send)
