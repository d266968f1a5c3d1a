"""What a question asks for: its words in the forms that the index holds, its quoted phrases, and its time."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from contextdna.domain.languages import MARKED_LANGUAGES, detect_words, phrase_stems, stems
from contextdna.domain.periods import Period, find_period
from contextdna.domain.stop_words import FILLERS, STOP_WORDS
from contextdna.domain.tokens import Tokeniser, quoted_phrases, words
from contextdna.values.language import Language
from contextdna.values.search import Phrase

Count: TypeAlias = Callable[[Sequence[Phrase]], Awaitable[Mapping[Phrase, int]]]


@dataclass(frozen=True, slots=True)
class Understood:
    """A question taken apart. Stems become tokens by ``Tokeniser.stem_token``."""

    phrases: tuple[tuple[str, ...], ...]
    """The quoted phrases, each as its normalised words, stop words included."""
    words: tuple[str, ...]
    """The normalised words outside of quotes, in order, without stop words and without a second form of a word."""
    said: frozenset[str]
    """All its words, normalised: quoted ones, stop words and every form of a word."""
    forms: Mapping[str, tuple[str, ...]]
    """The different stems of each word to ask for: one for each language in which it has a stem of its own."""
    phrase_forms: tuple[tuple[tuple[str, ...], ...], ...]
    """The same for each phrase: the stems of its words, in one language after the other."""
    period: Period | None
    """The time that the question states."""
    language: Language
    """The language of the question."""
    languages: tuple[Language, ...]
    """The languages that its words are looked for in, its own first."""
    only_time: bool
    """It states a time and asks for nothing in particular: answer with what is of that time.

    Its words are those of a date, where it is one that texts may hold.
    """
    no_words: bool
    """It says something, but only in stop words and signs: answer as if it were empty, and say so."""


def understand(
    text: str, *, default_language: Language, now: datetime, languages: Iterable[Language] = ()
) -> Understood:
    """Take a question apart, without a model and without a look at the index; never raises.

    Args:
        text: The question.
        default_language: The language of texts whose words leave doubt: the setting ``search.language``.
        now: What relative times count from.
        languages: The languages of the project's records, see ``spoken``. Without them a word is looked for in the
            question's language, the default one and English.
    """
    quoted, rest = quoted_phrases(text)
    phrases = tuple(tuple(words(phrase)) for phrase in quoted)
    said = all_said = words(rest)
    language = detect_words(said, default_language)
    period = find_period(rest, now=now)
    only_time = not phrases and period is not None and _asks_for_all(said, period)
    if only_time:
        said = _date_words(period)
    asked = tuple(dict.fromkeys((language, default_language, Language.ENGLISH, *languages)))
    first_words: dict[tuple[str, ...], str] = {}
    for word in said:
        if word not in STOP_WORDS[language]:
            first_words.setdefault(stems(word, asked), word)
    forms = {word: form for form, word in first_words.items()}
    return Understood(
        phrases=phrases,
        words=tuple(forms),
        said=frozenset(all_said).union(*phrases),
        forms=forms,
        phrase_forms=tuple(tuple(phrase_stems(phrase, asked)) for phrase in phrases),
        period=period,
        language=language,
        languages=asked,
        only_time=only_time,
        no_words=not forms and not phrases and bool(text.strip()),
    )


def _date_words(period: Period | None) -> list[str]:
    """Give the words of a date that texts may hold, without the prepositions of any language."""
    if period is None or not period.is_dated:
        return []
    return [word for word in period.words if not any(word in STOP_WORDS[language] for language in FILLERS)]


def _asks_for_all(said: Sequence[str], period: Period) -> bool:
    """Tell whether a question says nothing beside its time but what one language asks for all there is with."""
    rest = set(said).difference(period.words)
    return any(rest <= STOP_WORDS[language] | fillers for language, fillers in FILLERS.items())


async def spoken(spaces: Iterable[Tokeniser], count: Count) -> tuple[Language, ...]:
    """Give the languages of a project's records for ``understand``.

    English and Russian are not told: a word is looked for in English always, and in Russian by its letters. In a
    project without other languages one phrase for each space is counted.

    Args:
        spaces: The token spaces that are searched.
        count: Gives how many records hold each of some phrases; those that none holds may be left out.
    """
    spaces = tuple(spaces)
    marked = await count([(space.marked_token(),) for space in spaces])
    if not any(marked.values()):
        return ()
    languages: dict[Phrase, Language] = {
        (space.language_token(language),): language for space in spaces for language in MARKED_LANGUAGES
    }
    held = await count(list(languages))
    return tuple(dict.fromkeys(language for phrase, language in languages.items() if held.get(phrase)))
