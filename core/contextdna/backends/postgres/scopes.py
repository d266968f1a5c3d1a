"""Which project's data a statement is about: what a unit of work locks before it looks, and what it is let see."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from hashlib import blake2b
from typing import Final, TypeAlias

from contextdna.backends.relational.statements import Params, load_statements
from contextdna.values.ids import INSTALLATION, ProjectId

DIALECT: Final = "postgres"


class Wide(Enum):
    """Scopes that are no project."""

    NOTHING = "nothing"
    """No data at all."""
    BY_ID = "by_id"
    """A row and what hangs on it, found by an unguessable id that names no project."""
    ALL = "all"
    """The data of all projects."""


Scope: TypeAlias = ProjectId | Wide
Place: TypeAlias = int | Scope
"""Where among its parameters a statement has its project, or the scope of all its calls."""

_SPECIAL: Final[Mapping[str, Place]] = {
    "records_next_seqs": Wide.NOTHING,
    "session_get": Wide.BY_ID,
    "sessions_below": Wide.BY_ID,
    "sessions_around": Wide.BY_ID,
    "delegation_get": Wide.BY_ID,
    "project_add": 0,
    "project_get": 0,
    "access_token_add": INSTALLATION,
    "access_token_get": INSTALLATION,
    "access_tokens_page": INSTALLATION,
    "access_token_revoke": INSTALLATION,
    "access_token_note_use": INSTALLATION,
}
_INSERTED: Final = re.compile(r"^INSERT INTO \w+ \(([^)]*)\)\s*VALUES")
_TABLE: Final = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE)\s+(?!SET\b)(\w+)")
_CHANGE: Final = re.compile(r"\b(?:INSERT INTO|UPDATE (?!SET\b)|DELETE FROM)")
_COMPARED: Final = re.compile(r"\bproject_id = \$(\d+)")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The named statements, and what has to be known of them before they are run."""

    texts: Mapping[str, str]
    places: Mapping[str, Place]
    touched: Mapping[str, frozenset[str]]
    """The tables that each one reads or writes."""
    changing: frozenset[str]
    """Those that write."""


@cache
def load_catalogue() -> Catalogue:
    """Read the statements; the scope of most is found in their text."""
    texts = load_statements(DIALECT)
    return Catalogue(
        texts,
        {name: _SPECIAL[name] if name in _SPECIAL else _place_in(text) for name, text in texts.items()},
        {name: frozenset(_TABLE.findall(text)) for name, text in texts.items()},
        frozenset(name for name, text in texts.items() if _CHANGE.search(text)),
    )


def _place_in(text: str) -> Place:
    inserted = _INSERTED.match(text)
    if inserted:
        return [column.strip() for column in inserted[1].split(",")].index("project_id")
    compared = _COMPARED.search(text)
    return int(compared[1]) - 1 if compared else Wide.ALL


def scope_of(place: Place, params: Params) -> Scope:
    """Tell what a call of a statement is about."""
    return ProjectId(params[place]) if isinstance(place, int) else place


def lock_key(project_id: ProjectId) -> int:
    """Give the advisory lock of a project; that two may share one costs only time."""
    return _key(f"project {project_id}")


def _key(name: str) -> int:
    return int.from_bytes(blake2b(f"contextdna {name}".encode(), digest_size=8).digest(), signed=True)


ALL_PROJECTS: Final = _key("all projects")
"""Held shared by who writes in some projects, and alone by who looks at all of them to write."""

MIGRATION: Final = _key("migration")
