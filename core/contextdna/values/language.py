"""The languages that texts are read in."""

from enum import StrEnum


class Language(StrEnum):
    """A language whose inflections search sees through, under the name of its Snowball stemmer."""

    ENGLISH = "english"
    DANISH = "danish"
    DUTCH = "dutch"
    FINNISH = "finnish"
    FRENCH = "french"
    GERMAN = "german"
    ITALIAN = "italian"
    NORWEGIAN = "norwegian"
    PORTUGUESE = "portuguese"
    RUSSIAN = "russian"
    SPANISH = "spanish"
    SWEDISH = "swedish"
