"""Arguments of user functions: do the names fit, and which values must become the annotated types.

Arguments arrive as plain JSON values. A parameter annotated with something more (a dataclass, an enum, ``datetime``,
``Path``, ``set`` ...) receives that type, converted by ``msgspec``. The work is planned once per function; a function
whose annotations ask for nothing costs nothing per call.
"""

from __future__ import annotations

import difflib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, Literal, Union

import msgspec

from headrace.contracts.converters import convert, converter_for
from headrace.contracts.execution import AttemptError
from headrace.contracts.unions import readable

Convert = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes arguments, returns a copy in which annotated ones have their types."""


def misfits(function: Callable[..., Any], given: Iterable[str]) -> list[tuple[str, str, str]]:
    """What is wrong with calling the function with these argument names: ``(name, message, hint)`` for each."""
    signature = _signature(function)
    if signature is None:
        return []
    by_name = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    names = set(given)
    found: list[tuple[str, str, str]] = []
    takes = f"it takes: {', '.join(by_name)}" if by_name else "it takes no arguments"
    for name in sorted(names - by_name.keys()):
        if takes_any:
            break
        close = difflib.get_close_matches(name, by_name, n=1)
        found.append(
            (name, f"the function has no parameter {name!r}", f"did you mean {close[0]!r}?" if close else takes)
        )
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.default is parameter.empty:
            found.append(
                (name, f"parameter {name!r} is positional-only and cannot be given by name", "wrap the function")
            )
        elif name in by_name and name not in names and parameter.default is parameter.empty:
            found.append((name, f"argument {name!r} is missing", f"add {name!r} under `with`"))
    return found


def plan_conversion(function: Callable[..., Any], target: str) -> Convert | None:
    """The conversion a function's annotations ask for, or None when plain values are what it wants.

    The conversion raises :class:`AttemptError` of type ``bad_argument``, never retryable, naming the argument.
    """
    readable_hints = {name: _readable(hint) for name, hint in _hints(function).items()}
    wanted = {name: hint for name, hint in readable_hints.items() if _needs_conversion(hint)}
    if not wanted:
        return None
    items = tuple(wanted.items())

    def convert(args: dict[str, Any]) -> dict[str, Any]:
        converted = dict(args)
        for name, hint in items:
            if name in converted:
                converted[name] = _convert_one(converted[name], hint, name, target)
        return converted

    return convert


def _convert_one(value: Any, hint: Any, name: str, target: str) -> Any:
    try:
        return convert(value, hint, strict=True)
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        origin = typing.get_origin(hint) or hint
        if isinstance(origin, type) and isinstance(value, origin):
            return value  # it came converted already
        raise AttemptError("bad_argument", f"argument {name!r} of {target}: {error}", retryable=False) from None


# ---- what an annotation asks for ------------------------------------------------------------------------------------

_PLAIN = (Any, object, None, type(None), bool, int, float, str, dict, list)


def _readable(hint: Any) -> Any:
    try:
        return readable(hint)
    except Exception:  # noqa: BLE001, RUF100 - as below
        return hint


def _needs_conversion(hint: Any) -> bool:
    """True when plain values are not enough and msgspec knows the way. A type it does not know (a data frame, a
    protocol) is left alone: the value passes as it is."""
    return not _is_plain(hint) and _is_convertible(hint)


def _is_plain(hint: Any) -> bool:
    if any(hint is plain for plain in _PLAIN):
        return True
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is dict and inner[0] not in (Any, object, str):
        return False  # JSON has texts for keys
    if origin in (Union, types.UnionType, list, dict):
        return all(_is_plain(part) for part in inner)
    return origin is Literal


def _is_convertible(hint: Any) -> bool:
    try:
        return not _has_unknown(msgspec.inspect.type_info(hint), set())
    except Exception:  # noqa: BLE001, RUF100 - exotic annotations raise anything; they mean "leave it alone"
        return False


def _has_unknown(info: Any, seen: set[int]) -> bool:
    """Whether a type, or a type inside it, is one that neither msgspec nor a converter can build."""
    if id(info) in seen:
        return False
    seen.add(id(info))
    if isinstance(info, msgspec.inspect.CustomType):
        return converter_for(info.cls) is None
    if not isinstance(info, msgspec.inspect.Type | msgspec.inspect.Field):
        return False
    for field in info.__struct_fields__:
        child = getattr(info, field)
        children = child if isinstance(child, tuple) else (child,)
        if any(_has_unknown(one, seen) for one in children):
            return True
    return False


# ---- reading signatures ---------------------------------------------------------------------------------------------


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except NameError:  # Python 3.14: annotations are evaluated when read, and one names what is not imported
        return _signature_unevaluated(function)
    except (TypeError, ValueError):  # built-in functions without one
        return None


def _signature_unevaluated(function: Callable[..., Any]) -> inspect.Signature | None:
    if sys.version_info < (3, 14):
        return None
    import annotationlib  # type: ignore[import-not-found] # noqa: PLC0415 - new in 3.14  # pyright: ignore

    return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Evaluated annotations of the parameters; those that cannot be evaluated are left out."""
    plain: Any = function
    for _ in range(16):  # partials of partials, callable objects: a bound, not an expectation
        if isinstance(plain, types.FunctionType | types.MethodType | type):
            break
        plain = plain.func if hasattr(plain, "func") else getattr(type(plain), "__call__", plain)  # noqa: B004
    if isinstance(plain, type):
        plain = plain.__init__
    try:
        found = typing.get_type_hints(plain, include_extras=True)
    except Exception:  # noqa: BLE001, RUF100 - a name under TYPE_CHECKING: the others still count
        found = _hints_one_by_one(plain)
    found.pop("return", None)
    signature = _signature(plain)
    if signature is None:
        return found
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {
        name: hint
        for name, hint in found.items()
        if name in signature.parameters and signature.parameters[name].kind not in variadic
    }


def _hints_one_by_one(function: Any) -> dict[str, Any]:
    signature = _signature(function)
    found: dict[str, Any] = {}
    scope = getattr(function, "__globals__", {})
    for name, parameter in signature.parameters.items() if signature else ():
        if parameter.annotation is parameter.empty:
            continue
        holder = types.new_class("Holder")
        holder.__annotations__ = {name: parameter.annotation}
        try:
            found.update(typing.get_type_hints(holder, globalns=scope, include_extras=True))
        except Exception:  # noqa: BLE001, RUF100, S112, PERF203 - that one cannot be known
            continue
    return found
