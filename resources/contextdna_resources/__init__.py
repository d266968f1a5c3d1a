"""The resources: what can be read by URI, always through the caller's workspace."""

from contextdna_resources.catalogue import RESOURCES, TEMPLATES
from contextdna_resources.completion import complete, complete_name
from contextdna_resources.contents import Contents, quoted, shown_time
from contextdna_resources.conversations import shown_turn, turn_text
from contextdna_resources.guide import guide
from contextdna_resources.loops import shown_gate, shown_loop
from contextdna_resources.reading import WorkspaceFor, read_resource
from contextdna_resources.updates import UPDATES, changes, check_readable, updated_uris
from contextdna_resources.uris import Noun, ResourceUri, check_session_id, parse_uri

__all__ = [
    "RESOURCES",
    "TEMPLATES",
    "UPDATES",
    "Contents",
    "Noun",
    "ResourceUri",
    "WorkspaceFor",
    "changes",
    "check_readable",
    "check_session_id",
    "complete",
    "complete_name",
    "guide",
    "parse_uri",
    "quoted",
    "read_resource",
    "shown_gate",
    "shown_loop",
    "shown_time",
    "shown_turn",
    "turn_text",
    "updated_uris",
]
