"""The five access levels."""

from enum import IntEnum
from typing import Final


class Level(IntEnum):
    """Who reads a record; the number is what the database keeps."""

    PRIVATE = 1
    TEAM = 2
    SWARM = 3
    PROJECT = 4
    SYSTEM = 5

    @property
    def label(self) -> str:
        """The name that tools and documents use."""
        return self.name.lower()


LEVELS_BY_LABEL: Final = {level.label: level for level in Level}
ENCRYPTED_LEVELS: Final = frozenset({Level.PRIVATE, Level.TEAM, Level.SYSTEM})
