"""Whether a schedule can be used: everything that is wrong with its definition, each with its field."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from headrace.core.durations import parse_duration
from headrace.core.errors import InvalidSchedule, Problem
from headrace.core.schedules import CATCH_UP_SECONDS, CATCH_UP_SECONDS_MIN, OVERLAPS, Definition
from headrace.core.suggest import did_you_mean
from headrace.core.timing import make_next, parse_instant
from headrace.core.zones import zone_of

NAME_CHARS_MAX = 200
DATA_BYTES_MAX = 256 * 1024
"""Parameters and tags of a schedule: it is read and written at every fire time."""

_name = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*").fullmatch

Duration = str | float | timedelta
Instant = str | float | datetime


class Given(msgspec.Struct, kw_only=True):
    """A schedule as users write it, in Python, YAML or on the command line: times and durations in any of their forms.
    See :class:`headrace.core.schedules.Definition` for what they mean. ``cron``, ``every`` and ``at`` may be given
    together."""

    cron: str | Sequence[str] = ()
    every: Any = None  # Duration
    at: Any = ()  # Instant, or several
    zone: str = "UTC"
    params: dict[str, Any] = {}
    tags: dict[str, str] = {}
    start: Any = None  # Instant
    end: Any = None  # Instant
    jitter: Any = 0.0  # Duration
    overlap: str = "skip"
    catch_up: Any = CATCH_UP_SECONDS  # Duration
    limit: int | None = None
    note: str = ""


def define(name: str, workflow: str, given: Given, *, texts: Sequence[str] = (), source: str = "") -> Definition:
    """The definition that is meant. Raises :class:`InvalidSchedule` with every problem."""
    problems: list[Problem] = []

    def attempt(field: str, read: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return read()
        except ValueError as error:
            problems.append(Problem(str(error), path=(field,)))
            return otherwise

    if len(name) > NAME_CHARS_MAX or not _name(name):
        problems.append(
            Problem(
                f"{name[:60]!r} is not a schedule's name",
                path=("name",),
                hint=f"use letters, digits, _ . and -, beginning with a letter or _, {NAME_CHARS_MAX} at most",
            )
        )
    zone = attempt("zone", lambda: (zone_of(given.zone), given.zone)[1], "UTC")
    start = attempt("start", lambda: None if given.start is None else parse_instant(given.start, zone), None)
    end = attempt("end", lambda: None if given.end is None else parse_instant(given.end, zone), None)
    if start is not None and end is not None and end < start:
        problems.append(Problem("the end is before the start", path=("end",)))
    timing = _timing(given, problems)
    for field, text in timing:
        attempt(field, lambda text=text: make_next([text], zone, start), None)
    if not timing and not problems:
        attempt("cron", lambda: make_next([], zone), None)
    jitter = attempt("jitter", lambda: parse_duration(given.jitter), 0.0)
    catch_up = attempt("catch_up", lambda: parse_duration(given.catch_up), CATCH_UP_SECONDS)
    if catch_up < CATCH_UP_SECONDS_MIN:
        problems.append(
            Problem(
                f"the catch-up window is {CATCH_UP_SECONDS_MIN:g} s at least",
                path=("catch_up",),
                hint="while a new leader is elected nothing fires, and nothing is to be missed for that",
            )
        )
    if given.overlap not in OVERLAPS:
        hint = did_you_mean(given.overlap, OVERLAPS, what="overlap policies")
        problems.append(Problem(f"{given.overlap!r} is no overlap policy", path=("overlap",), hint=hint))
    if given.limit is not None and (isinstance(given.limit, bool) or given.limit < 1):
        problems.append(Problem("the limit is a number of runs from 1 up", path=("limit",)))
    _check_texts(given, problems)
    if problems:
        raise InvalidSchedule(problems, name=name)
    return Definition(
        name=name,
        workflow=workflow,
        timing=tuple(text for _, text in timing),
        zone=zone,
        params=given.params,
        texts=tuple(texts),
        tags=given.tags,
        start=start,
        end=end,
        jitter=jitter,
        overlap=given.overlap,  # type: ignore[arg-type]
        catch_up=catch_up,
        limit=given.limit,
        note=given.note,
        source=source,
    )


def _timing(given: Given, problems: list[Problem]) -> list[tuple[str, str]]:
    found = [("cron", text) for text in ([given.cron] if isinstance(given.cron, str) else given.cron)]
    if given.every is not None:
        found.append(("every", f"@every {_seconds_text(given.every)}"))
    single = isinstance(given.at, str | int | float | datetime)
    for at in [given.at] if single else given.at:
        if isinstance(at, datetime):
            at = at.isoformat()  # noqa: PLW2901
        elif not isinstance(at, str):
            problems.append(Problem(f"expected a time such as 2026-12-01T08:00, not {at!r}", path=("at",)))
            continue
        found.append(("at", f"@at {at}"))
    return found


def _seconds_text(every: object) -> str:
    if isinstance(every, timedelta):
        return f"{every.total_seconds():g}s"
    return str(every)


def _check_texts(given: Given, problems: list[Problem]) -> None:
    tags: dict[Any, Any] = given.tags  # as users write them
    for key, value in tags.items():
        if not isinstance(key, str) or not isinstance(value, str):
            problems.append(Problem("tags are texts", path=("tags", str(key)), hint="put the value in quotes"))
    try:
        size = len(msgspec.json.encode([given.params, given.tags, given.note]))
    except (TypeError, ValueError, UnicodeEncodeError) as error:
        problems.append(Problem(f"JSON cannot hold this: {error}", path=("params",)))
        return
    if size > DATA_BYTES_MAX:
        problems.append(
            Problem(
                f"parameters, tags and note take {size:,} bytes; {DATA_BYTES_MAX:,} are the most",
                path=("params",),
                hint="hand a large value over as a file",
            )
        )
