"""Signals, queries and updates as a workflow's code declares them.

Inside the workflow function::

    @query
    def status() -> str: ...

    @signal
    def shipped(parcel: str) -> None: ...

    @update
    async def add(item: str) -> int: ...

    @add.validator
    def _(item: str) -> None: ...

A signal without a handler is buffered until ``wait_for_signal`` asks for it. Queries and validators may only look.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

import msgspec

from headrace.contracts.converters import from_plain
from headrace.contracts.unions import readable
from headrace.core.errors import InvalidCommand, UpdateRejected
from headrace.durable.access import this_run

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class Handler(Generic[P, R]):
    """One handler, which the workflow's own code may call as well.

    What annotations say of the parameters is checked before a message is accepted, and dataclasses and the like are
    made of plain values.

    ``payload`` of updates and queries is ``{"args": [...], "kwargs": {...}}``, of signals the value."""

    def __init__(self, kind: str, function: Callable[P, R]) -> None:
        self.kind = kind
        self.function = function
        self.name = function.__name__
        self._validator: Callable[..., Any] | None = None

    def validator(self, function: Callable[P, None]) -> Callable[P, None]:
        """Decorates the function that may refuse an update, by raising. It takes what the handler takes."""
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"the validator of {self.name} must be a plain function: it never waits")
        self._validator = function
        return function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Workflow code may call its own handlers."""
        return self.function(*args, **kwargs)

    def check(self, payload: Any) -> None:
        """Ask the validator; raises what it raises, :class:`UpdateRejected` for arguments that do not fit."""
        try:
            args, kwargs = self._arguments(payload, strictly=True)
        except (TypeError, msgspec.ValidationError) as error:
            raise UpdateRejected(f"{self.kind} {self.name!r}: {error}") from None
        if self._validator is not None:
            self._validator(*args, **kwargs)

    def check_signal(self, payload: Any) -> None:
        """Raises :class:`InvalidCommand` for a value that does not fit: better the sender is refused than the run
        fails."""
        try:
            self._arguments(payload, strictly=True)
        except (TypeError, msgspec.ValidationError) as error:
            raise InvalidCommand(f"signal {self.name!r}: {error}") from None

    async def invoke(self, payload: Any) -> Any:
        """Run the handler, plain or asynchronous."""
        function: Callable[..., Any] = self.function
        args, kwargs = self._arguments(payload)
        result = function(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    def answer(self, payload: Any) -> Any:
        """Run a query: a plain function. Raises :class:`InvalidCommand` for arguments that do not fit."""
        function: Callable[..., Any] = self.function
        try:
            args, kwargs = self._arguments(payload, strictly=True)
        except (TypeError, msgspec.ValidationError) as error:
            raise InvalidCommand(f"query {self.name!r}: {error}") from None
        return function(*args, **kwargs)

    def _arguments(self, payload: Any, *, strictly: bool = False) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call. ``strictly``: plain values are held against their annotations too. Raises
        ``TypeError`` and ``msgspec.ValidationError`` for those that do not fit."""
        shape = _shape(self.function)
        if self.kind == "signal":
            bound = shape.signature.bind(*([payload] if shape.signature.parameters else []))
        elif isinstance(payload, dict):
            bound = shape.signature.bind(*payload.get("args", ()), **payload.get("kwargs", {}))
        else:
            bound = shape.signature.bind(*([] if payload is None else [payload]))
        for name, value in bound.arguments.items():
            try:
                bound.arguments[name] = shape.converted(name, value, strictly=strictly)
            except msgspec.ValidationError as error:
                raise msgspec.ValidationError(f"argument {name!r}: {error}") from None
        return bound.args, bound.kwargs


class _Shape:
    """What is known of a handler's parameters."""

    def __init__(self, function: Callable[..., Any]) -> None:
        from headrace.durable.workflow import converter, type_hints  # noqa: PLC0415 - workflow needs this module

        self.signature = inspect.signature(function)
        hints = {name: readable(hint) for name, hint in type_hints(function).items()}
        several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        self._hints = {
            name: hints[name]
            for name, parameter in self.signature.parameters.items()
            if name in hints and parameter.kind not in several and _is_known(hints[name])
        }
        self._converters = {name: converter(hint) for name, hint in self._hints.items()}

    def converted(self, name: str, value: Any, *, strictly: bool) -> Any:
        if name not in self._hints or (value is None and self.signature.parameters[name].default is None):
            return value
        convert = self._converters[name]
        if convert is not None:
            return convert(value)
        if strictly:
            msgspec.convert(value, self._hints[name])
        return value


def _is_known(hint: Any) -> bool:
    """Whether values of a type can be told from others: not for types that nobody has taught msgspec."""
    try:
        msgspec.convert(None, hint, dec_hook=from_plain)
    except msgspec.ValidationError:
        return True
    except Exception:
        return False
    return True


_SHAPES_MAX = 1_000
_shapes: dict[Any, _Shape] = {}
"""By code object: every run declares its handlers anew."""


def _shape(function: Callable[..., Any]) -> _Shape:
    key = getattr(function, "__code__", function)
    found = _shapes.get(key)
    if found is None:
        if len(_shapes) >= _SHAPES_MAX:
            _shapes.clear()
        found = _shapes[key] = _Shape(function)
    return found


def query(function: F) -> F:
    """Let others ask: ``await hr.query(run, "status")``. The function must be plain and change nothing."""
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"query {function.__name__} must be a plain function: a query never waits")
    _declare(Handler("query", function))
    return function


def signal(function: F) -> F:
    """Handle every signal of that name as it comes, those buffered so far first."""
    handler = Handler("signal", function)
    _declare(handler)
    run = this_run()
    buffered = run.signals.pop(handler.name, None)
    if buffered:
        from headrace.durable.running import run_handler  # noqa: PLC0415 - running needs this module's Handler

        for payload in buffered:
            run_handler(run, handler, payload, None)
    return function


def update(function: Callable[P, R]) -> Handler[P, R]:
    """Answer requests: ``await hr.update(run, "add", "apple")``. Its result, or what it raises, goes to the caller."""
    handler = Handler("update", function)
    _declare(handler)
    return handler


def _declare(handler: Handler[..., Any]) -> None:
    this_run().handlers[handler.kind, handler.name] = handler
