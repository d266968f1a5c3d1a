"""Hits that say the same fold into one; what differs in anything that matters does not."""

from dataclasses import replace
from datetime import timedelta

import pytest

from contextdna import ContextQuery, Detail, Hub, MemoryDraft, OnDuplicate
from tests.hub.rig import ALICE, BOB, Clock, remember

pytestmark = pytest.mark.anyio

BACKUP = "The nightly backup of the billing database to the Oslo region did succeed on Friday"
STATEMENT = "the deployment window of the billing service opens at noon"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (BACKUP, BACKUP.replace("did", "did not")),
        ("Marta reviewed Tomas code and approved the merge", "Tomas reviewed Marta code and approved the merge"),
        (f"The gateway retries 3 times, {BACKUP}", f"The gateway retries 7 times, {BACKUP}"),
        (f"the offset is 5 here, {BACKUP}", f"the offset is -5 here, {BACKUP}"),
        (f"written in C, {BACKUP}", f"written in C++, {BACKUP}"),
        (f"migrate before the switch, {BACKUP}", f"migrate after the switch, {BACKUP}"),
        (f"[ ] verify: {BACKUP}", f"[x] verify: {BACKUP}"),
        (f"the limit is 3.5 now, {BACKUP}", f"the limit is 35 now, {BACKUP}"),
        (f"die Sicherung lief, {BACKUP}", f"die Sicherung lief nie, {BACKUP}"),
        (f"is {BACKUP}?", f"is {BACKUP}."),
        (f"{'filler ' * 700} ends well", f"{'filler ' * 700} ends badly"),
        (f"it takes 10⁵ requests, {BACKUP}", f"it takes 105 requests, {BACKUP}"),
        (f"the password is Abc9, {BACKUP}", f"the password is abc9, {BACKUP}"),
        (f"ask US builds, {BACKUP}", f"ask us builds, {BACKUP}"),
        (f"the balance is (5), {BACKUP}", f"the balance is 5, {BACKUP}"),
    ],
)
async def test_statements_that_differ_are_both_shown(hub: Hub, first: str, second: str) -> None:
    alice = hub.bind(ALICE)
    stored = {await remember(alice, first), await remember(alice, second)}
    hits = (await alice.retrieve_context(ContextQuery(max_tokens=5000))).hits
    assert ({hit.record.id for hit in hits}, [hit.same_ids for hit in hits]) == (stored, [(), ()])


@pytest.mark.parametrize(
    "second",
    [
        STATEMENT + ".",
        STATEMENT.capitalize(),
        f'  "{STATEMENT.replace("billing service", "`billing` (service)")}"  ',
        STATEMENT.replace(" ", "\n"),
    ],
)
async def test_the_same_words_in_the_same_order_fold(hub: Hub, second: str) -> None:
    alice = hub.bind(ALICE)
    stored = {await remember(alice, STATEMENT), await remember(alice, second)}
    [hit] = (await alice.retrieve_context(ContextQuery())).hits
    assert {hit.record.id, *hit.same_ids} == stored


@pytest.mark.parametrize("detail", list(Detail))
async def test_nobody_stands_in_for_another(hub: Hub, detail: Detail) -> None:
    stored = {await remember(hub.bind(ALICE), STATEMENT), await remember(hub.bind(BOB), STATEMENT + ".")}
    hits = (await hub.bind(ALICE).retrieve_context(ContextQuery(detail=detail))).hits
    assert {hit.record.id for hit in hits} == stored


async def test_a_decision_does_not_vanish_behind_an_observation(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    await alice.store_memories([MemoryDraft(STATEMENT, memory_type="decision")])
    await alice.store_memories([MemoryDraft(STATEMENT, memory_type="fact")], on_duplicate=OnDuplicate.NEW)
    assert len((await alice.retrieve_context(ContextQuery())).hits) == 2


async def test_long_texts_fold_where_they_are_the_same_to_the_end(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    for end in (".", ";"):
        await remember(alice, f"{'filler ' * 700} ends well{end}")
    [hit] = (await alice.retrieve_context(ContextQuery(max_tokens=5000))).hits
    assert len(hit.same_ids) == 1


async def test_what_is_short_never_folds(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    await alice.store_memories([MemoryDraft("yes, it is"), MemoryDraft("yes, it is")], on_duplicate=OnDuplicate.NEW)
    assert len((await alice.retrieve_context(ContextQuery("yes"))).hits) == 2


@pytest.mark.parametrize("detail", list(Detail))
async def test_of_those_that_say_the_same_the_newest_is_shown(hub: Hub, clock: Clock, detail: Detail) -> None:
    alice = hub.bind(ALICE)
    old = await remember(alice, STATEMENT, importance=1.0, tags=["old"])
    clock.now += timedelta(hours=1)
    new = await remember(alice, STATEMENT + ".", importance=0.1, tags=["new"])
    await remember(alice, "what the deployment window costs", importance=0.4)
    for query in (ContextQuery(), ContextQuery("deployment window")):
        first, second = (await alice.retrieve_context(replace(query, detail=detail))).hits
        assert (first.record.id, first.same_ids, first.content[-1]) == (new, (old,), ".")
        assert first.score >= second.score
