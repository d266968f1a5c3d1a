"""The two profiles: what each lists, and what it costs a model's context."""

import json

import pytest

from contextdna_server.app import described
from contextdna_tools import FULL_TOOLS, TOOLS, AnyTool

FULL_TOKENS_MAX, TOOL_TOKENS_MAX = 10_000, 450


def tokens(tool: AnyTool) -> float:
    """Estimate a tool's share of a context: characters of its compact wire form, by four."""
    wire = described(tool).model_dump(mode="json", by_alias=True, exclude_none=True)
    return len(json.dumps(wire, separators=(",", ":"))) / 4


def test_the_full_profile_begins_with_the_default_one() -> None:
    assert FULL_TOOLS[: len(TOOLS)] == TOOLS
    assert len({tool.name for tool in FULL_TOOLS}) == len(FULL_TOOLS)


@pytest.mark.parametrize("tool", FULL_TOOLS, ids=lambda tool: tool.name)
def test_no_tool_is_too_large(tool: AnyTool) -> None:
    assert tokens(tool) < TOOL_TOKENS_MAX


def test_the_full_list_fits_its_budget() -> None:
    assert sum(map(tokens, FULL_TOOLS)) < FULL_TOKENS_MAX


@pytest.mark.parametrize("tool", FULL_TOOLS, ids=lambda tool: tool.name)
def test_every_tool_describes_itself_and_its_arguments(tool: AnyTool) -> None:
    shown = described(tool)
    assert shown.description
    assert shown.annotations is not None
    assert shown.annotations.open_world_hint is False
    assert shown.output_schema is not None
    assert shown.output_schema["required"]
    assert {"session_id", "project_id"} <= set(shown.input_schema["properties"])
    assert all(schema.get("description") for schema in shown.input_schema["properties"].values())
