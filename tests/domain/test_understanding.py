"""A question is taken apart into the words that tell, in the forms that records may hold, and its time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextdna import Language
from contextdna.domain.tokens import Tokeniser, normalised, quoted_phrases, words
from contextdna.domain.understanding import Understood, spoken, understand
from contextdna.values.search import Phrase

NOW: Final = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
OPEN, SEALED = (Tokeniser(bytes([number]) * 32) for number in range(2))


def understood(text: str, *, default: Language = Language.ENGLISH, languages: Sequence[Language] = ()) -> Understood:
    return understand(text, default_language=default, now=NOW, languages=languages)


def matches(question: str, record: str, **asked: Any) -> bool:
    """Tell whether every word of a question is found in a record."""
    held = set(OPEN.tokens(record, limit=1000))
    forms = understood(question, **asked).forms.values()
    return bool(forms) and all(held.intersection(map(OPEN.stem_token, form)) for form in forms)


def test_an_english_question_gives_its_words_each_in_one_form() -> None:
    result = understood("How do we deploy the deployments of payment_service?")
    assert result.language is Language.ENGLISH
    assert result.words == ("deploy", "payment", "service")
    assert result.forms == {"deploy": ("deploy",), "payment": ("payment",), "service": ("servic",)}
    assert not result.no_words


def test_quoted_phrases_keep_their_stop_words_and_have_a_form_for_each_language() -> None:
    result = understood('release "der Schlüssel des Kunden" now', languages=[Language.GERMAN])
    assert result.phrases == (("der", "schlüssel", "des", "kunden"),)
    assert result.phrase_forms == ((("der", "schlüssel", "des", "kunden"), ("der", "schlussel", "des", "kund")),)
    assert result.words == ("release",)


@pytest.mark.parametrize(
    ("text", "phrases", "rest"),
    [
        ('a 5" disk or 3" tape', [], 'a 5" disk or 3" tape'),
        ('the 5" disk "at rest" fails', ["at rest"], 'the 5" disk   fails'),
        ('("one two"), "three".', ["one two", "three"], "( ),  ."),
        ("say “one two” „drei vier“ «cinq six» 「七」", ["one two", "drei vier", "cinq six", "七"], "say        "),
        ('東京"塔の"高', ["塔の"], "東京 高"),
        ('no "?!" words', [], "no   words"),
        ('"' + "long " * 100 + 'one" "two"', ["two"], '"' + "long " * 100 + 'one"  '),
    ],
)
def test_quotes_around_words_are_phrases_and_other_quotes_none(text: str, phrases: list[str], rest: str) -> None:
    assert quoted_phrases(text) == (phrases, rest)


@pytest.mark.parametrize("text", ["हिन्दी", "தமிழ்", "naïve", "ẹ́kọ́", "can\u00adcel", "❤\ufe0f1\ufe0f\u20e3"])
def test_a_word_with_combining_marks_is_one_word(text: str) -> None:
    assert len(words(text)) == 1


@given(st.text(max_size=50))
def test_a_normalised_text_has_the_same_words(text: str) -> None:
    assert words(normalised(text)) == words(text)


@pytest.mark.parametrize("text", ["what is it?", "the of and", "?!", "was ist das", "¿qué es esto?", "что это такое"])
def test_a_question_of_stop_words_has_no_words(text: str) -> None:
    assert understood(text).no_words


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_question_is_not_one_without_words(text: str) -> None:
    assert not understood(text).no_words


def test_stop_words_of_another_language_are_words() -> None:
    assert understood("war room").words == ("war", "room")


@pytest.mark.parametrize(
    ("question", "record"),
    [
        ("Wann war die Zahlung des Kunden fehlgeschlagen?", "Die Zahlungen der Kunden sind fehlgeschlagen"),
        ("où est la clé du serveur ?", "Les clés des serveurs sont dans le coffre"),
        ("¿Dónde está la clave del servidor?", "Las claves de los servidores están en la bóveda"),
        ("ошибка платежа", "Ошибки платежей в этом сервисе"),
        ("東京の天気", "昨日の東京の天気は良かった"),
        ("部署服务", "我们部署服务到生产环境"),
        ("猫", "猫が好き 黒猫です"),
        ("完", "デプロイが完了した"),
        ("ภาษา", "เขาเรียนภาษาไทย"),
        ("كتاب", "هذا كِتَابٌ جديد"),
        ("שלום", "אמר שָׁלוֹם לכולם"),
        ("замок", "старый за́мок"),
        ("istanbul", "İSTANBUL"),
    ],
)
def test_a_question_finds_another_inflection_in_its_language(question: str, record: str) -> None:
    assert matches(question, record)


def test_a_question_of_several_characters_asks_for_their_pairs_alone() -> None:
    assert understood("東京都").words == ("東京", "京都")
    assert not matches("京東", "東京")


def test_the_characters_of_a_record_stand_behind_its_pairs_so_that_phrases_match() -> None:
    held = OPEN.tokens("v2 東京都 です", limit=100)
    phrase = OPEN.tokens_of(("v2", "東京", "京都", "です"))
    assert held == (*phrase, *OPEN.tokens_of("東京都"))


def test_a_question_too_short_to_tell_is_asked_in_the_languages_of_the_records() -> None:
    record = "Die Zahlungen der Kunden sind fehlgeschlagen"
    assert not matches("Kunden Zahlungen", record)
    assert matches("Kunden Zahlungen", record, languages=[Language.GERMAN])
    assert matches("Kunden Zahlungen", record, default=Language.GERMAN)


@pytest.mark.parametrize("name", ["Müller", "Hansens", "Kubernetes", "Anna", "AURORA-17", "v2", "payment_service"])
def test_names_are_found_whatever_the_language_of_the_record(name: str) -> None:
    everywhere = [Language.GERMAN, Language.FRENCH, Language.FINNISH]
    for record in ("Wir haben {} nach dem Deployment gefragt", "We asked {} about the deployment", "{}"):
        assert matches(f"what did we do about {name}?", record.format(name), languages=everywhere)


class Index:
    """Counts the records that hold a phrase of one token."""

    def __init__(self, *records: Sequence[str]) -> None:
        self.records = records
        self.asked = 0

    async def count(self, phrases: Sequence[Phrase]) -> dict[Phrase, int]:
        self.asked += len(phrases)
        return {(token,): sum(token in record for record in self.records) for (token,) in phrases}


@pytest.mark.anyio
async def test_the_languages_of_a_projects_records_are_told() -> None:
    german, french = "Die Zahlungen der Kunden sind weg", "Les clés des serveurs sont dans le coffre"
    index = Index(OPEN.tokens(german, limit=100), SEALED.tokens(french, limit=100))
    assert set(await spoken((OPEN, SEALED), index.count)) == {Language.GERMAN, Language.FRENCH}
    assert set(await spoken((OPEN,), index.count)) == {Language.GERMAN}


@pytest.mark.anyio
async def test_a_project_in_english_and_russian_is_asked_no_more_than_whether_it_is() -> None:
    index = Index(OPEN.tokens("The payments of the customers are gone", limit=100), OPEN.tokens("Где платёж", limit=9))
    assert await spoken((OPEN, SEALED), index.count) == ()
    assert index.asked == 2


def test_a_question_states_its_time_and_still_looks_for_the_words() -> None:
    result = understood("what did we ship in May 2023?")
    assert result.period is not None
    assert result.period.since == datetime(2023, 5, 1, tzinfo=UTC)
    assert {"may", "2023"} <= set(result.words)


def test_a_quoted_time_is_a_phrase_alone() -> None:
    assert understood('notes on "last week"').period is None


@given(st.text(max_size=200), st.sampled_from(Language), st.lists(st.sampled_from(Language), max_size=3))
def test_any_question_is_understood(text: str, default: Language, languages: list[Language]) -> None:
    result = understood(text, default=default, languages=languages)
    assert tuple(result.forms) == result.words
    assert all(1 <= len(set(forms)) == len(forms) <= len(result.languages) for forms in result.forms.values())
    assert len(result.phrase_forms) == len(result.phrases)
    assert not (result.no_words and (result.words or result.phrases))
