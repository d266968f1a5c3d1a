"""Bounds on what a call may leave behind or cost."""

import pytest

from contextdna import ContextQuery, Hub
from tests.hub.rig import ALICE, last_audit

pytestmark = pytest.mark.anyio


async def test_long_request_and_trace_ids_are_audited_short_and_told_apart(hub: Hub) -> None:
    audited = set()
    for last in "ab":
        name = "r" * 100_000 + last
        await hub.bind(ALICE, request_id=name, trace_id=name).retrieve_context(ContextQuery())
        draft = (await last_audit(hub)).draft
        assert len(draft.request_id) == 64
        assert draft.trace_id == draft.request_id
        assert draft.request_id.startswith("rrr")
        audited.add(draft.request_id)
    assert len(audited) == 2


async def test_a_request_id_within_the_bound_is_audited_as_it_is(hub: Hub) -> None:
    await hub.bind(ALICE, request_id="r" * 64).retrieve_context(ContextQuery())
    assert (await last_audit(hub)).draft.request_id == "r" * 64
