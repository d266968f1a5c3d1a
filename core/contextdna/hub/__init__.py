"""The hub joins domain and backends: ``open_hub(settings)`` and ``Hub.bind(principal) -> Workspace``."""

from contextdna.hub.events import Events
from contextdna.hub.loops import Loops
from contextdna.hub.opening import Hub, open_hub
from contextdna.hub.workspace import Health, Workspace

__all__ = ["Events", "Health", "Hub", "Loops", "Workspace", "open_hub"]
