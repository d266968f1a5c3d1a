"""What nginx, Caddy and TLS of one's own do with the files of deploy/: every transport, with two servers behind."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
import pytest
from mcp import Client

from tests.deploy.rig import (
    DEADLINE_S,
    FAILURES_MAX,
    FRONTS,
    PROXIES,
    STREAMS_MAX,
    Deployment,
    Front,
    deployed,
    is_there,
)
from tests.server.test_subscriptions import told_of

if not os.environ.get("CONTEXTDNA_TEST_PROXIES"):
    pytest.skip("PROXIES ARE TESTED ON DEMAND: set CONTEXTDNA_TEST_PROXIES; half a minute", allow_module_level=True)

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")]

ROUTES = [("http", "auto"), ("http", "legacy"), ("sse", "legacy")]
BASE = "contextdna://projects/default"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("deployment")) as running:
        yield running


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> Front:
    if not is_there(request.param):
        pytest.skip(f"{request.param} IS NOT INSTALLED: its file in deploy/ is not tested")
    if not any(map(is_there, PROXIES)):
        pytest.skip("NO PROXY IS INSTALLED: TLS of the server's own is not tested either")
    running: Deployment = request.getfixturevalue("deployment")
    return running.fronts[request.param]


@pytest.fixture
def word() -> str:
    """A word that no other test stores."""
    return f"w{uuid.uuid4().hex}"


@asynccontextmanager
async def visiting(front: Front, kind: str, era: str) -> AsyncIterator[Client]:
    with anyio.fail_after(DEADLINE_S):
        async with Client(front.transport(kind), mode=era) as client:
            yield client


async def contents(client: Client, word: str) -> list[str]:
    found = await client.call_tool("retrieve_context", {"query": word, "limit": 50})
    assert found.structured_content is not None
    return [hit["content"] for hit in found.structured_content["hits"] if word in hit["content"]]


@pytest.mark.parametrize(("kind", "era"), ROUTES)
async def test_a_client_works_whichever_server_a_request_comes_to(front: Front, kind: str, era: str, word: str) -> None:
    async with visiting(front, kind, era) as client:
        assert "retrieve_context" in {tool.name for tool in (await client.list_tools()).tools}
        async with anyio.create_task_group() as tasks:
            for pier in range(6):
                tasks.start_soon(client.call_tool, "store_memory", {"content": f"The harbour {word} has pier {pier}."})
        assert len(await contents(client, word)) == 6


async def test_progress_comes_while_a_call_runs_and_its_cancelling_gets_through(front: Front, word: str) -> None:
    async def wait_and_leave(kind: str, era: str) -> None:
        reported = anyio.Event()

        async def note(progress: float, total: float | None, message: str | None) -> None:
            reported.set()

        async with visiting(front, kind, era) as client:
            async with anyio.create_task_group() as tasks:
                arguments = {"name": word, "timeout_s": 60}
                tasks.start_soon(partial(client.call_tool, "await_signal", arguments, progress_callback=note))
                await reported.wait()
                tasks.cancel_scope.cancel()
            assert not (await client.call_tool("store_memory", {"content": f"The pilot {word} is aboard."})).is_error

    async with anyio.create_task_group() as routes:  # all at once: progress is told each second
        for kind, era in ROUTES:
            routes.start_soon(wait_and_leave, kind, era)


@pytest.mark.parametrize(("kind", "era"), ROUTES)
async def test_a_subscriber_is_told_of_every_change(front: Front, kind: str, era: str, word: str) -> None:
    async with told_of(front.transport(kind), era, BASE) as told, visiting(front, "http", "auto") as other:
        for day in range(3):
            await other.call_tool("store_memory", {"content": f"The tide {word} of day {day}."})
            assert await told.next() == BASE


@pytest.mark.parametrize(("kind", "era"), ROUTES)
async def test_large_bodies_get_through_both_ways(front: Front, kind: str, era: str, word: str) -> None:
    content = f"{word} " + "knot and splice " * 100_000  # more than nginx takes by default
    async with visiting(front, kind, era) as client:
        stored = await client.call_tool("store_memory", {"content": content})
        assert stored.structured_content is not None
        name = stored.structured_content["stored"][0]["id"]
        got = await client.call_tool("get_memory", {"ids": [name]})
        assert not got.is_error


async def test_a_stream_that_its_client_leaves_is_over_at_the_server_too(front: Front) -> None:
    async with front.client() as http:
        with anyio.fail_after(DEADLINE_S):
            for _ in range(4 * STREAMS_MAX):
                while not await opens_stream(http):  # noqa: ASYNC110 - the one before may be on its way out
                    await anyio.sleep(0.02)


async def opens_stream(http: object) -> bool:
    async with http.stream("GET", "/sse") as answer:  # type: ignore[attr-defined]
        assert answer.status_code in (200, 429)
        return bool(answer.status_code == 200)


async def test_refusals_reach_the_client_as_they_are(front: Front) -> None:
    async with front.client("") as http:
        refused = await http.post("/mcp", json={})
        assert (refused.status_code, refused.headers["www-authenticate"].split()[0]) == (401, "Bearer")
    async with front.client() as http:
        broken = await http.post("/mcp", json=[])
        assert (broken.status_code, broken.json()["error"]["data"]["code"]) == (400, "message_invalid")
        if front.place.folder.name != "caddy":  # it closes the connection when a server answers before it has the body
            large = await http.post("/mcp", json={"x": "x" * 4_200_000})
            assert (large.status_code, large.json()["error"]["data"]["code"]) == (413, "message_too_large")


async def test_the_host_that_a_request_is_for_is_passed_on(front: Front) -> None:
    async with front.client() as http:
        assert (await http.get("/readyz")).json() == {"status": "ready"}
        elsewhere = await http.post("/mcp", json={}, headers={"Host": "evil.example.org"})
        assert elsewhere.status_code == 421 or not elsewhere.content  # Caddy has no site of that name


async def test_a_client_cannot_choose_the_address_that_its_failures_count_for(front: Front) -> None:
    async with front.client("cdna_made_up") as http:
        statuses = [
            (await http.post("/mcp", json={}, headers={"X-Forwarded-For": f"192.0.2.{number}"})).status_code
            for number in range(3 * FAILURES_MAX)
        ]
    if front.place.folder.name == "contextdna":
        assert set(statuses) == {401}  # the test itself is where a proxy is trusted
    else:
        assert statuses[-1] == 429


@pytest.mark.parametrize(("kind", "era"), ROUTES)
async def test_a_server_that_ends_is_not_missed(
    deployment: Deployment, front: Front, kind: str, era: str, word: str
) -> None:
    deployment.servers[0].terminate()
    deployment.servers[0].wait(DEADLINE_S)
    async with front.client() as http:
        with anyio.fail_after(DEADLINE_S):
            for _ in range(
                3
            ):  # Caddy goes on to the next with a body only from 2.12 on; else its health check tells it
                while (await http.post("/mcp", json=[])).status_code == 502:  # noqa: ASYNC110
                    await anyio.sleep(0.05)
    async with visiting(front, kind, era) as client:
        assert not (await client.call_tool("store_memory", {"content": f"The buoy {word} is lit."})).is_error
        assert len(await contents(client, word)) == 1
