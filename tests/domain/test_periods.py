"""A question's time is found where it is clear, and nowhere else."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextdna.domain.periods import find_period

NOW: Final = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)  # a Saturday


def found(question: str, now: datetime = NOW) -> str:
    """Give what is found as the dates, with times where there are some."""
    period = find_period(question, now=now)
    return "" if period is None else f"{_short(period.since)} to {_short(period.until)}"


def _short(at: datetime | None) -> str:
    return "" if at is None else at.isoformat(timespec="minutes").removesuffix("+00:00").removesuffix("T00:00")


@pytest.mark.parametrize(
    ("question", "dates"),
    [
        ("what did we ship on 2023-05-08?", "2023-05-08 to 2023-05-09"),
        ("logs of 2025-05-08T10:00:00Z", "2025-05-08 to 2025-05-09"),
        ("releases 2023-05", "2023-05-01 to 2023-06-01"),
        ("May 8, 2023", "2023-05-08 to 2023-05-09"),
        ("on 8 May 2023", "2023-05-08 to 2023-05-09"),
        ("the 3rd of March 2024", "2024-03-03 to 2024-03-04"),
        ("what happened on the 5th of march", "2026-03-05 to 2026-03-06"),
        ("December 24", "2025-12-24 to 2025-12-25"),
        ("what did we ship in May 2023?", "2023-05-01 to 2023-06-01"),
        ("in May", "2026-05-01 to 2026-06-01"),
        ("in December", "2025-12-01 to 2026-01-01"),
        ("on Feb 29", "2024-02-29 to 2024-03-01"),
        ("invoices March 2023", "2023-03-01 to 2023-04-01"),
        ("May 2023 invoices", "2023-05-01 to 2023-06-01"),
        ("what of the March 2023 release failed", "2023-03-01 to 2023-04-01"),
        ("last November", "2025-11-01 to 2025-12-01"),
        ("Q3 2025", "2025-07-01 to 2025-10-01"),
        ("the roadmap in Q4", "2026-10-01 to 2027-01-01"),
        ("what was decided in 2022?", "2022-01-01 to 2023-01-01"),
    ],
)
def test_dates_are_found(question: str, dates: str) -> None:
    assert found(question) == dates


@pytest.mark.parametrize(
    ("question", "dates"),
    [
        ("today", "2026-11-21 to 2026-11-22"),
        ("what did we decide yesterday?", "2026-11-20 to 2026-11-21"),
        ("the day before yesterday", "2026-11-19 to 2026-11-20"),
        ("this month", "2026-11-01 to 2026-12-01"),
        ("last week", "2026-11-09 to 2026-11-16"),
        ("last month", "2026-10-01 to 2026-11-01"),
        ("previous quarter", "2026-07-01 to 2026-10-01"),
        ("last year", "2025-01-01 to 2026-01-01"),
        ("past week", "2026-11-14T15:30 to 2026-11-21T15:30"),
        ("in the past 3 days", "2026-11-18T15:30 to 2026-11-21T15:30"),
        ("last 24 hours", "2026-11-20T15:30 to 2026-11-21T15:30"),
        ("two weeks ago", "2026-11-02 to 2026-11-09"),
        ("13 months ago", "2025-10-01 to 2025-11-01"),
        ("an hour ago", "2026-11-21T13:00 to 2026-11-21T16:00"),
        ("a few days ago", "2026-11-17 to 2026-11-20"),
        ("on Monday", "2026-11-16 to 2026-11-17"),
        ("last Saturday", "2026-11-14 to 2026-11-15"),
    ],
)
def test_relative_times_are_found(question: str, dates: str) -> None:
    assert found(question) == dates


@pytest.mark.parametrize(
    ("question", "dates"),
    [
        ("since June", "2026-06-01 to "),
        ("since yesterday", "2026-11-20 to "),
        ("after 2023-05-08", "2023-05-09 to "),
        ("before 2022", " to 2022-01-01"),
        ("until May 2023", " to 2023-06-01"),
        ("between 3 and 5 May 2023", "2023-05-03 to 2023-05-06"),
        ("from 3 to 5 July", "2026-07-03 to 2026-07-06"),
        ("from Feb 29 to March 2 2024", "2024-02-29 to 2024-03-03"),
        ("between March and May 2024", "2024-03-01 to 2024-06-01"),
        ("between November and February", "2025-11-01 to 2026-03-01"),
        ("between November and February 2024", "2023-11-01 to 2024-03-01"),
        ("from 2021 to 2023", "2021-01-01 to 2024-01-01"),
        ("between 2023-05-08 and 2023-05-10", "2023-05-08 to 2023-05-11"),
    ],
)
def test_spans_are_found(question: str, dates: str) -> None:
    assert found(question) == dates


@pytest.mark.parametrize(
    ("question", "dates"),
    [
        ("Fehler vor drei Tagen", "2026-11-18 to 2026-11-19"),
        ("Was war letzte Woche?", "2026-11-09 to 2026-11-16"),
        ("am 8. Mai 2023", "2023-05-08 to 2023-05-09"),
        ("im März", "2026-03-01 to 2026-04-01"),
        ("seit Juni", "2026-06-01 to "),
        ("la semaine dernière", "2026-11-09 to 2026-11-16"),
        ("la semaine passée", "2026-11-09 to 2026-11-16"),
        ("vom 3. bis 5. Mai 2023", "2023-05-03 to 2023-05-06"),
        ("du 3 au 5 mai 2023", "2023-05-03 to 2023-05-06"),
        ("del 3 al 5 de mayo de 2023", "2023-05-03 to 2023-05-06"),
        ("il y a deux semaines", "2026-11-02 to 2026-11-09"),
        ("en août 2024", "2024-08-01 to 2024-09-01"),
        ("aujourd\u2019hui", "2026-11-21 to 2026-11-22"),
        ("la semana pasada", "2026-11-09 to 2026-11-16"),
        ("hace tres días", "2026-11-18 to 2026-11-19"),
        ("el 8 de mayo de 2023", "2023-05-08 to 2023-05-09"),
    ],
)
def test_german_french_and_spanish_times_are_found(question: str, dates: str) -> None:
    assert found(question) == dates


@pytest.mark.parametrize(
    "question",
    [
        "",
        "how do we deploy?",
        "may I deploy?",
        "we may deploy 3 times",
        "may 3 agents run at once",
        "march to the server",
        "can I march 2023 people",
        "when did we march 2023?",
        "on Feb 29 2023",
        "numbers between 3 and 5 may fail",
        "la semaine passe vite",
        "ask April about June",
        "after 2000 requests",
        "in 2022 files",
        "error 1999",
        "in 1066",
        "the last decision",
        "mes dernières notes",
        "version 2023-13-45",
        "on February 30",
        "9999 years ago",
        "what do we do at the end of a day",
    ],
)
def test_what_is_not_clearly_a_time_is_none(question: str) -> None:
    assert found(question) == ""


def test_a_period_names_the_words_that_state_it() -> None:
    period = find_period("What did we ship in May 2023 to the customer?", now=NOW)
    assert period is not None
    assert period.words == ("in", "may", "2023")


def test_days_are_those_of_utc() -> None:
    now = datetime(2026, 11, 21, 1, 0, tzinfo=timezone(timedelta(hours=5)))
    assert found("today", now) == "2026-11-20 to 2026-11-21"


_PARTS: Final = (
    *("in", "on", "since", "before", "last", "past", "between", "and", "ago", "may", "february", "q4", "week", "days"),
    *("2023", "9999", "29", "31", "3", "vor", "il", "y", "a"),
)


@given(
    st.lists(st.one_of(st.sampled_from(_PARTS), st.text(max_size=8)), max_size=12), st.datetimes(timezones=st.just(UTC))
)
def test_any_question_at_any_time_has_a_period_or_none(said: list[str], now: datetime) -> None:
    period = find_period(" ".join(said), now=now)
    if period is not None and period.since and period.until:
        assert period.since < period.until
