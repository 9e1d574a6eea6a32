"""What task functions do in a test: themselves, a stand-in, a failure, or nothing for ever."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from headrace.authoring.tasks import TaskFunction
from headrace.backends.executors.targets import resolve
from headrace.contracts.current import AttemptInfo, attempt_var
from headrace.contracts.execution import Attempt, AttemptLog, Executor
from headrace.core.errors import UserCodeError
from headrace.core.suggest import closest

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
        self._unsure: dict[str, None] = {}
        self._seen: set[str] = set()
        self.calls: list[Call] = []
        self.returned: Counter[tuple[str, str, int | None, int]] = Counter()
        """How often the code of an attempt has run to its end, without an error."""

    def stand_in(self, task: Target, function: Callable[..., Any]) -> None:
        """Run another function instead, with the same arguments."""
        self._stand_ins[self._checked(task)] = function

    def fail(self, task: Target, times: int | None, error: BaseException | type[BaseException]) -> None:
        """Let the next calls raise."""
        self._plan(task, error, times)

    def hang(self, task: Target, times: int | None) -> None:
        """Let the next calls never end by themselves."""
        self._plan(task, _HANG, times)

    def _plan(self, task: Target, act: object, times: int | None) -> None:
        if times is not None and times < 1:
            raise ValueError(f"times is a number of calls from 1, or None for all, not {times}")
        target = self._checked(task)
        self._plans.setdefault(target, []).append((act, times))
        self._left.setdefault(target, []).append([act, times])

    def calls_of(self, task: Target) -> list[Call]:
        """What was run of one task, in order. Raises like :func:`target_of`."""
        target = self._checked(task)
        return [call for call in self.calls if call.target == target]

    def _checked(self, task: Target) -> str:
        target = target_of(task)
        if isinstance(task, str) and not _exists(task):
            self._unsure.setdefault(task)
        return target

    def misspelt(self) -> str | None:
        """A name that could not be looked up when it was given, that nothing had, and that is like one that ran: a
        sentence for the reader. Names in files are relative to a workflow's folder, so only runs show them."""
        ran = sorted(self._seen)
        for name in self._unsure:
            near = None if name in self._seen else closest(name, ran)
            if near is not None:
                return f"no task {name!r} was called: did you mean {near!r}?"
        return None

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
        self._seen.add(target)
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
    """The name a task is known by. Raises ``TypeError`` for what is no task, and ``ValueError`` for a name of nothing."""
    target: str | None = task if isinstance(task, str) else getattr(task, "target", None)
    if target is None or getattr(task, "is_code_workflow", False):
        raise TypeError(f"{task!r} is no task: stand-ins are for @task functions, of workflows and their children too")
    if not all(target.rpartition(":")):
        near = closest(target, _by_function())
        meant = f"did you mean {_by_function()[near]!r}?" if near is not None else "such as 'shop.tasks:charge'"
        raise ValueError(f"{target!r} is no name of a task: write 'module:function'; {meant}")
    return target


def _by_function() -> dict[str, str]:
    """Targets of the task functions in modules, by the names of the functions."""
    found: dict[str, str] = {}
    for module in list(sys.modules.values()):
        for value in list(getattr(module, "__dict__", {}).values()):
            if type(value) is TaskFunction:
                found[value.target.rpartition(":")[2]] = value.target
    return found


def _exists(target: str) -> bool:
    """Whether a function can be found by its name; False if only a run could tell. Raises ``ValueError`` if its module
    has no such function."""
    module_name = target.rpartition(":")[0]
    if module_name.endswith(".py") or "/" in module_name or "<locals>" in target:
        return False
    try:
        resolve(target, None, {})
    except UserCodeError as error:
        if module_name in sys.modules:
            raise ValueError(str(error)) from None
        return False
    return True


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
