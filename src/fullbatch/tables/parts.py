"""The parts of dates that repeat: weekday, month, hour. A network cannot see them in a number of seconds."""

from __future__ import annotations

from datetime import date
from math import floor

import numpy as np

DAY = 86_400
HOUR = 3600
WEEK, QUARTER = 7 * DAY, 92 * DAY
DAYS_TO_1970, CYCLE = 719_162, 146_097  # from the first day of year 1; of 400 years, after which months come again
LEVELS = {"weekday": tuple(range(7)), "month": tuple(range(1, 13)), "hour": tuple(range(24))}  # Monday is 0.
FARTHEST = 2.5e11  # Seconds from 1970 to about the year 9900; what is farther is no date.


def part_of(seconds: np.ndarray, part: str) -> np.ndarray:
    """The position of each date's part in its LEVELS, (m,) uint8; their number where the date is missing."""
    known = np.abs(seconds) < FARTHEST  # False where it is NaN.
    if not known.all():
        out = np.full(len(seconds), len(LEVELS[part]), np.uint8)
        out[known] = part_of(seconds[known], part)
        return out
    whole = np.floor(seconds).astype(np.int64)
    if part == "hour":
        return (whole // HOUR % 24).astype(np.uint8)
    days = whole // DAY
    if part == "weekday":
        return ((days + 3) % 7).astype(np.uint8)  # The first of January 1970 was a Thursday.
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return (months % 12).astype(np.uint8)


def part_of_one(seconds: float, part: str) -> int:
    """``part_of`` of one date, by Python's own numbers: an array for each would take ten times as long."""
    if not -FARTHEST < seconds < FARTHEST:
        return len(LEVELS[part])
    whole = floor(seconds)
    if part == "hour":
        return whole // HOUR % 24
    days = whole // DAY
    if part == "weekday":
        return (days + 3) % 7
    return date.fromordinal(1 + (DAYS_TO_1970 + days) % CYCLE).month - 1


def parts_for(kind: str, least: float, greatest: float) -> tuple[str, ...]:
    """The parts that values between these can have beside their number: a week has each weekday once, which it tells.

    kind : "date", "clock" or "duration", as ``RawColumn.time`` has it
    """
    span = greatest - least
    if kind == "date":
        reaches = {"weekday": WEEK, "month": QUARTER, "hour": DAY}
        return tuple(part for part, reach in reaches.items() if span > reach)
    return ("hour",) if kind == "clock" and span > 2 * HOUR else ()
