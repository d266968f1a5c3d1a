"""Times that a question states: "last week", "in May 2023", "2023-05-08", "vor drei Tagen".

English first; months, days and the commonest relative times in German, French and Spanish, too. A time that is not
clear is none: what is found here only prefers records, so that a wrong guess costs more than a missed one.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final, NamedTuple, TypeAlias

from contextdna.domain.tokens import normalised, words


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time that a question is about, half-open, in UTC; one side may be open, and is None."""

    since: datetime | None
    until: datetime | None
    words: tuple[str, ...]
    """The words that say it, normalised. They are searched for, too: dates stand in texts."""
    is_dated: bool = False
    """It is a date in figures, as it may stand in texts: not "yesterday", nor "in May"."""

    def holds(self, at: datetime) -> bool:
        """Tell whether a time is within."""
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)


class _Span(NamedTuple):
    """A stretch of time, half-open."""

    since: datetime
    until: datetime


_Told: TypeAlias = Mapping[str, str]
_Read: TypeAlias = Callable[[_Told, datetime], _Span | None]
"""Reads what a pattern's named groups matched; ``now`` is in UTC."""

_CHARS_MAX: Final = 2_000
_YEAR_MIN: Final = 1970
_YEARS_AHEAD: Final = 10
_YEARS_WITHOUT_LEAP_DAY: Final = 8  # at most, around some turns of a century


def _numbered(*listed: str) -> dict[str, int]:
    """Number names by their place; a place has one name or several."""
    return {name: number for number, names in enumerate(listed, 1) for name in names.split()}


_MONTHS: Final = _numbered(
    "january jan januar janvier enero",
    "february feb februar février febrero",
    "march mar märz mars marzo",
    "april apr avril abril",
    "may mai mayo",
    "june jun juni juin junio",
    "july jul juli juillet julio",
    "august aug août agosto",
    "september sep sept septembre septiembre",
    "october oct oktober octobre octubre",
    "november nov novembre noviembre",
    "december dec dezember décembre diciembre",
)
_WEEKDAYS: Final = _numbered(
    "monday montag lundi lunes",
    "tuesday dienstag mardi martes",
    "wednesday mittwoch mercredi miércoles",
    "thursday donnerstag jeudi jueves",
    "friday freitag vendredi viernes",
    "saturday samstag samedi sábado",
    "sunday sonntag dimanche domingo",
)
_DAYS_BACK: Final = {
    "the day before yesterday": 2, "vorgestern": 2, "avant-hier": 2, "anteayer": 2,
    "yesterday": 1, "gestern": 1, "ayer": 1, "today": 0, "heute": 0, "aujourd'hui": 0, "hoy": 0,
}  # fmt: skip
_UNITS: Final = {
    name: unit
    for unit, names in {
        "hour": "hour hours stunde stunden heure heures hora horas",
        "day": "day days tag tage tagen jour jours día días",
        "week": "week weeks woche wochen semaine semaines semana semanas",
        "month": "month months monat monate monaten mois mes meses",
        "quarter": "quarter quarters quartal quartale quartalen trimestre trimestres",
        "year": "year years jahr jahre jahren an ans année années año años",
    }.items()
    for name in names.split()
}
_COUNTS: Final = {
    "couple of": 2, "few": 3, "einem": 1, "einer": 1,
    **_numbered(
        "a an one un une una", "two zwei deux dos", "three drei trois tres", "four vier quatre cuatro",
        "five fünf cinq cinco", "six sechs seis", "seven sieben sept siete", "eight acht huit ocho",
        "nine neun neuf nueve", "ten zehn dix diez", "eleven elf onze once", "twelve zwölf douze doce",
    ),
}  # fmt: skip


def _any(names: Iterable[str]) -> str:
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


_SINCE: Final = frozenset({"since", "seit", "depuis", "desde"})
_AFTER: Final = frozenset({"after", "nach", "après"})
_BEFORE: Final = frozenset({"before", "vor", "avant"})
_UNTIL: Final = frozenset({"until", "till", "bis", "hasta"})
_WITHIN: Final = frozenset({"in", "during", "im", "en", "au mois de", "au mois d'", "pendant", "durant", "last"})
_ON: Final = frozenset({"on", "am", "le", "el"})
_ENDS: Final = _SINCE | _AFTER | _BEFORE | _UNTIL
_VERBS_AND_NAMES: Final = frozenset({"may", "march", "mar", "mars", "jan", "dec", "april", "june", "august"})
"""Months that are other words, too: they need a word before them that goes with times."""

