"""How evenly projects lie on the shards and nodes of a distributed PostgreSQL, and what hot projects do to that.

Nothing is stored: names of projects are hashed as PostgreSQL hashes them, their sizes follow Zipf's law with different
exponents, and shards are put on nodes. A project is never split, so the largest one is a bound that no number of
shards moves. `skew` is the largest by the mean: 1 is even, 2 means that one carries twice its part.
"""

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from statistics import fmean

from benchmarks.postgres_hash import hashtext, shard_of
from benchmarks.report import Report, Row

_NOTES = (
    "shards: memories in shards; nodes in turn: shards put on nodes one after the other, as they are made; by size: as",
    "the rebalancer moves them by the size on disk; isolated: hot projects have shards of their own, and then by size.",
    "A node's skew can be no less than the largest project's part times the nodes: see the column bound.",
)


@dataclass(frozen=True, slots=True)
class World:
    """Projects by their hashes, the largest first, and what part of all memories each holds."""

    hashes: Sequence[int]
    parts: Sequence[float]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--projects", type=int, default=20_000)
    parser.add_argument("--shards", default="32,64,128", metavar="NUMBERS")
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--exponents", default="0.6,0.8,1.0,1.2", metavar="NUMBERS", help="of Zipf's law")
    parser.add_argument("--hot", type=int, default=10, help="so many of the largest projects get shards of their own")
    parser.add_argument("--rounds", type=int, default=5, help="with other names of projects each")
    parser.add_argument("--seed", type=int, default=1)


def run(options: argparse.Namespace) -> Report:
    """Simulate.

    Raises:
        ValueError: A number is not usable.
    """
    counts = [int(part) for part in options.shards.split(",")]
    exponents = [float(part) for part in options.exponents.split(",")]
    if min(*counts, options.nodes, options.projects, options.rounds) < 1 or options.hot < 0:
        raise ValueError("projects, shards, nodes and rounds must be 1 or more")
    chance = random.Random(options.seed)
    names = [
        [hashtext(f"project-{chance.randrange(10**9):09}") for _ in range(options.projects)]
        for _ in range(options.rounds)
    ]
    rows = [
        _row(shards, exponent, [World(hashes, zipf_parts(len(hashes), exponent)) for hashes in names], options)
        for exponent in exponents
        for shards in counts
    ]
    title = f"{options.projects:,} projects on {options.nodes} nodes, skew"
    return Report(
        {title: rows, "a hot project": [_hot(options.nodes, share) for share in (0.01, 0.05, 0.1, 0.2)]}, _NOTES
    )


def zipf_parts(count: int, exponent: float) -> list[float]:
    """Give the parts of projects by rank."""
    weights = [rank**-exponent for rank in range(1, count + 1)]
    whole = sum(weights)
    return [weight / whole for weight in weights]


def _row(shards: int, exponent: float, worlds: Sequence[World], options: argparse.Namespace) -> Row:
    found = [_measured(world, shards, options.nodes, options.hot) for world in worlds]
    return {
        "exponent": exponent,
        "shards": shards,
        "largest project %": 100 * worlds[0].parts[0],
        "largest shard %": 100 * fmean(one.largest_shard for one in found),
        "shards skew": fmean(one.shards for one in found),
        "nodes in turn": fmean(one.in_turn for one in found),
        "by size": fmean(one.by_size for one in found),
        "isolated": fmean(one.isolated for one in found),
        "bound": max(1.0, worlds[0].parts[0] * options.nodes),
        "largest shared shard %": 100 * fmean(one.largest_shared for one in found),
    }


@dataclass(frozen=True, slots=True)
class Measured:
    """What one world gave."""

    largest_shard: float
    shards: float
    in_turn: float
    by_size: float
    isolated: float
    largest_shared: float
    """The largest shard of more than one project, once hot ones are isolated."""


def _measured(world: World, shards: int, nodes: int, hot: int) -> Measured:
    sizes = shard_sizes(world, shards)
    shared = shard_sizes(World(world.hashes[hot:], world.parts[hot:]), shards)
    return Measured(
        largest_shard=max(sizes),
        shards=skew(sizes),
        in_turn=skew([sum(sizes[node::nodes]) for node in range(nodes)]),
        by_size=skew(packed(sizes, nodes)),
        isolated=skew(packed([*world.parts[:hot], *shared], nodes)),
        largest_shared=max(shared),
    )


def shard_sizes(world: World, shards: int) -> list[float]:
    """Give what part of all memories lies in each shard."""
    sizes = [0.0] * shards
    for hashed, part in zip(world.hashes, world.parts, strict=True):
        sizes[shard_of(hashed, shards)] += part
    return sizes


def packed(sizes: Sequence[float], nodes: int) -> list[float]:
    """Put shards on nodes, the largest first, each where least is; gives what each node holds."""
    heap = [(0.0, node) for node in range(nodes)]
    for size in sorted(sizes, reverse=True):
        held, node = heappop(heap)
        heappush(heap, (held + size, node))
    return [held for held, _ in heap]


def skew(sizes: Sequence[float]) -> float:
    """Give the largest by the mean."""
    return max(sizes) / fmean(sizes)


def _hot(nodes: int, share: float) -> Row:
    """Tell what one project with a part of all calls does to its node, where the others are even."""
    beside = (1 - share) / nodes
    return {
        "part of all calls %": 100 * share,
        "its node, in times the mean": (share + beside) * nodes,
        "with a node of its own": max(share, (1 - share) / (nodes - 1)) * nodes if nodes > 1 else 1.0,
    }
