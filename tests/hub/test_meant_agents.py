"""A bare name means one's own delegate of that name, wherever agents are named, and nobody else by accident."""

import pytest

from contextdna import (
    AgentId,
    ArtifactDraft,
    DelegationRequest,
    Hub,
    Level,
    NotFound,
    Principal,
    TaskDraft,
    TaskQuery,
    Workspace,
)
from tests.hub.rig import DEFAULT, refused, remember

pytestmark = pytest.mark.anyio

QUEEN = Principal(AgentId("queen"), (DEFAULT,))
DRONE = Principal(AgentId("drone"), (DEFAULT,))
"""A root agent that happens to bear the name of the queen's delegate."""


async def delegate(hub: Hub) -> Workspace:
    report = await hub.bind(QUEEN).delegate(DelegationRequest(DRONE.agent_id, "fetch nectar"))
    return hub.bind(QUEEN, session_id=report.begun.handle)


async def test_a_share_with_the_own_delegate_does_not_reach_a_root_agent_of_its_name(hub: Hub) -> None:
    await remember(hub.bind(DRONE), "I am here, too.")
    child = await delegate(hub)
    note = await remember(hub.bind(QUEEN), "where the flowers are", level=Level.PRIVATE)
    report = await hub.bind(QUEEN).share_memories([DRONE.agent_id], [note])
    assert (report.targets, report.unknown_targets) == (("queen/drone",), ())
    await child.get_memories([note])
    await refused(hub.bind(DRONE).get_memories([note]), NotFound, "not_found")


async def test_a_revocation_reaches_whom_the_name_meant_before_the_delegation_too(hub: Hub) -> None:
    note = await remember(hub.bind(QUEEN), "where the flowers are", level=Level.PRIVATE)
    await hub.bind(QUEEN).share_memories([DRONE.agent_id], [note])
    child = await delegate(hub)
    await hub.bind(QUEEN).share_memories([DRONE.agent_id], [note])
    await hub.bind(DRONE).get_memories([note])
    ended = await hub.bind(QUEEN).revoke_shares([DRONE.agent_id])
    assert (ended.changed, ended.unknown_targets) == (2, ())
    for reader in (child, hub.bind(DRONE)):
        await refused(reader.get_memories([note]), NotFound, "not_found")


async def test_tasks_and_artifacts_of_the_own_delegate_are_found_under_its_bare_name(hub: Hub) -> None:
    child, queen = await delegate(hub), hub.bind(QUEEN)
    task = await queen.tasks.add(TaskDraft("count the cells", assignee="drone"))
    assert [found.record.id for found in (await queen.tasks.list(TaskQuery(assignee="drone"))).tasks] == [task.id]
    kept = await child.attach_artifact(ArtifactDraft("cells.txt", b"600"))
    artifact, data = await queen.artifacts.read("cells.txt", owner_id=AgentId("drone"))
    assert (artifact.record.id, data) == (kept.record.id, b"600")
    assert len(await queen.artifacts.versions("cells.txt", owner_id=AgentId("drone"))) == 1


async def test_an_empty_list_of_tasks_says_what_is_there_and_who_may_have_been_meant(hub: Hub) -> None:
    await delegate(hub)
    queen = hub.bind(QUEEN)
    assert "No task is visible" in (await queen.tasks.list(TaskQuery())).empty
    await queen.tasks.add(TaskDraft("count the cells", assignee="drone"))
    assert not (await queen.tasks.list(TaskQuery())).empty
    page = await queen.tasks.list(TaskQuery(assignee="dronne"))
    assert "1 open" in page.empty
    assert "near: queen/drone." in page.empty
    known = await queen.tasks.list(TaskQuery(assignee="queen"))
    assert known.empty
    assert "near" not in known.empty
