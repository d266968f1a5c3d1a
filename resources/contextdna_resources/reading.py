"""From a URI to what it holds: parse, bind the workspace of its project, let its noun read."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from contextdna import Workspace
from contextdna_resources.agents import read_agent, read_agents
from contextdna_resources.artifacts import read_artifact, read_artifacts
from contextdna_resources.contents import Contents
from contextdna_resources.conversations import read_conversation, read_conversations
from contextdna_resources.guide import read_guide
from contextdna_resources.health import read_health
from contextdna_resources.loops import read_loops
from contextdna_resources.memories import read_memory
from contextdna_resources.projects import read_project, read_projects
from contextdna_resources.tasks import read_task
from contextdna_resources.uris import Noun, ResourceUri, parse_uri

WorkspaceFor = Callable[[str], Workspace]
"""Binds the caller's workspace in a project; the empty id means the caller's own."""

Reader = Callable[[ResourceUri, Workspace], Awaitable[Contents]]

READERS: Final[Mapping[Noun, Reader]] = {
    Noun.GUIDE: read_guide,
    Noun.HEALTH: read_health,
    Noun.PROJECTS: read_projects,
    Noun.PROJECT: read_project,
    Noun.CONVERSATIONS: read_conversations,
    Noun.CONVERSATION: read_conversation,
    Noun.ARTIFACTS: read_artifacts,
    Noun.ARTIFACT: read_artifact,
    Noun.MEMORY: read_memory,
    Noun.LOOPS: read_loops,
    Noun.TASK: read_task,
    Noun.AGENTS: read_agents,
    Noun.AGENT: read_agent,
}


async def read_resource(uri: str, workspace: WorkspaceFor) -> list[Contents]:
    """Read a resource for the caller that the workspace is bound to.

    Raises:
        InvalidInput: ``uri_invalid``, ``session_handle_in_uri`` or ``cursor_invalid``.
        NotFound: ``resource_not_found``, ``project_not_found`` or ``not_found``: absent, or not visible.
        IntegrityFault: The bytes of an artifact were changed or are gone.
    """
    parsed = parse_uri(uri)
    bound = workspace(parsed.project_id)
    contents = await READERS[parsed.noun](parsed, bound)
    if notices := bound.notices.lines():
        contents.meta = {**(contents.meta or {}), "contextdna/notice": "; ".join(notices)}
    return [contents]
