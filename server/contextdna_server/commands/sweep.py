"""``contextdna sweep``: purge now what retention says is over."""

from __future__ import annotations

from dataclasses import asdict

import click

from contextdna import ProjectId, Swept
from contextdna_server.commands.invocation import Invocation, progress, run_async, table, with_shared_options
from contextdna_server.commands.operator import open_as_operator, project_option


@click.command()
@project_option
@with_shared_options
def sweep(invocation: Invocation, projects: tuple[str, ...]) -> None:
    """Purge what retention says is over, and close overdue sessions.

    A running server does both by itself.
    """
    settings = invocation.settings()

    async def run() -> dict[ProjectId, Swept]:
        swept = {}
        async with open_as_operator(settings, projects) as operator:
            with progress("Sweeping projects", total=len(operator.chosen)) as advance:
                for done, project_id in enumerate(operator.chosen, start=1):
                    swept[project_id] = await operator.workspace(project_id).sweep()
                    advance(done)
        return swept

    swept = run_async(run)
    total = Swept(sum(one.purged for one in swept.values()), sum(one.sessions_closed for one in swept.values()))
    projects_swept = [{"project": name, **asdict(one)} for name, one in swept.items()]
    rows = [*((name, _told(one)) for name, one in swept.items()), ("all projects", _told(total))]
    invocation.answer({**asdict(total), "projects": projects_swept}, [*table(rows, indent="")])


def _told(swept: Swept) -> str:
    return f"{swept.purged} records purged, {swept.sessions_closed} overdue sessions closed"
