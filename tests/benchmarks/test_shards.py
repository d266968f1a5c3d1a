"""The simulation of shards hashes as PostgreSQL does, and its figures are what they are said to be."""

import json
from pathlib import Path

import asyncpg
import pytest

from benchmarks.__main__ import main
from benchmarks.postgres_hash import hashtext, shard_of
from benchmarks.shards import World, packed, shard_sizes, skew, zipf_parts
from tests.servers.postgres import postgres_url


@pytest.mark.anyio
async def test_names_are_hashed_as_by_the_server() -> None:
    names = [
        "",
        "ä",
        "default",
        *("x" * length for length in range(40)),
        *(f"project-{n}/é{n * 7919}" for n in range(500)),
    ]
    connection = await asyncpg.connect(postgres_url())
    try:
        told = await connection.fetch('SELECT hashtext(name COLLATE "C") FROM unnest($1::text[]) AS name', names)
    finally:
        await connection.close()
    assert [hashtext(name) for name in names] == [row[0] for row in told]


def test_the_range_of_the_hashes_is_cut_into_equal_parts() -> None:
    assert [shard_of(hashed, 4) for hashed in (-(2**31), -(2**30) - 1, -(2**30), -1, 0, 2**30, 2**31 - 1)] == [
        0, 0, 1, 1, 2, 3, 3
    ]  # fmt: skip
    assert shard_of(2**31 - 1, 3) == 2


def test_a_hot_project_weighs_on_its_shard_alone() -> None:
    world = World([-1, 1, 2, 3], [0.7, 0.1, 0.1, 0.1])
    assert shard_sizes(world, 2) == pytest.approx([0.7, 0.3])
    assert skew([0.7, 0.3]) == pytest.approx(1.4)
    assert sorted(packed([0.4, 0.3, 0.2, 0.1], 2)) == pytest.approx([0.5, 0.5])
    assert sum(zipf_parts(100, 1.0)) == pytest.approx(1)


def test_the_simulation_tells_what_isolating_hot_projects_gains(tmp_path: Path) -> None:
    kept = tmp_path / "found.json"
    main(["shards", "--projects", "300", "--shards", "8,16", "--nodes", "4", "--rounds", "2", "--json", str(kept)])
    rows = next(iter(json.loads(kept.read_text())["tables"].values()))
    assert len(rows) == 8
    for row in rows:
        assert row["isolated"] >= row["bound"] - 1e-9
        assert row["isolated"] <= row["nodes in turn"]
        assert row["largest shared shard %"] <= row["largest shard %"]
