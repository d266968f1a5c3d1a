"""Whom session handles stood for when the database was asked last: enough to take a write that will be judged anew."""

from collections import OrderedDict
from typing import Final

from contextdna.domain.access import Caller, digest_secret
from contextdna.values.principal import Actor, Principal

_KNOWN_MAX: Final = 10_000

_Key = tuple[Principal, bytes, str]


class KnownActors:
    """Remembers who acted with which handle, the latest so many. No handle is kept, only its digest."""

    def __init__(self) -> None:
        self._actors: OrderedDict[_Key, Actor] = OrderedDict()

    def note(self, caller: Caller, actor: Actor) -> None:
        """Note that a caller with a handle was found to be an actor."""
        key = _key(caller)
        self._actors[key] = actor
        self._actors.move_to_end(key)
        if len(self._actors) > _KNOWN_MAX:
            self._actors.popitem(last=False)

    def of(self, caller: Caller) -> Actor | None:
        """Give whom a caller's handle stood for, if this process was ever told."""
        return self._actors.get(_key(caller))


def _key(caller: Caller) -> _Key:
    return caller.principal, digest_secret(caller.handle), caller.project_id
