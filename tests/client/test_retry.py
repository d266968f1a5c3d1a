"""Waits between tries grow, vary, and are bounded."""

import math

import pytest

from contextdna.client import NO_RETRY, Retry


def test_waits_double_up_to_the_longest() -> None:
    retry = Retry(attempts=6, delay_s=1, delay_s_max=5, jitter=lambda: 1.0)
    assert list(retry.delays()) == [1, 2, 4, 5, 5]


@pytest.mark.parametrize("chance", [0.0, 0.3, 1.0])
def test_jitter_takes_at_most_half_of_a_wait(chance: float) -> None:
    retry = Retry(attempts=4, delay_s=1, jitter=lambda: chance)
    for whole, wait in zip([1, 2, 4], retry.delays(), strict=True):
        assert math.isclose(wait, whole * (0.5 + 0.5 * chance))


def test_two_clients_do_not_wait_alike() -> None:
    assert list(Retry(attempts=20).delays()) != list(Retry(attempts=20).delays())


def test_without_retry_nothing_is_waited_for() -> None:
    assert list(NO_RETRY.delays()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"attempts": 21},
        {"delay_s": -1},
        {"delay_s": 6, "delay_s_max": 5},
        {"delay_s_max": math.inf},
        {"delay_s": math.nan},
        {"pause_s": -1},
        {"pause_s": 3601},
    ],
)
def test_a_policy_without_bounds_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"attempts|delay_s|pause_s"):
        Retry(**wrong)  # type: ignore[arg-type]  # numbers of either kind
