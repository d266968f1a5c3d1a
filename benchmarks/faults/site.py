"""A whole installation of one's own: servers of the product, and all that they lean on behind relays."""

import asyncio
import random
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.faults.agents import Agent, caller_of
from benchmarks.faults.dependencies import Dependency, PostgresServer, Program, RedisServer, S3Server
from benchmarks.faults.relay import Relay, free_port, is_open, relayed
from benchmarks.faults.volumes import Volume, small_volume
from contextdna import AgentId, HubSettings, Principal, ProjectId, Role, TokenRequest, Workspace, open_hub

PROJECT = ProjectId("default")
AGENTS_EACH = 3
"""Agents of each server."""
DEADLINES: Mapping[str, str] = {
    "CONTEXTDNA_STORAGE__POSTGRES__ACQUIRE_TIMEOUT_S": "2",
    "CONTEXTDNA_STORAGE__POSTGRES__STATEMENT_TIMEOUT_S": "2",
    "CONTEXTDNA_STORAGE__S3__CONNECT_TIMEOUT_S": "1",
    "CONTEXTDNA_STORAGE__S3__READ_TIMEOUT_S": "1",
    "CONTEXTDNA_STORAGE__S3__DEADLINE_S": "3",
    "CONTEXTDNA_SQLITE__BUSY_TIMEOUT_S": "2",
}
"""Shorter than the defaults, so that a fault of some seconds outlasts them."""
_DATABASE_MIB, _DATA_MIB = 200, 96


class ProductServer:
    """One process of ``contextdna serve --http``, on a port that it has again after a restart."""

    def __init__(self, data: Path, log: Path, environment: Mapping[str, str]) -> None:
        self.port = free_port()
        address = f"127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "contextdna_server", "serve", "--http", address, "--tools", "full"]
        self.program = Program([*command, "--data", data], log, environment={**DEADLINES, **environment})

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.program.start(lambda: is_open(self.port))


@dataclass(frozen=True, slots=True)
class Site:
    """What a fault happens to."""

    servers: tuple[ProductServer, ...]
    data: Volume
    """Where the first server's data folder is."""
    operator: HubSettings
    """Opens the same data, past all relays."""
    tokens: tuple[str, ...]
    relays: Mapping[str, Relay]
    dependencies: Mapping[str, Dependency]
    database_disk: Volume | None = None

    def agents(self, dice: random.Random) -> list[Agent]:
        """Make the agents of all servers, each with a connection to its own and to another one."""
        made = []
        for number, token in enumerate(self.tokens[:-1]):
            own, other = (self.servers[(number + step) % len(self.servers)].port for step in (0, 1))
            one = Agent(f"agent-{number}", caller_of(own, token), caller_of(other, token), random.Random(dice.random()))
            made.append(one)
        return made

    @asynccontextmanager
    async def operated(self) -> AsyncIterator[Workspace]:
        """Open the installation as its operator does."""
        async with open_hub(self.operator) as hub:
            operator = Principal(AgentId("operator"), (PROJECT,), role=Role.SYSTEM)
            yield hub.bind(operator, project_id=PROJECT)


@asynccontextmanager
async def small_site(dice: random.Random) -> AsyncIterator[Site]:  # noqa: ARG001 - as the other one
    """Run two servers on one data folder: SQLite and local files."""
    async with AsyncExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cdna-faults-")))
        volume = stack.enter_context(small_volume(_DATA_MIB))
        data = volume.folder / "data"
        servers = tuple(ProductServer(data, _folder(logs, f"server-{number}"), {}) for number in (1, 2))
        site = Site(servers, volume, HubSettings(data_dir=data), (), {}, {})
        yield await _started(stack, site)


@asynccontextmanager
async def large_site(dice: random.Random) -> AsyncIterator[Site]:
    """Run two servers, each with a data folder of its own, on PostgreSQL, Redis and S3."""
    async with AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cdna-faults-")))
        scratch.chmod(0o755)  # noqa: ASYNC240 - before anything runs
        disk = stack.enter_context(small_volume(_DATABASE_MIB))
        data = stack.enter_context(small_volume(_DATA_MIB))
        postgres = await asyncio.to_thread(PostgresServer, _folder(disk.folder, "postgres"))
        redis, s3 = RedisServer(_folder(scratch, "redis")), S3Server(_folder(scratch, "s3"))
        dependencies: dict[str, Dependency] = {"postgres": postgres, "redis": redis, "s3": s3}
        for one in dependencies.values():
            stack.callback(one.kill)
        await asyncio.gather(*(asyncio.to_thread(one.start) for one in dependencies.values()))
        await asyncio.to_thread(postgres.make_database)
        await asyncio.to_thread(s3.make_bucket)
        relays = {name: await stack.enter_async_context(relayed(one.port, dice)) for name, one in dependencies.items()}
        key = secrets.token_hex(32)
        environment = {
            "CONTEXTDNA_MASTER_KEY": key,
            "CONTEXTDNA_STORAGE__DATABASE": postgres.url(relays["postgres"].port),
            "CONTEXTDNA_STORAGE__CACHE": redis.url(relays["redis"].port),
            "CONTEXTDNA_STORAGE__ARTIFACTS": s3.url(relays["s3"].port),
        }
        folders = (data.folder / "data", scratch / "data-2")
        servers = tuple(
            ProductServer(folder, _folder(scratch, f"server-{number}"), environment)
            for number, folder in enumerate(folders, 1)
        )
        operator = HubSettings(
            data_dir=scratch / "operator",
            master_key=key,
            database=postgres.url(postgres.port),
            artifacts=s3.url(s3.port),
            spool=False,
        )
        site = Site(servers, data, operator, (), relays, dependencies, disk)
        yield await _started(stack, site)


async def _started(stack: AsyncExitStack, site: Site) -> Site:
    """Make the installation, a token for each agent and one for who asks for the health, and start the servers."""
    async with site.operated() as workspace:
        wanted = [f"agent-{number}" for number in range(AGENTS_EACH * len(site.servers))]
        tokens = [
            (await workspace.access_tokens.create(TokenRequest(AgentId(name), (PROJECT,)))).text
            for name in (*wanted, "watcher")
        ]
    for server in site.servers:
        stack.callback(server.program.kill)
    await asyncio.gather(*(asyncio.to_thread(server.start) for server in site.servers))
    return replace(site, tokens=tuple(tokens))


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir(mode=0o755)
    return folder


SITES = {"small": small_site, "large": large_site}
