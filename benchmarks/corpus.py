"""Synthetic project notes for the benchmarks: facts in Zipf-like English prose, and questions about them.

Everything comes from the seed and the word lists below; no network and no external data.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

Item = TypeVar("Item")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SYSTEMS = _words(
    "billing gateway search ingest checkout catalog ledger mailer scheduler exporter tracker uploader crawler "
    "planner router notifier archive dashboard payroll inventory shipping identity session reporting forecast"
)
SITES = _words(
    "amber birch cedar delta ember falcon granite harbor indigo juniper kestrel lagoon maple nimbus onyx prairie "
    "quartz raven sierra tundra umber violet willow zephyr aurora basalt canyon dune estuary fjord"
)
STAGES = ("in production", "in staging", "on the training site", "for the mobile clients")
FACTS = (
    ("request timeout", "Which request timeout did we choose for {name}?", "{number} seconds"),
    ("retry policy", "How often does {name} retry a failed call?", "{number} attempts with jitter"),
    ("database", "What database does {name} keep its rows in?", "{word} cluster {number}"),
    ("owner", "Who is responsible for {name}?", "the {word} group"),
    ("rollback reason", "Why was the last release of {name} rolled back?", "a {word} regression in build {number}"),
    ("queue limit", "How many jobs may wait in the queue of {name}?", "{number} hundred jobs"),
    ("cache policy", "What is kept in the cache of {name}?", "{word} pages for {number} minutes"),
    ("alert rule", "When does {name} page the person on call?", "{number} {word} errors in a row"),
    ("port", "On what port does {name} listen?", "port 4{number}"),
    ("schema change", "Which schema change is planned for {name}?", "the {word} column of table {number}"),
    ("memory bug", "What leaked memory in {name}?", "the {word} buffer of worker {number}"),
    ("test gap", "Which case do the tests of {name} not cover?", "a {word} input of {number} lines"),
    ("deploy window", "When may {name} be deployed?", "after {number} o'clock on {word} days"),
    ("vendor", "Which vendor supplies the data of {name}?", "{word} systems, contract {number}"),
)
WORDS = _words(
    "the of to and a in is it that for was on are with as be at by this have from or we an which they one had not but "
    "what all were when there can more if out so said about into them only other time new some could these two may "
    "then do first any my now such like our over even most made after also did many before must through back where "
    "much should well team work code change test build release error data user request service model result review "
    "branch commit deploy config token cache query table index record value field batch queue worker thread process "
    "memory storage network client server response header payload schema version update feature issue ticket sprint "
    "deadline customer account report metric graph alert log trace sample budget estimate risk decision meeting note "
    "document draft agreement contract policy access permission role secret key lock limit quota pause resume restart "
    "failure success warning recovery backup restore migration rollout rollback canary patch hotfix refactor cleanup "
    "latency throughput bandwidth timeout retry delay window interval schedule calendar holiday region zone cluster "
    "node replica shard partition leader follower quorum snapshot checkpoint journal ledger balance invoice refund "
    "payment order basket catalog product price discount coupon shipment parcel carrier warehouse supplier vendor "
    "steady brittle silent noisy narrow broad shallow deep early late rapid gradual careful sudden partial complete "
    "quietly barely mostly rarely often finally nearly roughly exactly clearly usually together apart inside outside "
    "copper silver cobalt nickel marble walnut bamboo cotton velvet linen saffron ginger pepper cinnamon vanilla "
    "anchor beacon compass lantern rudder signal tunnel bridge ladder hinge lever piston valve spring magnet prism"
)
WEIGHTS = tuple(accumulate(1 / rank for rank in range(1, len(WORDS) + 1)))
MEMORIES_MAX = len(SITES) * len(SYSTEMS) * len(STAGES) * len(FACTS)


@dataclass(frozen=True, slots=True)
class Fact:
    """One memory of about 40 words, and a question that it alone answers."""

    content: str
    question: str
    statement: str  # the sentence of the content that answers the question


def facts(count: int, *, seed: int = 1) -> list[Fact]:
    """Return `count` different facts; the same seed gives the same ones.

    Args:
        count: At most `MEMORIES_MAX`.
        seed: Selects the facts and their wording.
    """
    chance = random.Random(seed)
    chosen = chance.sample(range(MEMORIES_MAX), count)
    return [_fact(chance, number) for number in chosen]


def _fact(chance: random.Random, number: int) -> Fact:
    number, kind = divmod(number, len(FACTS))
    number, stage = divmod(number, len(STAGES))
    site, system = divmod(number, len(SYSTEMS))
    name = f"the {SITES[site]} {SYSTEMS[system]} {STAGES[stage]}"
    topic, question, form = FACTS[kind]
    answer = form.format(word=chance.choice(WORDS[90:]), number=chance.randint(2, 998))
    statement = f"The {topic} of {name} is {answer}."
    return Fact(f"{_prose(chance)} {statement} {_prose(chance)}", question.format(name=name), statement)


def _prose(chance: random.Random) -> str:
    words = chance.choices(WORDS, cum_weights=WEIGHTS, k=chance.randint(10, 16))
    return f"{' '.join(words).capitalize()}."


def batches(stored: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Cut into parts of at most `size`, in order."""
    return (stored[start : start + size] for start in range(0, len(stored), size))
