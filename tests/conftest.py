"""Settings for every test: what runs asynchronously runs on asyncio."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Name the one event loop that the product supports (its database driver is built on asyncio)."""
    return "asyncio"
