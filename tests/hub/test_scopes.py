"""Scopes: what a credential is for, judged for every method, whatever the role and the handle."""

from collections import Counter
from dataclasses import replace

import pytest

from contextdna import (
    SCOPES,
    AccessDenied,
    Action,
    BeginRequest,
    ContextQuery,
    Hub,
    MemoryDraft,
    Outcome,
    Risk,
    Role,
    Scope,
    open_hub,
)
from tests.doubles import LetterEmbedder
from tests.hub.methods import METHODS, furnish
from tests.hub.rig import ALICE, DEFAULT, ROOT, Clock, audit_of, refused, remember, settings_in, stored

pytestmark = pytest.mark.anyio


def test_every_action_says_what_it_needs() -> None:
    assert set(SCOPES) == set(Action)
    assert {action for action, scopes in SCOPES.items() if not scopes} == {Action.AUTHENTICATE, Action.REQUEST}


async def test_every_method_is_denied_to_a_credential_that_lacks_one_of_its_scopes(hub: Hub) -> None:
    furnished = await furnish(hub)
    before = await stored(hub)
    denied = Counter[str]()
    for sample in METHODS.values():
        action = Action(sample.action)
        for scope in SCOPES[action]:
            lesser = replace(ROOT, scopes=frozenset(Scope) - {scope})
            workspace = hub.bind(lesser, session_id=furnished.handle)
            error = await refused(sample.call(workspace, furnished), AccessDenied, "scope_missing")
            assert error.scopes == SCOPES[action]
            assert scope in error.message
            denied[action] += 1
    after = await stored(hub)
    assert after.data == before.data
    assert len(after.audit) - len(before.audit) == denied.total()
    drafts = [entry.draft for entry in (await audit_of(hub))[-denied.total() :]]
    assert Counter(draft.action for draft in drafts) == denied
    assert {(d.outcome, d.risk, d.session_id) for d in drafts} == {(Outcome.DENIED, Risk.HIGH, furnished.conversation)}


@pytest.mark.parametrize("name", sorted(METHODS))
async def test_no_method_needs_more_than_it_says(anyio_backend: str, name: str) -> None:
    async with open_hub(settings_in(None), clock=Clock()) as hub:
        furnished = await furnish(hub)
        scopes = SCOPES[Action(METHODS[name].action)]
        if name == "access_tokens.create":
            scopes = frozenset(Scope)  # which it gives on
        await METHODS[name].call(hub.bind(replace(ROOT, scopes=scopes), session_id=furnished.handle), furnished)


async def test_a_session_handle_never_widens_the_scopes_of_its_user(hub: Hub) -> None:
    begun = await hub.bind(ROOT, project_id=DEFAULT).begin_session(BeginRequest(ALICE.agent_id, role=Role.AGENT))
    reader = replace(ALICE, scopes=frozenset({Scope.READ}))
    acting = hub.bind(reader, session_id=begun.handle)
    await refused(acting.store_memories([MemoryDraft("x")]), AccessDenied, "scope_missing")
    assert await acting.list_conversations() == []


async def test_a_question_that_a_credential_may_not_ask_is_not_embedded(anyio_backend: str) -> None:
    embedder = LetterEmbedder()
    async with open_hub(settings_in(None), clock=Clock(), embedder=embedder) as hub:
        await remember(hub.bind(ALICE), "the bees like lime trees")
        await hub._rooms.semantics.turn()
        before = embedder.calls
        writer = hub.bind(replace(ALICE, scopes=frozenset({Scope.WRITE})))
        await refused(writer.retrieve_context(ContextQuery("bees")), AccessDenied, "scope_missing")
        assert embedder.calls == before
        await hub.bind(ALICE).retrieve_context(ContextQuery("bees"))
        assert embedder.calls == before + 1


async def test_a_wide_scope_gives_no_role(hub: Hub) -> None:
    await refused(hub.bind(ALICE).query_audit(), AccessDenied, "role_required")
