"""Hand-written SQL by name: sections ``-- name: xyz`` of the files in ``backends/sql/<dialect>``."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final, Protocol

from contextdna.values.search import Match

Params = Sequence[Any]
Row = tuple[Any, ...]

_SECTION: Final = re.compile(r"^-- (name|fragment): (\w+)\n", re.MULTILINE)
_FRAGMENT: Final = re.compile(r"\{(\w+)\}")


class Executor(Protocol):
    """Runs named statements inside one transaction. On an embedded engine no call ever suspends."""

    async def rows(self, name: str, params: Params = ()) -> list[Row]:
        """Run a query and fetch all its rows."""
        ...

    async def run(self, name: str, params: Params = ()) -> int:
        """Run a statement and give how many rows it changed."""
        ...

    async def run_many(self, name: str, params: Sequence[Params]) -> None:
        """Run a statement once for each set of parameters."""
        ...

    def match_params(self, match: Match) -> Params:
        """Write a match as the statements of this engine take it.

        Raises:
            ValueError: A phrase is empty, a required one has no form, or a token is not of ``a-z0-9``.
        """
        ...


@cache
def load_statements(dialect: str) -> Mapping[str, str]:
    """Read every named statement of a dialect, with its fragments filled in.

    Raises:
        ValueError: A name is there twice, or a fragment is unknown.
    """
    names: dict[str, str] = {}
    fragments: dict[str, str] = {}
    folder = files("contextdna.backends") / "sql" / dialect
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".sql"):
            for sort, name, text in _sections(file.read_text("utf-8")):
                texts = names if sort == "name" else fragments
                if name in texts:
                    raise ValueError(f"{dialect}/{file.name}: {sort} {name} is there twice")
                texts[name] = text
    return {name: _filled(text, fragments) for name, text in names.items()}


def _sections(text: str) -> list[tuple[str, str, str]]:
    parts = _SECTION.split(text)[1:]
    return list(zip(parts[0::3], parts[1::3], (_without_comments(part) for part in parts[2::3]), strict=True))


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("--"))


def _filled(text: str, fragments: Mapping[str, str]) -> str:
    def fragment(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in fragments:
            raise ValueError(f"unknown SQL fragment {name}")
        return _filled(fragments[name], fragments)

    return _FRAGMENT.sub(fragment, text)
