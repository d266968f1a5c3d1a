"""Resources: the projects that a caller may use, and one of them in numbers."""

from contextdna import Workspace
from contextdna_resources.contents import Contents, json_contents, shown_time
from contextdna_resources.uris import Noun, ResourceUri


async def read_projects(uri: ResourceUri, workspace: Workspace) -> Contents:
    """List the caller's projects."""
    projects = [
        {"project_id": project_id, "uri": str(ResourceUri(Noun.PROJECT, project_id))}
        for project_id in sorted(await workspace.list_projects())
    ]
    return json_contents(uri, {"projects": projects})


async def read_project(uri: ResourceUri, workspace: Workspace) -> Contents:
    """Count what the caller may see of a project, and tell where its lists are."""
    overview = await workspace.project_overview()
    project_id = overview.project.id
    return json_contents(
        uri,
        {
            "project_id": project_id,
            "created_at": shown_time(overview.project.created_at),
            "agents": overview.agents,
            "records_by_kind": dict(overview.records_by_kind),
            "records_by_level": dict(overview.records_by_level),
            "records_by_type": dict(overview.records_by_type),
            "conversations": str(ResourceUri(Noun.CONVERSATIONS, project_id)),
            "artifacts": str(ResourceUri(Noun.ARTIFACTS, project_id)),
        },
    )
