"""``contextdna reindex``: embed what has no vector of the model at work."""

from __future__ import annotations

import click

from contextdna import ReindexReport
from contextdna.errors import SettingsInvalid
from contextdna.values.settings import EmbedderKind
from contextdna_server.commands.invocation import Invocation, progress, run_async, table, with_shared_options
from contextdna_server.commands.operator import open_as_operator, project_option


@click.command()
@project_option
@with_shared_options
def reindex(invocation: Invocation, projects: tuple[str, ...]) -> None:
    """Embed every record that has no vector of the model at work.

    A running server does it by itself, but for a change of the model: that is made here.
    """
    settings = invocation.settings()
    if settings.search.embedder is EmbedderKind.NONE:
        raise SettingsInvalid(
            "search.embedder is none: there is nothing to embed with",
            code="embedder_none",
            hint="Set search.embedder, for example CONTEXTDNA_SEARCH__EMBEDDER=wordllama.",
        )

    async def run() -> list[ReindexReport]:
        reports = []
        async with open_as_operator(settings, projects) as operator:
            for project_id in operator.chosen:
                with progress(f"Embedding {project_id}") as advance:
                    reports.append(await operator.workspace(project_id).reindex(progress=advance))
        return reports

    reports = run_async(run)
    documents = [
        {
            "project": report.project_id,
            "model": report.model,
            "dimension": report.dimension,
            "embedded": report.embedded,
            "model_changed": report.model_changed,
        }
        for report in reports
    ]
    rows = [(report.project_id, _told(report)) for report in reports]
    total = sum(report.embedded for report in reports)
    invocation.answer({"embedded": total, "projects": documents}, table(rows, indent=""))


def _told(report: ReindexReport) -> str:
    instead = ", in place of another model's" if report.model_changed else ""
    return f"{report.embedded} records embedded by {report.model} ({report.dimension} dimensions){instead}"
