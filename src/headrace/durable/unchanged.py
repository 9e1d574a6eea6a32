"""Notices when a query changes what the workflow's code holds: nothing of that would be in the history, so the next
replay would come to other values.

What a handler can reach by its name is looked at before and after: its own variables from the workflow function around
it, and those of functions that it uses. Lists, dicts, sets, deques, dataclasses, structs and attrs classes are compared
by what they hold, everything else by its identity. What cannot be encoded (dicts with keys of odd types, values that hold
themselves) is left alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, cast

import msgspec

_EMPTY = object()

Seen = dict[str, object]
"""By variable: the encoded value, or None for one that cannot be compared."""


def seen(function: Callable[..., Any]) -> Seen:
    """What a handler's variables hold now. Takes time in proportion to their size."""
    return {name: _encoded(value) for name, value in _variables(function, set())}


def changed(function: Callable[..., Any], before: Seen) -> list[str]:
    """The variables that hold something else than before, by name."""
    now = seen(function)
    return [name for name, was in before.items() if was is not None and now.get(name) not in (None, was)]


def _variables(function: object, done: set[int]) -> Iterator[tuple[str, Any]]:
    bound = getattr(function, "__self__", None)
    function = getattr(function, "__func__", function)
    if not isinstance(function, FunctionType) or id(function) in done:
        return
    done.add(id(function))
    if bound is not None:
        yield from ((f"self.{name}", value) for name, value in getattr(bound, "__dict__", {}).items())
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            value = _EMPTY
        if isinstance(value, FunctionType) or hasattr(value, "__func__"):
            yield from _variables(value, done)
        yield name, value


def _encoded(value: Any) -> object:
    try:
        return msgspec.msgpack.encode(value, enc_hook=_plain)
    except Exception:
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, deque):
        return list(cast("deque[Any]", value))
    return [type(value).__qualname__, id(value)]
