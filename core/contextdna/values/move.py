"""Moving an installation to another database: its tables as both sides see them, and how far it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

MovedRow: TypeAlias = tuple[Any, ...]
"""A row in the order of ``MovedTable.columns``: None, integers, floats, texts and bytes; lists as JSON."""


@dataclass(frozen=True, slots=True)
class MovedTable:
    """A table to be moved."""

    name: str
    columns: tuple[str, ...]
    """A project's id first, where rows are of projects."""
    key: tuple[str, ...]
    """What tells rows of a project apart, in the order in which both sides give them."""
    counted: str = ""
    """The column whose numbers the database gives, never twice."""
    of_records: bool = False
    """Whether rows hang on records by ``seq``."""

    @property
    def is_of_projects(self) -> bool:
        """Whether rows are of projects."""
        return self.columns[0] == "project_id"


@dataclass(frozen=True, slots=True)
class Tally:
    """How many rows there are, and a digest over all of them in order."""

    rows: int = 0
    digest: bytes = bytes(32)


Tallies: TypeAlias = Mapping[tuple[str, str], Tally]
"""By table and project; the project is empty for what is of none."""


@dataclass(frozen=True, slots=True)
class MoveState:
    """How far a target is."""

    part: str = ""
    """The table that was written last; those before it are complete."""
    place: str = ""
    """The key of its last row, as the source wrote it; empty before the first one."""
    tallies: Tallies = field(default_factory=dict)
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class MoveProgress:
    """What a move is at."""

    stage: str
    """``copy``, ``check`` or ``artifacts``."""
    part: str
    """The table, if any."""
    done: int
    total: int
    """Rows, or artifacts, of this part."""


@dataclass(frozen=True, slots=True)
class MoveReport:
    """What was moved."""

    rows: Mapping[str, int]
    """By table, as counted on both sides."""
    projects: int
    audit_chains: int
    audit_entries: int
    artifacts: int
    """Referred to by records."""
    artifacts_copied: int
    """Now; the others were there already."""
    artifacts_lost: tuple[str, ...]
    """Blobs that records refer to and that the source does not have, or not whole."""
    resumed: bool
    writes_aside: int = 0
    """Queued writes that were refused, and that stay in the source's data folder."""
