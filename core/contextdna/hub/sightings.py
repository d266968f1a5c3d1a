"""Who was seen at work, as this process remembers it: a sighting is written when it is due, not with every call."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from contextdna.domain import agent_history
from contextdna.domain.operation import Operation
from contextdna.values.event import DEPARTURES, Event
from contextdna.values.ids import AgentId, ProjectId
from contextdna.values.principal import Actor, Role

_Key = tuple[ProjectId, AgentId, bool]

_SEEN_MAX: Final = 10_000
_SIGHTS: Final = 3  # how often who works is noted within the time after which it would count as gone
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sighting:
    """When an agent was noted last, and in which team, swarm and role."""

    at: datetime
    standing: tuple[str, str, Role]


class Sightings:
    """What is known of who works, for one installation.

    Args:
        silence_s: After so many seconds without a sign of life an agent counts as gone.
    """

    def __init__(self, silence_s: float) -> None:
        self._again = timedelta(seconds=silence_s / _SIGHTS)
        self._seen: dict[_Key, Sighting] = {}

    def __len__(self) -> int:
        """Count the agents that are remembered."""
        return len(self._seen)

    async def see(self, op: Operation) -> Sighting | None:
        """Note now and then that an agent is at work; gives the sighting where one was due.

        A principal's own agent is made known to the project before its first write, and again whenever its credential
        has changed: nobody else may take its name, and its coordinators are those of its swarm now.
        """
        reader, standing = op.actor.reader, _standing(op.actor)
        last = self._seen.get(_key(op.actor))
        moved = last is None or last.standing != standing
        if last is not None and not moved and op.now - last.at < self._again:
            return None
        if moved and not op.actor.session_id:
            await agent_history.note_credential(op, await op.tx.agents.get(reader.project_id, reader.agent_id))
        else:
            await op.tx.projects.touch_agent(reader.project_id, reader.agent_id, at=op.now)
        return Sighting(op.now, standing)

    async def has_seen(self, op: Operation) -> bool:
        """Tell whether a principal that only reads is known as it calls now; in a session it is another's name."""
        reader, standing = op.actor.reader, _standing(op.actor)
        last = self._seen.get(_key(op.actor))
        if op.actor.session_id or (last is not None and last.standing == standing):
            return True
        noted = agent_history.is_noted(op, await op.tx.agents.get(reader.project_id, reader.agent_id))
        if noted:
            self.remember(op.actor, Sighting(_LONG_AGO, standing))  # to read is no sign of work: the next write counts
        return noted

    def remember(self, actor: Actor, sighting: Sighting) -> None:
        """Keep a sighting that was committed."""
        key = _key(actor)
        self._seen.pop(key, None)
        self._seen[key] = sighting
        if len(self._seen) > _SEEN_MAX:
            del self._seen[next(iter(self._seen))]  # the oldest: at worst it is noted once more than need be

    def note_departures(self, events: Sequence[Event]) -> None:
        """Make the next write of whoever goes on after the end of a session count: else it would pass for gone."""
        for event in events:
            if event.name in DEPARTURES:
                for agent_id in event.audience:
                    key = (event.project_id, AgentId(agent_id), False)
                    if last := self._seen.get(key):
                        self._seen[key] = Sighting(_LONG_AGO, last.standing)


def _key(actor: Actor) -> _Key:
    """Tell sightings apart: what an agent does in a session says nothing of its own team and role."""
    return actor.project_id, actor.agent_id, bool(actor.session_id)


def _standing(actor: Actor) -> tuple[str, str, Role]:
    return actor.reader.team_id, actor.reader.swarm_id, actor.reader.role
