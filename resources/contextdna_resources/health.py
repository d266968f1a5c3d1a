"""Resource: whether the server can do its work."""

from dataclasses import asdict

from contextdna import BackendHealth, Workspace
from contextdna_resources.contents import Contents, json_contents
from contextdna_resources.uris import ResourceUri


async def read_health(uri: ResourceUri, workspace: Workspace) -> Contents:
    """Report on the database, what else the server leans on, and searching by meaning, as this caller meets them."""
    health = await workspace.health()
    database = health.database
    others = {"artifacts": health.artifacts, "cache": health.cache}
    is_sound = database.sound and not health.modes and all(not other or other.sound for other in others.values())
    return json_contents(
        uri,
        {
            "status": "ok" if is_sound else "degraded",
            "modes": [asdict(mode) for mode in health.modes] or None,
            "project_id": health.project_id,
            "database": {
                "engine": database.engine,
                "engine_version": database.engine_version,
                "schema_version": database.schema_version,
                "size_bytes": database.size_bytes,
                "sound": database.sound,
                "problem": database.problem,
                "latency_ms": round(health.latency_ms, 3),
                **({"replicas": [asdict(one) for one in database.replicas]} if database.replicas else {}),
            },
            **{name: _told(other) for name, other in others.items()},
            "semantics": asdict(health.semantics) if health.semantics else None,
        },
    )


def _told(health: BackendHealth | None) -> dict[str, object] | None:
    return {**asdict(health), "latency_ms": round(health.latency_ms, 3)} if health else None
