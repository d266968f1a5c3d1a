"""Which resources an event changes, and how to be told of it: events to URIs, and back."""

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from contextdna import AgentId, Event, EventId, EventName, ProjectId, RecordId, Workspace
from contextdna_resources.reading import READERS
from contextdna_resources.uris import Noun, ResourceUri

Touched = Callable[[Event], Iterator[ResourceUri]]


def _project(event: Event) -> Iterator[ResourceUri]:
    yield ResourceUri(Noun.PROJECT, event.project_id)


def _records(event: Event) -> Iterator[ResourceUri]:
    """What is done to memories can be done to artifacts, turns and tasks too: an id says its kind."""
    for record_id in event.record_ids:
        match record_id.partition("_")[0]:
            case "mem":
                yield ResourceUri(Noun.MEMORY, event.project_id, record_id)
            case "task":
                yield ResourceUri(Noun.TASK, event.project_id, record_id)
            case "art":
                yield ResourceUri(Noun.ARTIFACT, event.project_id, record_id)
                yield ResourceUri(Noun.ARTIFACTS, event.project_id)
            case "turn":
                yield from _conversation(event)
            case _:
                pass


def _conversation(event: Event) -> Iterator[ResourceUri]:
    if event.subject:
        yield ResourceUri(Noun.CONVERSATION, event.project_id, event.subject)
    yield ResourceUri(Noun.CONVERSATIONS, event.project_id)


def _phase(event: Event) -> Iterator[ResourceUri]:
    yield ResourceUri(Noun.LOOPS, event.project_id, event.subject)


def _agent(event: Event) -> Iterator[ResourceUri]:
    yield ResourceUri(Noun.AGENT, event.project_id, event.subject)
    yield ResourceUri(Noun.AGENTS, event.project_id)


UPDATES: Final[Mapping[EventName, tuple[Touched, ...]]] = {
    EventName.MEMORY_STORED: (_records, _project),
    EventName.MEMORY_MERGED: (_records,),
    EventName.MEMORY_UPDATED: (_records, _project),
    EventName.MEMORY_FORGOTTEN: (_records, _project),
    EventName.MEMORY_PURGED: (_records, _project),
    EventName.MEMORY_RESTORED: (_records, _project),
    EventName.MEMORY_SHARED: (_records, _project),
    EventName.MEMORY_UNSHARED: (_records, _project),
    EventName.MEMORY_LINKED: (_records,),
    EventName.SESSION_BEGUN: (),
    EventName.SESSION_PROGRESSED: (),
    EventName.SESSION_ENDED: (),
    EventName.SESSION_EXPIRED: (),
    EventName.TURN_LOGGED: (_conversation, _project),
    EventName.DELEGATION_CREATED: (),
    EventName.DELEGATION_ACCEPTED: (),
    EventName.DELEGATION_DECLINED: (),
    EventName.DELEGATION_COMPLETED: (),
    EventName.DELEGATION_FAILED: (),
    EventName.DELEGATION_REVOKED: (),
    EventName.DELEGATION_EXPIRED: (),
    EventName.ARTIFACT_ATTACHED: (_records, _project),
    EventName.CONFIDENCE_RECORDED: (_phase, _project),
    EventName.CONSENSUS_RECORDED: (_phase, _project),
    EventName.DECISION_RECORDED: (_phase, _project),
    EventName.TASK_ADDED: (_records, _project),
    EventName.TASK_UPDATED: (_records, _project),
    EventName.SIGNAL_SENT: (),
    EventName.SIGNAL_ACKNOWLEDGED: (),
    EventName.SIGNAL_WITHDRAWN: (),
    EventName.AGENT_REGISTERED: (_agent, _project),
    EventName.AGENT_UPDATED: (_agent,),
    EventName.AGENT_RETIRED: (_agent,),
    EventName.AGENT_APPEARED: (_agent, _project),
    EventName.AGENT_SEEN: (_agent,),
    EventName.GATE_CHANGED: (_phase,),
}
"""What each event touches; one that no resource shows has an empty row."""


def updated_uris(event: Event) -> frozenset[ResourceUri]:
    """Give the resources that an event changes, of those that its reader may know of."""
    return frozenset(uri for touched in UPDATES.get(event.name, ()) for uri in touched(event))


@dataclass(frozen=True, slots=True)
class Watched:
    """A resource to be told of, and the events to look at for it. Without names it never changes."""

    uri: ResourceUri
    names: frozenset[EventName]
    about: frozenset[str]


def watched(uri: ResourceUri) -> Watched:
    """Tell what to listen to for a resource; a page of a list changes with its list."""
    about = frozenset({uri.item_id} if uri.item_id else ())
    return Watched(replace(uri, cursor=""), _NAMES[uri.noun], about)


async def check_readable(uri: ResourceUri, workspace: Workspace) -> None:
    """Refuse exactly as a read of the resource would; it is audited as a read.

    Raises:
        InvalidInput: ``cursor_invalid``.
        NotFound: ``project_not_found`` or ``not_found``: absent, or not visible.
    """
    if uri.noun is Noun.ARTIFACT:
        await workspace.describe_artifact(RecordId(uri.item_id))  # its bytes are of no use here
    else:
        await READERS[uri.noun](uri, workspace)


async def changes(uri: ResourceUri, workspace: Workspace) -> AsyncGenerator[None, None]:
    """Give a sign at once, from when on nothing is missed, then one for each time that a resource has changed.

    Changes that come while the caller is busy make one sign. Access is judged for each.

    Raises:
        ContextDnaError: Access to the project ended, or the events cannot be read.
    """
    wanted = watched(uri)
    if not wanted.names:
        yield
        return
    begun = False
    async with aclosing(workspace.events.batches(names=wanted.names, about=wanted.about)) as batches:
        async for batch in batches:
            if not begun or any(wanted.uri in updated_uris(event) for event in batch):
                begun = True
                yield


def _probe(name: EventName) -> Event:
    """Make an event that touches whatever events of its name can touch."""
    any_record = ("mem_x", "art_x", "turn_x", "loop_x", "task_x")
    return Event(EventId("x"), ProjectId("x"), name, AgentId("x"), any_record, datetime.now(UTC), "x", ("x",))


_NAMES: Final = {
    noun: frozenset(name for name in UPDATES if any(uri.noun is noun for uri in updated_uris(_probe(name))))
    for noun in Noun
}
