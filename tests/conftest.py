"""Settings for every test: what runs asynchronously runs on asyncio, and Hypothesis measures no time."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

if sys.dont_write_bytecode:
    # Asked to leave none beside the sources, Python keeps it in the folder of pytest's cache: else each process of each
    # run, and many that tests start, compile all that they import.
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    sys.dont_write_bytecode = False
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")  # a busy machine is no failure


def pytest_xdist_auto_num_workers() -> int:
    """Give one process more than there are cores: tests of servers and clients wait for each other a good deal."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Name the one event loop that the product supports (its database driver is built on asyncio)."""
    return "asyncio"
