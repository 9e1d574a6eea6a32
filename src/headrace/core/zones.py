"""Which instants the times of a cron expression are, in a time zone whose clocks change.

The rules, a sentence each:

- **Hours that are named** (``30 2 * * *``) mean the clock on the wall, once: a time that exists twice is its first
  occurrence; one that does not exist is the moment at which the clock jumped over it. A daily job runs every day, once.
- **Every hour, or every n-th** (``*`` or ``*/n`` in the hour) means elapsed time: a time that exists twice is both, one
  that does not exist is none. A job for every ten minutes runs every ten minutes.

Cron on Debian does the same (it looks at the minute too).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from headrace.core.cron import Cron
from headrace.core.suggest import did_you_mean

_NEAR = timedelta(hours=25)
"""No clock is set back by more (a zone that changes the side of the date line repeats a day)."""

_EPOCH = datetime(1970, 1, 1)


@lru_cache(maxsize=256)
def zone_of(name: str) -> ZoneInfo:
    """A time zone by its IANA name. Raises ``ValueError`` with what was probably meant."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = sorted(available_timezones())
        if not known:
            raise ValueError(
                f"the time zone {name!r} is not known: this machine has no time zones; pip install tzdata"
            ) from None
        last = name.rpartition("/")[2].casefold()
        cities = [zone for zone in known if zone.rpartition("/")[2].casefold() == last] if last else []
        hint = f"did you mean {cities[0]!r}?" if cities else did_you_mean(name, known)
        if cities == [] and "did you mean" not in hint:
            hint = "expected an IANA name such as Europe/Berlin"
        raise ValueError(f"the time zone {name!r} is not known: {hint}") from None


def next_instant(cron: Cron, zone: ZoneInfo, after: float) -> float | None:
    """The first of the expression's times after an instant (seconds since the epoch); None if there is none within
    :data:`headrace.core.cron.YEARS_MAX` years, or before the year 10000."""
    whole = int(after // 1)
    here = _EPOCH + timedelta(seconds=whole)
    wall = _wall(here, zone)
    start = wall
    if cron.any_hour:
        start -= _repeated(here, zone)  # a time that was on the wall before may come again
    best: datetime | None = None
    for candidate in cron.walls(start):
        found = _instants(candidate, zone, twice=cron.any_hour)
        if best is not None and (not found or found[0] >= best):
            if found:
                break
            continue
        for instant in found:
            if instant > here and (best is None or instant < best):
                best = instant
    return None if best is None else (best - _EPOCH).total_seconds()


def _wall(utc: datetime, zone: ZoneInfo) -> datetime:
    return utc.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None, fold=0)


def _offset(utc: datetime, zone: ZoneInfo) -> timedelta:
    return _wall(utc, zone) - utc


def _repeated(here: datetime, zone: ZoneInfo) -> timedelta:
    """How much of the past the wall is about to show again: what is so far off that it has not been shown needs no
    care."""
    now = _offset(here, zone)
    back = now - _offset(here + _NEAR, zone)
    if back > timedelta(0) and _offset(here + back, zone) != now:
        return back
    return timedelta(0)


def _instants(wall: datetime, zone: ZoneInfo, *, twice: bool) -> list[datetime]:
    """The instants, in UTC, at which the wall shows a time; see the rules above."""
    first = wall - _utcoffset(wall, zone, 0)
    second = wall - _utcoffset(wall, zone, 1)
    if first == second:
        return [first]
    if _wall(first, zone) != wall:  # it does not exist: fold 0 goes by the offset before, fold 1 by the one after
        return [] if twice else [_change(second, first, zone)]
    return [first, second] if twice else [first]


def _utcoffset(wall: datetime, zone: ZoneInfo, fold: int) -> timedelta:
    offset = wall.replace(tzinfo=zone, fold=fold).utcoffset()
    assert offset is not None
    return offset


def _change(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The second at which the clock changes, between two instants, the last included."""
    before = _offset(low, zone)
    seconds = int((high - low).total_seconds())
    left, right = 0, seconds  # changed at right, not at left
    while right - left > 1:
        middle = (left + right) // 2
        if _offset(low + timedelta(seconds=middle), zone) == before:
            left = middle
        else:
            right = middle
    return low + timedelta(seconds=right)
