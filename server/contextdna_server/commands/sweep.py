"""``contextdna sweep``: purge now what retention says is over."""

from __future__ import annotations

import click

from contextdna import ProjectId
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

    async def run() -> dict[ProjectId, int]:
        purged = {}
        async with open_as_operator(settings, projects) as operator:
            with progress("Sweeping projects", total=len(operator.chosen)) as advance:
                for done, project_id in enumerate(operator.chosen, start=1):
                    purged[project_id] = await operator.workspace(project_id).sweep()
                    advance(done)
        return purged

    purged = run_async(run)
    total = sum(purged.values())
    rows = [(project_id, f"{count} records purged") for project_id, count in purged.items()]
    document = {"purged": total, "projects": [{"project": name, "purged": count} for name, count in purged.items()]}
    invocation.answer(document, [*table(rows, indent=""), f"{total} records purged"])
