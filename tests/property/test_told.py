"""Whatever agents store, share, delegate and take back: events tell of others' records what the pure rule allows."""

from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from contextdna import AgentId, Hub, Principal, ProjectId, RecordId, Role, Workspace
from contextdna.values.ids import EventId
from contextdna.values.principal import Reader
from contextdna.values.visibility import visible
from tests.hub.rig import Clock
from tests.property.conftest import Installation
from tests.property.test_worlds import AGENTS, CIRCLES, OPERATIONS, World, reader_of
from tests.servers.postgres import EVERYWHERE

EARLIEST: Final = EventId("")


async def told(workspace: Workspace, reader: Reader) -> set[str]:
    """Give the records that events caused by others tell a reader of."""
    found: set[str] = set()
    cursor, more = EARLIEST, True
    while more:
        page = await workspace.events.read(after=cursor, limit=3)
        for event in page.events:
            others = {name for name in event.audience if not f"{name}/".startswith(f"{reader.agent_id}/")}
            assert not others or event.agent_id == reader.agent_id
            found |= set(event.record_ids) if event.agent_id != reader.agent_id else set()
        cursor, more = page.cursor, page.more
    return found


def allowed(world: World, reader: Reader) -> set[RecordId]:
    """Give the records that a reader may know of: what was forgotten counts by its level."""
    held = {
        lent.record_id
        for lent in world.lent
        if lent.taker == reader.agent_id and (lent.expires_at is None or lent.expires_at > world.clock.now)
    }
    return {i for i, ref in world.refs.items() if visible(reader, ref, granted=i in held)}


async def live(hub: Hub, clock: Clock, project_id: ProjectId, data: st.DataObject) -> None:
    draw = data.draw
    circles = st.sampled_from(CIRCLES)
    principals = [
        Principal(AgentId(name), (project_id,), draw(circles), draw(circles), draw(st.sampled_from(Role)))
        for name in AGENTS
    ]
    world = World(hub, clock, project_id, principals)
    for operation in draw(st.lists(st.sampled_from(OPERATIONS), min_size=6, max_size=16)):
        await operation(world, draw)
    for principal in (*principals, *world.children):
        reader = reader_of(principal)
        seen = await told(hub.bind(principal), reader) & set(world.refs)
        may_know = allowed(world, reader)
        others = {i for i in may_know if world.refs[i].owner_id != reader.agent_id}
        assert others <= seen <= may_know, principal


@settings(max_examples=60 if EVERYWHERE else 30)
@given(data=st.data())
def test_events_tell_of_every_record_that_one_may_see_and_of_no_other(
    installation: Installation, data: st.DataObject
) -> None:
    runner, hub, clock, projects = installation
    runner.run(live(hub, clock, next(projects), data))
