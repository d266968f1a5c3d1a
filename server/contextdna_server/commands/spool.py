"""``contextdna spool``: queued writes that wait for PostgreSQL, or were refused when it was back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import click

from contextdna import AsideWrite, ContextDnaError, NotFound
from contextdna.hub.slots import Slot, look_into_slots, read_aside
from contextdna_server.commands.invocation import Invocation, run_async, table, with_shared_options
from contextdna_server.commands.operator import Operator, open_as_operator, project_option
from contextdna_server.installation import no_installation
from contextdna_server.settings import Settings


@click.command()
@project_option
@click.option("--retry", metavar="ID", help="Do this one after all, as who had asked for it.")
@click.option("--drop", metavar="ID", help="Remove this one for good.")
@with_shared_options
def spool(invocation: Invocation, projects: tuple[str, ...], retry: str | None, drop: str | None) -> None:
    """List queued writes that were refused when they were stored at last, and count those that wait.

    Nothing of their text is shown: it is their authors'. The list needs no database.
    """
    if retry is not None and drop is not None:
        raise click.UsageError("--retry and --drop exclude each other")
    settings = invocation.settings()
    if not settings.data.is_dir():
        raise no_installation(settings)

    async def run() -> tuple[list[AsideWrite], list[str]]:
        done: list[str] = []
        if entry_id := retry or drop:
            async with open_as_operator(settings, projects) as operator:
                done = await _act(operator, entry_id, is_retry=retry is not None)
        return await _aside(settings, projects), done

    aside, done = run_async(run)
    slots = look_into_slots(settings.data)
    rows = [(one.id, one.code, one.action, one.project_id, one.agent_id, f"{one.at:%Y-%m-%d %H:%M}") for one in aside]
    document = {"aside": [_shown(one) for one in aside], "done": done, "slots": [asdict(slot) for slot in slots]}
    invocation.answer(document, [*(table(rows, indent="") if rows else ["No write is set aside."]), *_told(slots)])


async def _act(operator: Operator, entry_id: str, *, is_retry: bool) -> list[str]:
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


async def _aside(settings: Settings, projects: tuple[str, ...]) -> list[AsideWrite]:
    """Read from the data folder alone: it is to be seen while PostgreSQL is away, and looking is to store nothing."""
    found = await read_aside(settings.to_hub_settings())
    return [one for one in found if not projects or one.project_id in ("", *projects)]


def _told(slots: list[Slot]) -> Iterator[str]:
    if waiting := sum(slot.waiting for slot in slots):
        yield f"Waiting for PostgreSQL: {waiting}. A server that runs stores them."
    for slot in slots:
        if slot.problem:
            yield f"Slot {slot.number} is left as it is: {slot.message} [{slot.problem}]."


def _shown(one: AsideWrite) -> dict[str, object]:
    queued_at = one.queued_at.isoformat() if one.queued_at else None
    return {**asdict(one), "at": one.at.isoformat(), "queued_at": queued_at}
