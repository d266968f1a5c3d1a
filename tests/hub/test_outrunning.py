"""Nobody outruns its end: by beginning sessions while it is retired, by nesting more than can end at once."""

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from contextdna import (
    AccessDenied,
    AgentChange,
    AgentHistoryFilter,
    AgentId,
    BeginRequest,
    DelegationRequest,
    Hub,
    HubSettings,
    LimitExceeded,
    WorkSettings,
    open_hub,
)
from contextdna.domain import endings
from contextdna.domain.access import Action, Caller
from tests.hub.rig import ALICE, DEFAULT, ROOT, Clock, begin, refused

pytestmark = pytest.mark.anyio

KID = AgentId("kid")


class TestRetiring:
    @pytest.fixture(autouse=True)
    def _small_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(endings, "BATCH", 2)

    async def test_an_agent_begins_nothing_between_the_batches_of_its_retirement(
        self, hub: Hub, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither itself, nor who works for it, nor an operator on its behalf."""
        handles = []
        for _ in range(5):
            handles.append(await begin(hub, ALICE))
            clock.advance(seconds=1)  # they end in this order
        acting, operating = (hub.bind(some, session_id=handles[-1]) for some in (ALICE, ROOT))
        attempts: list[Callable[[], Awaitable[object]]] = [
            lambda: begin(hub, ALICE),
            lambda: acting.begin_session(BeginRequest(ALICE.agent_id)),
            lambda: acting.delegate(DelegationRequest(KID, "help")),
            lambda: operating.delegate(DelegationRequest(KID, "help")),
            lambda: begin(hub, ROOT, "alice"),
        ]
        write, batches = hub._door.write, 0

        async def interrupted(caller: Caller, action: Action, run: Any) -> Any:
            nonlocal batches
            report = await write(caller, action, run)
            if action is Action.RETIRE_AGENT:
                batches += 1
                if not report.finished:
                    for attempt in attempts:
                        await refused(attempt(), AccessDenied, "agent_retired")
            return report

        monkeypatch.setattr(hub._door, "write", interrupted)
        report = await hub.bind(ROOT, project_id=DEFAULT).agents.retire(ALICE.agent_id)
        assert (report.sessions_ended, report.finished, batches) == (5, True, 3)
        where = AgentHistoryFilter(ALICE.agent_id, what=(AgentChange.RETIRED,))
        told = await hub.bind(ROOT, project_id=DEFAULT).agents.history(where)
        assert len(told.entries) == 1

    async def test_a_retirement_that_was_broken_off_is_finished_by_another(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(5):
            await begin(hub, ALICE)
        write = hub._door.write

        async def broken(caller: Caller, action: Action, run: Any) -> Any:
            await write(caller, action, run)
            raise ConnectionError

        root = hub.bind(ROOT, project_id=DEFAULT)
        with monkeypatch.context() as patched:
            patched.setattr(hub._door, "write", broken)
            with pytest.raises(ConnectionError):
                await root.agents.retire(ALICE.agent_id)
        assert (await root.agents.retire(ALICE.agent_id)).sessions_ended == 3
        await refused(root.agents.retire(ALICE.agent_id), AccessDenied, "agent_retired")

    async def test_who_retires_itself_comes_to_the_end(self, hub: Hub) -> None:
        handles = [await begin(hub, ALICE) for _ in range(5)]
        report = await hub.bind(ALICE, session_id=handles[0]).agents.retire()
        assert (report.sessions_ended, report.agent.status) == (5, "retired")


class TestNesting:
    @pytest.fixture
    async def narrow(self, settings: HubSettings, clock: Clock) -> AsyncIterator[Hub]:
        work = WorkSettings(sessions_nested_max=4)
        async with open_hub(dataclasses.replace(settings, work=work), clock=clock) as opened:
            yield opened

    async def test_a_tree_of_sessions_has_an_end_however_it_grows(self, narrow: Hub) -> None:
        handle = await begin(narrow, ALICE)
        top = narrow.bind(ALICE, session_id=handle)
        deep = narrow.bind(ALICE, session_id=(await top.begin_session(BeginRequest(ALICE.agent_id))).handle)
        child = (await deep.delegate(DelegationRequest(KID, "help"))).begun
        for _ in range(2):
            last = await top.begin_session(BeginRequest(ALICE.agent_id))
        for full in (top, deep, narrow.bind(ALICE, session_id=child.handle)):
            await refused(full.begin_session(BeginRequest(AgentId(""))), LimitExceeded, "sessions_too_many")
            await refused(
                full.delegate(DelegationRequest(AgentId("one-more"), "help")), LimitExceeded, "sessions_too_many"
            )
        await begin(narrow, ALICE)
        await narrow.bind(ALICE, session_id=last.handle).end_session(success=True)
        await top.begin_session(BeginRequest(ALICE.agent_id))
        assert (await top.end_session(success=True)).children_ended == 4
