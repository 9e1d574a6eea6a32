"""Colours of plain text output."""

from __future__ import annotations

from collections.abc import Callable

BOLD, DIM, PLAIN = "\033[1m", "\033[2m", "\033[0m"
RED, GREEN, YELLOW, MAGENTA, CYAN, GREY = (f"\033[{code}m" for code in (31, 32, 33, 35, 36, 90))

STATE_COLORS = {
    "succeeded": GREEN,
    "failed": RED,
    "cancelled": YELLOW,
    "cancelling": YELLOW,
    "interrupted": YELLOW,
    "paused": YELLOW,
    "retrying": YELLOW,
    "running": CYAN,
    "upstream_failed": MAGENTA,
    "skipped": GREY,
    "waiting": GREY,
    "ready": GREY,
}


class Paint:
    """Colours texts, or leaves them alone."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled

    def __call__(self, text: str, *codes: str) -> str:
        return f"{''.join(codes)}{text}{PLAIN}" if self._enabled and text and any(codes) else text

    def state(self, text: str, state: str, *codes: str) -> str:
        """A text in the colour of a state."""
        return self(text, *codes, STATE_COLORS.get(state, ""))


def state_painter(column: int) -> Callable[[int, str, str], str]:
    """For :func:`~headrace.cli.table.aligned`: colours the column of states."""
    paint = Paint(enabled=True)
    return lambda at, value, padded: paint.state(padded, value) if at == column else padded
