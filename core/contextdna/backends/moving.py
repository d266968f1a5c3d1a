"""What every database has in common as a side of a move: how much it takes at once, and what it refuses."""

from collections.abc import Sequence
from typing import Any, Final

from contextdna.backends.migrations import SchemaStatus
from contextdna.errors import Conflict, StorageUnavailable

BATCH_ROWS: Final = 500
BATCH_BYTES: Final = 8 * 1024 * 1024
"""What a transaction of a move takes; one row may be more."""


def size_of(row: Sequence[Any]) -> int:
    """Estimate the size of a row, in bytes."""
    return sum(len(value) for value in row if isinstance(value, str | bytes))


def check_schema(status: SchemaStatus) -> None:
    """Check that a source has the tables of this program.

    Raises:
        StorageUnavailable: ``no_installation``, ``schema_older`` or ``move_incomplete``.
    """
    if not status.current:
        raise StorageUnavailable(
            "there is no installation in the source", code="no_installation", hint="Name another one with --from."
        )
    if status.pending:
        raise StorageUnavailable(
            f"the source has schema version {status.current}; this program moves version {status.latest}",
            code="schema_older",
            hint="Run `contextdna migrate up` on the source first.",
        )
    if status.moving:
        raise incomplete()


def incomplete() -> StorageUnavailable:
    """Make the error for a target of a move that is not complete."""
    return StorageUnavailable(
        "an installation is being moved into this database and not all of it is there yet",
        code="move_incomplete",
        hint="Run `contextdna storage migrate` with the same --from and --to: it goes on where it was.",
    )


def not_empty() -> Conflict:
    """Make the error for a target that holds something."""
    return Conflict(
        "the target holds an installation already",
        code="move_target_not_empty",
        hint="Name an empty database, or another folder, with --to.",
    )


def other_source() -> Conflict:
    """Make the error for a target that was begun from elsewhere."""
    return Conflict(
        "the target is being made from another installation",
        code="move_other_source",
        hint="Go on with that one, or empty the incomplete target with --restart.",
    )


def taken_over() -> Conflict:
    """Make the error for a run whose move another one goes on with."""
    return Conflict(
        "another run goes on with this move", code="move_taken_over", hint="Let that one finish; start none beside it."
    )


def in_use(connections: int) -> StorageUnavailable:
    """Make the error for a source that servers use."""
    return StorageUnavailable(
        f"servers use the source ({connections} connections)",
        code="move_source_in_use",
        hint="Stop all servers of the source, then run this again.",
        retryable=True,
    )