_YEAR: Final = r"(?P<year>(?:19|20)\d\d)"
_MONTH: Final = rf"(?P<month>{_any(_MONTHS)})\b\.?"
_DAY: Final = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th|er|\.)?"
_UNIT: Final = rf"(?P<unit>{_any(_UNITS)})\b"
_COUNT: Final = rf"(?P<count>\d{{1,4}}|{_any(_COUNTS)})"
_WEEKDAY: Final = rf"(?P<weekday>{_any(_WEEKDAYS)})"
_AT: Final = rf"(?P<at>{_any(_WITHIN | _ON | _ENDS)})\s+(?:the\s+)?"
_IN: Final = rf"(?P<at>{_any(_WITHIN | _ENDS)})\s+(?:the\s+)?"
_LAST: Final = r"(?P<last>last|past|previous|letzte[nrsm]?|vorige[nrsm]?|vergangene[nrsm]?|derni[eè]re?s?|últim[oa]s?)"
_POINT: Final = (
    rf"\d{{4}}-\d\d-\d\d|(?:\d\d?\.?\s+(?:de\s+)?)?(?:{_any(_MONTHS)})(?:\s+\d\d?)?"
    r"(?:,?\s+(?:del?\s+)?\d{4})?|\d{4}"
)
_SENTENCE_GOES_ON: Final = r"(?=\s*(?:$|[?.,;:!)]|(?:and|or|did|was|were|is|are|we|i|you|the|with|for|und|et|y)\b))"
"""What may follow a bare year, which is a number of things otherwise: "after 2000 requests"."""


def find_period(text: str, *, now: datetime) -> Period | None:
    """Find the time that a question is about; None where it states none clearly. Never raises.

    Args:
        text: The question.
        now: What relative times count from, aware.
    """
    text = normalised(text[:_CHARS_MAX]).replace("\u2019", "'")
    if not any(word in _HINT_WORDS or word[-1].isdecimal() for word in words(text)):
        return None
    now = now.astimezone(UTC)
    for pattern, read in _compiled():
        for match in pattern.finditer(text):
            told = match.groupdict(default="")
            try:
                span = read(told, now)
                moved = _moved(span, told.get("at", ""), text[: match.start()], match[0]) if span else None
            except (ValueError, OverflowError):  # no such day, or a time outside of the calendar
                continue
            if moved:
                return moved
            if span is not None:
                said = tuple(words(match[0]))
                is_dated = read in _DATED and any(word[-1].isdecimal() for word in said)
                return replace(_opened(span, told.get("at", ""), said), is_dated=is_dated)
    return None


def _opened(span: _Span, at: str, said: tuple[str, ...]) -> Period:
    """Open the side of a span that the word before it opens: "since June", "before 2022"."""
    if at in _SINCE:
        return Period(span.since, None, said)
    if at in _AFTER:
        return Period(span.until, None, said)
    if at in _BEFORE:
        return Period(None, span.since, said)
    if at in _UNTIL:
        return Period(None, span.until, said)
    return Period(span.since, span.until, said)


def _moved(span: _Span, at: str, before: str, told: str) -> Period | None:
    """Give the time that is so far from a span: "two days before yesterday", "the week after 3 May"."""
    match = _distance().search(before) if at in _BEFORE | _AFTER else None
    if match is None or not (match["whole"] or match["count"]):
        return None
    unit, sign = _UNITS[match["unit"]], -1 if at in _BEFORE else 1
    by = sign * (_count(match.groupdict()) if match["count"] else 1)
    said = tuple(words(match[0] + told))
    if match["whole"]:
        edge = span.since if sign < 0 else span.until
        far = _away(edge, unit, by)
        return Period(min(edge, far), max(edge, far), said)
    since, length = _away(span.since, unit, by), span.until - span.since
    return Period(since, since + length if length <= _LENGTHS["week"] else _away(span.until, unit, by), said)


def _away(at: datetime, unit: str, by: int) -> datetime:
    """Move a time by so many units; where a month has no such day, by months of 30 days."""
    try:
        return _shifted(at, unit, by)
    except ValueError:
        return at + by * _LENGTHS[unit]


@cache
def _distance() -> re.Pattern[str]:
    """Compile what stands before "before" and "after" where it tells a distance."""
    whole = r"(?P<whole>the|d(?:er|ie|as|en|em)|les?|la|el|los|las)"
    return re.compile(rf"(?<![\w-])(?:{whole}\s+)?(?:{_COUNT}\s+)?{_UNIT}\s+$")


def _date(told: _Told, now: datetime) -> _Span | None:
    """Read a day, month or year; what is not named of it makes it the latest one that has begun."""
    name, day = told.get("month", ""), int(told.get("day") or 0)
    if not told.get("year") and name in _VERBS_AND_NAMES and not told.get("at"):
        return None
    year = int(told.get("year") or now.year)
    if not _YEAR_MIN <= year <= now.year + _YEARS_AHEAD:
        return None
    month = _MONTHS[name] if name else int(told.get("number") or 0)
    if told.get("year"):
        return _named(year, month, day)
    for earlier in range(_YEARS_WITHOUT_LEAP_DAY + 1):
        try:
            span = _named(year - earlier, month, day)
        except ValueError:  # February 29
            continue
        if (span.until if told.get("at") == "last" else span.since) <= now:
            return span
    return None


