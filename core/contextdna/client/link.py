"""One connection to a server, from its start until it is lost or left.

The SDK's client must be entered and left in one task, while agents call from any. So a link lives in a task of its own
(`keep`), shielded: an agent that is cancelled can still say goodbye over it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import httpx2
from anyio.streams.memory import MemoryObjectReceiveStream
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR, REQUEST_TIMEOUT, CallToolResult, TextContent

from contextdna.client.errors import AnswerInvalid, ClientError, Refused, ServerAway, leaves

_LOST: Final = (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream, OSError, httpx2.HTTPError)
_NOT_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout)
_UNAUTHORISED: Final = frozenset({401, 403})
_WRONG_PLACE: Final = frozenset({404, 405, 410})
_TOO_LARGE: Final = 413
_HTTP_IDLE_S_MAX: Final = 300.0
_END_S_MAX: Final = 0.5


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server is, and the limits of talking to it."""

    server: StdioServerParameters | str
    token: str = field(default="", repr=False)
    timeout_s: float = 30.0
    connect_s: float = 30.0


class Link:
    """One connection. ``keep`` runs it in a task; ``connected`` waits for it; ``call`` uses it; ``leave`` ends it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._client: Client | None = None
        self._failure: Exception | None = None
        self._status = 0
        self._open_calls = 0
        self._answers = 0
        self._incoming: object = None
        self._settled = anyio.Event()
        self._leaving = anyio.Event()
        self._over = anyio.Event()
        self._scope = anyio.CancelScope(shield=True)

    @property
    def lost(self) -> bool:
        """Whether a call over this link would lead nowhere; known before one is sent."""
        return self._over.is_set() or self._leaving.is_set() or self._pipe_ended()

    @property
    def ready(self) -> bool:
        """Whether a call can be made without waiting for the server to start."""
        return self._client is not None and not self.lost

    def _pipe_ended(self) -> bool:
        incoming = self._incoming
        return isinstance(incoming, MemoryObjectReceiveStream) and incoming.statistics().open_send_streams == 0

    async def keep(self) -> None:
        """Connect, stay until `leave` or a loss, disconnect. Raises nothing: calls tell what happened."""
        try:
            with self._scope:
                async with Client(self._transport(), cache=None) as client:
                    self._client = client
                    self._settled.set()
                    await self._leaving.wait()
        except Exception as error:  # noqa: BLE001 - the boundary of an owned task; whoever waits is told
            self._failure = error
        finally:
            self._client = None
            self._over.set()
            self._settled.set()

    def leave(self) -> None:
        """End the link: at once while it connects, else as the protocol wants it, within the SDK's limits."""
        if not self._settled.is_set():
            self._scope.cancel()
        self._leaving.set()

    async def connected(self) -> None:
        """Wait until calls can be made.

        Raises:
            ServerAway: It cannot be reached or started, or took too long.
            Refused: It wants another token, or is no MCP endpoint.
        """
        with anyio.move_on_after(self._target.connect_s):
            await self._settled.wait()
        if not self._settled.is_set():
            self.leave()
            raise ServerAway("the server did not start to answer in time", code="server_timeout")
        if self._client is None:
            self._raise_for_status(_UNAUTHORISED | _WRONG_PLACE)
            raise ServerAway(f"the server cannot be reached: {_named(self._failure)}")

    async def call(self, tool: str, arguments: dict[str, Any], *, within_s: float | None = None) -> dict[str, Any]:
        """Call a tool once.

        Raises:
            ServerAway: No answer came; says whether the call may have been carried out.
            Refused: The server said no.
            AnswerInvalid: It answered with something else than the tool promises.
        """
        client = self._client
        if client is None or self.lost:
            raise ServerAway("the connection is lost")
        self._open_calls += 1
        answers = self._answers
        try:
            with anyio.fail_after(within_s or self._target.timeout_s):
                result = await client.call_tool(tool, arguments)
            self._answers += 1
        except TimeoutError:
            if self._answers == answers:
                self.leave()  # nothing else came back meanwhile: the next call gets a new connection
            raise _no_answer_in_time() from None
        except MCPError as error:
            raise await self._of_protocol(error) from error
        except _LOST as error:
            raise await self._lost_while_calling() from error
        except (RuntimeError, ValueError) as error:  # the SDK's words for an answer against its schema
            if self.lost:
                raise await self._lost_while_calling() from error
            raise AnswerInvalid(
                f"{tool}: the answer is not what the tool promises", hint="Compare versions."
            ) from error
        finally:
            self._open_calls -= 1
        return _content(tool, result)

    async def _of_protocol(self, error: MCPError) -> ClientError:
        if error.code == REQUEST_TIMEOUT:
            return _no_answer_in_time()
        if error.code == CONNECTION_CLOSED:
            return await self._lost_while_calling()
        self._raise_for_status(_UNAUTHORISED)
        if self._status == _TOO_LARGE:
            return Refused(
                "more than the server takes in one request: HTTP status 413",
                code="request_too_large",
                hint="Split it, or keep the whole elsewhere and store a summary.",
            )
        if self._status >= 400 and not isinstance(error.data, dict):
            self.leave()
            unknown = error.code == INTERNAL_ERROR
            return ServerAway(f"the server answered with HTTP status {self._status}", outcome_unknown=unknown)
        self._answers += 1
        return _refused(error.message, error.data)

    async def _lost_while_calling(self) -> ServerAway:
        """Find out whether the request can have left: an HTTP connection that was never made carried none."""
        alone = self._open_calls == 1
        if self._incoming is None:  # HTTP: what failed is known once the transport has gone down
            with anyio.move_on_after(_END_S_MAX):
                await self._over.wait()
        self.leave()
        unsent = alone and self._failure is not None and all(isinstance(e, _NOT_SENT) for e in leaves(self._failure))
        return ServerAway("the server went away during the call", outcome_unknown=not unsent)

    def _raise_for_status(self, statuses: frozenset[int]) -> None:
        if self._status not in statuses:
            return
        self.leave()
        if self._status in _UNAUTHORISED:
            raise Refused(
                f"the server answered with HTTP status {self._status}", code="unauthorised", hint="Check the token."
            )
        raise Refused(f"no MCP server there: HTTP status {self._status}", code="no_server_there", hint="Check the URL.")

    def _transport(self) -> Any:
        server = self._target.server
        return self._http(server) if isinstance(server, str) else self._pipes(server)

    @asynccontextmanager
    async def _pipes(self, server: StdioServerParameters) -> AsyncIterator[Any]:
        async with stdio_client(server) as streams:
            self._incoming = streams[0]
            yield streams

    @asynccontextmanager
    async def _http(self, url: str) -> AsyncIterator[Any]:
        headers = {"Authorization": f"Bearer {self._target.token}"} if self._target.token else {}
        timeout = httpx2.Timeout(self._target.connect_s, read=_HTTP_IDLE_S_MAX)
        hooks = {"response": [self._see]}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=timeout, event_hooks=hooks) as http,
            streamable_http_client(url, http_client=http) as streams,
        ):
            yield streams

    async def _see(self, response: httpx2.Response) -> None:
        self._status = response.status_code


