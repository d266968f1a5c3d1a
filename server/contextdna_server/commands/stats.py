"""``contextdna stats``: what an installation holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from contextdna import ProjectId, Workspace
from contextdna.hub.blob_stores import ARTIFACTS_FOLDER, artifacts_place
from contextdna.values.ids import INSTALLATION
from contextdna_server.commands.invocation import Invocation, printable, run_async, table, with_shared_options
from contextdna_server.commands.operator import Operator, open_as_operator, project_option, shown_project
from contextdna_server.settings import Settings

_CONFLICTS_MAX = 1000


@click.command()
@project_option
@with_shared_options
def stats(invocation: Invocation, projects: tuple[str, ...]) -> None:
    """Count what the installation holds, and tell the sizes on disk.

    Records are counted by kind, level and type as the role system sees them: private and team records of agents are
    not counted.
    """
    settings = invocation.settings()

    async def run() -> dict[str, Any]:
        async with open_as_operator(settings, projects) as operator:
            return await _document(operator, settings)

    document = run_async(run)
    invocation.answer(document, _lines(document))


async def _document(operator: Operator, settings: Settings) -> dict[str, Any]:
    database = (await operator.workspace().health()).database
    return {
        "data": str(settings.data),
        "database": {
            "engine": f"{database.engine} {database.engine_version}",
            "schema_version": database.schema_version,
            "size_bytes": database.size_bytes,
            "sound": database.sound,
            "problem": database.problem,
        },
        "artifacts": _artifacts(settings),
        "projects": [await _project(operator.workspace(name), name) for name in operator.chosen],
        "installation": await _installation(operator),
        "settings": settings.masked(),
    }


async def _installation(operator: Operator) -> dict[str, int]:
    """Count the audit chain of the installation itself, unless projects were named."""
    if INSTALLATION not in operator.chains:
        return {}
    newest = await operator.workspace().query_audit(limit=1, installation=True)
    return {"audit_entries": newest[0].seq if newest else 0}


async def _project(workspace: Workspace, project_id: ProjectId) -> dict[str, Any]:
    overview = await workspace.project_overview()
    newest = await workspace.query_audit(limit=1)
    return {
        "project": project_id,
        "created_at": overview.project.created_at.isoformat(timespec="seconds"),
        "agents": overview.agents,
        "by_kind": dict(overview.records_by_kind),
        "by_level": dict(overview.records_by_level),
        "by_type": dict(overview.records_by_type),
        "audit_entries": newest[0].seq if newest else 0,
        "stale_updates_refused": len(await workspace.conflicts(limit=_CONFLICTS_MAX)),
    }


def _artifacts(settings: Settings) -> dict[str, Any]:
    """Measure the data folder; what a bucket holds is its provider's to tell, at no request for each thousand."""
    if settings.storage.artifacts:
        return {"place": artifacts_place(settings.to_hub_settings()).place}
    return _folder_size(settings.data)


def _folder_size(data_dir: Path) -> dict[str, int]:
    sizes = [file.stat().st_size for file in (data_dir / ARTIFACTS_FOLDER).rglob("*") if file.is_file()]
    return {"files": len(sizes), "size_bytes": sum(sizes)}


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    database, artifacts = document["database"], document["artifacts"]
    yield f"{document['data']}"
    yield f"  database   {_size(database['size_bytes'])}, {database['engine']}, schema {database['schema_version']}"
    shown = artifacts.get("place") or f"{_size(artifacts['size_bytes'])} in {artifacts['files']} files"
    yield f"  artifacts  {shown}"
    for count in document["installation"].values():
        yield shown_project(INSTALLATION)
        yield from table([("audit entries", str(count))])
    for project in document["projects"]:
        yield printable(project["project"])
        rows = [(name, _counts(project[key])) for name, key in _TALLIES]
        rows += [(name, str(project[key])) for name, key in _NUMBERS]
        yield from table(rows)


_TALLIES = (("kinds", "by_kind"), ("levels", "by_level"), ("types", "by_type"))
_NUMBERS = (
    ("agents", "agents"),
    ("audit entries", "audit_entries"),
    ("stale updates refused", "stale_updates_refused"),
)


def _counts(tally: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in tally.items()) or "none"


def _size(size_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"
