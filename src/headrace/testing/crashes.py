"""Plays a scenario with a crash at every point at which an engine can die, and compares how it ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.testing.mortal import CrashPlan

if TYPE_CHECKING:
    from headrace.core.view import RunView
    from headrace.testing.environment import Environment, EnvironmentRun

Drive = Callable[["Environment", "EnvironmentRun"], Awaitable[None]]

FLUSHES_MAX = 5_000
"""Flushes of a scenario that are tried at most; longer ones are asked to skip some."""


class CrashReport(msgspec.Struct):
    """What was tried. ``flushes``: of the scenario without a crash; ``scenarios``: played in all; ``crashes``: engines
    that died in all; ``view``: how the run ended, every time."""

    flushes: int
    scenarios: int
    crashes: int
    view: Any


class Crashes:
    """One scenario, played again and again."""

    def __init__(
        self,
        env: Environment,
        start: Callable[[Environment], Awaitable[EnvironmentRun]],
        drive: Drive | None,
        reset: Callable[[], None] | None,
    ) -> None:
        self._env = env
        self._start = start
        self._drive = drive
        self._reset = reset

    async def everywhere(self, step: int) -> CrashReport:
        """See :meth:`Environment.crash_everywhere`."""
        reference = CrashPlan()
        view = await self._play(reference)
        flushes = reference.flushes
        if flushes // step > FLUSHES_MAX:
            raise ValueError(f"the scenario has {flushes} flushes: try every n-th of them with step=n")
        expected, scenarios, crashes = _end_of(view), 1, 0
        plans = [CrashPlan(at, after=after) for at in range(1, flushes + 1, step) for after in (False, True)]
        for plan in [*plans, CrashPlan(relentless=True)]:
            found = _end_of(await self._play(plan))
            scenarios += 1
            crashes += plan.crashes
            if found != expected:
                raise AssertionError(f"{plan}: the run ended as {found}, without a crash as {expected}")
            self._check_executions(plan)
        return CrashReport(flushes, scenarios, crashes, view)

    async def _play(self, plan: CrashPlan) -> RunView:
        env = self._env
        await env.new_world(plan)
        if self._reset is not None:
            self._reset()
        try:
            run = await self._start(env)
            driving = None if self._drive is None else asyncio.ensure_future(_awaited(self._drive(env, run)))
            try:
                view = await run.wait()
                if driving is not None:
                    await driving
            finally:
                if driving is not None:
                    driving.cancel()
            await env.use_plan(None)
            await env.settle()
            env.check()
        except AssertionError as error:
            raise AssertionError(f"{plan}: {error}") from error
        return view

    def _check_executions(self, plan: CrashPlan) -> None:
        """An attempt's code runs once, and once more for every engine that died before its outcome was recorded."""
        lost = self._env.lost
        for unit, times in Counter(call.unit for call in self._env.calls()).items():
            if times > 1 + lost[unit]:
                raise AssertionError(f"{plan}: attempt {unit} ran {times} times, but was lost only {lost[unit]} times")


async def _awaited(awaitable: Awaitable[None]) -> None:
    await awaitable


def _end_of(view: RunView) -> tuple[Any, ...]:
    error = view.error
    return view.id, view.state, view.output, None if error is None else (error.type, error.message), view.memo
