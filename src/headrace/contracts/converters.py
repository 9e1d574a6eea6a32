"""Converters: how values of types that JSON does not have become plain ones, and back.

``msgspec`` knows dataclasses, attrs classes, enums, dates, UUIDs, sets and the like. Pydantic models and NumPy arrays are
known here without importing either: a value of such a type is the proof that its package is there. Programs add their own
with ``Headrace(converters=[...])``; they count for the whole process, and for the child processes that its tasks run in.
"""

from __future__ import annotations

import base64
import functools
import pickle
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import Any, Protocol, get_args, get_origin

import msgspec

from headrace.contracts.unions import OneOf, choose

# Any throughout: values and types of a user's choice.


class Converter(Protocol):
    """For one family of types. A module-level class without state travels to child processes."""

    def takes(self, kind: type) -> bool:
        """Whether this converter is for values of that type."""
        ...

    def to_plain(self, value: Any) -> Any:
        """The value as str, int, float, bool, None, list or dict of such, or of what another converter knows."""
        ...

    def from_plain(self, kind: type, value: Any) -> Any:
        """The inverse, for a parameter or result annotated with ``kind``. Raises ``ValueError`` or ``TypeError``."""
        ...


class _Paths:
    """Paths are text."""

    def takes(self, kind: type) -> bool:
        return issubclass(kind, PurePath)

    def to_plain(self, value: Any) -> Any:
        return str(value)

    def from_plain(self, kind: type, value: Any) -> Any:
        if not isinstance(value, str):
            raise TypeError(f"expected a path as text, got {type(value).__name__}")
        return kind(value)


class _Genuine:
    """What stands for ``datetime`` and ``date`` in modules with code workflows means the real ones."""

    def takes(self, kind: type) -> bool:
        return hasattr(kind, "__headrace_genuine__")

    def to_plain(self, value: Any) -> Any:
        return value  # there are no instances: its calls give real ones

    def from_plain(self, kind: Any, value: Any) -> Any:
        return msgspec.convert(value, kind.__headrace_genuine__, strict=False)


class _Pydantic:
    """Pydantic's models, as their own JSON mode has them."""

    def takes(self, kind: type) -> bool:
        return hasattr(kind, "__pydantic_validator__") and hasattr(kind, "model_dump")

    def to_plain(self, value: Any) -> Any:
        by_alias = not _has_other_names(type(value))
        plain = value.model_dump(mode="json", by_alias=by_alias, round_trip=True)
        if _has_hidden(plain):
            raise TypeError(
                f"a secret of {type(value).__name__} would be stored as asterisks: give the secret's name, and look it "
                "up in the task"
            )
        return plain

    def from_plain(self, kind: Any, value: Any) -> Any:
        if not _has_other_names(kind):
            return kind.model_validate(value)
        try:
            return kind.model_validate(value, by_alias=True, by_name=True)
        except TypeError as error:  # before Pydantic 2.11
            raise TypeError(
                f"a field of {kind.__name__} is written by another alias than it is read by, which needs Pydantic 2.11: "
                "give it one alias, or none"
            ) from error


@functools.cache
def _has_other_names(kind: Any) -> bool:
    """Whether a model, or one in it, has a field that is written by a name by which it cannot be read. Such models are
    stored by the names of their fields."""
    return any(_reads_not_what_it_writes(model) for model in _models_in(kind, set()))


def _reads_not_what_it_writes(model: Any) -> bool:
    for name, field in model.model_fields.items():
        written = field.serialization_alias or name
        read = field.validation_alias
        choices = getattr(read, "choices", [read])
        if written != name if read is None else written not in choices:
            return True
    return False


def _models_in(hint: Any, seen: set[Any]) -> Iterator[Any]:
    """The models that a type consists of."""
    if isinstance(hint, type) and hasattr(hint, "model_fields"):
        if hint in seen:
            return
        seen.add(hint)
        yield hint
        for field in hint.model_fields.values():  # type: ignore[attr-defined]
            yield from _models_in(field.annotation, seen)
    for part in get_args(hint):
        yield from _models_in(part, seen)


