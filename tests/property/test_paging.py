"""However an answer is cut into pages, every record that is found stands on them once."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from contextdna import AgentId, BeginRequest, Context, ContextQuery, Detail, Hub, MemoryDraft, Principal, TurnDraft
from tests.property.conftest import Installation

_ALICE = AgentId("alice")
_ALIKE = " ".join(["nectar", *(f"word{number}" for number in range(24))])
"""Folds with itself, whatever stops are behind it."""
_TEXTS = ["nectar", _ALIKE, "pollen", "pollen and nectar " * 60, "of bees\n" * 40]
_PAGES_MAX = 60

said = st.lists(st.tuples(st.booleans(), st.sampled_from(_TEXTS)), max_size=12)
pages = st.lists(
    st.tuples(st.integers(1, 5), st.sampled_from([200, 240, 400, 2000]), st.sampled_from(list(Detail))),
    min_size=1,
    max_size=3,
)


@settings(max_examples=25, deadline=None)
@given(said=said, question=st.sampled_from(["", "nectar", "nectar pollen"]), pages=pages)
def test_pages_of_any_size_and_detail_give_every_record_once(
    installation: Installation,
    said: Sequence[tuple[bool, str]],
    question: str,
    pages: Sequence[tuple[int, int, Detail]],
) -> None:
    runner, hub, _, projects = installation
    principal = Principal(_ALICE, (next(projects),))
    stored = runner.run(_tell(hub, principal, said))
    paged = runner.run(_page(hub, principal, question, pages))
    [whole] = runner.run(_page(hub, principal, question, [(100, 20_000, Detail.FULL)]))
    found = [record_id for page in paged for record_id in _ids(page)]
    assert sorted(found) == sorted(_ids(whole))
    if not question:
        assert sorted(found) == sorted(stored)


async def _tell(hub: Hub, principal: Principal, said: Sequence[tuple[bool, str]]) -> list[str]:
    """Store texts as turns and memories in turn; gives their ids."""
    handle = (await hub.bind(principal).begin_session(BeginRequest(_ALICE))).handle
    workspace = hub.bind(principal, session_id=handle)
    stored: list[str] = []
    for number, (as_turn, text) in enumerate(said):
        content = text + "." * number if text is _ALIKE else f"{number} {text}"
        if as_turn:
            stored += await workspace.log_turns([TurnDraft("user", content)])
        else:
            stored.append((await workspace.store_memories([MemoryDraft(content)]))[0].id)
    return stored


async def _page(
    hub: Hub, principal: Principal, question: str, pages: Sequence[tuple[int, int, Detail]]
) -> list[Context]:
    """Ask page by page, each of the next size in the round."""
    shown: list[Context] = []
    while not shown or shown[-1].cursor:
        limit, max_tokens, detail = pages[len(shown) % len(pages)]
        cursor = shown[-1].cursor if shown else ""
        query = ContextQuery(question, limit=limit, max_tokens=max_tokens, detail=detail, cursor=cursor)
        shown.append(await hub.bind(principal).retrieve_context(query))
        assert len(shown) < _PAGES_MAX
    return shown


def _ids(page: Context) -> list[str]:
    return [record_id for hit in page.hits for record_id in (hit.record.id, *hit.same_ids)]
