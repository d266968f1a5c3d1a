"""What resources/list and resources/templates/list show."""

from typing import Final

from mcp_types import Annotations, Resource, ResourceTemplate

from contextdna_resources.uris import Noun, ResourceUri, template

_JSON: Final = "application/json"
_MARKDOWN: Final = "text/markdown"


def _fixed(noun: Noun, title: str, description: str, *, mime_type: str = _JSON, priority: float = 0.5) -> Resource:
    return Resource(
        name=noun.value,
        title=title,
        uri=str(ResourceUri(noun)),
        description=description,
        mime_type=mime_type,
        annotations=Annotations(audience=["assistant"], priority=priority),
    )


def _templated(noun: Noun, title: str, description: str, *, mime_type: str | None = _JSON) -> ResourceTemplate:
    return ResourceTemplate(
        name=noun.value, title=title, uri_template=template(noun), description=description, mime_type=mime_type
    )


RESOURCES: Final[tuple[Resource, ...]] = (
    _fixed(
        Noun.GUIDE,
        "How to work with the shared memory",
        "Read once before you start: when to store, how to ask, levels, sessions, delegation, gates, errors.",
        mime_type=_MARKDOWN,
        priority=1.0,
    ),
    _fixed(Noun.HEALTH, "Health", "Whether the server and its database work.", priority=0.1),
    _fixed(Noun.PROJECTS, "Projects", "The projects you may use."),
)
"""Fixed URIs."""

TEMPLATES: Final[tuple[ResourceTemplate, ...]] = (
    _templated(Noun.PROJECT, "Project", "A project in numbers: what you may see, by kind, level and type."),
    _templated(Noun.CONVERSATIONS, "Conversations", "The conversations you may see, the latest first."),
    _templated(
        Noun.CONVERSATION,
        "Conversation",
        "What was said in a session, page by page; cursor=latest gives the last page. session_id is the public id "
        "(ses_...), never the secret handle.",
        mime_type=_MARKDOWN,
    ),
    _templated(Noun.ARTIFACTS, "Artifacts", "The artifacts you may see, newest first."),
    _templated(
        Noun.ARTIFACT,
        "Artifact",
        "An artifact's content up to 1 MiB, text or blob; a larger one is described and read in parts.",
        mime_type=None,
    ),
    _templated(Noun.MEMORY, "Memory", "A memory in full, with version, links and provenance."),
    _templated(Noun.LOOPS, "Loop records", "A phase's confidences, consensus and decisions by time, and its gates."),
    _templated(Noun.TASK, "Task", "A task in full: status, assignee, result, and what it waits for."),
    _templated(Noun.AGENTS, "Agents", "Swarms, teams and agents: what each can do, and whether it is at work."),
    _templated(
        Noun.AGENT,
        "Agent",
        "An agent: type, capabilities, status; its history for those it concerns. A path is written queen%2Fdrone.",
    ),
)
"""URIs with arguments."""
