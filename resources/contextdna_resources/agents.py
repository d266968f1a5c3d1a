"""Resources: the directory of agents, and one of them."""

import json
from typing import Any, Final

from contextdna import (
    Agent,
    AgentCard,
    AgentEntry,
    AgentFilter,
    AgentHistoryFilter,
    AgentHistoryPage,
    AgentId,
    Swarm,
    Team,
    Workspace,
)
from contextdna_resources.contents import Contents, json_contents, shown_time, within_budget
from contextdna_resources.uris import Noun, ResourceUri

_AGENTS_MAX: Final = 1000
_ENTRIES: Final = 20


async def read_agents(uri: ResourceUri, workspace: Workspace) -> Contents:
    """Give the swarms and teams with their agents counted by status, and the agents by id."""
    swarms = await workspace.agents.swarms()
    found = await workspace.agents.list(AgentFilter(), limit=_AGENTS_MAX)
    listed = within_budget(_listed(uri.project_id, card) for card in found)
    agents = sum(swarm.active + swarm.idle + swarm.retired for swarm in swarms)
    return json_contents(
        uri,
        {
            "swarms": [_swarm(swarm) for swarm in swarms],
            "agents": listed,
            "truncated": len(listed) < agents or None,
        },
    )


async def read_agent(uri: ResourceUri, workspace: Workspace) -> Contents:
    """Give an agent as the directory shows it, with all that is known of it and its latest history where allowed."""
    card = await workspace.agents.get(AgentId(uri.item_id))
    if card.full is None:
        return json_contents(uri, _card(card))
    history = await workspace.agents.history(AgentHistoryFilter(agent_id=card.id), limit=_ENTRIES)
    return json_contents(uri, {**_card(card), **_full(card.full), **_history(history)})


def _card(card: AgentCard) -> dict[str, Any]:
    return {
        "agent_id": card.id,
        "agent_type": card.agent_type or None,
        "capabilities": list(card.capabilities),
        "status": card.status.value,
        "team": card.team_id or None,
        "swarm": card.swarm_id or None,
        "last_seen_at": shown_time(card.last_seen_at),
        "in_session": card.in_session,
    }


def _listed(project_id: str, card: AgentCard) -> dict[str, Any]:
    shown = {name: value for name, value in _card(card).items() if value is not None}
    return {**shown, "uri": str(ResourceUri(Noun.AGENT, project_id, card.id))}


def _full(agent: Agent) -> dict[str, Any]:
    return {
        "role": agent.role.value,
        "confidence": agent.confidence,
        "registered_by": agent.registered_by or None,
        "first_seen_at": shown_time(agent.first_seen_at),
        "heartbeat_at": shown_time(agent.heartbeat_at),
        "retired_at": shown_time(agent.retired_at),
    }


def _history(page: AgentHistoryPage) -> dict[str, Any]:
    return {"history": [_entry(entry) for entry in page.entries], "history_goes_on": bool(page.cursor) or None}


def _entry(entry: AgentEntry) -> dict[str, Any]:
    fields = {
        "what": entry.what.value,
        "at": shown_time(entry.at),
        "by": entry.by_agent_id,
        "session": entry.session_id or None,
        "confidence": entry.confidence,
        "details": json.loads(entry.details) or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _swarm(swarm: Swarm) -> dict[str, Any]:
    return {"swarm": swarm.id, **_counts(swarm), "teams": [{"team": team.id, **_counts(team)} for team in swarm.teams]}


def _counts(of: Swarm | Team) -> dict[str, int]:
    return {"active": of.active, "idle": of.idle, "retired": of.retired}
