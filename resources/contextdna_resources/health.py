"""Resource: whether the server can do its work."""

from dataclasses import asdict

from contextdna import Workspace
from contextdna_resources.contents import Contents, json_contents
from contextdna_resources.uris import ResourceUri


async def read_health(uri: ResourceUri, workspace: Workspace) -> Contents:
    """Report on the database, and on searching by meaning, as this caller meets them."""
    health = await workspace.health()
    database = health.database
    return json_contents(
        uri,
        {
            "status": "ok" if database.sound else "degraded",
            "project_id": health.project_id,
            "database": {
                "engine": database.engine,
                "engine_version": database.engine_version,
                "schema_version": database.schema_version,
                "size_bytes": database.size_bytes,
                "sound": database.sound,
                "problem": database.problem,
            },
            "semantics": asdict(health.semantics) if health.semantics else None,
        },
    )
