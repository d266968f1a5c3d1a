"""Which versions of memories a process has shown to whom: whoever has read one may build upon it, whoever made it."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from contextdna.domain.access import Caller
from contextdna.values.ids import AgentId, RecordId

_SHOWN_MAX: Final = 10_000
"""Of those shown last; of what is not known any more, its agent is told to read it again."""

_Key = tuple[AgentId, str, RecordId]


class ShownVersions:
    """The versions shown last, by principal, session handle and memory."""

    def __init__(self) -> None:
        self._versions: OrderedDict[_Key, int] = OrderedDict()

    def note(self, caller: Caller, shown: Iterable[tuple[RecordId, int]]) -> None:
        """Remember what a caller was shown, as (memory, version)."""
        for record_id, version in shown:
            key = _key(caller, record_id)
            self._versions[key] = version
            self._versions.move_to_end(key)
        while len(self._versions) > _SHOWN_MAX:
            self._versions.popitem(last=False)

    def has(self, caller: Caller, record_id: RecordId, version: int) -> bool:
        """Tell whether a version of a memory is the one that a caller was shown last."""
        return self._versions.get(_key(caller, record_id)) == version


def _key(caller: Caller, record_id: RecordId) -> _Key:
    return caller.principal.agent_id, caller.handle, record_id