def _named(year: int, month: int, day: int) -> _Span:
    """Give a day, a month where the day is 0, a year where the month is 0, too."""
    since = datetime(year, month or 1, day or 1, tzinfo=UTC)
    return _Span(since, _shifted(since, "day" if day else "month" if month else "year", 1))


def _quarter(told: _Told, now: datetime) -> _Span | None:
    year = int(told["year"] or now.year)
    since = datetime(year, 3 * int(told["quarter"]) - 2, 1, tzinfo=UTC)
    if not told["year"] and since > now:
        since = since.replace(year=year - 1)
    return _Span(since, _shifted(since, "quarter", 1))


def _between(told: _Told, now: datetime) -> _Span | None:
    """Read two dates; the first is in the second's year where it names none."""
    last = _point(told["second"], now)
    if last is None:
        return None
    day = told["first"].rstrip(".")
    if len(day) <= 2:
        return _days(int(day), last, told["second"])
    first = _point(told["first"], now) or _point(f"{told['first']} {last.since.year}", now)
    if first is not None and not re.search(r"\d{4}", told["first"]):
        year = last.since.year - (first.since.replace(year=last.since.year) > last.since)
        first = _Span(first.since.replace(year=year), first.until)
    return _Span(first.since, last.until) if first is not None and first.since < last.until else None


def _days(first: int, last: _Span, said: str) -> _Span | None:
    """Read a span from a bare day to a whole date: "3 and 5 May 2023", but not the numbers in "3 and 5 may fail"."""
    ends_in_day = last.until - last.since == _LENGTHS["day"]
    if not ends_in_day or first >= last.since.day or said.rsplit(maxsplit=1)[-1] in _VERBS_AND_NAMES:
        return None
    return _Span(last.since.replace(day=first), last.until)


def _point(text: str, now: datetime) -> _Span | None:
    for pattern in _DATES:
        match = re.fullmatch(pattern, text)
        if match is not None:
            return _date({**match.groupdict(default=""), "at": "between"}, now)
    return None


def _day_back(told: _Told, now: datetime) -> _Span:
    return _calendar(now, "day", _DAYS_BACK[told["back"]])


def _ago(told: _Told, now: datetime) -> _Span:
    unit, count = _UNITS[told["unit"]], _count(told)
    if unit == "hour" or told["count"] == "few":  # nobody means exactly that hour
        return _Span(_calendar(now, unit, count + 1).since, _calendar(now, unit, count - 1).until)
    return _calendar(now, unit, count)


def _last_few(told: _Told, now: datetime) -> _Span | None:
    if told["count"] in _ARTICLES:
        return None
    return _Span(now - _count(told) * _LENGTHS[_UNITS[told["unit"]]], now)


def _last_one(told: _Told, now: datetime) -> _Span | None:
    unit, last = _UNITS[told["unit"]], told["last"]
    if told["unit"] == "mes" and last.startswith("derni"):  # French: my last ones
        return None
    if last == "past" or unit in ("hour", "day"):
        return _Span(now - _LENGTHS[unit], now)
    return _calendar(now, unit, 1)


def _this(told: _Told, now: datetime) -> _Span:
    return _calendar(now, _UNITS[told["unit"]], 0)


def _weekday(told: _Told, now: datetime) -> _Span:
    """Read a weekday as the latest one before today."""
    back = (now.isoweekday() - _WEEKDAYS[told["weekday"]] - 1) % 7 + 1
    return _calendar(now, "day", back)


def _count(told: _Told) -> int:
    count = told["count"]
    return int(count) if count.isdecimal() else _COUNTS[count]


