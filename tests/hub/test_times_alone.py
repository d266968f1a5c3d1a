"""A question that states a time and asks for nothing in particular is answered with what is of that time."""

from datetime import UTC, datetime, timedelta

import pytest

from contextdna import Context, ContextQuery, Hub, Level, Workspace
from tests.hub.rig import ALICE, BOB, START, Clock, remember

pytestmark = pytest.mark.anyio

TODAY, YESTERDAY, BEFORE = "bills were paid", "Anna joined", "we chose Postgres"
ONLY_TIME = "of its time first, then recent and important: the query states only a time"


async def three_days(workspace: Workspace, clock: Clock) -> None:
    """Store one memory on each of three days; the oldest is the most important."""
    for text, day, importance in ((BEFORE, 2, 1.0), (YESTERDAY, 1, 0.2), (TODAY, 0, 0.1)):
        clock.now = START - timedelta(days=day)
        await remember(workspace, text, importance=importance)


async def ask(hub: Hub, text: str, **fields: object) -> Context:
    return await hub.bind(ALICE).retrieve_context(ContextQuery(text, **fields))  # type: ignore[arg-type]


async def found(hub: Hub, text: str, **fields: object) -> list[str]:
    return [hit.content for hit in (await ask(hub, text, **fields)).hits]


@pytest.mark.parametrize(
    "text",
    [
        "today",
        "What happened today?",
        "what did we do today?",
        "Please tell me what was decided today",
        "Was haben wir heute gemacht?",
        "qu'avons-nous fait aujourd'hui ?",
        "¿Qué hicimos hoy?",
        "2026-03-01",
        "what is known since 2026-03-01?",
    ],
)
async def test_what_is_of_the_time_comes_first_and_says_so(hub: Hub, clock: Clock, text: str) -> None:
    await three_days(hub.bind(ALICE), clock)
    hits = (await ask(hub, text)).hits
    assert [hit.content for hit in hits] == [TODAY, BEFORE, YESTERDAY]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(ONLY_TIME in hit.why for hit in hits)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("what is new since yesterday?", {TODAY, YESTERDAY}),
        ("what did we learn in the last 3 days", {TODAY, YESTERDAY, BEFORE}),
        ("What happened before 2026-02-28?", {BEFORE}),
        ("was passierte gestern", {YESTERDAY}),
        ("what was stored in February 2026?", {YESTERDAY, BEFORE}),
    ],
)
async def test_times_of_all_sorts_prefer_their_records(hub: Hub, clock: Clock, text: str, first: set[str]) -> None:
    await three_days(hub.bind(ALICE), clock)
    contents = await found(hub, text)
    assert set(contents[: len(first)]) == first
    assert len(contents) == 3


async def test_old_records_of_a_time_come_before_any_number_of_newer_ones(hub: Hub, clock: Clock) -> None:
    clock.now = START - timedelta(days=90)
    await remember(hub.bind(ALICE), "the move to the new office", importance=0.0)
    clock.now = START
    for number in range(120):
        await remember(hub.bind(ALICE), f"note {number} of now", importance=1.0)
    assert (await found(hub, "what happened on 2025-12-01?"))[0] == "the move to the new office"


async def test_a_text_that_holds_the_date_is_found_whenever_it_was_stored(hub: Hub, clock: Clock) -> None:
    alice = hub.bind(ALICE)
    await three_days(alice, clock)
    clock.now = datetime(2026, 6, 1, tzinfo=UTC)
    await remember(alice, "deployed on 2026-02-28 without a fault")
    await remember(alice, "the November 2025 report is lost")
    hits = (await ask(hub, "2026-02-28")).hits
    assert [hit.content for hit in hits[:2]] == ["deployed on 2026-02-28 without a fault", YESTERDAY]
    assert any(reason.endswith("2026, 02, 28") for reason in hits[0].why)
    assert (await found(hub, "November 2025"))[0] == "the November 2025 report is lost"
    assert (await found(hub, "What happened in November 2025?"))[0] == "the November 2025 report is lost"


async def test_filters_hold_beside_a_time(hub: Hub, clock: Clock) -> None:
    await three_days(hub.bind(ALICE), clock)
    assert await found(hub, "what happened since yesterday?", until=START) == [YESTERDAY, BEFORE]
    assert await found(hub, "today", until=START - timedelta(days=1)) == [BEFORE]
    assert await found(hub, "yesterday", min_importance=0.5) == [BEFORE]


async def test_where_more_is_asked_for_its_words_decide(hub: Hub, clock: Clock) -> None:
    await three_days(hub.bind(ALICE), clock)
    assert await found(hub, "what happened with Postgres today?") == [BEFORE]
    assert await found(hub, 'what happened "today"') == []
    assert await found(hub, "quasars yesterday") == []


async def test_what_is_hidden_stays_so_and_what_is_briefed_is_of_the_time(hub: Hub, clock: Clock) -> None:
    await three_days(hub.bind(ALICE), clock)
    await remember(hub.bind(BOB), "bob's own secret of 2026-03-01", level=Level.PRIVATE)
    for text in ("today", "2026-03-01"):
        assert await found(hub, text) == [TODAY, BEFORE, YESTERDAY]
