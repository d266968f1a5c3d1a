"""Settings for every test: what runs asynchronously runs on asyncio, and Hypothesis measures no time."""

import os

import pytest
from hypothesis import HealthCheck, settings

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
