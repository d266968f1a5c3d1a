"""The fixture server: the product's own factory with fixtures in place of its tools and prompts."""

from collections.abc import Callable
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity

from contextdna import Hub, Principal
from contextdna_server.app import build_server
from tests.conformance.asking import remember_request
from tests.conformance.prompts import PROMPTS
from tests.conformance.resources import RESOURCES
from tests.conformance.tools import TOOLS


def fixture_server(hub: Hub, *, identity: Callable[[], Principal]) -> Server[Any]:
    """Build it as the product is built. What asks a client between rounds has its state sealed by the SDK."""
    server = build_server(hub, identity=identity, tools=TOOLS, resources=RESOURCES, prompts=PROMPTS)
    sealing = RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=server.name)
    server.middleware.extend((sealing, remember_request))
    return server
