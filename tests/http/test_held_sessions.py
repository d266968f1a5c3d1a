"""Transport sessions of callers, and which of them make room."""

from contextdna import AgentId
from contextdna_server.http.held_sessions import Ended, HeldSessions

ANN, BOB = AgentId("ann"), AgentId("bob")


def ids(ended: list[Ended]) -> list[str]:
    return [session for session, _ in ended]


def test_the_session_unused_for_longest_makes_room() -> None:
    held = HeldSessions(2)
    assert held.add("s1", ANN, "owner 1") == held.add("s2", ANN, "owner 2") == held.add("other", BOB) == []
    held.begin("s1")
    assert held.finish("s1") == []
    assert held.add("s3", ANN) == [("s2", "owner 2")]
    assert len(held) == 3


def test_a_session_with_an_open_request_stays() -> None:
    held = HeldSessions(1)
    held.add("s1", ANN)
    held.begin("s1")
    held.begin("s1")
    assert held.add("s2", ANN) == []
    assert held.finish("s1") == []
    assert ids(held.finish("s1")) == ["s2"], "which rested for longer"
    assert len(held) == 1


def test_a_session_that_ends_while_it_is_used_takes_no_room_after() -> None:
    held = HeldSessions(1)
    held.add("s1", ANN)
    held.begin("s1")
    held.forget("s1")
    assert held.finish("s1") == []
    assert len(held) == 0


def test_what_is_over_takes_no_room() -> None:
    held = HeldSessions(2)
    held.add("s1", ANN)
    held.forget("s1")
    held.forget("s1")
    assert held.add("s2", ANN) == held.add("s3", ANN) == []
    assert len(held) == 2


def test_all_sessions_together_have_a_bound() -> None:
    held = HeldSessions(100, all_max=10)
    ended = [session for n in range(1000) for session in ids(held.add(f"s{n}", AgentId(f"agent-{n % 7}")))]
    assert len(held) == 10
    assert ended == [f"s{number}" for number in range(990)]


def test_what_rested_for_too_long_is_not_counted_any_more() -> None:
    now = 0.0
    held = HeldSessions(10, clock=lambda: now)
    for session in ("resting", "used", "open"):
        held.add(session, ANN)
    held.begin("open")
    now = 5.0
    held.begin("used")
    held.finish("used")
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
