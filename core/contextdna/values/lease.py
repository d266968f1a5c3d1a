"""Leases of jobs that one process does for all."""

from dataclasses import dataclass, field
from datetime import datetime

from contextdna.values.ids import ProjectId


@dataclass(frozen=True, slots=True)
class Lease:
    """That one holds a lock, until it is over or released."""

    project_id: ProjectId
    name: str
    holder: str = field(repr=False)
    """A secret of the holder's."""
    fencing: int
    """Of the leases of one lock, each has a greater number than all before it."""


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """The last lease of a name as it is stored."""

    project_id: ProjectId
    name: str
    holder: str
    """Empty where it was given back, or is kept elsewhere."""
    fencing: int
    expires_at: datetime
