"""A text's language is told by its words, and records and questions meet in the stems of that language."""

from collections.abc import Sequence
from typing import Final

import pytest
import Stemmer
from hypothesis import given
from hypothesis import strategies as st

from contextdna import Language
from contextdna.domain.languages import MARKED_LANGUAGES, detect_words, stem, stems
from contextdna.domain.stop_words import STOP_WORDS
from contextdna.domain.tokens import Tokeniser, normalised, words

LIMIT: Final = 1000
TOKENISER: Final = Tokeniser(bytes(range(32)))

SENTENCES: Final = {
    Language.ENGLISH: "We deploy the payment service on Friday, and roll it back when the error rate rises",
    Language.DANISH: "Udrulningen af betalingstjenesten fejlede i fredags, og vi skal gøre det igen efter mødet",
    Language.DUTCH: "De uitrol van de betaaldienst is vrijdag mislukt",
    Language.FINNISH: "Maksupalvelun käyttöönotto epäonnistui perjantaina, ja se on tehtävä uudelleen",
    Language.FRENCH: "Les déploiements du service de paiement ont échoué vendredi",
    Language.GERMAN: "Die Bereitstellungen der Zahlungsdienste sind am Freitag fehlgeschlagen",
    Language.ITALIAN: "Le distribuzioni del servizio di pagamento sono fallite venerdì",
    Language.NORWEGIAN: "Utrullingen av betalingstjenesten feilet på fredag, og vi må gjøre det igjen etter møtet",
    Language.PORTUGUESE: "As implantações do serviço de pagamento falharam na sexta-feira",
    Language.RUSSIAN: "Развёртывание платёжного сервиса не удалось в пятницу",
    Language.SPANISH: "Los despliegues del servicio de pagos fallaron el viernes",
    Language.SWEDISH: "Driftsättningen av betaltjänsten misslyckades i fredags och vi måste göra om den",
}


def detect(text: str, default: Language) -> Language:
    return detect_words(words(text), default)


def test_every_language_is_told() -> None:
    assert set(SENTENCES) == set(Language)
    assert {language: detect(text, Language.ENGLISH) for language, text in SENTENCES.items()} == {
        language: language for language in Language
    }


@pytest.mark.parametrize("default", [Language.ENGLISH, Language.GERMAN])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "?!",
        "staging database",
        "Anna Hansen",
        "fix: retry on 503",
        "for (i = 0; i < n; i++) { s += a[i]; }",
        "東京タワーの高さ",
        "Deploy la base",
    ],
)
def test_what_leaves_doubt_is_in_the_default_language(text: str, default: Language) -> None:
    assert detect(text, default) is default


@pytest.mark.parametrize(
    "text",
    [
        "The customer in Den Haag asked for a refund, and we sent it in May",
        "The German word die means the, and der is the same for another gender",
        "I was in the die cast room when it was over",
    ],
)
def test_english_with_words_of_others_is_english(text: str) -> None:
    assert detect(text, Language.GERMAN) is Language.ENGLISH
    assert detect(text, Language.ENGLISH) is Language.ENGLISH


def test_stop_words_are_in_the_form_that_words_are_compared_in() -> None:
    assert set(STOP_WORDS) == set(Language)
    listed = [word for stop_words in STOP_WORDS.values() for word in stop_words]
    assert [word for word in listed if words(word) != [word]] == []


@given(st.text(max_size=300), st.sampled_from(Language))
def test_any_text_has_one_language_and_as_many_tokens_as_words(text: str, default: Language) -> None:
    language = detect(text, default)
    assert language is detect(text, default)
    tokens = TOKENISER.tokens(text, limit=LIMIT, default=default)
    ideographs = {char for word in words(text, limit=LIMIT) for char in word if char >= "\u3400"}
    assert 0 <= len(tokens) - len(words(text, limit=LIMIT)) <= 2 + len(ideographs)


@given(st.lists(st.from_regex("[a-zA-Z0-9]{1,12}", fullmatch=True), max_size=30))
def test_a_text_in_ascii_that_is_english_is_stemmed_as_ever(said: Sequence[str]) -> None:
    text = " ".join(("The service was in the way of what they had", *said, "and that is what it was about"))
    stemmer = Stemmer.Stemmer("english")
    before = [TOKENISER.stem_token(stemmer.stemWord(word)) for word in normalised(text).split()]
    assert TOKENISER.tokens_of(words(text)) == tuple(before)


def test_the_tokens_of_english_text_stay_those_of_stored_indexes() -> None:
    text = (
        "The deployments of payment-service v2.1 were rolled back; naïve retries (HTTP 503) didn't help "
        "東京都 users' caches"
    )
    assert " ".join(TOKENISER.tokens(text, limit=LIMIT)) == (
        "ouuntlu5ye jdqkorctdi i6wu44qa5q bqipd7wwca hyuc3rbrzy jcrq36dwam k645mca3r4 vpr37pfvau cekvj6soea k62viv6nlq "
        "vphvfwpxhy whaacnmwbe xlymvrwp7m imwqv3cj3a ey3va7vypy wsmfx4xhdy bwyj4qokg4 p32plxqoue tryfzvi6ea hjho5pqkq4 "
        "xrhfa3toda hmueyfutdu qyxq3n3psu vzh4oaagse"
    )


@pytest.mark.parametrize("word", ["2026", "v2", "mp3s", "развёртывания", "東京", "عربي", "503s"])
def test_numbers_identifiers_and_other_scripts_have_one_form_in_all_languages(word: str) -> None:
    assert len(stems(normalised(word), Language)) == 1


def test_a_latin_word_in_a_russian_text_is_stemmed_as_english() -> None:
    assert stem("deployments", Language.RUSSIAN) == stem("deployments") == "deploy"


@pytest.mark.parametrize("language", MARKED_LANGUAGES)
def test_a_record_says_its_language_where_a_query_cannot_tell(language: Language) -> None:
    marked = [one for one in Language if TOKENISER.language_token(language) in _tokens(SENTENCES[one])]
    assert marked == [language]


def test_records_in_english_and_russian_say_nothing_more() -> None:
    for language in (Language.ENGLISH, Language.RUSSIAN):
        text = SENTENCES[language]
        assert len(_tokens(text)) == len(words(text))


def test_a_stem_has_the_token_of_its_words() -> None:
    assert TOKENISER.stem_token("deploy") == TOKENISER.token("deployments")
    assert TOKENISER.stem_token(stem("zahlungen", Language.GERMAN)) == TOKENISER.token("zahlung", Language.GERMAN)


def _tokens(text: str) -> tuple[str, ...]:
    return TOKENISER.tokens(text, limit=LIMIT)