class _Numpy:
    """NumPy's scalars as numbers, arrays exactly: type, shape and the bytes in base 64. Arrays of Python objects are
    refused."""

    def takes(self, kind: type) -> bool:
        return any(base.__module__ == "numpy" and base.__name__ in ("ndarray", "generic") for base in kind.__mro__)

    def to_plain(self, value: Any) -> Any:
        if not hasattr(value, "tobytes") or not hasattr(value, "shape") or value.dtype.hasobject:
            raise TypeError(f"an array of {value.dtype} cannot be stored; convert it to a list")
        if value.shape == () and type(value).__name__ != "ndarray":
            return value.item()
        data = base64.b64encode(value.tobytes()).decode()
        return {"dtype": value.dtype.str, "shape": list(value.shape), "data": data}

    def from_plain(self, kind: Any, value: Any) -> Any:
        import numpy  # noqa: PLC0415  # pyright: ignore[reportMissingImports] - optional, and there: it was asked for

        if isinstance(kind, type) and issubclass(kind, numpy.generic):
            return kind(value)
        if not isinstance(value, dict):
            return numpy.asarray(value)
        dtype = numpy.dtype(value["dtype"])
        if dtype.hasobject:
            raise ValueError("an array of Python objects cannot be read")
        flat = numpy.frombuffer(base64.b64decode(value["data"]), dtype=dtype)
        return flat.reshape(value["shape"]).copy()  # writable, as arrays usually are


_HIDDEN = "*" * 10
"""What Pydantic gives for a ``SecretStr`` or ``SecretBytes``."""


def _has_hidden(plain: Any) -> bool:
    if isinstance(plain, dict):
        return any(map(_has_hidden, plain.values()))
    if isinstance(plain, list):
        return any(map(_has_hidden, plain))
    return plain == _HIDDEN


class _Unions:
    """Members of a union that msgspec does not know."""

    def takes(self, kind: type) -> bool:
        return issubclass(kind, OneOf)

    def to_plain(self, value: Any) -> Any:
        return value  # there are no instances

    def from_plain(self, kind: type[OneOf], value: Any) -> Any:
        return choose(kind, value, lambda member, one: convert(one, member, strict=True))


_OWN: tuple[Converter, ...] = (_Paths(), _Genuine(), _Pydantic(), _Numpy(), _Unions())
_given: list[Converter] = []


def register(converters: Iterable[Converter]) -> None:
    """Add converters for this process; the last one added is asked first. Adding one again changes nothing."""
    for converter in converters:
        if converter not in _given:
            _given.insert(0, converter)


def given() -> bytes | None:
    """The program's own converters, for a child process; None if there are none. Raises what pickling raises."""
    return pickle.dumps(_given) if _given else None


def converter_for(kind: Any) -> Converter | None:
    """Who converts a type that msgspec does not know; None: nobody."""
    cls = get_origin(kind) or kind
    if not isinstance(cls, type):
        return None
    for converter in (*_given, *_OWN):
        if converter.takes(cls):
            return converter
    return None


def to_plain(value: Any) -> Any:
    """The hook of msgspec's encoders. Raises ``TypeError`` for a type nobody knows."""
    converter = converter_for(type(value))
    if converter is None:
        raise TypeError(f"values of type {type(value).__qualname__} cannot be stored")
    return converter.to_plain(value)


def from_plain(kind: type, value: Any) -> Any:
    """The hook of ``msgspec.convert``. Raises ``TypeError`` for a type nobody knows."""
    cls = get_origin(kind) or kind
    if isinstance(value, cls) and not issubclass(cls, OneOf):
        return value  # it came converted already
    converter = converter_for(kind)
    if converter is None:
        raise TypeError(f"expected {cls.__name__}, got {type(value).__name__}")
    return converter.from_plain(cls, value)


def convert(value: Any, hint: Any, *, strict: bool) -> Any:
    """A plain value as what an annotation says. ``strict``: numbers in texts do not count as numbers, but for the keys of
    a dict, which JSON has as texts only. Raises ``ValueError`` or ``TypeError``."""
    return msgspec.convert(value, hint, strict=strict, dec_hook=from_plain, str_keys=True)
