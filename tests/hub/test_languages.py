"""Memories are found in other inflections of their language, and beside those of other languages."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from contextdna import ContextQuery, Hub, HubSettings, Language, Level, open_hub
from tests.hub.rig import WRITER, Clock, remember

pytestmark = pytest.mark.anyio

GERMAN = "Die Zahlungen der Kunden sind am Freitag fehlgeschlagen, und Müller hat sie wiederholt"
FRENCH = "Les clés des serveurs sont dans le coffre du bureau"
RUSSIAN = "Ошибки платежей исправлены в новой версии"
JAPANESE = "昨日の東京の天気は良かった"
ENGLISH = "The deployments were rolled back, and Müller told the customers"
EVERYTHING = (GERMAN, FRENCH, RUSSIAN, JAPANESE, ENGLISH)


async def found(hub: Hub, text: str) -> list[str]:
    """Give the texts that are found, the best first."""
    context = await hub.bind(WRITER).retrieve_context(ContextQuery(text=text))
    return [hit.content for hit in context.hits]


@pytest.fixture
async def mixed(hub: Hub) -> Hub:
    """Give a hub whose project holds a memory in each of several languages."""
    for text in EVERYTHING:
        await remember(hub.bind(WRITER), text)
    return hub


@pytest.fixture
async def german(anyio_backend: str, settings: HubSettings, clock: Clock) -> AsyncIterator[Hub]:
    """Open a fresh installation whose short texts are in German."""
    german_search = replace(settings.search, language=Language.GERMAN)
    async with open_hub(replace(settings, search=german_search), clock=clock) as opened:
        yield opened


@pytest.mark.parametrize(
    ("question", "memory"),
    [
        ("Wann ist die Zahlung des Kunden fehlgeschlagen?", GERMAN),
        ("Kunde Zahlung", GERMAN),
        ("où est la clé du serveur ?", FRENCH),
        ("исправление ошибок платежа", RUSSIAN),
        ("東京の天気", JAPANESE),
        ("which deployment was rolled back?", ENGLISH),
        ('"Zahlung des Kunden"', ""),
        ('"Zahlung der Kunden"', GERMAN),
    ],
)
async def test_a_question_finds_another_inflection_first(mixed: Hub, question: str, memory: str) -> None:
    assert (await found(mixed, question))[:1] == ([memory] if memory else [])


async def test_a_name_is_found_in_every_language(mixed: Hub) -> None:
    assert set((await found(mixed, "what did we do about Müller?"))[:2]) == {GERMAN, ENGLISH}


@pytest.mark.parametrize("level", [Level.PRIVATE, Level.PROJECT])
async def test_encrypted_memories_have_their_languages_too(hub: Hub, level: Level) -> None:
    await remember(hub.bind(WRITER), GERMAN, level=level)
    assert await found(hub, "Kunde Zahlung") == [GERMAN]


@pytest.mark.parametrize("question", ["what is it?", "was ist das?", "?!"])
async def test_a_question_of_stop_words_gives_recent_memories_and_says_so(mixed: Hub, question: str) -> None:
    context = await mixed.bind(WRITER).retrieve_context(ContextQuery(text=question))
    assert {hit.content for hit in context.hits} == set(EVERYTHING)
    assert any("no searchable word" in reason for reason in context.hits[0].why)


async def test_texts_too_short_to_tell_are_in_the_language_of_the_settings(german: Hub) -> None:
    await remember(german.bind(WRITER), "Dunkle Zahlungen")
    assert await found(german, "dunkler Zahlung") == ["Dunkle Zahlungen"]
