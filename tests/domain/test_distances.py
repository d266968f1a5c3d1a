"""Distances from a time: "two days before yesterday" is one day, not all days before yesterday."""

import pytest

from tests.domain.test_periods import found


@pytest.mark.parametrize(
    ("question", "dates"),
    [
        ("two days before yesterday", "2026-11-18 to 2026-11-19"),
        ("what broke three weeks before 2023-05-08?", "2023-04-17 to 2023-04-18"),
        ("a month after May 2023", "2023-06-01 to 2023-07-01"),
        ("a month before 31 May 2023", "2023-05-01 to 2023-05-02"),
        ("one year before March 3, 2024", "2023-03-03 to 2023-03-04"),
        ("the week after 3 May 2023", "2023-05-04 to 2023-05-11"),
        ("the two weeks before 3 May 2023", "2023-04-19 to 2023-05-03"),
        ("zwei Tage vor gestern", "2026-11-18 to 2026-11-19"),
        ("die Woche nach gestern", "2026-11-21 to 2026-11-28"),
        ("deux jours avant hier", ""),
        ("days before yesterday", " to 2026-11-20"),
        ("retried 3 times before yesterday", " to 2026-11-20"),
        ("the day before yesterday", "2026-11-19 to 2026-11-20"),
        ("9999 years before 2022", ""),
    ],
)
def test_a_distance_moves_a_time(question: str, dates: str) -> None:
    assert found(question) == dates
