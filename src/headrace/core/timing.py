"""When a schedule is due: cron expressions, intervals and single times, alone or together. Pure: the next time is a
function of the timing, the zone and an instant, so every node computes the same, before and after a restart.

Texts: a cron expression (:mod:`headrace.core.cron`), ``@every 5m`` (a duration of at least a second, counted from the
schedule's ``start`` or else from 1970 in UTC: ``@every 1h`` is every full hour), ``@at 2026-12-01T08:00`` (once; in the
schedule's zone unless it names an offset).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime

from headrace.core.cron import parse_cron
from headrace.core.durations import parse_duration
from headrace.core.zones import next_instant, zone_of

EVERY_SECONDS_MIN = 1.0
TIMINGS_MAX = 100

Next = Callable[[float], float | None]
"""The first time after an instant; None if there is none."""


def parse_instant(value: object, zone: str = "UTC") -> float:
    """Seconds since the epoch from ISO 8601 text, a ``datetime`` or a number. Without an offset it is meant in
    ``zone``; of a time that exists twice there the first is meant. Raises ``ValueError``."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError(
                f"expected a time such as 2026-12-01T08:00 or 2026-12-01T08:00:00+01:00, not {value!r}"
            ) from None
    if not isinstance(value, datetime):
        raise ValueError(f"expected a time such as 2026-12-01T08:00, not {value!r}")
    if value.tzinfo is None:
        value = value.replace(tzinfo=zone_of(zone), fold=0)
    return value.timestamp()


def make_next(texts: Sequence[str], zone: str, anchor: float | None = None) -> Next:
    """One function for all timings of a schedule. ``anchor``: what intervals are counted from. Raises ``ValueError`` that
    begins with the timing it is about."""
    if not texts:
        raise ValueError("a schedule needs a time: a cron expression, '@every 5m' or '@at 2026-12-01T08:00'")
    if len(texts) > TIMINGS_MAX:
        raise ValueError(f"a schedule has at most {TIMINGS_MAX} timings, not {len(texts)}")
    parts = [_next_of(text, zone, anchor or 0.0) for text in texts]
    if len(parts) == 1:
        return parts[0]

    def earliest(after: float) -> float | None:
        return min((found for part in parts if (found := part(after)) is not None), default=None)

    return earliest


def _next_of(text: str, zone: str, anchor: float) -> Next:
    word, _, rest = text.strip().partition(" ")
    if word.lower() == "@every":
        return _every(text, rest, anchor)
    if word.lower() == "@at":
        return _at(rest, zone)
    cron, where = parse_cron(text), zone_of(zone)
    return lambda after: next_instant(cron, where, after)


def _every(text: str, rest: str, anchor: float) -> Next:
    try:
        seconds = parse_duration(rest)
    except ValueError as error:
        raise ValueError(f"{text.strip()!r}: {error}") from None
    if seconds < EVERY_SECONDS_MIN:
        raise ValueError(f"{text.strip()!r}: a schedule is due once a second at most")

    def next_time(after: float) -> float:
        count = math.floor((after - anchor) / seconds) + 1
        due = anchor + count * seconds
        while due <= after:
            count += 1
            due = anchor + count * seconds
        return due

    return next_time


def _at(rest: str, zone: str) -> Next:
    due = parse_instant(rest, zone)
    return lambda after: due if due > after else None
