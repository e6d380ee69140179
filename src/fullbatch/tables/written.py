"""Numbers as people write them: which number a text is, strictly, for guesses, and freely, where one was asked for."""

from __future__ import annotations

import re
from typing import Any


class Pattern:
    """A regular expression that is compiled when it is first asked: most commands ask few of them."""

    def __init__(self, text: str, flags: int = 0) -> None:
        self._own = text, flags

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(re.compile(*self._own), name)
        setattr(self, name, found)
        return found


_SIGN, _MONEY = r"[-+−–]", r"[$€£¥₹]"  # A minus is also U+2212, and in many exports a dash.
_SPACES = " '’\u00a0\u2009\u202f"  # Between thousands, beside the mark that is not the decimal one.
_KEPT = Pattern(r'="([^"]*)"')  # ="00123", a text that a spreadsheet is not to make a number of
_FORTRAN = Pattern(r"([-+]?\d*(?:[.,]\d*)?)[dDqQ]([-+]?\d+)")  # 1.5D+03
_DIGIT = Pattern(r"\d")
_FRACTION = Pattern(r"([-+−–])?(?:(\d+) )?(\d+) ?/ ?(\d+)")  # 3/4, 3 1/2


def _pattern(decimal: str) -> Pattern:
    between = f"[{_SPACES}{',' if decimal == '.' else '.'}]"
    whole = rf"\d{{1,3}}(?:(?P<between>{between})\d{{3}}(?:(?P=between)\d{{3}})*)|\d+"
    if decimal == ".":  # By lakhs and crores: 1,23,45,678.
        whole = rf"\d{{1,2}}(?:,\d\d)+,\d{{3}}|{whole}"
    return Pattern(
        rf"(?P<open>\()?\s?(?P<sign>{_SIGN})?\s?{_MONEY}?\s?(?P<inner>{_SIGN})?"
        rf"(?P<whole>{whole})?(?:{re.escape(decimal)}(?P<part>\d+))?"
        rf"\s?(?P<per_cent>%)?\s?{_MONEY}?\s?(?P<after>[-−–])?(?P<close>\))?"
    )


_WRITTEN = {decimal: _pattern(decimal) for decimal in ".,"}


def number_of(text: str | bool, decimal: str = ".") -> float | None:
    """The number that a text is, as Python reads it, but with this decimal mark; None: it is none."""
    if isinstance(text, str):
        if "_" in text:  # Python reads 1_000, and nobody writes it into a table: 12_34 is a code.
            return None
        if decimal != ".":
            if "." in text:
                return None
            text = text.replace(decimal, ".")
    try:
        return float(text)
    except ValueError:
        return None


def is_number(text: str, decimal: str = ".") -> bool:
    """Whether a text is a number."""
    return number_of(text, decimal) is not None


def number_written(text: str | bool, decimal: str = ".") -> float | None:
    """The number that a text is where a number is due; None: it is none.

    Beside what ``number_of`` reads it has thousands apart (by spaces, apostrophes, or the mark that is not the decimal
    one; by lakhs too), a currency's sign, a percent sign (5% is 0.05), and less than zero in brackets, by U+2212 or a
    dash, or with the sign at the end. An exponent may be Fortran's, a fraction less than one stand alone or behind a
    whole number (3 1/2), and all of it be a spreadsheet's ="12".

    >>> [number_written(text) for text in ("$1,234.50", "(12)", "7-", "−0.5", "5 %", "12 kg")]
    [1234.5, -12.0, -7.0, -0.5, 0.05, None]
    >>> [number_written(text) for text in ("1.5D+03", "3 1/2", '="0012"', "1,23,456", "120/80")]
    [1500.0, 3.5, 12.0, 123456.0, None]
    """
    number = number_of(text, decimal)
    if number is not None or not isinstance(text, str):
        return number
    text = text.strip()
    if text[:1] == "=" and (kept := _KEPT.fullmatch(text)):
        return number_written(kept[1].strip(), decimal)
    if (known := _FORTRAN.fullmatch(text)) and (known[2][0] in "+-" or known[1].strip("+-0123456789")):
        return number_of(f"{known[1]}e{known[2]}", decimal)  # 12D4 is a code.
    if "/" in text:
        return _fraction(text)
    found = _WRITTEN[decimal].fullmatch(text)
    if found is None or not (found["whole"] or found["part"]) or bool(found["open"]) != bool(found["close"]):
        return None
    signs = [sign for sign in (found["open"], found["sign"], found["inner"], found["after"]) if sign]
    if len(signs) > 1:
        return None
    whole = found["whole"] or "0"
    digits = whole.replace(found["between"] or ",", "")
    number = float(f"{digits}.{found['part'] or 0}{'e-2' if found['per_cent'] else ''}")
    return -number if signs and signs[0] != "+" else number


def _fraction(text: str) -> float | None:
    """A fraction of at most one, alone or behind a whole number; None: it is none, as 120/80 is not."""
    found = _FRACTION.fullmatch(text)
    if found is None or int(found[4]) == 0 or int(found[3]) > int(found[4]):
        return None
    number = int(found[2] or 0) + int(found[3]) / int(found[4])
    return -number if found[1] not in (None, "+") else number


def is_marked(text: str) -> bool:
    """Whether a text is a number as people write it, by one decimal mark or the other."""
    return bool(_DIGIT.search(text)) and any(number_written(text, decimal) is not None for decimal in _WRITTEN)
