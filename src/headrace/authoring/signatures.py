"""What functions say about themselves: the arguments of a call by name, and parameters from annotations."""

from __future__ import annotations

import datetime
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from headrace.authoring.convert import default_param, inferred_type
from headrace.core.spec import ParamSpec, ParamType

if TYPE_CHECKING:
    from headrace.authoring.tasks import TaskFunction

_PARAM_TYPES: dict[Any, ParamType] = {
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    list: "list",
    tuple: "list",
    dict: "dict",
    Mapping: "dict",
    datetime.datetime: "datetime",
    datetime.date: "date",
}


def bound_arguments(task: TaskFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by parameter name. Raises ``TypeError`` where calling the function would, and for
    ``*args``, which have no names."""
    signature = inspect.signature(task.__headrace_function__)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{task.name}{signature}: {error}") from None
    arguments: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(value)
        elif kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY):
            raise TypeError(f"{task.name}{signature}: a task's arguments are passed by name, and {name!r} has none")
        else:
            arguments[name] = value
    return arguments


def params_of(function: Callable[..., Any]) -> dict[str, ParamSpec]:
    """Workflow parameters from a function's own: types from annotations, defaults from defaults."""
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # an annotation that cannot be evaluated here says nothing about its parameter
        hints = {}
    params: dict[str, ParamSpec] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL):
            raise TypeError(f"@dag {function.__name__}: the parameters of a workflow have names; remove *{name}")
        params[name] = _param(hints.get(name, Any), parameter.default)
    return params


def _param(annotation: Any, default: Any) -> ParamSpec:
    kind, choices = _param_type(annotation)
    if default is inspect.Parameter.empty:
        return ParamSpec(type=kind, choices=choices)
    inferred = default_param(default)
    value: Any = float(default) if kind == "float" and isinstance(default, int) else inferred.default
    return ParamSpec(type=inferred.type if kind == "any" else kind, default=value, choices=choices)


def _param_type(annotation: Any) -> tuple[ParamType, tuple[Any, ...]]:
    """``list[int]`` is a list, ``int | None`` an int (optional by its default), ``Literal`` gives choices."""
    origin = typing.get_origin(annotation)
    if origin is Literal:
        choices = typing.get_args(annotation)
        kinds: set[ParamType] = {inferred_type(choice) for choice in choices}
        return (next(iter(kinds)) if len(kinds) == 1 else "any", choices)
    if origin in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(annotation) if member is not types.NoneType]
        return _param_type(members[0]) if len(members) == 1 else ("any", ())
    known = origin or annotation
    try:
        return _PARAM_TYPES.get(known, "any"), ()
    except TypeError:  # not hashable
        return "any", ()


def description_of(function: Callable[..., Any]) -> str:
    """The first paragraph of the docstring."""
    return " ".join((inspect.getdoc(function) or "").split("\n\n", 1)[0].split())
