"""An S3-compatible server for the tests: one for all processes of a run, a bucket for each; and one to be mistreated.

It is the endpoint that ``CONTEXTDNA_TEST_S3_URL`` names (credentials as the SDK finds them), else moto's server,
started here. Where none can run, the tests that want one are skipped, loudly; with ``CI`` set they fail.
"""

import atexit
import contextlib
import json
import os
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, Final

import boto3
import pytest

from contextdna.backends.s3 import S3Calls
from contextdna.values.object_place import ObjectStore
from contextdna.values.settings import S3Settings
from tests.servers.kept import CannotRun, folder_of_run, give_up, keep, started_once

URL_VARIABLE: Final = "CONTEXTDNA_TEST_S3_URL"
_START_DEADLINE_S: Final = 60
_CREDENTIALS: Final = {
    "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
    "AWS_SECRET_ACCESS_KEY": "the-secret-of-the-tests",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
_SCRIPT: Final = Path(__file__).with_name("s3_server.py")
_NUMBERS: Final = count(1)


def s3_endpoint() -> str:
    """Give the URL of an endpoint where buckets may be made, started where needed; once for each process.

    Where none can run, the test is skipped, or fails with ``CI`` set.
    """
    try:
        return _endpoint()
    except CannotRun as why:
        give_up("S3", why)


def is_ours() -> bool:
    """Tell whether the server is one that does what tests ask of it."""
    return URL_VARIABLE not in os.environ


def empty_store() -> ObjectStore:
    """Give a place in this process's own bucket where nothing lies."""
    return ObjectStore(_bucket(), f"p{next(_NUMBERS)}/", s3_endpoint())


def store_url(store: ObjectStore) -> str:
    """Write a place as the setting does."""
    return f"s3://{store.bucket}/{store.prefix}?endpoint_url={store.endpoint_url}"


def raw_client(endpoint: str = "") -> Any:
    """Give a client of the tests' own, to look behind the backend."""
    return _raw_client(endpoint or s3_endpoint())


@cache
def _raw_client(endpoint: str) -> Any:
    return boto3.session.Session().client("s3", endpoint_url=endpoint, region_name="us-east-1")


_CLIENTS: Final[dict[tuple[str, S3Settings], Any]] = {}


@asynccontextmanager
async def opened(store: ObjectStore, settings: S3Settings = S3Settings()) -> AsyncIterator[S3Calls]:  # noqa: B008
    """Open calls of a place. A client takes half a second to be made: those that are alike are one, for all tests."""
    calls = S3Calls(store, settings)
    kind = (store.endpoint_url, replace(S3Settings(), **_timing(settings)))
    calls._client = _CLIENTS.get(kind)
    yield calls
    if calls._client is not None:
        _CLIENTS[kind] = calls._client


@cache
def _bucket() -> str:
    name = f"contextdna-test-{os.getpid()}-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    raw_client().create_bucket(Bucket=name)
    if not is_ours():
        atexit.register(_remove, name)
    return name


def _remove(bucket: str) -> None:
    client = raw_client()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for found in page.get("Contents", ()):
            client.delete_object(Bucket=bucket, Key=found["Key"])
    client.delete_bucket(Bucket=bucket)


@cache
def _endpoint() -> str:
    named = os.environ.get(URL_VARIABLE)
    if named:
        return named
    _require_moto()
    return started_once(_folder(), _start)


def _start(folder: Path) -> str:
    ready = folder / "url"
    keep(folder, [sys.executable, _SCRIPT, ready])
    _wait_for(ready)
    return ready.read_text()


def _folder() -> Path:
    return folder_of_run("s3")


def _require_moto() -> None:
    if sys.platform == "win32":
        raise CannotRun("the tests start a server on POSIX systems only")
    if find_spec("moto") is None or find_spec("flask") is None:
        raise CannotRun("moto with flask is not installed")
    os.environ.update(_CREDENTIALS)


def _wait_for(ready: Path) -> None:
    deadline = time.monotonic() + _START_DEADLINE_S
    while not ready.exists():
        if time.monotonic() > deadline:
            raise CannotRun("the server did not start")
        time.sleep(0.02)


class OwnServer:
    """A server of a test's own, which may be killed and stopped; a copy of the common one, without its objects."""

    def __init__(self) -> None:
        s3_endpoint()
        lender = _folder() / "lender"
        if not lender.exists():
            pytest.skip("servers to be mistreated are copies of the tests' own server only")
        self._lease = socket.socket(socket.AF_UNIX)
        self._lease.connect(str(lender))
        with self._lease.makefile() as told:
            self._pid, self.endpoint = json.loads(told.readline())

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """Let it hang for a while: it takes connections and says nothing."""
        os.kill(self._pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once; it is gone when this returns."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        with self._lease, contextlib.suppress(OSError):
            self._lease.recv(1)


class Faults:
    """What goes wrong with the requests about a bucket, at our own server."""

    def __init__(self, store: ObjectStore) -> None:
        if not is_ours():
            pytest.skip("faults are injected by the tests' own server only")
        self._store = store

    def add(self, method: str, target: str = "", **fault: Any) -> None:
        """Let the next requests fail: ``times``, by ``status`` and ``code``, ``damage`` or ``pause_s``."""
        _ask(self._store, "/-/faults", {"bucket": self._store.bucket, "method": method, "target": target, **fault})

    def clear(self) -> None:
        """Let nothing fail any more."""
        _ask(self._store, "/-/faults", {"bucket": self._store.bucket, "clear": True})

    def requests(self) -> list[str]:
        """Give the methods of what was asked about this place, in order; of parts and uploads with their query."""
        told = _ask(self._store, f"/-/log?bucket={self._store.bucket}")
        return [method for method, path, _ in told if path.startswith(f"/{self._store.bucket}/{self._store.prefix}")]


def _ask(store: ObjectStore, path: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"{store.endpoint_url}{path}", data=data, timeout=10) as answer:  # noqa: S310 - ours
        return json.load(answer)


def share_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let those that the product opens be shared, too."""
    make = S3Calls._make

    def shared(calls: S3Calls, endpoint_url: str) -> Any:
        kind = (endpoint_url, replace(S3Settings(), **_timing(calls.settings)))
        if kind not in _CLIENTS:
            _CLIENTS[kind] = make(calls, endpoint_url)
        return _CLIENTS[kind]

    monkeypatch.setattr(S3Calls, "_make", shared)


def _timing(settings: S3Settings) -> dict[str, Any]:
    names = ("connect_timeout_s", "read_timeout_s", "threads_max")
    return {name: getattr(settings, name) for name in names}
