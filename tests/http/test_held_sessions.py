"""Transport sessions of callers, and which of them make room."""

from contextdna_server.http.held_sessions import HeldSessions

ANN, BOB = ("ann", "c1"), ("bob", "c1")


def test_the_session_unused_for_longest_makes_room() -> None:
    held = HeldSessions(2)
    assert held.add("s1", ANN) == held.add("s2", ANN) == held.add("other", BOB) == []
    with held.using("s1"):
        pass
    assert held.add("s3", ANN) == ["s2"]
    assert len(held) == 3


def test_a_session_with_an_open_request_goes_last() -> None:
    held = HeldSessions(2)
    held.add("s1", ANN)
    held.add("s2", ANN)
    with held.using("s1"), held.using("s2"):
        assert held.add("s3", ANN) == ["s1"], "all have one: the oldest"
    with held.using("s2"):
        assert held.add("s4", ANN) == ["s3"]


def test_what_is_over_takes_no_room() -> None:
    held = HeldSessions(2)
    held.add("s1", ANN)
    held.forget("s1")
    held.forget("s1")
    assert held.add("s2", ANN) == held.add("s3", ANN) == []
    assert len(held) == 2


def test_all_sessions_together_have_a_bound() -> None:
    held = HeldSessions(100, all_max=10)
    ended = [session for number in range(1000) for session in held.add(f"s{number}", (f"agent-{number % 7}", "c"))]
    assert len(held) == 10
    assert ended == [f"s{number}" for number in range(990)]


def test_what_rested_for_too_long_is_not_counted_any_more() -> None:
    now = 0.0
    held = HeldSessions(10, clock=lambda: now)
    for session in ("resting", "used", "open"):
        held.add(session, ("agent", "client"))
    with held.using("open"):
        now = 5.0
        with held.using("used"):
            pass
        now = 10.0
        assert held.forget_unused(10) == 1
        assert len(held) == 2
        assert held.forget_unused(5) == 1
    assert held.forget_unused(1) == 0
    assert len(held) == 1


def test_the_most_sessions_at_the_same_time_are_told_once() -> None:
    held = HeldSessions(10)
    for session in ("s1", "s2", "s3"):
        held.add(session, ANN)
    held.forget("s1")
    assert [held.most(), held.most()] == [3, 2]
