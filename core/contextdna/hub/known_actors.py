"""Whom session handles stood for when the database was asked last: enough to take a write that will be judged anew."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from contextdna.domain.access import Caller, digest_secret
from contextdna.values.event import Event, EventName
from contextdna.values.ids import AgentId, ProjectId
from contextdna.values.principal import Actor, Principal

_KNOWN_MAX: Final = 10_000

_Key = tuple[Principal, bytes, str]
_Agent = tuple[ProjectId, AgentId]


class KnownActors:
    """Remembers who acted with which handle, the latest so many. No handle is kept, only its digest.

    What ends in this process, or by its own time, is known no longer.

    Args:
        clock: Tells the time.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._actors: OrderedDict[_Key, Actor] = OrderedDict()
        self._retired: OrderedDict[_Agent, None] = OrderedDict()

    def note(self, caller: Caller, actor: Actor) -> None:
        """Note that a caller with a handle was found to be an actor."""
        key = _key(caller)
        self._actors[key] = actor
        self._actors.move_to_end(key)
        if len(self._actors) > _KNOWN_MAX:
            self._actors.popitem(last=False)

    def of(self, caller: Caller) -> Actor | None:
        """Give whom a caller's handle stands for, if this process was ever told, and knows of no end of it."""
        actor = self._actors.get(_key(caller))
        return None if actor is None or (actor.until is not None and actor.until <= self._clock()) else actor

    def is_retired(self, project_id: ProjectId, agent_id: AgentId) -> bool:
        """Tell whether an agent was retired in this process."""
        return (project_id, agent_id) in self._retired

    def hear(self, events: Iterable[Event]) -> None:
        """Forget the sessions that ended; note who was retired or reinstated."""
        ended = {event.subject for event in events if event.name in _ENDS}
        if ended:
            for key in [key for key, actor in self._actors.items() if actor.session_id in ended]:
                del self._actors[key]
        for event in events:
            agent = (event.project_id, AgentId(event.subject))
            if event.name is EventName.AGENT_REGISTERED:
                self._retired.pop(agent, None)
            elif event.name is EventName.AGENT_RETIRED:
                self._retired[agent] = None
                if len(self._retired) > _KNOWN_MAX:
                    self._retired.popitem(last=False)


_ENDS: Final = frozenset({EventName.SESSION_ENDED, EventName.SESSION_EXPIRED})


def _key(caller: Caller) -> _Key:
    return caller.principal, digest_secret(caller.handle), caller.project_id
