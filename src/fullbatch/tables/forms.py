"""Forms of texts that say more than a level does: measures, texts with an order, lists, two spellings of one level."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from fullbatch.tables.written import Pattern, is_number, number_of, number_written

_CLOCK = r"[+-]?\d+:\d\d(:\d\d(\.\d+)?)?"  # 35:20:00, an hour of no day
_DURATION = Pattern(
    rf"-?(\d+ days?,? ?)?({_CLOCK})?|-?P(\d+[YMWD])*(T(\d+(\.\d+)?[HMS])+)?"
    r"|(\d+ ?(d(ays?)?|h(rs?|ours?)?|m(ins?)?|s(ecs?)?),? ?){2,4}"  # 2h 30m
)
_YEAR = r"(?:19|20)\d\d"
_PERIOD = Pattern(
    rf"\d{{4}}[-_ ]?[QWKTH]\d{{1,2}}(-[1-7])?|[QWKTH]\d{{1,2}}[-_/ ]?\d{{4}}|{_YEAR}-[0-3]\d\d"
    rf"|(FY ?)?{_YEAR}[-/]\d\d(\d\d)?|FY[ '-]?(\d\d|{_YEAR})",
    re.IGNORECASE,
)
# Texts that have an order, and how to write them so that it is seen.
ORDERED = {
    "durations": (_DURATION, "write them as seconds, or another number"),
    "quarters, weeks or the like": (_PERIOD, "write the first day of each"),
}
_NUMBER = r"[-+−]?\d+(?:[ ,]\d{3})*(?:[.,]\d+)?"
_UNIT = Pattern(rf"{_NUMBER}\s?([^\W\d_]{{1,6}}|°[CF]|[^\W\d_]{{1,3}}[²³]|[^\W\d_]{{1,3}}/[^\W\d_]{{1,3}})")
THOUSANDS = {"k", "K", "M", "B", "G"}
# Units of measures, of which a column may have several: 500 g, 1.5 kg.
_UNITS = (
    "%|°[CF]?|['′\"″]|[kcmdµunMGT]?(?:m[²³]?|g|l|L|s|W|V|Hz|Pa|bar|Wh|J|Ω)|[kmµ]A|[kMGT]i?[Bb]|mi|ft|in|yd|lbs?|oz|h|hrs?"
    "|mins?|secs?|d|days?|weeks?|months?|years?|yrs?|km/h|m/s|mph|mpg|hp|PS|cc|rpm|USD|EUR|GBP|CHF|[$€£¥₹]|[kKMG]|Mio\\.?"
    "|bn"
)
_ONE = rf"(?:[$€£¥₹]|USD|EUR|GBP|CHF)?\s?{_NUMBER}\s?(?:{_UNITS})?\s?(?:\*+|[†‡]|\[\w\])?"  # with the mark of a note
_BOUND = rf"(?:[<>≤≥≈~±]=?|=<|=>)\s?{_ONE}|{_ONE}\s?\+|(?i:under|over|up to|at least|less than|more than|ca\.?) {_ONE}"
_BETWEEN = rf"(?P<low>\d+(?:[.,]\d+)?)\s?(?:{_UNITS})?\s?(?:-|–|—|to|\.\.)\s?(?P<high>\d+(?:[.,]\d+)?)\s?(?:{_UNITS})?"
_TWO = rf"{_ONE}\s?(?:±|\+/-)\s?{_ONE}|\d{{1,3}}\s?[/x×]\s?\d{{1,3}}"  # 120/80
_ANGLE = r"\d{1,3}\s?°\s?(?:[\d.,]+\s?['′]\s?(?:[\d.,]+\s?[\"″]\s?)?)?[NSEWO]?|\d{1,3}\.\d+\s?°\s?[NSEWO]"
_MEASURE = Pattern(rf"{_ONE}|{_BOUND}|{_BETWEEN}|{_TWO}|{_ANGLE}|[NSEWO]\s?(?:{_ANGLE})")
SAMPLE = 200  # of the levels of a column
_DIGITS = Pattern(r"[\d-]+")

_PARTS = Pattern(r"\s?[;|,]\s?")
_TRUE = {"y", "yes", "1", "1.0", "true", "t", "on", "oui", "ja", "j", "si", "sí", "wahr", "vrai"}
_FALSE = {"n", "no", "0", "0.0", "false", "f", "off", "non", "nein", "falsch", "faux"}


def is_measure(text: str, decimal: str = ".") -> bool:
    """Whether a text is a number, or one with something round it: a unit, a bound, the two ends of a range."""
    if is_number(text, decimal) or number_written(text, decimal) is not None:
        return True
    found = _MEASURE.fullmatch(text)
    if found is None or found["low"] is None:
        return found is not None
    low, high = number_of(found["low"].replace(",", "")), number_of(found["high"].replace(",", ""))
    longer = len(found["high"]) - len(found["low"])  # 17-000073 is no range.
    return low is not None and high is not None and low < high and longer <= 1 and not found["high"].startswith("00")


def may_be_measures(texts: Sequence[str], decimal: str) -> bool:
    """Whether most of the first texts are measures, so that all are worth looking at."""
    first = texts[:SAMPLE]
    return 2 * sum(is_measure(text, decimal) for text in first) > len(first)


def are_numbers_of_things(texts: Sequence[str]) -> bool:
    """Whether texts of digits and dashes are all of one length, as numbers of telephones are, and ranges are not."""
    return len(set(map(len, texts))) == 1 and all(map(_DIGITS.fullmatch, texts))


def units_of(texts: Iterable[str]) -> set[str]:
    """What stands behind the numbers; with "" where a text is no number with a unit."""
    return {found[1] if (found := _UNIT.fullmatch(text)) else "" for text in texts}


def order_of(texts: Sequence[str]) -> tuple[str, str] | None:
    """How texts are called all of which have one order, and how to write them so that it is seen."""
    for called, (pattern, cure) in ORDERED.items():
        if all(map(pattern.fullmatch, texts)):
            return called, cure
    return None


def composed(texts: Sequence[str]) -> str:
    """How texts are called that have parts: records of JSON, or lists of few words; "" if they have none."""
    if all(map(_is_record, texts)):
        return "JSON"
    if not any(map(_PARTS.search, texts[:SAMPLE])):  # Of most columns few texts are enough.
        return ""
    several = [parts for text in texts if len(parts := _PARTS.split(text)) > 1]
    if 2 * len(several) < len(texts) or len(set(map(len, several))) == 1:  # "Smith, John" is no list.
        return ""
    words = {word for parts in several for word in parts}
    return "lists of words" if 2 * len(words) <= len(texts) and not any(map(is_number, words)) else ""


def _is_record(text: str) -> bool:
    """Whether a text looks like an object or an array of JSON; "[1,]" is the name that R gives a row."""
    inner = text[1:-1].strip()
    if text[:1] == "{":
        return text[-1:] == "}" and (":" in inner or not inner)
    return text[:1] == "[" and text[-1:] == "]" and inner[-1:] != "," and inner[:1] != ","


def spelling(texts: Iterable[str]) -> Callable[[str], str]:
    """What of a level is the same in another one that is written otherwise: capitals, spaces, how letters are stored.

    Where all texts are words for true and false, those for each are the same.
    """
    words = {text.casefold() for text in texts}
    truths = words <= _TRUE | _FALSE and not words.isdisjoint(_TRUE) and not words.isdisjoint(_FALSE)

    def plain(text: str) -> str:
        if truths:
            return str(text.casefold() in _TRUE)
        if not text.isascii():
            text = unicodedata.normalize("NFKC", _repaired(text))
        return "".join(text.casefold().split())

    return plain


def _repaired(text: str) -> str:
    """The text whose UTF-8 was read as Windows-1252, as "MÃ¼nchen" was; any other as it is."""
    try:
        return text.encode("cp1252").decode("utf-8")
    except UnicodeError:
        return text
