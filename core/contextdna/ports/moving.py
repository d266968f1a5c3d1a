"""Ports: a database as the side that an installation is moved from, or to."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from contextdna.ports.database import Unit
from contextdna.values.move import MovedRow, MovedTable, MoveState, Tallies

R = TypeVar("R")


class MoveSide(Protocol):
    """A database whose tables are read from their beginning to their end, past all that is kept in memory."""

    @property
    def engine(self) -> str:
        """Which product it is."""
        ...

    def snapshot(self) -> AbstractAsyncContextManager[None]:
        """See within one snapshot what follows."""
        ...

    def batches(self, table: MovedTable, after: str = "") -> AsyncIterator[Sequence[MovedRow]]:
        """Read a table in the order of its key within each project, from behind a place on.

        Raises:
            StorageUnavailable: The engine cannot answer.
            IntegrityFault: The file is damaged.
        """
        ...

    def place_of(self, table: MovedTable, row: MovedRow) -> str:
        """Write down where a row stands."""
        ...

    async def json_columns(self, table: MovedTable) -> frozenset[str]:
        """Name the columns that the engine keeps as JSON, and not as it was written."""
        ...

    async def count(self, table: MovedTable) -> int:
        """Count the rows of a table."""
        ...

    async def last_numbers(self) -> Mapping[str, int]:
        """Give the last number that each counted table has given."""
        ...

    async def revision(self) -> int:
        """Give a number that is another one once others have written; of a side that nobody else can write any."""
        ...

    async def blob_keys(self) -> Sequence[str]:
        """List the blobs that records refer to, each once."""
        ...

    async def ask(self, unit: Unit[R]) -> R:
        """Run a reading unit."""
        ...


class MoveTarget(MoveSide, Protocol):
    """A database that becomes the copy of another one. Until it is complete, no server opens it."""

    async def begin(self, source: str, run: str, tables: Sequence[MovedTable]) -> MoveState:
        """Mark the target as being made from a source, or go on with what was begun.

        Raises:
            Conflict: ``move_target_not_empty``, or ``move_other_source``: it was begun from another one.
        """
        ...

    async def add(self, table: MovedTable, rows: Sequence[MovedRow], place: str, tallies: Tallies) -> None:
        """Write rows, with how far they bring the move, in one transaction.

        Raises:
            Conflict: ``move_taken_over``: another run goes on with this move.
            ContextDnaError: The target cannot take them.
        """
        ...

    async def complete(self, last_numbers: Mapping[str, int]) -> None:
        """Take the mark away: from now on the target is an installation.

        Raises:
            Conflict: ``move_taken_over``.
        """
        ...
