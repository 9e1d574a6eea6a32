"""What task functions do in a test: themselves, a stand-in, a failure, or nothing for ever."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from headrace.authoring.tasks import TaskFunction
from headrace.contracts.current import AttemptInfo, attempt_var
from headrace.contracts.execution import Attempt, AttemptLog, Executor

Target = TaskFunction[..., Any] | str
"""A task function, or the name others import it by: ``module:qualname``."""


class Call(msgspec.Struct, frozen=True):
    """One time that a task's code was run. ``at`` is virtual time in seconds since the epoch."""

    target: str
    run_id: str
    task: str
    item: int | None
    attempt: int
    args: dict[str, Any]
    at: float

    @property
    def unit(self) -> tuple[str, str, int | None, int]:
        """What the history calls this attempt."""
        return self.run_id, self.task, self.item, self.attempt


_HANG = object()


class Stubs:
    """Stand-ins by target, and the ledger of what was run."""

    def __init__(self, now: Callable[[], float], begun: Callable[[Call], None]) -> None:
        self._now = now
        self._begun = begun
        self._stand_ins: dict[str, Callable[..., Any]] = {}
        self._plans: dict[str, list[tuple[object, int | None]]] = {}
        self._left: dict[str, list[list[Any]]] = {}
        self.calls: list[Call] = []
        self.returned: Counter[tuple[str, str, int | None, int]] = Counter()
        """How often the code of an attempt has run to its end, without an error."""

    def stand_in(self, task: Target, function: Callable[..., Any]) -> None:
        """Run another function instead, with the same arguments."""
        self._stand_ins[target_of(task)] = function

    def fail(self, task: Target, times: int | None, error: BaseException | type[BaseException]) -> None:
        """Let the next calls raise."""
        self._plan(task, error, times)

    def hang(self, task: Target, times: int | None) -> None:
        """Let the next calls never end by themselves."""
        self._plan(task, _HANG, times)

    def _plan(self, task: Target, act: object, times: int | None) -> None:
        if times is not None and times < 1:
            raise ValueError(f"times is a number of calls from 1, or None for all, not {times}")
        self._plans.setdefault(target_of(task), []).append((act, times))
        self._left.setdefault(target_of(task), []).append([act, times])

    def reset(self) -> None:
        """Forget what was run; begin again with every planned failure."""
        self.calls.clear()
        self.returned.clear()
        self._left = {target: [list(plan) for plan in plans] for target, plans in self._plans.items()}

    def replaces(self, target: str) -> bool:
        """Whether the next call does not run the task's own code."""
        return bool(self._left.get(target)) or target in self._stand_ins

    async def call(
        self, target: str, own: Callable[[], Any], args: dict[str, Any], attempt: Attempt, log: AttemptLog
    ) -> Any:
        """Carry one call out. ``own`` runs the task's own code."""
        call = Call(target, attempt.run_id, attempt.task, attempt.item, attempt.attempt, dict(args), self._now())
        self._begun(call)
        self.calls.append(call)
        act = self._next(target)
        if act is _HANG:
            await asyncio.get_running_loop().create_future()
        if isinstance(act, BaseException) or (isinstance(act, type) and issubclass(act, BaseException)):
            raise act
        stand_in = self._stand_ins.get(target)
        result = await own() if stand_in is None else await _apply(stand_in, args, AttemptInfo(attempt, log))
        self.returned[call.unit] += 1
        return result

    def _next(self, target: str) -> object:
        left = self._left.get(target)
        if not left:
            return None
        act, times = left[0]
        if times is not None:
            left[0][1] -= 1
            if left[0][1] <= 0:
                left.pop(0)
        return act


async def _apply(function: Callable[..., Any], args: dict[str, Any], info: AttemptInfo) -> Any:
    """Call by name where the names fit, else in order."""
    token = attempt_var.set(info)
    try:
        try:
            inspect.signature(function).bind(**args)
        except TypeError:
            result = function(*args.values())
        else:
            result = function(**args)
        return await result if inspect.isawaitable(result) else result
    finally:
        attempt_var.reset(token)


def target_of(task: Target) -> str:
    """The name a task is known by. Raises ``TypeError`` for what is no task."""
    target: str | None = task if isinstance(task, str) else getattr(task, "target", None)
    if target is None or getattr(task, "is_code_workflow", False):
        raise TypeError(f"{task!r} is no task: stand-ins are for @task functions, of workflows and their children too")
    return target


class StubbedExecutor:
    """An executor that asks the stubs first. ``outside`` counts calls that run elsewhere than on the event loop."""

    def __init__(self, inner: Executor, stubs: Stubs) -> None:
        self.name = inner.name
        self.inner = inner
        self.inside = 0
        self.outside = 0
        self._stubs = stubs

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def call(
        self, target: str, function: Callable[..., Any], args: dict[str, Any], attempt: Attempt, log: AttemptLog
    ) -> Any:
        """Run the stand-in or the function itself."""
        is_inside = self.name == "inline" or self._stubs.replaces(target)
        self.inside += is_inside
        self.outside += not is_inside
        try:
            return await self._stubs.call(
                target, lambda: self.inner.call(target, function, args, attempt, log), args, attempt, log
            )
        finally:
            self.inside -= is_inside
            self.outside -= not is_inside
