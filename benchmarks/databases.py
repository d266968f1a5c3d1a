"""Databases of `zipf` texts: the product's and the floor's side by side, kept between runs where one wants that."""

import asyncio
import hashlib
import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import contextdna
from benchmarks import zipf
from benchmarks.fts_floor import write_floor
from benchmarks.progress import show_progress
from contextdna import AgentId, HubSettings, MemoryDraft, Principal, ProjectId, Role, open_hub

PROJECTS = tuple(ProjectId(name) for name in zipf.SHARES)
AUTHOR = Principal(AgentId("author"), PROJECTS)
SYSTEM = Principal(AgentId("operator"), PROJECTS, role=Role.SYSTEM)
AGENT = Principal(AgentId("reader"), PROJECTS)

_BATCH = 100
_SAMPLED_MAX = 2000
_FLOOR_FILE = "floor.db"
_CORPUS_FILE = "corpus.json"
_SUFFIXES = {"k": 1_000, "m": 1_000_000}


@dataclass(frozen=True, slots=True)
class Database:
    """A folder with both databases, and some texts of the largest project to ask about."""

    folder: Path
    memories: int
    sampled: tuple[str, ...]

    @property
    def floor(self) -> Path:
        """The floor's database file."""
        return self.folder / _FLOOR_FILE


def sizes(text: str) -> list[int]:
    """Read numbers of memories: `1k,10k,1m`."""
    return [size(part) for part in text.split(",")]


def size(text: str) -> int:
    """Read a number of memories: `500`, `10k`, `1m`."""
    unit = _SUFFIXES.get(text[-1:].lower(), 1)
    return int(text if unit == 1 else text[:-1]) * unit


def settings_of(folder: Path) -> HubSettings:
    """Give the settings that open the product's database."""
    return HubSettings(data_dir=folder, projects=PROJECTS)


@contextmanager
def database(memories: int, *, keep: Path | None) -> Iterator[Database]:
    """Give a database that may be written to and is gone afterwards; with `keep`, the copy of one that stays there."""
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=keep, prefix="run-") as scratch:
        folder = Path(scratch) / "data"
        if keep:
            shutil.copytree(_built(keep / f"zipf-{memories}", memories), folder)
        else:
            _built(folder, memories)
        corpus = json.loads((folder / _CORPUS_FILE).read_text(encoding="utf-8"))
        yield Database(folder, memories, tuple(corpus["sampled"]))


def _built(folder: Path, memories: int) -> Path:
    """Build both databases, where the folder does not hold them as they would be built now."""
    made_by, corpus = _maker(), folder / _CORPUS_FILE
    if corpus.exists() and json.loads(corpus.read_text(encoding="utf-8"))["made_by"] == made_by:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    asyncio.run(_fill(folder, memories))
    write_floor(folder / _FLOOR_FILE, zipf.placed_texts(memories))
    largest = (text for project, text in zipf.placed_texts(memories) if project == zipf.LARGEST)
    step = max(int(memories * zipf.SHARES[zipf.LARGEST]) // _SAMPLED_MAX, 1)
    found = {"made_by": made_by, "sampled": list(islice(largest, 0, step * _SAMPLED_MAX, step))}
    corpus.write_text(json.dumps(found), encoding="utf-8")  # the last step: without it, all is built anew
    return folder


def _maker() -> str:
    """Name what decides how a database looks: the corpus and the schema."""
    migrations = Path(contextdna.__file__).parent / "backends" / "sql" / "sqlite" / "migrations"
    files = [Path(zipf.__file__), *sorted(migrations.glob("*.up.sql"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


async def _fill(folder: Path, memories: int) -> None:
    waiting: dict[str, list[MemoryDraft]] = defaultdict(list)
    async with open_hub(settings_of(folder)) as hub:
        workspaces = {project: hub.bind(AUTHOR, project_id=project) for project in PROJECTS}
        for number, (project, text) in enumerate(zipf.placed_texts(memories), start=1):
            waiting[project].append(MemoryDraft(text))
            if len(waiting[project]) == _BATCH:
                await workspaces[ProjectId(project)].store_memories(waiting.pop(project))
                show_progress("storing", number, memories)
        for project, drafts in waiting.items():
            await workspaces[ProjectId(project)].store_memories(drafts)
    show_progress("storing", memories, memories)
