"""Names of agents as callers say them."""

import difflib
from collections.abc import Sequence
from typing import Final

from contextdna.domain.operation import Operation
from contextdna.values.ids import AgentId, delegated_id, name_of

_NEAR_MAX: Final = 3


async def meant_agent(op: Operation, name: AgentId) -> AgentId:
    """Find the agent that the actor means: by a bare name its own delegate, where it has one of that name."""
    return (await meant_agents(op, [name]))[0] if name else name


async def meant_agents(op: Operation, names: Sequence[AgentId]) -> tuple[AgentId, ...]:
    """Find the agents that the actor means, each once; see ``meant_agent``."""
    paths = {name: delegated_id(op.actor.agent_id, name) for name in names}
    own = {agent.id for agent in await op.tx.projects.agents(op.project_id, list(paths.values()))}
    return tuple(dict.fromkeys(path if path in own else name for name, path in paths.items()))


async def near_agents(op: Operation, name: AgentId) -> tuple[AgentId, ...]:
    """Give agents of the project that may have been meant by a name which none bears; none where one does."""
    known = [agent.id for agent in await op.tx.projects.agents(op.project_id)]
    if name in known:
        return ()
    near = difflib.get_close_matches(name_of(name), {name_of(agent_id) for agent_id in known}, n=_NEAR_MAX)
    return tuple(agent_id for bare in near for agent_id in known if name_of(agent_id) == bare)[:_NEAR_MAX]
