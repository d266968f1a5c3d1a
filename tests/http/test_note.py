"""Refusals are audited, a few of a kind, and nothing waits for that."""

import anyio
import pytest

from contextdna import AgentId, ContextDnaError, InvalidInput, Principal, StorageUnavailable
from contextdna_server.http.note import NOTED_AFTER_S, RefusalNotes
from tests.http.test_limits import Clock

pytestmark = pytest.mark.anyio


class Hub:
    """Keeps the entries it is to write; fails where it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.entries: list[tuple[str, str, int]] = []
        self.error = error
        self._principal = Principal(AgentId("nobody"))

    def bind(self, principal: Principal, /) -> "Hub":
        self._principal = principal
        return self

    async def note_refusal(self, error: ContextDnaError, *, left_out: int = 0) -> None:
        self.entries.append((self._principal.agent_id, error.code, left_out))
        if self.error:
            raise self.error


def ann(code: str = "a") -> tuple[Principal, ContextDnaError]:
    return Principal(AgentId("ann")), InvalidInput("no", code=code)


async def written(notes: RefusalNotes) -> None:
    async with notes.running():
        pass


async def test_of_one_kind_one_is_noted_and_the_next_one_counts_those_left_out() -> None:
    hub, clock = Hub(), Clock()
    notes = RefusalNotes(hub, clock=clock)
    for _ in range(4):
        await notes(*ann())
    await notes(*ann("b"))
    clock.now += NOTED_AFTER_S
    await notes(*ann())
    await written(notes)
    assert hub.entries == [("ann", "a", 0), ("ann", "b", 0), ("ann", "a", 3)]


@pytest.mark.parametrize("error", [StorageUnavailable("busy"), ValueError("bug")])
async def test_an_entry_that_cannot_be_written_keeps_none_of_the_others_back(error: Exception) -> None:
    hub = Hub(error)
    notes = RefusalNotes(hub)
    await notes(*ann())
    await notes(*ann("b"))
    await written(notes)
    assert [code for _, code, _ in hub.entries] == ["a", "b"]


async def test_what_waits_has_a_bound_and_what_found_no_room_is_counted() -> None:
    hub, clock = Hub(), Clock()
    notes = RefusalNotes(hub, clock=clock, kinds_max=10, waiting_max=5)
    for number in range(1000):
        await notes(*ann(f"code-{number}"))
    assert len(notes) == 15
    async with notes.running():
        await anyio.wait_all_tasks_blocked()
        clock.now += NOTED_AFTER_S
        await notes(*ann("code-999"))
    assert hub.entries[-1] == ("ann", "code-999", 1)


async def test_the_last_entries_are_written_at_the_end_and_later_ones_fail_nothing() -> None:
    hub = Hub()
    notes = RefusalNotes(hub)
    async with notes.running():
        await notes(*ann())
    assert hub.entries == [("ann", "a", 0)]
    await notes(*ann("b"))
