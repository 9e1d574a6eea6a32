"""Values that will exist only when a workflow runs, as the Python builder passes them around.

``raw["rows"]`` and ``etl.params.year`` are not the values but their addresses; put into an argument they become the
template that YAML would hold: ``{{ tasks.raw.output.rows }}``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from headrace.core.expressions import DEPTH_MAX
from headrace.core.suggest import did_you_mean

_plain_key = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch


class Ref:
    """The address of a value: ``ref.name``, ``ref["key"]`` and ``ref[0]`` go deeper; in text (f-strings too) it is its
    template. It has no value yet, so it cannot be compared, looped over or tested: use ``when=`` and ``map``."""

    __slots__ = ("_path",)

    def __init__(self, path: tuple[str | int, ...]) -> None:
        self._path = path

    def __getattr__(self, name: str) -> Ref:
        # Protocols such as copying and pickling ask for underscored names.
        if name.startswith("_"):
            raise AttributeError(name)
        return Ref((*self._path, name))

    def __getitem__(self, key: str | int) -> Ref:
        if type(key) not in (str, int):
            raise TypeError(f"{expression(self._path)} can be indexed by text or a number, not by {key!r}")
        return Ref((*self._path, key))

    def __str__(self) -> str:
        return "{{ " + expression(self._path) + " }}"

    def __format__(self, spec: str) -> str:
        if spec:
            raise TypeError(f"{self} has no value yet, so it cannot be formatted as {spec!r}")
        return str(self)

    def __repr__(self) -> str:
        return f"<{expression(self._path)}>"

    def __bool__(self) -> bool:
        raise self._refusal("tested", "use when=")

    def __iter__(self) -> Iterator[Any]:
        raise self._refusal("looped over", "use .map(...)")

    def __contains__(self, _: object) -> bool:
        raise self._refusal("searched", "use when=")

    def _refusal(self, what: str, instead: str) -> TypeError:
        message = f"{expression(self._path)} has no value while the workflow is defined, so it cannot be {what}"
        return TypeError(f"{message}; {instead}")


def expression(path: tuple[str | int, ...]) -> str:
    """The look-up a template holds: ``tasks.load.output['a b'][0]``."""
    text = str(path[0])
    for key in path[1:]:
        text += f".{key}" if isinstance(key, str) and _plain_key(key) else f"[{key!r}]"
    return text


class Params:
    """The parameters of a workflow that is being defined: ``d.params.year``."""

    __slots__ = ("_names",)

    def __init__(self, names: Mapping[str, object]) -> None:
        self._names = names

    def __getattr__(self, name: str) -> Any:
        # Any: the value has whatever type the parameter declares, and goes where that type is wanted.
        if name not in self._names:
            hint = did_you_mean(name, self._names, what="parameters")
            raise AttributeError(f"there is no parameter {name!r}; {hint}")
        return Ref(("params", name))

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)


def to_plain(value: Any, depth: int = 0) -> Any:
    """A value as a definition holds it: references become templates, everything else what JSON knows.

    Raises ``TypeError`` for what has no JSON form, and for nesting over the bound of definitions.
    """
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str(value)
    reference = getattr(type(value), "__headrace_ref__", None)
    if reference is not None:
        return str(reference(value))
    if isinstance(value, Ref):
        return str(value)
    if depth > DEPTH_MAX:
        raise TypeError(f"the value is nested more than {DEPTH_MAX} levels deep")
    if isinstance(value, Mapping):
        return {str(key): to_plain(part, depth + 1) for key, part in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple, range)):
        return [to_plain(part, depth + 1) for part in cast("list[Any]", value)]
    try:
        return msgspec.to_builtins(value)
    except (TypeError, ValueError, msgspec.MsgspecError):
        message = f"a value of type {type(value).__name__} cannot be stored in a definition"
        raise TypeError(f"{message}; pass text, numbers, lists, dicts or the output of a task") from None
