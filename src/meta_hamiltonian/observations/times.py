"""Dates and times of the day, as seconds."""

import datetime
import math
import re
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from meta_hamiltonian.observations.cells import CLOCK, GAP, STAMP
from meta_hamiltonian.observations.forms import ObservationError, shown

_SECOND, _DAY = 10**9, 24 * 3600 * 10**9  # in nanoseconds, so that no digit is lost


def are_times(cells: Sequence[str]) -> bool:
    """Whether a column holds dates or times of the day, by its first cell that is no gap."""
    first = next((cell for cell in cells if not GAP.fullmatch(cell)), "")
    return bool(STAMP.fullmatch(first) or CLOCK.fullmatch(first))


def seconds(cells: Sequence[str], name: str, place: Callable[[int], str]) -> tuple[Float[np.ndarray, " rows"], str]:
    """Seconds since the first of them, and what that first one is; not a number at gaps.

    A time of the day that falls by more than half a day went past midnight.
    """
    first = next(cell for cell in cells if not GAP.fullmatch(cell))
    pattern, read = (STAMP, _stamp) if STAMP.fullmatch(first) else (CLOCK, _clock)
    began: int | None = None
    last = days = 0
    values = np.full(len(cells), math.nan)
    for i, cell in enumerate(cells):
        if GAP.fullmatch(cell):
            continue
        match = pattern.fullmatch(cell)
        moment = read(match) if match else None
        if moment is None:
            raise ObservationError(
                f"{place(i)}: column {name}: {shown(cell)} is no time such as {first}; write all alike"
            )
        if began is None:
            began = moment
        elif pattern is CLOCK and moment < last - _DAY // 2:
            days += 1
        last = moment
        values[i] = (moment + days * _DAY - began) / _SECOND
    return values, first


def _stamp(match: re.Match[str]) -> int | None:
    year, month, day, other_day, other_month, other_year, hour, minute, second, fraction, zone = match.groups()
    date = (year, month, day) if year else (other_year, other_month, other_day)
    try:
        days = datetime.date(*map(int, date)).toordinal()
    except ValueError:
        return None
    away = 0
    if zone and zone not in ("Z", "UTC"):
        away = int(zone[0] + "1") * (int(zone[1:3]) * 60 + int(zone[-2:])) * 60 * _SECOND
    inside = _of_day(hour, minute, second, fraction)
    return None if inside is None else days * _DAY + inside - away


def _clock(match: re.Match[str]) -> int | None:
    return _of_day(*match.groups())


def _of_day(hour: str, minute: str, second: str | None, fraction: str | None) -> int | None:
    if int(hour) > 24 or int(minute) > 59 or int(second or 0) > 60:
        return None
    whole = (int(hour) * 60 + int(minute)) * 60 + int(second or 0)
    return whole * _SECOND + int((fraction or "").ljust(9, "0"))
