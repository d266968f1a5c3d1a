"""Projects of texts whose words are as unevenly common as those of real text, and natural questions about them.

Everything comes from the seed: words are made of syllables, the commonest ones are English stop words, and how often
a word stands in a text follows Zipf's law. So document frequencies, which decide what a search costs, are like those
of a real project of any size. One project holds most of the texts, so that a search has to keep to a project without
that making it small.

Source: G. K. Zipf, Human Behavior and the Principle of Least Effort (1949); exponent 1.0, 60,000 words.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, product

from contextdna.domain.stop_words import STOP_WORDS
from contextdna.values.language import Language

LARGEST = "largest"
SHARES = {LARGEST: 0.6, "second": 0.2, "third": 0.1, "fourth": 0.06, "fifth": 0.04}
"""The projects, and what part of the texts each holds."""

_VOCABULARY = 60_000
_STOP_WORDS = STOP_WORDS[Language.ENGLISH]
_COMMON = sorted(_STOP_WORDS)[:60]
_SYLLABLES = [first + vowel for first, vowel in product("bdfgklmnprstvz", "aeiou")]
_OPENINGS = (
    "what was it about",
    "how is it with",
    "why did we not have",
    "where do we have the",
    "when did we",
    "who is",
)


def _made_words() -> list[str]:
    """Make words of two to four syllables, each once, with endings that no stemmer takes off."""
    chance = random.Random(0)
    made = dict.fromkeys(
        "".join(chance.choices(_SYLLABLES, k=chance.choice((2, 3, 3, 4)))) + chance.choice("kxrtm")
        for _ in range(_VOCABULARY * 2)
    )
    return list(made)[:_VOCABULARY]


_WORDS = [*_COMMON, *_made_words()]
_WEIGHTS = tuple(accumulate(1 / rank for rank in range(1, len(_WORDS) + 1)))


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and the text that it is about."""

    text: str
    about: str


def texts(count: int, *, seed: int = 1, words: int = 40) -> Iterator[str]:
    """Make texts of `words` words; the same seed gives the same ones."""
    chance = random.Random(seed)
    for _ in range(count):
        yield " ".join(chance.choices(_WORDS, cum_weights=_WEIGHTS, k=words))


def placed_texts(count: int, *, seed: int = 1) -> Iterator[tuple[str, str]]:
    """Make texts, each with its project; the first one is of the largest."""
    chance = random.Random(seed)
    projects, weights = list(SHARES), list(SHARES.values())
    for number, text in enumerate(texts(count, seed=seed)):
        yield (chance.choices(projects, weights)[0] if number else LARGEST), text


def terse_questions(about: Sequence[str], *, seed: int = 2) -> list[Question]:
    """Make a question of three words about each text, as agents put them: two of the text, one that is only common."""
    return _questions(about, random.Random(seed), words=3, openings=("",))


def natural_questions(about: Sequence[str], *, seed: int = 3) -> list[Question]:
    """Make a sentence about each text, with six words that tell something: three of the text, three only common."""
    return _questions(about, random.Random(seed), words=6, openings=_OPENINGS)


def _questions(about: Sequence[str], chance: random.Random, *, words: int, openings: Sequence[str]) -> list[Question]:
    asked = []
    for text in about:
        said = sorted(set(text.split()) - _STOP_WORDS)
        telling = chance.sample(said, min(len(said), max((words + 1) // 2, 2)))
        while len(telling) < words:
            [word] = chance.choices(_WORDS, cum_weights=_WEIGHTS)
            if word not in _STOP_WORDS and word not in telling:
                telling.append(word)
        chance.shuffle(telling)
        sentence = " ".join((chance.choice(openings), *telling))
        asked.append(Question(f"{sentence.strip()}?", text))
    return asked
