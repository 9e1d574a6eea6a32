"""Cron expressions: what they mean, read with the place of every mistake.

Five fields (minute, hour, day of month, month, day of week), or six with seconds first; names (``mon``, ``jan``), ranges,
steps, lists; ``L`` (last day of the month, ``L-2``: two days before), ``5L`` (last Friday), ``fri#2`` (second Friday);
``@hourly``, ``@daily`` (``@midnight``), ``@weekly``, ``@monthly``, ``@yearly`` (``@annually``). Sunday is 0 and 7. If
day of month and day of week are both restricted, either is enough, as cron has always had it; a field that begins with
``*`` does not restrict.

This file knows wall-clock times only; which instant one is, is :mod:`headrace.core.zones`' business.
"""

from __future__ import annotations

import calendar
from collections.abc import Generator
from datetime import date, datetime, timedelta
from functools import lru_cache

import msgspec

from headrace.core.suggest import did_you_mean

NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

EXPRESSION_CHARS_MAX = 500

YEARS_MAX = 40
"""How far ahead a time is looked for: the rarest date, a 29 February on a given weekday, may be 40 years away."""

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}


class _Field(msgspec.Struct, frozen=True):
    name: str
    low: int
    high: int
    names: dict[str, int] = {}


_SECOND = _Field("second", 0, 59)
_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _DAYS),
)


class Cron(msgspec.Struct, frozen=True):
    """A parsed expression. ``weekdays`` count from Monday as 0, as :meth:`datetime.date.weekday`; ``last_days`` are days
    before the end of the month (0: the last), ``nth_weekdays`` are (weekday, nth; 0 for the last)."""

    text: str
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    last_days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    nth_weekdays: frozenset[tuple[int, int]]
    any_day: bool
    any_weekday: bool
    any_hour: bool
    """The hour is ``*`` or ``*/n``: goes by elapsed time when clocks change; see :mod:`headrace.core.zones`."""

    def matches_day(self, day: date) -> bool:
        """Whether there are times on that day."""
        return day.month in self.months and _matches_day(self, day)

    def matches(self, wall: datetime) -> bool:
        """Whether a wall-clock time, to the second, is one of the expression's."""
        return (
            wall.second in self.seconds
            and wall.minute in self.minutes
            and wall.hour in self.hours
            and self.matches_day(wall.date())
        )

    def walls(self, start: datetime) -> Generator[datetime]:
        """The wall-clock times from ``start`` on (inclusive, naive, whole seconds), ascending, as far as
        :data:`YEARS_MAX` years."""
        day = start.date()
        first = (start.hour, start.minute, start.second)
        last_year = min(start.year + YEARS_MAX, 9999)
        while True:
            if day.month not in self.months:
                day = _next_month(day)
            elif _matches_day(self, day):
                yield from self._times_of(day, first)
                day = _next_day(day)
            else:
                day = _next_day(day)
            if day is None or day.year > last_year:
                return
            first = (0, 0, 0)

    def _times_of(self, day: date, first: tuple[int, int, int]) -> Generator[datetime]:
        for hour in self.hours:
            if hour < first[0]:
                continue
            for minute in self.minutes:
                if (hour, minute) < first[:2]:
                    continue
                for second in self.seconds:
                    if (hour, minute, second) >= first:
                        yield datetime(day.year, day.month, day.day, hour, minute, second)


def _next_day(day: date) -> date | None:
    return day + timedelta(days=1) if day != date.max else None


def _next_month(day: date) -> date | None:
    if day.month < 12:
        return date(day.year, day.month + 1, 1)
    return date(day.year + 1, 1, 1) if day.year < 9999 else None


def _matches_day(cron: Cron, day: date) -> bool:
    by_day = day.day in cron.days
    if not by_day and cron.last_days:
        by_day = calendar.monthrange(day.year, day.month)[1] - day.day in cron.last_days
    weekday = day.weekday()
    by_weekday = weekday in cron.weekdays
    if not by_weekday and cron.nth_weekdays:
        is_last = day.day + 7 > calendar.monthrange(day.year, day.month)[1]
        nth = (day.day - 1) // 7 + 1
        by_weekday = (weekday, nth) in cron.nth_weekdays or (is_last and (weekday, 0) in cron.nth_weekdays)
    if cron.any_day or cron.any_weekday:
        return by_day and by_weekday
    return by_day or by_weekday


# ---- reading -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def parse_cron(text: str) -> Cron:
    """Read an expression. Raises ``ValueError`` whose text says what is wrong, at which character, and what was expected;
    also for one whose time never comes."""
    stripped = text.strip()
    if len(text) > EXPRESSION_CHARS_MAX:
        raise ValueError(f"a cron expression has at most {EXPRESSION_CHARS_MAX} characters, not {len(text)}")
    if stripped.startswith("@"):
        known = NICKNAMES.get(stripped.lower())
        if known is None:
            names = (*NICKNAMES, "@every", "@at")
            raise ValueError(f"{stripped!r} is not known: {did_you_mean(stripped.lower(), names)}")
        cron = _read(known, known)
        return msgspec.structs.replace(cron, text=stripped)
    cron = _read(text, stripped)
    if next(cron.walls(datetime(2000, 1, 1)), None) is None:
        raise ValueError(f"{stripped!r} never comes: no month it names has such a day")
    return cron


