"""Another user of the machine does not get what servers of an installation hand to each other."""

from __future__ import annotations

import os
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from contextdna import SettingsInvalid
from contextdna_server.http.peer_folder import is_own_socket, make_private, socket_path
from tests.http.attacked import message
from tests.http.running import running
from tests.http.test_cut_off_calls import HELLO

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="servers reach each other by sockets of Unix"),
]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder for temporary files, its path short enough for sockets; pytest has its own before that."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.fixture
def long_data(tmp_path: Path) -> Path:
    """Give a data folder with a path too long for sockets."""
    folder = tmp_path / ("a" * 90)
    folder.mkdir()
    return folder


def be_someone_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be another user than the one whom files belong to."""
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)


async def test_a_folder_that_another_user_made_gets_no_requests(
    temporary: Path, long_data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    planted = socket_path(long_data / "run", "x").parent
    planted.mkdir(mode=0o777)
    be_someone_else(monkeypatch)
    async with running(long_data) as first, running(long_data) as second, first.http(await first.token("a")) as http:
        opened = await http.post("/mcp", content=HELLO, headers={"content-type": "application/json"})
        headers = {"mcp-session-id": opened.headers["mcp-session-id"], "content-type": "application/json"}
        assert list(planted.iterdir()) == []
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(planted / f"{first.app.server_name}.sock"))
            listening.listen()
            listening.setblocking(False)
            with anyio.fail_after(10):
                there = await http.post(f"{second.url}/mcp", content=message("tools/list"), headers=headers)
            assert "store_memory" in there.text
            with pytest.raises(BlockingIOError):
                listening.accept()
    assert "peer_folder_unsafe" not in caplog.text
    assert sum("other servers cannot reach this one" in line for line in caplog.messages) == 2


async def test_servers_with_a_long_data_path_reach_each_other_in_a_folder_of_their_own(
    temporary: Path, long_data: Path
) -> None:
    async with running(long_data) as first, running(long_data) as second, first.http(await first.token("a")) as http:
        path = socket_path(long_data / "run", first.app.server_name)
        assert path.is_relative_to(temporary)
        assert is_own_socket(path)
        opened = await http.post("/mcp", content=HELLO, headers={"content-type": "application/json"})
        headers = {"mcp-session-id": opened.headers["mcp-session-id"], "content-type": "application/json"}
        gone = await http.delete(f"{second.url}/mcp", headers=headers)
        assert gone.status_code == 200, "the other one would refuse it with 405"


def test_a_folder_is_closed_to_others_and_a_link_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, link = tmp_path / "run", tmp_path / "link"
    folder.mkdir(mode=0o755)
    make_private(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    link.symlink_to(folder)
    with pytest.raises(SettingsInvalid, match="not of this user alone") as refused:
        make_private(link)
    assert refused.value.code == "peer_folder_unsafe"
    be_someone_else(monkeypatch)
    with pytest.raises(SettingsInvalid):
        make_private(folder)


async def test_a_call_whose_server_ends_in_the_middle_is_told_so(tmp_path: Path) -> None:
    json = {"content-type": "application/json"}
    async with running(tmp_path) as first:
        token = await first.token("a")
        async with first.http(token) as http:
            opened = await http.post("/mcp", content=HELLO, headers=json)
    headers = {"mcp-session-id": opened.headers["mcp-session-id"], **json}
    path = socket_path(tmp_path / "run", first.app.server_name)

    async def end(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()

    async with running(tmp_path) as second, second.http(token) as http, anyio.create_task_group() as tasks:
        async with await anyio.create_unix_listener(path) as listener:
            tasks.start_soon(listener.serve, end)
            lost = await http.post("/mcp", content=message("tools/list", call_id="c"), headers=headers)
            tasks.cancel_scope.cancel()
        path.unlink()
    said = lost.json()
    assert (lost.status_code, said["id"], said["error"]["data"]["code"]) == (503, "c", "peer_lost")
    assert said["error"]["data"]["retryable"]
