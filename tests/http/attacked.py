"""The whole remote server as an attacker finds it: two projects, own and issued tokens, and the audit of refusals."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2

from contextdna import AgentId, AuditEntry, Principal, ProjectId, Role, Scope, TokenRequest, Workspace
from tests.http.asgi import Client
from tests.http.issuer import PUBLIC_URL, Issuer, local_issuer
from tests.http.running import RemoteServer, running

PROJECTS: Final = ("alpha", "beta")
MODERN: Final = "2026-07-28"
WAIT_S: Final = 10.0
_NAMED_BY: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}


@dataclass
class Attacked:
    """A server under attack."""

    server: RemoteServer
    issuer: Issuer
    http: httpx2.AsyncClient
    """One client for all, as making one takes a while."""
    secrets: set[str] = field(default_factory=set)
    """Texts that no log may hold: the secret of every token that was made, and what tests add."""
    _strangers: int = 0

    @property
    def port(self) -> int:
        return int(self.server.url.rpartition(":")[2])

    def principal(self, agent: str, *, role: Role = Role.SYSTEM) -> Principal:
        return Principal(AgentId(agent), tuple(map(ProjectId, PROJECTS)), role=role)

    def workspace(self, agent: str = "operator", project: str = "alpha", *, role: Role = Role.SYSTEM) -> Workspace:
        """Give a view of the store that does not come over HTTP."""
        return self.server.hub.bind(self.principal(agent, role=role), project_id=project)

    def stranger(self) -> str:
        """Name an agent that no refusal was audited of: of each kind there is one entry in ten seconds."""
        self._strangers += 1
        return f"stranger-{self._strangers}"

    def secret(self, text: str) -> str:
        """Keep a text as one that no log may hold."""
        self.secrets.add(text)
        return text

    async def token(
        self,
        agent: str,
        *,
        projects: Iterable[str] = ("alpha",),
        scopes: Iterable[Scope] = tuple(Scope),
        **rights: Any,
    ) -> str:
        """Make an access token."""
        wanted = TokenRequest(AgentId(agent), tuple(map(ProjectId, projects)), scopes=frozenset(scopes), **rights)
        text = (await self.workspace().access_tokens.create(wanted)).text
        self.secret(text.rpartition("_")[2])
        return text

    def issued(self, agent: str, **changes: Any) -> str:
        """Make a token of the issuer that is good now, but for the changes."""
        now = int(time.time())
        text = self.issuer.token(**{"sub": agent, "iat": now, "exp": now + 300, **changes})
        self.secret(text.rpartition(".")[2])
        return text

    async def audited(self, agent: str, code: str) -> AuditEntry:
        """Wait for the audit of a refusal."""
        with anyio.fail_after(WAIT_S):
            while True:
                for entry in await self.entries(agent):
                    if json.loads(entry.draft.details).get("code") == code:
                        return entry
                await anyio.sleep(0.01)

    async def entries(self, agent: str) -> list[AuditEntry]:
        """Give what is audited of an agent."""
        found = []
        for project, installation in (("alpha", False), ("beta", False), ("alpha", True)):
            workspace = self.workspace(project=project)
            found += await workspace.query_audit(agent_id=agent, limit=50, installation=installation)
        return found

    async def send(
        self,
        token: str,
        body: bytes | None = None,
        *,
        method: str = "POST",
        path: str = "/mcp",
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        """Send one request."""
        named = {"content-type": "application/json"} if method == "POST" else {}
        if token:
            named["authorization"] = f"Bearer {token}"
        return Answered.of(await self.http.request(method, path, content=body, headers={**named, **(headers or {})}))

    async def ask(self, token: str, method: str, /, **params: Any) -> Answered:
        """Ask in the era in which each request stands alone."""
        said = {**params, "_meta": ENVELOPE}
        headers = {"mcp-protocol-version": MODERN, "mcp-method": method}
        if named := params.get(_NAMED_BY.get(method, "")):
            headers["mcp-name"] = named
        return await self.send(token, message(method, **said), headers=headers)

    async def call(self, token: str, tool: str, /, **arguments: Any) -> Answered:
        """Call a tool."""
        return await self.ask(token, "tools/call", name=tool, arguments=arguments)

    @asynccontextmanager
    async def streaming(self, token: str) -> AsyncIterator[tuple[str, AsyncIterator[dict[str, Any]]]]:
        """Open a stream of HTTP+SSE: where messages go, and what comes."""
        async with self.http.stream("GET", "/sse", headers={"authorization": f"Bearer {token}"}) as stream:
            assert stream.status_code == 200
            lines = stream.aiter_lines()

            async def data() -> AsyncIterator[str]:
                async for line in lines:
                    if line.startswith("data: "):
                        yield line.removeprefix("data: ")

            said = data()
            with anyio.fail_after(WAIT_S):
                endpoint = await anext(said)
            yield endpoint, (json.loads(line) async for line in said)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[RawClient]:
        """Open a raw connection."""
        async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
            yield RawClient(stream)


class RawClient(Client):
    """A raw connection that sends what no client would."""

    async def send_or_break(self, data: bytes) -> None:
        """Send, though the server may close meanwhile."""
        with suppress(anyio.BrokenResourceError):
            await self.send(data)

    async def receive_or_end(self) -> bytes:
        """Give what comes next; nothing at the end."""
        try:
            return await self.stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return b""

    async def rest(self) -> bytes:
        """Give what comes until the server closes."""
        rest, self._read = self._read, b""
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                rest += await self._more()
        return rest


@dataclass(frozen=True)
class Answered:
    """What came back."""

    status: int
    headers: httpx2.Headers
    text: str

    @classmethod
    def of(cls, response: httpx2.Response) -> Answered:
        return cls(response.status_code, response.headers, response.text)

    @property
    def message(self) -> dict[str, Any]:
        """The JSON-RPC message in it, be it JSON or the last event of a stream."""
        events = [line[6:] for line in self.text.splitlines() if line.startswith("data: {")]
        return dict(json.loads(events[-1] if events else self.text))

    @property
    def code(self) -> str:
        """The stable code of a refusal, of an error or in a tool's result; empty where there is none."""
        said = self.message if self.text else {}
        if "error" in said:
            return str((said["error"].get("data") or {}).get("code", ""))
        if said.get("result", {}).get("isError"):
            return str(json.loads(said["result"]["content"][0]["text"])["error"]["code"])
        return ""

    @property
    def result(self) -> dict[str, Any]:
        """The result of a request that was served."""
        assert self.status == 200, self.text
        assert "result" in self.message, self.text
        return dict(self.message["result"])

    @property
    def said(self) -> dict[str, Any]:
        """What a tool that did not refuse says."""
        assert not self.result.get("isError"), self.text
        return dict(self.result["structuredContent"])


ENVELOPE: Final[dict[str, Any]] = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}


def message(method: str, /, *, call_id: object = 1, **params: Any) -> bytes:
    """Write a request."""
    return json.dumps({"jsonrpc": "2.0", "id": call_id, "method": method, "params": params}).encode()


@asynccontextmanager
async def attacked(data: Path, *, work: Mapping[str, Any] | None = None, **http: Any) -> AsyncIterator[Attacked]:
    """Serve a data folder, with both kinds of credentials; ``http`` and ``work`` are settings."""
    async with local_issuer() as issuer:
        oauth = {"issuer": issuer.url, "default_projects": ["alpha"], "claims": {"projects": "memory.projects"}}
        allowed = {"public_url": PUBLIC_URL, "auth_failures_per_min": 100_000, **http}
        async with (
            running(data, http=allowed, oauth=oauth, work=work or {}, projects=list(PROJECTS)) as server,
            server.http() as client,
        ):
            yield Attacked(server, issuer, client)
