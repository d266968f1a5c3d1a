"""Why a hit is there: the parts of its score, and who is named."""

import re

import pytest

from contextdna import AgentId, BeginRequest, ContextQuery, Hub, Principal, TurnDraft
from tests.hub.rig import ALICE, BOB, DEFAULT, Clock, remember

pytestmark = pytest.mark.anyio


async def test_the_reasons_add_up_to_the_score(hub: Hub, clock: Clock) -> None:
    alice = hub.bind(ALICE)
    handle = (await alice.begin_session(BeginRequest(ALICE.agent_id))).handle
    await hub.bind(ALICE, session_id=handle).log_turns([TurnDraft("user", "when did the ferry leave?")])
    await hub.bind(ALICE, session_id=handle).log_turns([TurnDraft("assistant", "at noon")])
    clock.advance(days=1)
    linked = await remember(hub.bind(BOB), "tickets for the ferry are in the drawer", importance=0.9)
    clock.advance(days=2)
    await remember(alice, "the ferry leaves early", relates_to=[linked])
    clock.advance(days=20)
    for text in ("when did the ferry leave, alice?", "ferry three weeks ago", "", '"the ferry"'):
        for hit in (await alice.retrieve_context(ContextQuery(text))).hits:
            told = [float(number) for reason in hit.why for number in re.findall(r"\d?\.\d\d", reason)]
            assert sum(told) == pytest.approx(hit.score, abs=0.005 * (1 + len(told))) or not text
    said = {
        hit.content: hit.why for hit in (await alice.retrieve_context(ContextQuery("alice: the ferry leaves"))).hits
    }
    assert said["the ferry leaves early"][-1] == "by alice, who is named .03"
    assert any(reason.startswith("context .") for reason in said["at noon"])
    assert any(reason.startswith("link .") for reason in said["tickets for the ferry are in the drawer"])
    assert not any(reason.startswith("context .") for reason in said["tickets for the ferry are in the drawer"])
    ago = (await alice.retrieve_context(ContextQuery("ferry three weeks ago"))).hits
    assert any("period .10: three weeks ago" in hit.why for hit in ago)


@pytest.mark.parametrize(
    ("agent", "text", "named"),
    [
        ("data-and-ml", "what did data and ml store about nectar", True),
        ("data-and-ml", "what did data-and-ml store about nectar", True),
        ("testing", "tests of nectar that testing stored", True),
        ("the-scribe", "nectar by the scribe", True),
        ("the-scribe", "nectar by a scribe", False),
        ("will", "will there be nectar", False),
    ],
)
async def test_who_is_named_by_all_words_of_the_id_comes_first(hub: Hub, agent: str, text: str, *, named: bool) -> None:
    for name in (agent, "other"):
        await remember(hub.bind(Principal(AgentId(name), (DEFAULT,))), f"nectar of {name}")
    hits = (await hub.bind(ALICE).retrieve_context(ContextQuery(text))).hits
    reasons = [reason for hit in hits for reason in hit.why if "who is named" in reason]
    assert reasons == [f"by {agent}, who is named .03"] * named
