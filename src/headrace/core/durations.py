"""Durations as people write them: ``5m``, ``1h30m``, ``250ms``. Inside Headrace they are seconds as ``float``."""

from __future__ import annotations

import math
import re
from datetime import timedelta

DURATION_MAX = 100 * 365 * 86_400.0
"""Durations are under 100 years: anything longer is a slip of units."""

_UNITS = {"w": 604_800.0, "d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*(ms|[wdhms])\s*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_EXPECTED = "expected a duration such as 30s, 5m, 1h30m, 250ms or 2d (a plain number is seconds)"


def parse_duration(value: object) -> float:
    """Seconds from ``"1h30m"``, ``"90"``, ``90`` or a ``timedelta``.

    Units are ``w d h m s ms``, largest first, each at most once; white space between parts is ignored. The result is
    at least 0 and under 100 years. Raises ``ValueError`` whose text says what was found and what was expected.
    """
    if isinstance(value, timedelta):
        return _bounded(value.total_seconds(), value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{_EXPECTED}, not {value!r}")
        return _bounded(value, value)
    if not isinstance(value, str):
        raise ValueError(f"{_EXPECTED}, not {value!r}")  # one exception for every bad duration
    text = value.strip()
    if len(text) > 100:
        raise ValueError(f"{_EXPECTED}, not {len(text)} characters of text")
    if _NUMBER.fullmatch(text):
        return _bounded(float(text), value)
    return _bounded(_sum_of_parts(text, value), value)


def _sum_of_parts(text: str, value: object) -> float:
    total = 0.0
    position = 0
    smallest = math.inf
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            raise ValueError(f"{_EXPECTED}, not {value!r}")
        size = _UNITS[part[2]]
        if size >= smallest:
            raise ValueError(f"{value!r} has units out of order or twice; write the largest first, as in 1h30m")
        smallest = size
        # 250ms is 0.25 to the bit only by division.
        total += float(part[1]) / 1000 if part[2] == "ms" else float(part[1]) * size
        position = part.end()
    if not text:
        raise ValueError(f"{_EXPECTED}, not an empty text")
    return total


def _bounded(seconds: float, value: object) -> float:
    if seconds < 0:
        raise ValueError(f"a duration cannot be negative: {value!r}")
    if seconds >= DURATION_MAX:
        raise ValueError(f"a duration must be under 100 years: {value!r}")
    return float(seconds)


def format_duration(seconds: float) -> str:
    """The shortest exact text: ``parse_duration(format_duration(x)) == x`` for every valid duration."""
    if seconds == 0:
        return "0s"
    whole = int(seconds)
    if seconds != whole:
        milliseconds = round(seconds * 1000)
        if seconds < 1 and milliseconds / 1000 == seconds:
            return f"{milliseconds}ms"
        return f"{seconds!r}s"
    text = ""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        if count:
            text += f"{count}{unit}"
    return text
