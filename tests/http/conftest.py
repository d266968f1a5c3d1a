"""Fixtures of the tests over HTTP."""

from collections.abc import AsyncIterator

import pytest

from tests.http.issuer import Issuer, local_issuer


@pytest.fixture
async def issuer(anyio_backend: str) -> AsyncIterator[Issuer]:
    """Serve an OAuth issuer."""
    async with local_issuer() as served:
        yield served
