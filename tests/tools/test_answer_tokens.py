"""Answers as a model reads them, counted by a real tokeniser: they take no more than they say."""

import pytest

from contextdna import BeginRequest, ContextQuery, Detail, MemoryDraft, OnDuplicate, TurnDraft, open_hub
from contextdna_tools.context import shaped
from tests.domain.test_token_estimates import TEXTS
from tests.hub.rig import ALICE, settings_in
from tests.tools.counting import open_real_counter

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("detail", list(Detail))
async def test_an_answer_takes_no_more_tokens_than_it_says(detail: Detail) -> None:
    count = open_real_counter()
    async with open_hub(settings_in(None)) as hub:
        alice = hub.bind(ALICE)
        texts = [text for _, text, _ in TEXTS]
        await alice.store_memories([MemoryDraft(f"nectar {text}", tags=("hive", "q3")) for text in texts])
        handle = (await alice.begin_session(BeginRequest(ALICE.agent_id))).handle
        await hub.bind(ALICE, session_id=handle).log_turns([TurnDraft("user", f"nectar? {text}") for text in texts])
        copies = [MemoryDraft("nectar is what the bees bring home" + "." * number) for number in range(6)]
        await alice.store_memories(copies, on_duplicate=OnDuplicate.NEW)
        for text in ("nectar", "bees of nectar", "", "backup retry"):
            for max_tokens in (300, 2000, 8000):
                query = ContextQuery(text, limit=100, max_tokens=max_tokens, detail=detail)
                answer = await alice.retrieve_context(query)
                said = shaped(answer, detail).model_dump_json(exclude_none=True)
                assert count(said) <= answer.tokens <= max_tokens
