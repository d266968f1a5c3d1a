"""Names of agents as callers say them."""

from contextdna.domain.operation import Operation
from contextdna.values.ids import AgentId, delegated_id


async def meant_agent(op: Operation, name: AgentId) -> AgentId:
    """Find the agent that the actor means: by a bare name its own delegate, where it has one of that name."""
    own = delegated_id(op.actor.agent_id, name)
    return own if name and await op.tx.projects.agents(op.project_id, [own]) else name
