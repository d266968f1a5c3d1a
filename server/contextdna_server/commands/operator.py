"""Acting as the operator: role system, on an installation that is there already."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import click

from contextdna import (
    AgentId,
    Hub,
    NotFound,
    Principal,
    ProjectId,
    Role,
    WhenUnusable,
    Workspace,
    open_hub,
)
from contextdna.values.ids import INSTALLATION
from contextdna_server.installation import look_at, no_installation, project_ids
from contextdna_server.settings import Settings

OPERATOR: Final = AgentId("operator")


def project_option(run: Callable[..., None]) -> Callable[..., None]:
    """Give a command --project, which narrows it."""
    return click.option(
        "--project", "projects", multiple=True, metavar="NAME", help="Only this project; may be repeated."
    )(run)


@dataclass(frozen=True, slots=True)
class Operator:
    """The operator at an open installation."""

    hub: Hub
    principal: Principal
    chosen: tuple[ProjectId, ...]
    """The projects that the command is about."""
    chains: tuple[ProjectId, ...]
    """Their audit chains; first the installation's own, unless projects were named."""

    def workspace(self, project_id: ProjectId | None = None) -> Workspace:
        """Bind the operator to a project; without a name to any: for what is about the whole installation."""
        return self.hub.bind(self.principal, project_id=project_id or self.principal.project_ids[0])


@asynccontextmanager
async def open_as_operator(settings: Settings, projects: Sequence[str] = ()) -> AsyncIterator[Operator]:
    """Open an installation with all its projects, making nothing that is not there.

    Raises:
        StorageUnavailable: ``no_installation``, or it cannot be opened.
        NotFound: ``project_not_found``: one of ``projects`` is not there.
    """
    with look_at(settings) as view:
        existing = project_ids(view) if view.schema().current else ()
    if not existing:
        raise no_installation(settings)
    chosen = _chosen(existing, projects)
    principal = Principal(OPERATOR, existing, role=Role.SYSTEM)
    own = replace(settings.to_hub_settings(), projects=existing, when_unusable=WhenUnusable.REFUSE)
    async with open_hub(own) as hub:
        yield Operator(hub, principal, chosen, chains=chosen if projects else (INSTALLATION, *chosen))


def shown_project(project_id: str) -> str:
    """Name a project, or the installation itself: no project can be called so."""
    return project_id or "(installation)"


def _chosen(existing: tuple[ProjectId, ...], wanted: Sequence[str]) -> tuple[ProjectId, ...]:
    unknown = [name for name in wanted if name not in existing]
    if unknown:
        raise NotFound(
            f"no such project: {', '.join(unknown)}",
            code="project_not_found",
            hint=f"Projects here: {', '.join(existing)}.",
        )
    return tuple(project for project in existing if not wanted or project in wanted)
