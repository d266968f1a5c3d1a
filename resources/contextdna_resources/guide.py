"""Resource: the long guidance for agents."""

from functools import cache
from importlib.resources import files

from mcp_types import TextResourceContents

from contextdna import Workspace
from contextdna_resources.contents import Contents
from contextdna_resources.uris import ResourceUri


async def read_guide(uri: ResourceUri, _workspace: Workspace) -> Contents:
    """Give the guide; it is the same for everyone and holds no data."""
    return TextResourceContents(uri=str(uri), mime_type="text/markdown", text=guide())


@cache
def guide() -> str:
    """Read the guide from the package."""
    return files("contextdna_resources").joinpath("guide.md").read_text(encoding="utf-8")
