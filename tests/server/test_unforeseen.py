"""An error that nobody foresaw leaves a reference with the client and in the log, and its text with neither."""

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import pytest
from mcp import Client, MCPError
from mcp_types import ResourceTemplateReference
from pydantic import TypeAdapter, ValidationError

from contextdna import AgentId, Hub, HubSettings, Principal, ProjectId, open_hub
from contextdna_server.app import build_server

pytestmark = pytest.mark.anyio

SECRET = "the hive key lies under the third stone"
CALLER = Principal(AgentId("ines"), (ProjectId("default"),))


async def call_tool(client: Client) -> str:
    result = await client.call_tool("store_memory", {"content": "x"})
    assert result.is_error
    return str(result)


async def read_resource(client: Client) -> str:
    return await error_of(client.read_resource("contextdna://projects/default"))


async def get_prompt(client: Client) -> str:
    return await error_of(client.get_prompt("brief_me", {"task": "x"}))


async def complete(client: Client) -> str:
    template = ResourceTemplateReference(uri="contextdna://projects/{project_id}")
    return await error_of(client.complete(template, {"name": "project_id", "value": ""}))


async def error_of(request: Awaitable[Any]) -> str:
    with pytest.raises(MCPError) as caught:
        await request
    return str(caught.value.error)


def with_a_cause(*_args: object, **_named: object) -> NoReturn:
    try:
        raise LookupError(SECRET)
    except LookupError as error:
        error.add_note(SECRET)
        raise RuntimeError(f"while storing {SECRET!r}") from error


def quoting_its_input(*_args: object, **_named: object) -> NoReturn:
    TypeAdapter(int).validate_python(SECRET)
    raise AssertionError


@pytest.mark.parametrize("request_of", [call_tool, read_resource, get_prompt, complete])
@pytest.mark.parametrize(("fail", "kind"), [(with_a_cause, RuntimeError), (quoting_its_input, ValidationError)])
async def test_the_text_of_an_unforeseen_error_reaches_neither_client_nor_log(
    request_of: Callable[[Client], Awaitable[str]],
    fail: Callable[..., NoReturn],
    kind: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_hub(HubSettings()) as hub, Client(build_server(hub, identity=lambda: CALLER)) as client:
        monkeypatch.setattr(Hub, "bind", fail)
        answer = await request_of(client)
    assert "internal_error" in answer
    found = re.search(r"reference ([0-9a-f]{8})", answer)
    assert found
    assert f"reference {found[1]}: {kind.__name__} at " in caplog.text
    assert "third stone" not in answer + caplog.text
