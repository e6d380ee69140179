"""Numbers as people write them: which number a text is, strictly, for guesses, and freely, where one was asked for."""

from __future__ import annotations

import re

_SIGN, _MONEY = r"[-+−–]", r"[$€£¥₹]"  # A minus is also U+2212, and in many exports a dash.
_SPACES = " '’\u00a0\u202f"  # Between thousands, beside the mark that is not the decimal one.


def _pattern(decimal: str) -> re.Pattern[str]:
    between = f"[{_SPACES}{',' if decimal == '.' else '.'}]"
    whole = rf"\d{{1,3}}(?:(?P<between>{between})\d{{3}}(?:(?P=between)\d{{3}})*)|\d+"
    return re.compile(
        rf"(?P<open>\()?\s?(?P<sign>{_SIGN})?\s?{_MONEY}?\s?(?P<inner>{_SIGN})?"
        rf"(?P<whole>{whole})?(?:{re.escape(decimal)}(?P<part>\d+))?"
        rf"\s?(?P<per_cent>%)?\s?{_MONEY}?\s?(?P<after>[-−–])?(?P<close>\))?"
    )


_WRITTEN = {decimal: _pattern(decimal) for decimal in ".,"}


def number_of(text: str | bool, decimal: str = ".") -> float | None:
    """The number that a text is, as Python reads it, but with this decimal mark; None: it is none."""
    if isinstance(text, str) and decimal != ".":
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
    one), a currency's sign, a percent sign (5% is 0.05), and less than zero in brackets, by U+2212 or a dash, or with
    the sign at the end.

    >>> [number_written(text) for text in ("$1,234.50", "(12)", "7-", "−0.5", "5 %", "12 kg")]
    [1234.5, -12.0, -7.0, -0.5, 0.05, None]
    """
    number = number_of(text, decimal)
    if number is not None or not isinstance(text, str):
        return number
    found = _WRITTEN[decimal].fullmatch(text.strip())
    if found is None or not (found["whole"] or found["part"]) or bool(found["open"]) != bool(found["close"]):
        return None
    signs = [sign for sign in (found["open"], found["sign"], found["inner"], found["after"]) if sign]
    if len(signs) > 1:
        return None
    whole = found["whole"] or "0"
    digits = whole.replace(found["between"], "") if found["between"] else whole
    number = float(f"{digits}.{found['part'] or 0}{'e-2' if found['per_cent'] else ''}")
    return -number if signs and signs[0] != "+" else number


def is_marked(text: str) -> bool:
    """Whether a text is a number as people write it, by one decimal mark or the other."""
    return any(number_written(text, decimal) is not None for decimal in _WRITTEN)