def _no_answer_in_time() -> ServerAway:
    return ServerAway("the server did not answer in time", code="server_timeout", outcome_unknown=True)


def _content(tool: str, result: CallToolResult) -> dict[str, Any]:
    if result.is_error:
        raise _refused_by_tool(tool, result)
    if result.structured_content is None:
        raise AnswerInvalid(f"{tool}: the answer has no structured content", hint="Is it a contextdna server?")
    return dict(result.structured_content)


def _refused_by_tool(tool: str, result: CallToolResult) -> Refused:
    text = next((part.text for part in result.content if isinstance(part, TextContent)), "")
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return Refused(f"{tool} failed", code="tool_failed", hint="Is it a contextdna server?")
    return _refused(f"{tool}: {error.get('message', '')}", error)


def _refused(message: str, data: object) -> Refused:
    known = data if isinstance(data, dict) else {}
    return Refused(
        message,
        code=str(known.get("code", "")),
        hint=str(known.get("hint", "")),
        retryable=bool(known.get("retryable")),
        current_version=int(known.get("current_version", 0)),
    )


def _named(failure: Exception | None) -> str:
    """Name what failed, without the text of errors: it may hold a command line or a URL with a secret."""
    names = sorted({type(error).__name__ for error in leaves(failure)}) if failure else []
    return ", ".join(names) or "no answer"
