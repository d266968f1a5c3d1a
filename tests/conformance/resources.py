"""The resources that the conformance suite reads, beside those of the product."""

import re
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Final

from mcp_types import BlobResourceContents, Resource, ResourceTemplate, TextResourceContents

from contextdna import NotFound, Workspace
from contextdna_resources import Contents, WorkspaceFor
from contextdna_server.served_resources import RESOURCES as PRODUCT
from tests.conformance.pictures import PNG

_SCHEME: Final = "test://"
_TEMPLATE: Final = re.compile(r"test://template/(?P<id>[^/]+)/data")
_TEXTS: Final = {
    "test://static-text": "This is the content of the static text resource.",
    "test://watched-resource": "Watched resource content",
}


def _contents(uri: str) -> Contents:
    if uri == "test://static-binary":
        return BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)
    if uri in _TEXTS:
        return TextResourceContents(uri=uri, mime_type="text/plain", text=_TEXTS[uri])
    if match := _TEMPLATE.fullmatch(uri):
        text = f'{{"id":"{match["id"]}","templateTest":true,"data":"Data for ID: {match["id"]}"}}'
        return TextResourceContents(uri=uri, mime_type="application/json", text=text)
    raise NotFound("no such resource", code="resource_not_found")


async def _read(uri: str, workspace: WorkspaceFor) -> list[Contents]:
    return [_contents(uri)] if uri.startswith(_SCHEME) else await PRODUCT.read(uri, workspace)


def _project_of(uri: str) -> str:
    return "" if uri.startswith(_SCHEME) else PRODUCT.project_of(uri)


async def _check(uri: str, workspace: Workspace) -> None:
    if uri.startswith(_SCHEME):
        _contents(uri)
    else:
        await PRODUCT.check(uri, workspace)


async def _changes(uri: str, workspace: Workspace) -> AsyncGenerator[None, None]:
    if uri.startswith(_SCHEME):
        yield
    else:
        async for _ in PRODUCT.changes(uri, workspace):
            yield


def _listed(uri: str, description: str, mime_type: str = "text/plain") -> Resource:
    return Resource(uri=uri, name=uri.removeprefix(_SCHEME), description=description, mime_type=mime_type)


RESOURCES: Final = replace(
    PRODUCT,
    fixed=(
        _listed("test://static-text", "A text"),
        _listed("test://static-binary", "An image", "image/png"),
        _listed("test://watched-resource", "A text that can be subscribed to"),
        *PRODUCT.fixed,
    ),
    templates=(
        ResourceTemplate(
            uri_template="test://template/{id}/data",
            name="template",
            description="A text with an argument in it",
            mime_type="application/json",
        ),
        *PRODUCT.templates,
    ),
    read=_read,
    project_of=_project_of,
    check=_check,
    changes=_changes,
)
