"""Places for subscriptions are each caller's own, and connections that nobody hears give theirs to others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contextdna_server import subscriptions
from tests.http.attacked import Attacked, attacked, message
from tests.http.test_cut_off_calls import HELLO

pytestmark = pytest.mark.anyio

ALPHA = "contextdna://projects/alpha"
URIS = (ALPHA, f"{ALPHA}/agents", f"{ALPHA}/artifacts")


@pytest.fixture
async def crowded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Attacked]:
    """Serve a server with room for two subscriptions."""
    monkeypatch.setattr(subscriptions, "SUBSCRIPTIONS_MAX", 2)
    async with attacked(tmp_path) as served:
        yield served


class Connection:
    """A connection of the 2025 era."""

    def __init__(self, target: Attacked, token: str, name: str) -> None:
        self.headers = {"mcp-session-id": name, "authorization": f"Bearer {token}"}
        self._target = target
        self._token = token

    @classmethod
    async def opened(cls, target: Attacked, token: str) -> Connection:
        return cls(target, token, (await target.send(token, HELLO)).headers["mcp-session-id"])

    async def subscribe(self, uri: str) -> str:
        """Subscribe; gives the code of a refusal."""
        body = message("resources/subscribe", uri=uri)
        return (await self._target.send(self._token, body, headers=self.headers)).code


async def test_a_connection_that_nobody_ever_heard_makes_room(crowded: Attacked) -> None:
    token = await crowded.token("maria")
    for _ in range(3):
        connection = await Connection.opened(crowded, token)
        assert [await connection.subscribe(uri) for uri in URIS[:2]] == ["", ""]
    assert await connection.subscribe(URIS[2]) == "subscriptions_too_many", "its own stay: its stream may come yet"


async def test_a_connection_with_a_stream_keeps_its_places_and_one_without_it_for_a_while(
    crowded: Attacked, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await crowded.token("maria")
    first, second = [await Connection.opened(crowded, token) for _ in range(2)]
    async with crowded.http.stream("GET", "/mcp", headers=first.headers):
        assert [await first.subscribe(uri) for uri in URIS[:2]] == ["", ""]
        assert await second.subscribe(ALPHA) == "subscriptions_too_many"
    assert await second.subscribe(ALPHA) == "subscriptions_too_many"
    monkeypatch.setattr(subscriptions, "LOST_S", 0.0)
    assert await second.subscribe(ALPHA) == ""


async def test_an_agent_of_the_same_name_in_another_project_has_places_of_its_own(crowded: Attacked) -> None:
    connection = await Connection.opened(crowded, await crowded.token("maria"))
    async with crowded.http.stream("GET", "/mcp", headers=connection.headers):
        assert [await connection.subscribe(uri) for uri in URIS[:2]] == ["", ""]
        other = await Connection.opened(crowded, await crowded.token("maria", projects=["beta"]))
        assert await other.subscribe("contextdna://projects/beta") == ""