def _read(text: str, shown: str) -> Cron:
    parts = _split(text)
    if len(parts) not in (5, 6):
        raise ValueError(
            f"{shown!r} has {len(parts)} field{'s' * (len(parts) != 1)}; a cron expression has five (minute, hour, day "
            "of month, month, day of week), or six with seconds first, such as '0 3 * * *'"
        )
    seconds, parts = (parts[:1], parts[1:]) if len(parts) == 6 else ([], parts)
    sets = [_Set(field, shown, place, part) for field, (place, part) in zip(_FIELDS, parts, strict=True)]
    minute, hour, day, month, weekday = sets
    return Cron(
        text=" ".join(shown.split()),
        seconds=tuple(sorted(_Set(_SECOND, shown, *seconds[0]).values)) if seconds else (0,),
        minutes=tuple(sorted(minute.values)),
        hours=tuple(sorted(hour.values)),
        days=frozenset(day.values),
        last_days=frozenset(day.lasts),
        months=frozenset(month.values),
        weekdays=frozenset((number - 1) % 7 for number in weekday.values),
        nth_weekdays=frozenset(((number - 1) % 7, nth) for number, nth in weekday.nths),
        any_day=day.is_open,
        any_weekday=weekday.is_open,
        any_hour=hour.is_open,
    )


def _split(text: str) -> list[tuple[int, str]]:
    """The fields with the number of their first character, from 1."""
    parts: list[tuple[int, str]] = []
    position = 0
    for part in text.split():
        position = text.index(part, position)
        parts.append((position + 1, part))
        position += len(part)
    return parts


class _Set:
    """One field as it was written, taken apart."""

    def __init__(self, field: _Field, shown: str, place: int, text: str) -> None:
        self.field = field
        self._shown = shown
        self.values: set[int] = set()
        self.lasts: set[int] = set()
        self.nths: set[tuple[int, int]] = set()
        self.is_open = text.startswith("*") or text == "?"
        at = place
        for item in text.split(","):
            self._item(item, at)
            at += len(item) + 1

    def _wrong(self, what: str, at: int) -> ValueError:
        return ValueError(f"{self._shown!r}, character {at}: {what}")

    def _item(self, item: str, at: int) -> None:
        field = self.field
        if not item:
            raise self._wrong(f"the {field.name} is missing before or after a comma", at)
        if self._special(item, at):
            return
        body, slash, step_text = item.partition("/")
        step = 1
        if slash:
            if not (step_text.isascii() and step_text.isdigit()) or not 1 <= int(step_text) <= field.high:
                raise self._wrong(
                    f"a step of the {field.name} is a number from 1 to {field.high}, not {step_text!r}",
                    at + len(body) + 1,
                )
            step = int(step_text)
        if body in ("*", "?"):
            high = 6 if field.name == "day of week" else field.high
            self.values.update(range(field.low, high + 1, step))
            return
        begin_text, dash, end_text = body.partition("-")
        begin = self._number(begin_text, at)
        if dash:
            end = self._number(end_text, at + len(begin_text) + 1)
            if end < begin and field.name == "day of week" and end == 0:
                end = 7
            if end < begin:
                raise self._wrong(
                    f"the range {body} ends before it begins; write {begin_text}-{field.high},{field.low}-{end_text}",
                    at,
                )
        else:
            end = field.high if slash else begin
        self.values.update(range(begin, end + 1, step))

    def _special(self, item: str, at: int) -> bool:
        """``L`` and ``#``."""
        field, upper = self.field, item.upper()
        if field.name == "day of month" and upper.startswith("L"):
            back = upper.removeprefix("L")
            if back and not (
                back.startswith("-") and back[1:].isascii() and back[1:].isdigit() and int(back[1:]) <= 27
            ):
                raise self._wrong(f"expected L or L-1 to L-27, the days before the last of the month, not {item!r}", at)
            self.lasts.add(int(back[1:]) if back else 0)
            return True
        if field.name != "day of week":
            return False
        if "#" in item:
            day, _, nth = item.partition("#")
            if nth not in ("1", "2", "3", "4", "5"):
                raise self._wrong(
                    f"after # stands 1 to 5, as in fri#2 for the second Friday, not {nth!r}", at + len(day) + 1
                )
            self.nths.add((self._number(day, at) % 7, int(nth)))
            return True
        if upper.endswith("L") and len(item) > 1:
            self.nths.add((self._number(item[:-1], at) % 7, 0))
            return True
        return False

    def _number(self, text: str, at: int) -> int:
        field = self.field
        low = text.lower()
        named = field.names.get(low)
        if named is not None:
            return named
        if not (text.isascii() and text.isdigit()):
            hint = ""
            if field.name != "day of month" and text.upper() in ("L", "W"):
                hint = "; L stands in the day of month, or after a weekday: 5L is the last Friday"
            elif field.names and text.isalpha():
                hint = f"; {did_you_mean(low[:3] if low[:3] in field.names else low, field.names, what='names')}"
            expected = f"{field.low} to {field.high}" + (
                ", or a name such as " + next(iter(field.names)) if field.names else ""
            )
            what = f"the {field.name} is {expected}, not {text!r}" if text else f"the {field.name} is missing"
            raise self._wrong(what + hint, at)
        number = int(text) if len(text) < 10 else field.high + 1
        if not field.low <= number <= field.high:
            raise self._wrong(f"the {field.name} is {field.low} to {field.high}, not {text}", at)
        return number
