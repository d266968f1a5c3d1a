"""Fixtures of the tests over HTTP."""

import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from contextdna_server.commands.serve import TALKATIVE
from tests.http.attacked import Attacked, attacked
from tests.http.issuer import Issuer, local_issuer


@pytest.fixture
async def issuer(anyio_backend: str) -> AsyncIterator[Issuer]:
    """Serve an OAuth issuer."""
    async with local_issuer() as served:
        yield served


@pytest.fixture(scope="module")
async def shared_target(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Attacked]:
    """Serve one whole server to all attacks of a module."""
    async with attacked(tmp_path_factory.mktemp("data")) as served:
        yield served


@pytest.fixture
def target(shared_target: Attacked, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    """Give the server to attack, and see that no log holds a secret at the level that tells most."""
    caplog.set_level(logging.DEBUG)
    for name, least in TALKATIVE.items():  # as the product sets them
        caplog.set_level(least, logger=name)
    yield shared_target
    records = [record for phase in ("setup", "call") for record in caplog.get_records(phase)]  # here its own is empty
    shown = "\n".join(f"{record.getMessage()} {record.exc_text or ''}" for record in records if _is_on(record))
    told = {secret for secret in shared_target.secrets if secret in shown}
    assert not told


def _is_on(record: logging.LogRecord) -> bool:
    """Tell whether the product logs this: uvicorn's log of requests is off, and pytest listens to it all the same."""
    return record.name != "uvicorn.access"
