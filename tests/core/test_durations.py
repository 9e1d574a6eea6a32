"""Durations, both ways."""

from __future__ import annotations

import datetime
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.durations import DURATION_MAX, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300), ("1h30m", 5400), ("250ms", 0.25), ("2d", 172_800), ("90", 90), (90, 90), (0.5, 0.5), ("1.5h", 5400),
     (" 1 h 30 m ", 5400), ("1w", 604_800), ("0s", 0), (datetime.timedelta(minutes=2), 120)],
)  # fmt: skip
def test_parse(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "x", "5 minutes", "5m3", "-5m", -1, math.inf, math.nan, True, None, "30m1h", "1h1h", "9999w9999d", "1e9d", [], "9" * 200],
)  # fmt: skip
def test_refuse(text: object) -> None:
    with pytest.raises(ValueError, match=r"duration|units|100 years"):
        parse_duration(text)


@given(st.floats(0, DURATION_MAX, exclude_max=True, allow_nan=False, allow_subnormal=False) | st.integers(0, 10**9))
def test_formatting_loses_nothing(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


def test_formatting_is_readable() -> None:
    assert [format_duration(s) for s in (5400, 0.25, 86_400, 90, 1.5, 0)] == [
        "1h30m",
        "250ms",
        "1d",
        "1m30s",
        "1.5s",
        "0s",
    ]
