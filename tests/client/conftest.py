"""Fixtures for the tests of the client."""

from pathlib import Path

import pytest

from tests.client.rig import FaultyServer


@pytest.fixture
def server(tmp_path: Path) -> FaultyServer:
    """Give a server on a folder of its own."""
    return FaultyServer(tmp_path)
