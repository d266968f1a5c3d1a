"""The hub joins domain and backends: ``open_hub(settings)`` and ``Hub.bind(principal) -> Workspace``."""

from contextdna.hub.agents import Agents
from contextdna.hub.events import Events
from contextdna.hub.loops import Loops
from contextdna.hub.opening import Hub, open_hub
from contextdna.hub.signals import Signals
from contextdna.hub.workspace import Health, Workspace

__all__ = ["Agents", "Events", "Health", "Hub", "Loops", "Signals", "Workspace", "open_hub"]
