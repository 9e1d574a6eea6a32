"""Refuses values that would lose a part in silence: msgspec leaves out what begins with ``_`` in attrs classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

# Any throughout: values and types of a user's choice.

_fine: set[type] = {str, int, float, bool, type(None), bytes}
"""Types that were looked at and lose nothing."""

_FINE_MAX = 1_000
_DEPTH_MAX = 8


def check(value: Any) -> None:
    """Raise ``TypeError`` for a value of such a class. Looked at are the value itself, what its attributes hold, and the
    first one of a list, tuple or dict: the others are of its kind."""
    _check(value, 0)


def _check(value: Any, depth: int) -> None:
    kind: type = type(value)
    if kind in _fine or depth > _DEPTH_MAX:
        return
    if kind is dict:
        for part in cast("dict[Any, Any]", value).values():
            _check(part, depth + 1)
            break
    elif kind is list or kind is tuple:
        for part in cast("list[Any]", value):
            _check(part, depth + 1)
            break
    elif hasattr(kind, "__attrs_attrs__"):
        attributes: Iterable[Any] = kind.__attrs_attrs__  # type: ignore[attr-defined]
        for attribute in attributes:
            if attribute.name.startswith("_") and attribute.init:
                raise TypeError(
                    f"attribute {attribute.name} of {kind.__qualname__} begins with _ and would not be stored: "
                    "rename it, make a dataclass of the class, or say field(init=False) if it need not be stored"
                )
        for attribute in attributes:
            _check(getattr(value, attribute.name, None), depth + 1)
    elif hasattr(kind, "__dataclass_fields__"):
        for name in kind.__dataclass_fields__:  # type: ignore[attr-defined]
            _check(getattr(value, name, None), depth + 1)
    elif len(_fine) < _FINE_MAX:
        _fine.add(kind)
