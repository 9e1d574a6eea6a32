"""Times as documents hold them."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(seconds: float | None) -> str | None:
    """Seconds since the epoch as ISO 8601 in UTC with milliseconds: ``2013-01-31T06:00:00.000Z``."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_of(text: str | None) -> float | None:
    """The opposite: seconds since the epoch. Raises ``ValueError`` for what is no time of ISO 8601; one without a zone
    is in UTC."""
    if text is None:
        return None
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
