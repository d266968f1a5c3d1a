"""What a server offers by URI: what is listed, and how it is read, watched and completed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from mcp_types import Completion, Resource, ResourceTemplate

import contextdna_resources as ours
from contextdna import Workspace
from contextdna_resources import Contents, WorkspaceFor


@dataclass(frozen=True, slots=True)
class ServedResources:
    """Resources as they are listed, and the functions that serve them. A URI comes as the client wrote it."""

    fixed: tuple[Resource, ...]
    templates: tuple[ResourceTemplate, ...]
    read: Callable[[str, WorkspaceFor], Awaitable[list[Contents]]]
    project_of: Callable[[str], str]
    """The project that a URI is in, empty for the caller's own; refuses what is no URI of these."""
    check: Callable[[str, Workspace], Awaitable[None]]
    """Refuses exactly as a read would."""
    changes: Callable[[str, Workspace], AsyncGenerator[None, None]]
    """Gives a sign at once, from when on nothing is missed, then one for each change."""
    complete: Callable[[str, str, str, Mapping[str, str], WorkspaceFor], Awaitable[Completion]]


def _project_of(uri: str) -> str:
    return ours.parse_uri(uri).project_id


async def _check(uri: str, workspace: Workspace) -> None:
    await ours.check_readable(ours.parse_uri(uri), workspace)


def _changes(uri: str, workspace: Workspace) -> AsyncGenerator[None, None]:
    return ours.changes(ours.parse_uri(uri), workspace)


RESOURCES: Final = ServedResources(
    fixed=ours.RESOURCES,
    templates=ours.TEMPLATES,
    read=ours.read_resource,
    project_of=_project_of,
    check=_check,
    changes=_changes,
    complete=ours.complete,
)
"""The product's."""
