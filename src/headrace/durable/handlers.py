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

from headrace.core.errors import UpdateRejected
from headrace.durable.access import this_run

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class Handler(Generic[P, R]):
    """One handler, which the workflow's own code may call as well.

    ``payload`` of updates and queries is ``{"args": [...], "kwargs": {...}}``, of signals the value."""

    def __init__(self, kind: str, function: Callable[P, R]) -> None:
        self.kind = kind
        self.function = function
        self.name = function.__name__
        self._check: Callable[..., Any] | None = None
        self._takes_value = bool(inspect.signature(function).parameters)

    def validator(self, function: Callable[P, None]) -> Callable[P, None]:
        """Decorates the function that may refuse an update, by raising. It takes what the handler takes."""
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"the validator of {self.name} must be a plain function: it never waits")
        self._check = function
        return function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Workflow code may call its own handlers."""
        return self.function(*args, **kwargs)

    def check(self, payload: Any) -> None:
        """Ask the validator; raises what it raises, :class:`UpdateRejected` for arguments that do not fit."""
        args, kwargs = _arguments(payload)
        try:
            inspect.signature(self.function).bind(*args, **kwargs)
        except TypeError as error:
            raise UpdateRejected(f"{self.kind} {self.name!r}: {error}") from None
        if self._check is not None:
            self._check(*args, **kwargs)

    async def invoke(self, payload: Any) -> Any:
        """Run the handler, plain or asynchronous."""
        function: Callable[..., Any] = self.function
        if self.kind == "signal":
            result = function(payload) if self._takes_value else function()
        else:
            args, kwargs = _arguments(payload)
            result = function(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    def answer(self, payload: Any) -> Any:
        """Run a query: a plain function."""
        function: Callable[..., Any] = self.function
        args, kwargs = _arguments(payload)
        return function(*args, **kwargs)


def _arguments(payload: Any) -> tuple[list[Any], dict[str, Any]]:
    if isinstance(payload, dict):
        return list(payload.get("args", ())), dict(payload.get("kwargs", {}))
    return [] if payload is None else [payload], {}


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
