"""Unions that msgspec refuses, as types that it knows: ``Cat | Dog`` of two dataclasses or models, ``date | datetime``.

JSON does not say of which class an object was. Everything stored has all fields of its class, so their names tell; where
two classes have the same names, a field of another type or a ``Literal`` does.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

import msgspec

# Any throughout: values and types of a user's choice.


class _Whatever(type):
    """msgspec looks whether it got an instance."""

    def __instancecheck__(cls, instance: object) -> bool:
        return True


class OneOf(metaclass=_Whatever):
    """Stands for a union; msgspec asks the converter of types it does not know for it. There are no instances."""

    members: ClassVar[tuple[Any, ...]] = ()


def readable(hint: Any) -> Any:
    """An annotation with every union that msgspec refuses, in it or in its arguments, replaced by a :class:`OneOf`.
    What is inside of classes stays."""
    args = get_args(hint)
    if not args:
        return getattr(hint, "__headrace_genuine__", hint)  # what stands for `date` is no key of a dict
    if get_origin(hint) in (Union, types.UnionType):
        members = tuple(map(readable, args))
        union = Union[members]  # noqa: UP007 - of any number
        return union if _is_known(union) else _one_of(members)
    if hasattr(hint, "__metadata__"):  # Annotated
        inner = readable(args[0])
        return hint if inner is args[0] else Annotated[(inner, *hint.__metadata__)]
    replaced = tuple(readable(arg) if isinstance(arg, type) or get_args(arg) else arg for arg in args)
    if all(new is old for new, old in zip(replaced, args, strict=True)):
        return hint
    return hint.copy_with(replaced) if hasattr(hint, "copy_with") else get_origin(hint)[replaced]


def _is_known(hint: Any) -> bool:
    try:
        msgspec.inspect.type_info(hint)
    except TypeError:
        return False
    return True


@cache
def _one_of(members: tuple[Any, ...]) -> Any:
    name = " | ".join(getattr(member, "__name__", str(member)) for member in members)
    return _Whatever(name, (OneOf,), {"members": members})


def choose(kind: type[OneOf], value: Any, convert: Callable[[Any, Any], Any]) -> Any:
    """The value as the member that fits; ``convert(member, value)`` tries one and raises ``ValueError`` or ``TypeError``.

    An object is of the class that has just these fields, or else of the only one that takes it. Text stays text where
    the union has ``str``. Raises ``TypeError`` if nothing fits, and if more than one class does: then nobody knows."""
    if (value is None and type(None) in kind.members) or (isinstance(value, str) and str in kind.members):
        return value
    fitting: list[tuple[Any, Any]] = []
    problems: list[str] = []
    for member in kind.members:
        try:
            fitting.append((member, convert(member, value)))
        except (TypeError, ValueError) as error:  # msgspec's and pydantic's are ValueErrors
            problems.append(f"{getattr(member, '__name__', member)}: {error}")
        else:
            if not isinstance(value, dict):
                break  # numbers and texts: the first that fits
    exact = [found for found in fitting if isinstance(value, dict) and _names(found[0]) == value.keys()]
    found = exact or fitting
    if not found:
        raise TypeError(f"it fits none of {kind.__name__}: {'; '.join(problems)}")
    if len(found) > 1:
        names = " and ".join(member.__name__ for member, _ in found)
        raise TypeError(f"it may be of {names}: give each a field that tells them apart, like `kind: Literal[...]`")
    return found[0][1]


def _names(member: Any) -> set[str] | None:
    """The names under which the fields of a class are stored."""
    cls = get_origin(member) or member
    if dataclasses.is_dataclass(cls):
        return {field.name for field in dataclasses.fields(cls)}
    if hasattr(cls, "model_fields"):  # Pydantic
        return {field.serialization_alias or field.alias or name for name, field in cls.model_fields.items()}
    if hasattr(cls, "__attrs_attrs__"):
        return {attribute.name for attribute in cls.__attrs_attrs__}
    return set(getattr(cls, "__struct_encode_fields__", ())) or None
