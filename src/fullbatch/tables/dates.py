"""Texts as dates and times: by a format of strptime's, or by the only known one that all values of a column have.

A format becomes one regular expression, which Arrow matches against all texts at once. (Arrow's own strptime is the C
library's: it reads 31/02/2024 as the 2nd of March, and knows no fractions of a second.)

A format is concluded from a column where all of its values have it and no other known format fits them all: 3/4/2024
may be in March or in April, so a day above 12 has to be somewhere. Years of two digits are never concluded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from itertools import product

import numpy as np
import pyarrow as pa

from fullbatch.errors import InputError

# Two formats beside strptime's: 2024-12-31, also with a time, its fraction and its zone; and 10:20 or 10:20:30.5.
ISO, ISO_TIME = "ISO 8601", "ISO 8601 time"
ALWAYS = (ISO, ISO_TIME)  # They are read as a CSV reader would, also where nothing is to be concluded from values.
DAY = 86_400
FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799  # of the years 1 to 9999, which datetime has

_NAMES = "january february march april may june july august september october november december".split()  # noqa: SIM905
_MONTHS = tuple(name[:3] for name in _NAMES)
_WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_ZONE = r"[-+]\d\d(?::?[0-5]\d)?|Z| ?UTC| ?GMT"
# What each directive matches, as Python's own strptime has it.
_DIRECTIVES = {
    "Y": r"\d\d\d\d", "y": r"\d\d", "m": r"1[0-2]|0[1-9]|[1-9]", "d": r"3[01]|[12]\d|0[1-9]|[1-9]| [1-9]",
    "b": "|".join(_MONTHS), "B": "|".join(_NAMES), "a": "|".join(day[:3] for day in _WEEKDAYS),
    "A": "|".join(_WEEKDAYS), "H": r"2[0-3]|[01]\d|\d", "I": r"1[0-2]|0[1-9]|[1-9]", "M": r"[0-5]\d|\d",
    "S": r"[0-5]\d|\d", "f": r"\d{1,6}", "p": "am|pm", "z": _ZONE,
}  # fmt: skip
_ISO = (
    r"^(?P<Y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d)"
    rf"(?:[T ](?P<H>\d\d)(?::?(?P<M>\d\d)(?::?(?P<S>\d\d))?)?(?:\.(?P<f>\d+))?(?P<z>{_ZONE})?)?$"
)
_ISO_TIME = r"^(?P<H>\d\d):(?P<M>\d\d)(?::(?P<S>\d\d)(?:\.(?P<f>\d+))?)?$"
_LIMITS = {"m": (1, 12), "d": (1, 31), "H": (0, 23), "M": (0, 59), "S": (0, 59)}

_ORDERS = ("%d{0}%m{0}{1}", "%m{0}%d{0}{1}")
_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
_DATES = [order.format(mark, "%Y") for mark in "/.-" for order in _ORDERS] + ["%Y/%m/%d", "%Y.%m.%d"]
# With the name of the month in English, as SAS ("%d%b%Y"), Oracle, Excel and people write them.
_DATES += ["%d%b%Y", "%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y"]
_SAS = ("%d%b%Y:%H:%M:%S", "%d%b%Y:%H:%M:%S.%f")
# What is concluded from values alone, and what is only proposed.
KNOWN = (*ALWAYS, *map("".join, product(_DATES, _TIMES)), *_SAS, "%I:%M %p", "%I:%M:%S %p")
_SHORT = [order.format(mark, "%y") for mark in "/.-" for order in _ORDERS] + ["%d%b%y", "%d-%b-%y", "%d %b %y"]
_MONTHLY = ("%Y-%m", "%Y/%m", "%m/%Y", "%b-%y", "%b-%Y", "%b %Y", "%B %Y")
PROPOSED = (*KNOWN, *map("".join, product(_SHORT, _TIMES)), *_MONTHLY)
# What a text of these begins with, so that a column of names costs nothing.
_LOOKS_SO = re.compile(
    rf"\d{{1,4}}([-/.])\d{{1,2}}\1\d{{1,4}}(?:[T ]|$)|\d{{1,2}}:\d|(?:\d{{1,2}}[- ]?)?(?:{'|'.join(_MONTHS)})"
    r"|\d{4}[-/]\d{1,2}$|\d{1,2}/\d{4}$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class DateFormats:
    """How the texts of a table's columns become dates.

    named : the format of each of these columns, in which all of their values have to be
    preferred : a format for each of these columns, where it fits all of their values
    anywhere : formats for any column of text, where one fits all of its values
    guess : whether formats may be concluded from the values; those of ISO 8601 are always read
    """

    named: Mapping[str, str] = field(default_factory=dict)
    preferred: Mapping[str, str] = field(default_factory=dict)
    anywhere: tuple[str, ...] = ()
    guess: bool = True

    def __post_init__(self) -> None:
        for text in (*self.named.values(), *self.anywhere):
            check_format(text)

    @classmethod
    def of(cls, given: str | Sequence[str] | Mapping[str, str] | DateFormats) -> DateFormats:
        """What a caller gives: a format or several for all columns, or the format of each column. Else InputError."""
        if isinstance(given, DateFormats):
            return given
        named = {str(name): text for name, text in given.items()} if isinstance(given, Mapping) else {}
        anywhere = () if named else (given,) if isinstance(given, str) else tuple(given)
        return cls(named, anywhere=anywhere)

    def conclude(self, name: str, texts: Sequence[str]) -> list[str]:
        """The formats that fit all of these texts of a column; one that was asked for stands alone."""
        asked = [*([self.preferred[name]] if name in self.preferred else []), *self.anywhere]
        for text in asked:
            if fitting(texts, [text]):
                return [text]
        return fitting(texts, KNOWN if self.guess else ALWAYS)


USUAL_DATES = DateFormats()


def check_format(text: str) -> None:
    """InputError where this is no format of a date or time, with what is wrong."""
    _compiled(text)


def seconds_of(texts: pa.Array, format: str) -> np.ndarray:
    """Seconds since 1970 of each text (k,), NaN where the format does not fit it. Without a date: since midnight.

    A time with a zone is in UTC.
    """
    import pyarrow.compute as pc

    pattern, fields = _compiled(format)
    texts = texts.cast(pa.string())
    found = pc.extract_regex(texts, pattern)
    fits = ~_booleans(found.is_null())
    parts = {name: found.field(name).filter(found.is_valid()) for name in fields}
    seconds = np.full(len(texts), np.nan)
    seconds[fits] = _seconds_of_parts(parts, int(np.count_nonzero(fits)))
    return seconds


def fitting(texts: Sequence[str], formats: Collection[str]) -> list[str]:
    """Those of the formats that fit all of the texts; of none, none does."""
    if not texts or (not _LOOKS_SO.match(texts[0]) and set(formats) <= set(PROPOSED)):
        return []
    few, rest = pa.array(texts[:100], pa.string()), pa.array(texts[100:], pa.string())
    found = [text for text in formats if not np.isnan(seconds_of(few, text)).any()]
    return [text for text in found if not np.isnan(seconds_of(rest, text)).any()]


def fitting_seconds(texts: Sequence[str], format: str, missing: Container[str] = ()) -> np.ndarray | None:
    """The seconds of these texts, NaN of those that stand for a missing value; None: the format does not fit one."""
    array = pa.array([None if text in missing else text.strip() for text in texts], pa.string())
    seconds = seconds_of(array, format)
    return seconds if np.count_nonzero(np.isnan(seconds)) == array.null_count else None


def kind_of(format: str) -> str:
    """What the values are: "date", or "clock", times of the day."""
    return "date" if "Y" in _compiled(format)[1] or "y" in _compiled(format)[1] else "clock"


# ---- a format as a regular expression ------------------------------------------------------------


@lru_cache(maxsize=256)
def _compiled(format: str) -> tuple[str, tuple[str, ...]]:
    """The regular expression of a format, and the names of its groups, which are the letters of its directives."""
    if format == ISO_TIME:
        return _ISO_TIME, ("H", "M", "S", "f")
    if format == ISO:
        return _ISO, ("Y", "m", "d", "H", "M", "S", "f", "z")
    pattern, fields = "", []
    for part in re.findall(r"%.?|\s+|[^%\s]+", format, re.DOTALL):
        if part.isspace():
            pattern += r"\s+"
        elif part == "%%" or part[0] != "%":
            pattern += re.escape(part[-1] if part == "%%" else part)
        elif part[1:] not in _DIRECTIVES:
            known = " ".join(f"%{letter}" for letter in _DIRECTIVES)
            raise InputError(f"the date format {format!r} has {part!r}; the known ones are {known}.")
        elif part[1:] in fields:
            raise InputError(f"the date format {format!r} has {part!r} twice; expected each once.")
        else:
            fields.append(part[1:])
            pattern += f"(?P<{part[1:]}>{_DIRECTIVES[part[1:]]})"
    _check_fields(format, fields)
    return f"^(?i:{pattern})$", tuple(fields)


def _check_fields(format: str, fields: Sequence[str]) -> None:
    year, month, hour = ({*letters} & {*fields} for letters in ("Yy", "mbB", "HI"))
    if max(len(year), len(month), len(hour)) > 1:
        twice = ", ".join(f"%{letter}" for one in (year, month, hour) if len(one) > 1 for letter in sorted(one))
        raise InputError(f"the date format {format!r} has {twice}, which say the same; expected one of them.")
    if (month or "d" in fields) and not year:
        raise InputError(f"the date format {format!r} has no year; expected %Y, or %y for one of two digits.")
    if "d" in fields and not month:
        raise InputError(f"the date format {format!r} has a day and no month; expected %m, %b or %B.")
    if not year and not hour:
        raise InputError(f"{format!r} is no date format; expected one of strptime's, such as %d/%m/%Y or %H:%M.")


def said_moment(seconds: float, kind: str) -> str | None:
    """Seconds as a person writes them: "2024-12-31", "2024-12-31 10:20:00", "10:20:00"; None: no calendar has them.

    kind : "date" or "clock"; a "duration" is no moment
    """
    if kind == "duration" or not FIRST_SECOND <= seconds < LAST_SECOND + 1:
        return None
    moment = datetime.fromtimestamp(math.floor(seconds), UTC).replace(tzinfo=None)
    day, clock = moment.isoformat(" ").split()  # strftime writes the year 1 as 1, not as 0001
    return clock if kind == "clock" else day if seconds % DAY == 0 else f"{day} {clock}"


# ---- the parts as seconds ------------------------------------------------------------------------


def _first_day(months: np.ndarray) -> np.ndarray:
    """The days from 1970 to the first of a month, which is so many after January 1970."""
    return months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def _seconds_of_parts(parts: Mapping[str, pa.Array], k: int) -> np.ndarray:
    """Seconds (k,), NaN where there is no such day or time."""
    years = _years(parts, k)
    months = _months(parts, k)
    days = _integers(parts["d"], 1) if "d" in parts else np.ones(k, np.int64)
    hours = _hours(parts, k)
    minutes, seconds = (_integers(parts[one]) if one in parts else np.zeros(k, np.int64) for one in "MS")
    values = {"m": months, "d": days, "H": hours, "M": minutes, "S": seconds}
    wrong = years < 1
    for letter, (least, greatest) in _LIMITS.items():
        wrong |= (values[letter] < least) | (values[letter] > greatest)
    month = np.where(wrong, 0, (years - 1970) * 12 + months - 1)  # since 1970
    first, following = (_first_day(month), _first_day(month + 1))
    wrong |= days > following - first
    total = (first + days - 1) * float(DAY) + hours * 3600 + minutes * 60 + seconds
    if "f" in parts:
        total += _fractions(parts["f"])
    if "z" in parts:
        total -= _offsets(parts["z"])
    return np.where(wrong, np.nan, total)


def _years(parts: Mapping[str, pa.Array], k: int) -> np.ndarray:
    """Of two digits, 69 to 99 are of the last century, as POSIX has it."""
    if "Y" in parts:
        return _integers(parts["Y"])
    if "y" not in parts:
        return np.full(k, 1970)
    years = _integers(parts["y"])
    return years + np.where(years < 69, 2000, 1900)


def _months(parts: Mapping[str, pa.Array], k: int) -> np.ndarray:
    import pyarrow.compute as pc

    if "m" in parts:
        return _integers(parts["m"])
    for letter in "bB":
        if letter in parts:
            short = pc.utf8_slice_codeunits(pc.utf8_lower(parts[letter]), 0, 3)
            return _ints(pc.index_in(short, pa.array(_MONTHS))) + 1
    return np.ones(k, np.int64)


def _hours(parts: Mapping[str, pa.Array], k: int) -> np.ndarray:
    if "H" in parts:
        return _integers(parts["H"])
    if "I" not in parts:
        return np.zeros(k, np.int64)
    import pyarrow.compute as pc

    afternoon = 12 * _ints(pc.equal(pc.utf8_lower(parts["p"]), "pm")) if "p" in parts else 0
    return _integers(parts["I"]) % 12 + afternoon


def _fractions(texts: pa.Array) -> np.ndarray:
    """The digits after the point, of which there may be none."""
    import pyarrow.compute as pc

    return _ints(pc.utf8_slice_codeunits(pc.utf8_rpad(texts, 6, "0"), 0, 6)) / 1e6


def _offsets(zones: pa.Array) -> np.ndarray:
    """The seconds that a zone is before UTC: of "Z", or none at all, 0."""
    import pyarrow.compute as pc

    digits = pc.utf8_rpad(pc.replace_substring_regex(zones, "[^0-9]", ""), 4, "0")
    number = _ints(digits)
    sign = 1 - 2 * _ints(pc.starts_with(zones, "-"))
    return sign * (number // 100 * 3600 + number % 100 * 60)


def _integers(texts: pa.Array, default: int = 0) -> np.ndarray:
    """Digits, of which there may be none, as integers."""
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(texts)
    return _ints(pc.if_else(pc.equal(trimmed, ""), str(default), trimmed))


def _ints(array: pa.Array) -> np.ndarray:
    numbers = array.cast(pa.int64())
    return np.frombuffer(numbers.buffers()[1], np.int64)[numbers.offset : numbers.offset + len(numbers)].copy()


def _booleans(array: pa.Array) -> np.ndarray:
    return _ints(array).astype(bool)
