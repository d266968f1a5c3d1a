"""log_turn: one turn or several, with the tools that were called."""

import pytest

from tests.hub.rig import ALICE, public
from tests.tools.calling import calling

pytestmark = pytest.mark.anyio

CALL = {"name": "grep", "arguments": {"q": "x"}, "result": "2 lines"}


async def test_turns_keep_the_tools_that_were_called(anyio_backend: str) -> None:
    async with calling(ALICE, "auto") as alice:
        session = (await alice.ok("begin_session", task="look"))["session_id"]
        await alice.ok("log_turn", role="assistant", tool_calls=[CALL], session_id=session)
        batch = [{"content": "found it", "tool_calls": [CALL, {"name": "open"}]}, {"content": "good"}]
        await alice.ok("log_turn", turns=batch, session_id=session)
        turns = await alice.hub.bind(ALICE).read_conversation(public(session))
        assert [list(turn.tool_calls) for turn in turns] == [[CALL], [CALL, {"name": "open"}], []]
        [hit, *_] = (await alice.ok("retrieve_context", query="open", kinds=["turn"]))["hits"]
        assert hit["content"].splitlines()[0] == "found it"


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        ("tool_calls_invalid", {"tool_calls": [{"arguments": {}}]}),
        ("tool_calls_too_large", {"tool_calls": [{"name": "a", "result": "x" * 70_000}]}),
        ("content_and_turns", {"tool_calls": [CALL], "turns": [{"content": "x"}]}),
        ("content_empty", {"metadata": {"a": 1}}),
        ("argument_invalid", {"tool_calls": ["grep"]}),
    ],
)
async def test_turns_that_cannot_be_kept_are_refused(code: str, arguments: dict[str, object]) -> None:
    async with calling(ALICE, "auto") as alice:
        session = (await alice.ok("begin_session"))["session_id"]
        assert (await alice.error("log_turn", session_id=session, **arguments))["code"] == code
