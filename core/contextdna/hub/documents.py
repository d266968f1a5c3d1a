"""Records of any kind as documents, and the links between them."""

from collections.abc import Sequence

from contextdna.domain import documents
from contextdna.domain.access import Action, Caller
from contextdna.hub.door import Door
from contextdna.values.document import RELATES_TO, Document, Relation
from contextdna.values.ids import RecordId


class Documents:
    """The part of a workspace for what holds for every kind of record."""

    def __init__(self, door: Door, caller: Caller) -> None:
        self._door = door
        self._caller = caller

    async def open(self, record_id: RecordId) -> Document:
        """Open a record of any kind that the caller may see."""
        return await self._door.read(
            self._caller, Action.OPEN_RECORD, lambda op: documents.open_document(op, record_id), touch=True
        )

    async def link(
        self, source: RecordId, targets: Sequence[RecordId], *, relation: str = RELATES_TO, remove: bool = False
    ) -> tuple[Relation, ...]:
        """Link a memory of the caller's to records that it sees, or take such links away; gives its links then."""
        return await self._door.write(
            self._caller,
            Action.LINK_MEMORY,
            lambda op: documents.link(op, source, targets, relation=relation, remove=remove),
        )
