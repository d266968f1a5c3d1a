"""``contextdna spool``: queued writes that were refused when PostgreSQL was back."""

from __future__ import annotations

from dataclasses import asdict

import click

from contextdna import AsideWrite, ContextDnaError, NotFound, ProjectId
from contextdna_server.commands.invocation import Invocation, run_async, table, with_shared_options
from contextdna_server.commands.operator import Operator, open_as_operator, project_option


@click.command()
@project_option
@click.option("--retry", metavar="ID", help="Do this one after all, as who had asked for it.")
@click.option("--drop", metavar="ID", help="Remove this one for good.")
@with_shared_options
def spool(invocation: Invocation, projects: tuple[str, ...], retry: str | None, drop: str | None) -> None:
    """List queued writes that were refused when they were stored at last.

    Nothing of their text is shown: it is their authors'.
    """
    settings = invocation.settings()

    async def run() -> tuple[list[AsideWrite], list[str]]:
        async with open_as_operator(settings, projects) as operator:
            done = await _act(operator, retry or drop or "", is_retry=retry is not None)
            return await _aside(operator), done

    aside, done = run_async(run)
    rows = [(one.id, one.code, one.action, one.project_id, one.agent_id, f"{one.at:%Y-%m-%d %H:%M}") for one in aside]
    document = {"aside": [_shown(one) for one in aside], "done": done}
    invocation.answer(document, [*table(rows, indent="")] if rows else ["No write is set aside."])


async def _act(operator: Operator, entry_id: str, *, is_retry: bool) -> list[str]:
    if not entry_id:
        return []
    absent: ContextDnaError | None = None
    for project_id in operator.chosen:
        queue = operator.workspace(project_id).queue
        try:
            if is_retry:
                return list(await queue.retry(entry_id))
            await queue.drop(entry_id)
        except NotFound as error:
            if error.code != "queued_unknown":
                raise
            absent = error
        else:
            return [entry_id]
    raise absent or NotFound("no such write is set aside", code="queued_unknown", hint="List them first.")


async def _aside(operator: Operator) -> list[AsideWrite]:
    found: dict[str, AsideWrite] = {}
    for project_id in operator.chosen:
        found |= {one.id: one for one in await operator.workspace(ProjectId(project_id)).queue.aside()}
    return sorted(found.values(), key=lambda one: (one.at, one.id))


def _shown(one: AsideWrite) -> dict[str, object]:
    queued_at = one.queued_at.isoformat() if one.queued_at else None
    return {**asdict(one), "at": one.at.isoformat(), "queued_at": queued_at}
