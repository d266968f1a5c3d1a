"""Two levels of detail and two ways to count: what fits an answer, and that its pages leave nothing out."""

from dataclasses import replace
from pathlib import Path

import pytest

from contextdna import ContextQuery, Detail, Hub, HubSettings, SettingsInvalid, open_hub
from contextdna.values.settings import SearchSettings
from tests.hub.rig import ALICE, remember, settings_in
from tests.tiny_encoding import write_encoding

pytestmark = pytest.mark.anyio

LONG = "nectar and pollen " * 60


async def test_a_compact_hit_is_a_line_cut_at_a_word(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    await remember(alice, f"  # Bees\n\n- {LONG}", tags=["hive"])
    [hit] = (await alice.retrieve_context(ContextQuery("nectar", detail=Detail.COMPACT))).hits
    assert hit.content.startswith("# Bees - nectar and pollen nectar")
    assert hit.content.removesuffix(" …").rsplit(" ", 1)[1] in LONG.split()
    assert len(hit.content) <= 122
    assert (hit.clipped, hit.why, hit.tags) == (True, (), ())


@pytest.mark.parametrize(
    ("content", "line", "clipped"),
    [
        ("short nectar", "short nectar", False),
        ("nectar\n of two\tlines \n", "nectar of two lines", False),
        ("nectar " + "x" * 200, "nectar …", True),
        ("nectar" + "x" * 200, "nectar" + "x" * 114 + " …", True),
        ("nectar" + " " * 600 + "later", "nectar …", True),
        ("nectar " + "y" * 113, "nectar " + "y" * 113, False),
    ],
)
async def test_a_line_shows_a_beginning_and_says_when_there_is_more(
    hub: Hub, content: str, line: str, *, clipped: bool
) -> None:
    alice = hub.bind(ALICE)
    await remember(alice, content)
    [hit] = (await alice.retrieve_context(ContextQuery(detail=Detail.COMPACT))).hits
    assert (hit.content, hit.clipped) == (line, clipped)


async def test_more_fits_an_answer_when_it_is_compact(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    for number in range(40):
        await remember(alice, f"{number} {number * 7} {number * 13} {LONG}")
    full, compact = [
        await alice.retrieve_context(ContextQuery("nectar", limit=40, max_tokens=1000, detail=detail))
        for detail in (Detail.FULL, Detail.COMPACT)
    ]
    assert len(compact.hits) >= 2 * len(full.hits)
    assert compact.tokens <= 1000
    assert [hit.record.id for hit in compact.hits][: len(full.hits)] == [hit.record.id for hit in full.hits]


async def test_a_cursor_goes_on_in_another_detail(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    stored = {await remember(alice, f"{number} nectar") for number in range(4)}
    query = ContextQuery("nectar", limit=2)
    first = await alice.retrieve_context(replace(query, detail=Detail.COMPACT))
    second = await alice.retrieve_context(replace(query, cursor=first.cursor))
    assert {hit.record.id for hit in (*first.hits, *second.hits)} == stored


def counted(path: Path | None) -> HubSettings:
    return settings_in(None, search=SearchSettings(token_file=path))


async def test_a_file_of_tokens_counts_what_fits(tmp_path: Path) -> None:
    answers = []
    for path in (None, write_encoding(tmp_path)):
        async with open_hub(counted(path)) as hub:
            alice = hub.bind(ALICE)
            await remember(alice, "\U0001f389" * 400)  # four tokens a character, where 4.5 are estimated
            answers.append(await alice.retrieve_context(ContextQuery(max_tokens=500)))
    estimated, exact = answers
    assert len(exact.hits[0].content) > 1.1 * len(estimated.hits[0].content)
    assert 480 < exact.tokens <= 500


async def test_a_hub_does_not_open_with_a_file_that_is_no_encoding(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        async with open_hub(counted(tmp_path / "none.tiktoken")):
            pass
    assert caught.value.code == "token_file_invalid"
