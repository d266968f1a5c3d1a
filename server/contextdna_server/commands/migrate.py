"""``contextdna migrate``: the schema's version, forward and back."""

from __future__ import annotations

import sys

import click

from contextdna import InvalidInput
from contextdna.backends.migrations import Step
from contextdna_server.commands.invocation import Invocation, run_async, table, with_shared_options
from contextdna_server.settings import Settings


@click.group()
def migrate() -> None:
    """Show or change the schema's version.

    `contextdna serve` brings it up by itself.
    """


@migrate.command()
@with_shared_options
def status(invocation: Invocation) -> None:
    """Show which migrations the database has, and which are pending."""
    from contextdna_server.installation import look_at

    with look_at(invocation.settings()) as view:
        found = view.schema()
    document = {
        "current": found.current,
        "latest": found.latest,
        "applied": [{"version": step.version, "name": step.name} for step in found.applied],
        "pending": [{"version": step.version, "name": step.name} for step in found.pending],
    }
    rows = [(str(step.version), step.name, "applied") for step in found.applied]
    rows += [(str(step.version), step.name, "pending") for step in found.pending]
    invocation.answer(document, [f"schema version {found.current} of {found.latest}", *table(rows)])


@migrate.command()
@with_shared_options
def up(invocation: Invocation) -> None:
    """Run the pending migrations."""
    _migrate(invocation, invocation.settings(), target=None)


@migrate.command()
@click.argument("version", type=click.IntRange(min=0))
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_shared_options
def down(invocation: Invocation, version: int, yes: bool) -> None:
    """Go back to schema VERSION. What only newer versions can hold is lost; version 0 holds nothing."""
    settings = invocation.settings()
    _confirm(f"Go back to schema version {version} in {settings.data}? Data may be lost.", yes=yes)
    _migrate(invocation, settings, target=version)


def _confirm(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInput("this may lose data", code="confirmation_needed", hint="Make a backup, then add --yes.")
    click.confirm(question, abort=True, err=True)


def _migrate(invocation: Invocation, settings: Settings, *, target: int | None) -> None:
    from contextdna_server.installation import look_at

    with look_at(settings) as view:
        before = view.schema()
    _check_way(before.current, before.latest, target)

    async def run() -> list[tuple[str, str]]:
        steps = await _take_steps(settings, target)
        return [("down" if step.back else "up", f"{step.migration.version} {step.migration.name}") for step in steps]

    taken = run_async(run)
    version = before.latest if target is None else target
    document = {"current": version, "steps": [{"way": way, "migration": name} for way, name in taken]}
    invocation.answer(document, [*table(taken), f"schema version {version}"])


async def _take_steps(settings: Settings, target: int | None) -> tuple[Step, ...]:
    if settings.storage.postgres_url:
        from contextdna.backends.postgres import migrate_postgres
        from contextdna_server.installation import server_of

        return await migrate_postgres(server_of(settings), target=target)
    if settings.storage.is_in_memory:
        if target is None:
            return ()
        raise InvalidInput(
            "rows in memory have no schema to go back to",
            code="not_in_memory",
            hint="To begin anew, stop the server and remove the folder memory from the data folder.",
        )
    from contextdna.backends.sqlite import migrate_sqlite
    from contextdna.hub.opening import DATABASE_FILE

    path = settings.data / DATABASE_FILE
    return await migrate_sqlite(path, target=target, busy_timeout_s=settings.sqlite.busy_timeout_s)


def _check_way(current: int, latest: int, target: int | None) -> None:
    if target is not None and target > current:
        raise InvalidInput(
            f"the schema has version {current}, which is not above {target} (the latest is {latest})",
            code="version_not_below",
            hint="Use `contextdna migrate up` to go forward.",
        )
