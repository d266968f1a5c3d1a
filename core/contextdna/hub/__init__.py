"""The hub joins domain and backends: ``open_hub(settings)`` and ``Hub.bind(principal) -> Workspace``."""

from contextdna.hub.access_tokens import AccessTokens
from contextdna.hub.agents import Agents
from contextdna.hub.delegations import Delegations
from contextdna.hub.documents import Documents
from contextdna.hub.events import Events
from contextdna.hub.loops import Loops
from contextdna.hub.opening import Hub, open_hub
from contextdna.hub.semantics import ReindexReport, SemanticHealth
from contextdna.hub.sessions import Sessions
from contextdna.hub.signals import Signals
from contextdna.hub.tasks import Tasks
from contextdna.hub.workspace import Health, Workspace

__all__ = [
    "AccessTokens",
    "Agents",
    "Delegations",
    "Documents",
    "Events",
    "Health",
    "Hub",
    "Loops",
    "ReindexReport",
    "SemanticHealth",
    "Sessions",
    "Signals",
    "Tasks",
    "Workspace",
    "open_hub",
]
