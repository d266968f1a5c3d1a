"""Every method of the workspace refuses who has no rights, tells the audit log, and changes nothing."""

import inspect
from dataclasses import replace

import pytest

from contextdna import (
    AccessDenied,
    BeginRequest,
    Hub,
    NotFound,
    Outcome,
    Principal,
    Risk,
    Role,
    SessionInvalid,
    Workspace,
)
from contextdna.hub.access_tokens import AccessTokens
from contextdna.hub.agents import Agents
from contextdna.hub.artifacts import Artifacts
from contextdna.hub.delegations import Delegations
from contextdna.hub.documents import Documents
from contextdna.hub.events import Events
from contextdna.hub.loops import Loops
from contextdna.hub.queue import Queue
from contextdna.hub.sessions import Sessions
from contextdna.hub.signals import Signals
from contextdna.hub.state import State
from contextdna.hub.tasks import Tasks
from contextdna.values.audit import AuditEntry
from contextdna.values.ids import INSTALLATION, ProjectId
from tests.hub.methods import METHODS, NEVER_REFUSED, Furnished, furnish
from tests.hub.rig import ALICE, DEFAULT, OUTSIDER, ROOT, STRANGER, audit_of, stored, unchanged

pytestmark = pytest.mark.anyio

SYSTEM_ONLY = {
    "conflicts",
    "query_audit",
    "verify_audit",
    "export_audit",
    "rotate_keys",
    "sweep",
    "sessions.close_overdue",
    "access_tokens.create",
    "access_tokens.list",
    "access_tokens.revoke",
}


PARTS = {
    "access_tokens": AccessTokens,
    "agents": Agents,
    "artifacts": Artifacts,
    "events": Events,
    "loops": Loops,
    "signals": Signals,
    "tasks": Tasks,
    "documents": Documents,
    "sessions": Sessions,
    "state": State,
    "delegations": Delegations,
    "queue": Queue,
}
"""The parts of a workspace that belong to one noun."""


def public_names(of: type) -> set[str]:
    return {name for name in dir(of) if not name.startswith("_")}


def public_methods() -> set[str]:
    own = public_names(Workspace)
    return own | {f"{part}.{name}" for part, of in PARTS.items() for name in public_names(of)}


def test_every_method_of_the_workspace_has_sample_arguments() -> None:
    assert set(METHODS) | NEVER_REFUSED == public_methods()


async def test_the_workspace_offers_nothing_but_asynchronous_methods_and_its_parts(hub: Hub) -> None:
    workspace = hub.bind(ROOT)
    assert {name for name in vars(workspace) if not name.startswith("_")} == {*PARTS, "notices"}
    assert {name: type(getattr(workspace, name)) for name in PARTS} == PARTS
    for of in (Workspace, *PARTS.values()):
        for name in public_names(of):
            member = getattr(of, name)
            assert inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)


async def expect_denial(furnished: Furnished, name: str, workspace: Workspace) -> None:
    """Call a method that must be denied, with one audit entry and no other change."""

    async def call() -> None:
        with pytest.raises((NotFound, AccessDenied, SessionInvalid)) as caught:
            await METHODS[name].call(workspace, furnished)
        assert caught.value.hint

    await unchanged(furnished.hub, call, audited=1)


async def denial_in(hub: Hub, chain: ProjectId) -> AuditEntry:
    """Give a chain's last entry before this look."""
    return (await hub._door.database.read(lambda tx: tx.audit.entries(chain, after_seq=0, limit=10_000)))[-1]


@pytest.mark.parametrize("name", sorted(METHODS))
async def test_a_method_is_denied_to_whoever_has_no_rights(hub: Hub, name: str) -> None:
    furnished = await furnish(hub)
    callers: list[tuple[Principal, str, str, ProjectId]] = [
        (STRANGER, "", "", INSTALLATION),
        (STRANGER, DEFAULT, "", DEFAULT),
        (STRANGER, "nowhere", "", INSTALLATION),
        (OUTSIDER, DEFAULT, "", DEFAULT),
        (OUTSIDER, "", furnished.handle, INSTALLATION),
        (ROOT, "", "garbage", INSTALLATION),
        (ROOT, "", "ses_00000000000000000000.aaaaaaaaaaaaaaaaaaaaaaaaaa", INSTALLATION),
        (ROOT, DEFAULT, f"{furnished.conversation}.wrong", DEFAULT),
    ]
    for principal, project_id, handle, chain in callers:
        workspace = hub.bind(
            principal, project_id=project_id, session_id=handle, request_id="req_denied", trace_id="trace"
        )
        await expect_denial(furnished, name, workspace)
        draft = (await denial_in(hub, chain)).draft
        assert (draft.action, draft.outcome, draft.risk) == (METHODS[name].action, Outcome.DENIED, Risk.HIGH)
        assert (draft.principal_id, draft.agent_id) == (principal.agent_id, principal.agent_id)
        assert (draft.request_id, draft.trace_id) == ("req_denied", "trace")


@pytest.mark.parametrize("name", sorted(SYSTEM_ONLY))
async def test_what_is_for_operators_is_denied_to_agents_and_coordinators(hub: Hub, name: str) -> None:
    furnished = await furnish(hub)
    lesser = await hub.bind(ROOT).begin_session(BeginRequest(ALICE.agent_id))
    callers = [
        (hub.bind(ALICE), ("alice", "alice", "")),
        (hub.bind(replace(ALICE, role=Role.COORDINATOR)), ("alice", "alice", "")),
        (hub.bind(ROOT, session_id=lesser.handle), ("root", "alice", lesser.session.id)),
    ]
    for workspace, actor in callers:
        await expect_denial(furnished, name, workspace)
        draft = (await denial_in(hub, DEFAULT)).draft
        assert (draft.action, draft.outcome, draft.risk) == (METHODS[name].action, Outcome.DENIED, Risk.HIGH)
        assert (draft.principal_id, draft.agent_id, draft.session_id) == actor


async def test_a_denial_names_the_records_that_it_was_about(hub: Hub) -> None:
    furnished = await furnish(hub)
    before = await stored(hub)
    with pytest.raises(NotFound):
        await hub.bind(Principal(STRANGER.agent_id, (DEFAULT,))).get_memories([furnished.memory])
    assert (await stored(hub)).data == before.data
    [denial] = [entry for entry in await audit_of(hub) if entry.draft.agent_id == STRANGER.agent_id]
    assert denial.draft.record_ids == (furnished.memory,)
    assert denial.draft.outcome is Outcome.DENIED
