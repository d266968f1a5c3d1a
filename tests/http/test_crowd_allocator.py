"""Many open streams are served with memory that can be given back, and few with Python's own."""

import ctypes
import os
import subprocess
import sys

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from contextdna_server.http.crowd_allocator import CROWD_MIN, CrowdAllocator
from contextdna_server.http.open_requests import OpenRequests
from tests.http.asgi import credential

pytestmark = pytest.mark.anyio

_EXCHANGED = """
import ctypes, gc, sys, tracemalloc
from contextdna_server.http.crowd_allocator import allocator_switch

switch = allocator_switch()
if switch is None:
    sys.exit("none")

def name():
    return ctypes.pythonapi._PyMem_GetCurrentAllocatorName()

def some():
    return [{str(number): [number, bytes(number % 600)]} for number in range(20_000)]

def grow(lists):
    for number, one in enumerate(lists):
        one[str(number)].extend(range(number % 50))

of_python = some()
switch(True)
mixed = name()
of_c = some()
grow(of_python)
del of_python[::2]
switch(False)
own = name()
grow(of_c)
del of_python, of_c[::2]
switch(True)
del of_c
gc.collect()
tracemalloc.start()
switch(False)
traced = some()
tracing = tracemalloc.get_traced_memory()[0] > 1_000_000
tracemalloc.stop()
del traced
print(mixed, own, tracing)
"""


async def _respond_never(_scope: Scope, receive: Receive, _send: Send) -> None:
    await receive()


async def _leave() -> dict[str, str]:
    await anyio.sleep_forever()
    raise AssertionError


async def _send(_message: object) -> None:
    """Take nothing."""


def test_a_crowd_begins_with_many_streams_and_is_over_with_half_of_them() -> None:
    switched: list[tuple[int, bool]] = []
    now = 0
    crowd = CrowdAllocator(lambda is_crowd: switched.append((now, is_crowd)))
    for now in (*range(CROWD_MIN + 3), *range(CROWD_MIN + 3, -1, -1), CROWD_MIN // 2, CROWD_MIN):
        crowd.note(now)
    assert switched == [(CROWD_MIN, True), (CROWD_MIN // 2 - 1, False), (CROWD_MIN, True)]


def test_where_allocators_cannot_be_exchanged_a_crowd_is_served_as_ever() -> None:
    CrowdAllocator(None).note(CROWD_MIN)


async def test_streams_are_counted_and_calls_are_not() -> None:
    switched: list[bool] = []

    async def still_good(_scope: Scope) -> None:
        """Judge nothing."""

    requests = OpenRequests(_respond_never, still_good, CrowdAllocator(switched.append))
    async with anyio.create_task_group() as tasks:
        for method in ["POST"] * CROWD_MIN + ["GET"] * (CROWD_MIN - 1):
            message = {"method": "tools/call"} if method == "POST" else None
            state = {"credential": credential(), "message": message}
            scope: Scope = {"type": "http", "method": method, "state": state}
            tasks.start_soon(requests, scope, _leave, _send)
        await anyio.wait_all_tasks_blocked()
        assert switched == []
        state = {"credential": credential()}
        tasks.start_soon(requests, {"type": "http", "method": "GET", "state": state}, _leave, _send)
        await anyio.wait_all_tasks_blocked()
        assert switched == [True]
        tasks.cancel_scope.cancel()
    assert switched == [True, False]


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="there is glibc only on Linux"
)
@pytest.mark.parametrize(
    ("allocator", "told"), [("", "None b'pymalloc' True"), ("malloc", "none"), ("pymalloc_debug", "none")]
)
def test_memory_of_either_allocator_is_resized_and_freed_whichever_is_in_use(allocator: str, told: str) -> None:
    environment = {**os.environ, "PYTHONMALLOC": allocator}
    ended = subprocess.run(
        [sys.executable, "-c", _EXCHANGED], env=environment, capture_output=True, text=True, check=False
    )
    assert (ended.stdout + ended.stderr).strip() == told