def _calendar(now: datetime, unit: str, back: int) -> _Span:
    """Give the hour, day, week (from Monday), month, quarter or year so many before the one of now."""
    begin = now.replace(minute=0, second=0, microsecond=0)
    if unit != "hour":
        begin = begin.replace(hour=0)
    if unit == "week":
        begin -= timedelta(days=begin.weekday())
    elif unit in _UNIT_MONTHS:
        months = _UNIT_MONTHS[unit]
        begin = begin.replace(day=1, month=(begin.month - 1) // months * months + 1)
    since = _shifted(begin, unit, -back)
    return _Span(since, _shifted(since, unit, 1))


def _shifted(begin: datetime, unit: str, by: int) -> datetime:
    """Move the begin of a unit by so many units."""
    if unit in _UNIT_MONTHS:
        year, month = divmod(begin.year * 12 + begin.month - 1 + by * _UNIT_MONTHS[unit], 12)
        return begin.replace(year=year, month=month + 1)
    return begin + by * _LENGTHS[unit]


_UNIT_MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}
_LENGTHS: Final = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30),
    "quarter": timedelta(days=91),
    "year": timedelta(days=365),
}
_ARTICLES: Final = frozenset({"a", "an", "un", "une", "una"})
_HINT_WORDS: Final = frozenset(words(name)[-1] for names in (_MONTHS, _WEEKDAYS, _UNITS, _DAYS_BACK) for name in names)
_MONTH_OF_YEAR: Final = rf"{_MONTH},?\s+(?:of\s+|del?\s+)?{_YEAR}"
_BEFORE_MONTHS: Final = ("the", "this", "of", "for", "from", "by", "our", "early", "late", "mid")
_BEFORE_VERBS: Final = ("i", "we", "you", "they", "to")
_DATES: Final = (
    rf"{_YEAR}-(?P<number>\d\d)-(?P<day>\d\d)(?:t[\d:.]+z?)?",
    rf"{_YEAR}-(?P<number>\d\d)(?!-)",
    rf"{_MONTH}\s+{_DAY},?\s+{_YEAR}",
    rf"{_DAY}\s+(?:of\s+|de\s+)?{_MONTH},?\s+(?:del?\s+)?{_YEAR}",
    rf"{_MONTH}\s+{_DAY}(?!,?\s+\d{{4}}\b)",
    rf"{_DAY}\s+(?:of\s+|de\s+)?{_MONTH}(?!,?\s+(?:del?\s+)?\d{{4}}\b)",
    _MONTH_OF_YEAR,
    _MONTH,
    _YEAR,
)
_WITH_OR_WITHOUT_AT: Final = len(_DATES) - 3
_AGO: Final = (rf"{_COUNT}\s+{_UNIT}\s+ago", rf"(?:vor|il y a|hace)\s+{_COUNT}\s+{_UNIT}")


def _rules() -> Iterator[tuple[str, _Read]]:
    """Give the patterns, the clearest ones first."""
    joined = r"\s+(?:and|to|until|till|und|bis|et|à|au|y|al?|hasta)\s+"
    between = rf"(?P<first>{_POINT}|\d\d?\.?){joined}(?P<second>{_POINT})"
    yield rf"(?:between|from|zwischen|von|vom|entre|del?|du|desde)\s+{between}", _between
    yield from ((pattern, _ago) for pattern in _AGO)
    yield from ((f"(?:{_AT})?{pattern}", _date) for pattern in _DATES[:_WITH_OR_WITHOUT_AT])
    # "I march 2023 people" states no time: a month that is a verb begins or ends what is said, or a word shows it.
    shown = "|".join(rf"(?<=\b{word} )" for word in _BEFORE_MONTHS)
    yield rf"(?:{_AT}|^\W*|{shown}|(?!(?:{_any(_VERBS_AND_NAMES)})\b)){_MONTH_OF_YEAR}", _date
    no_verb = "".join(rf"(?<!\b{word} )" for word in _BEFORE_VERBS)
    yield no_verb + _MONTH_OF_YEAR + _SENTENCE_GOES_ON, _date
    yield rf"(?:{_AT})?q(?P<quarter>[1-4])[\s/-]*{_YEAR}", _quarter
    yield rf"(?:{_AT})?{_YEAR}[\s/-]*q(?P<quarter>[1-4])", _quarter
    yield rf"{_AT}q(?P<quarter>[1-4])(?P<year>)", _quarter
    yield rf"(?:{_AT})?(?P<back>{_any(_DAYS_BACK)})", _day_back
    yield rf"{_LAST}\s+{_COUNT}\s+{_UNIT}", _last_few
    yield rf"{_COUNT}\s+(?:derni[eè]re?s?|últim[oa]s?)\s+{_UNIT}", _last_few
    yield rf"(?:{_AT})?{_LAST}\s+{_UNIT}", _last_one
    yield rf"(?:{_AT})?{_UNIT}\s+(?P<last>derni[eè]re?|passée?|pasad[oa])", _last_one
    yield rf"(?:this|diese[nrsm]?|cette|ce|est[ae])\s+{_UNIT}", _this
    yield rf"(?:{_AT}|letzten\s+){_WEEKDAY}", _weekday
    yield rf"{_IN}{_MONTH}(?!\s+\d)", _date
    yield rf"{_IN}(?:jahr\s+)?{_YEAR}{_SENTENCE_GOES_ON}", _date


_DATED: Final = frozenset({_date, _quarter, _between})


@cache
def _compiled() -> tuple[tuple[re.Pattern[str], _Read], ...]:
    """Compile the patterns when the first question states a time: that takes as long as many modules' imports."""
    return tuple((re.compile(rf"(?<![\w-]){pattern}(?!\w)"), read) for pattern, read in _rules())
