"""Histories as tests read and check them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headrace.core.events import Event
from headrace.durable.run import describe


def assert_order(events: Sequence[Event], expected: Iterable[str], *, exact: bool) -> None:
    """Raise ``AssertionError`` unless the expected events are there in this order; with ``exact``, and no others."""
    found = [describe(event) for event in events]
    position = 0
    for wanted in expected:
        begin = position
        while not exact and position < len(found) and not _fits(wanted, found[position]):
            position += 1
        if position >= len(found) or not _fits(wanted, found[position]):
            instead = f", but {found[begin]!r}" if exact and begin < len(found) else ""
            raise AssertionError(f"{wanted!r} does not come here{instead}:\n{numbered(events, begin)}")
        position += 1
    if exact and position < len(found):
        raise AssertionError(f"{found[position]!r} was not expected:\n{numbered(events, position)}")


def numbered(events: Sequence[Event], mark: int | None = None) -> str:
    """A history for people, a line per event; ``mark`` shows a place in it."""
    lines = [f"{number:>5}  {describe(event)}" for number, event in enumerate(events, 1)]
    if mark is not None:
        lines.insert(mark, "    >  here")
    return "\n".join(lines)


def _fits(wanted: str, found: str) -> bool:
    return wanted == found or found.startswith(wanted + " ")
