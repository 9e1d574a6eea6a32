"""Plain scalars as YAML 1.2's core schema reads them.

YAML 1.1 turns ``no`` into false, ``1:30`` into 90, ``012`` into 10 and ``2013-01-31`` into a date. Here only
``true``, ``false``, ``null``, and numbers are anything but text.
"""

from __future__ import annotations

import math
import re

INT_DIGITS_MAX = 4_000
"""The longest whole number: Python refuses to read longer ones, because that takes quadratic time."""

CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)

_NUMBER_STARTS = frozenset("0123456789+-.")
_is_int = INT.fullmatch
_is_float = FLOAT.fullmatch


def plain_scalar(text: str) -> str | int | float | bool | None:
    """The value of an unquoted scalar. Raises ``ValueError`` for numbers no JSON can hold (infinity, not-a-number,
    thousands of digits)."""
    if text in CONSTANTS:
        return CONSTANTS[text]
    if text[0] not in _NUMBER_STARTS:
        return text
    if _is_int(text):
        if len(text) > INT_DIGITS_MAX:
            raise ValueError(f"a number of {len(text):,} digits is too long")
        return int(text, 0) if text[1:2] in ("o", "x") else int(text)
    if _is_float(text):
        number = _special(text) if text[-1] in "fFnN" else float(text)
        if not math.isfinite(number):
            raise ValueError(f"{text} is not a number JSON can hold; quote it if it is meant as text")
        return number
    return text


def _special(text: str) -> float:
    return math.nan if text.lower().endswith("nan") else math.inf
