"""Times and durations as the command line shows them to people."""

from __future__ import annotations

from datetime import UTC, datetime


def local(seconds: float | None) -> str:
    """Seconds since the epoch on the user's own clock: ``2013-01-31 07:00:00``."""
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float | None) -> str:
    """A duration in two figures or units at most: ``0.02 s``, ``3.4 s``, ``2 m 05 s``, ``3 h 20 m``, ``2 d 4 h``."""
    if seconds is None:
        return ""
    seconds = max(seconds, 0.0)
    if seconds < 0.095:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} m"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"
