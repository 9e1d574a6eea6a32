"""Parks code runs that only wait: they leave the memory, and come back when their time has come or a message does.

The run's row says when to look for it again (``wake_at``), in the same commit that gives it up; any node may take it up
then. The node that parked it remembers the time and looks when it has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import math
import time
from typing import TYPE_CHECKING

from headrace.core.errors import HeadraceError
from headrace.core.ids import RunId
from headrace.core.states import RunState
from headrace.durable.run import CodeRun
from headrace.engine.live import LiveRun

if TYPE_CHECKING:
    from headrace.engine.node import Node

logger = logging.getLogger("headrace.workflow")

PARK_AFTER_SECONDS = 1.0
"""How long a run has had nothing to do before it leaves the memory."""

SWEEP_SECONDS_MAX = 3600.0
"""How long a node that has only runs which cannot be parked goes without looking for some that can. Whatever happens to a
run has it looked at soon; a test that waits for a year of virtual time passes through every look."""

PARK_TIMER_SECONDS = 5.0
"""A run whose next timer is due sooner stays."""

PARK_EVENTS_PER_SECOND = 1_000
"""A run is replayed when it comes back, some 100,000 events a second. So one with a long history stays for longer, a
second for that many events: a call that is retried again and again costs at most a hundredth of its delays."""

NEVER = 4e9
"""A ``wake_at`` for runs that only a message wakes (the year 2096; a message clears it)."""


class Parker:
    """One node's runs that only wait."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.parking: dict[RunId, LiveRun] = {}
        """Runs whose parking is on its way to the store."""
        self.parked_at = -math.inf
        """When the last one arrived there, by the monotonic clock."""
        self._wakes: list[float] = []
        self._wake_timer: asyncio.TimerHandle | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._sweep_pause = PARK_AFTER_SECONDS

    def consider(self, live: LiveRun) -> None:
        """See to it that the run leaves the memory once it has only waited for a while; at once if it is suspended."""
        run = live.run
        if not isinstance(run, CodeRun) or live.closed or run.done:
            return
        if run.state is RunState.SUSPENDED and self._only_waits(live):
            asyncio.get_running_loop().call_soon(self._park, live, run.seq)
        elif self._sweep is None or self._sweep_pause > PARK_AFTER_SECONDS:
            self._arm_sweep(PARK_AFTER_SECONDS)

    def _arm_sweep(self, pause: float) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep_pause = pause
        self._sweep = asyncio.get_running_loop().call_later(pause, self._park_idle)

    def _park_idle(self) -> None:
        """Park the runs that have only waited since the last sweep. Where nothing changes, sweeps become rare."""
        self._sweep = None
        changed = left = False
        for live in list(self._node.live.values()):
            run = live.run
            if not isinstance(run, CodeRun) or live.closed or run.done:
                continue
            if live.rested_at != run.seq:
                live.rested_at = run.seq
                changed = True
            elif self._only_waits(live):
                self._park(live, run.seq)
                continue
            left = True
        if left and not self._node.stopping:
            self._arm_sweep(PARK_AFTER_SECONDS if changed else min(2 * self._sweep_pause, SWEEP_SECONDS_MAX))

    def _only_waits(self, live: LiveRun) -> bool:
        run = live.run
        assert isinstance(run, CodeRun)
        if live.tickets or live.unsettled or run.fresh or run.commands:
            return False
        due = self._next_due(live)
        if due is None or run.state is RunState.SUSPENDED:
            return True
        return due - self._node.now() > PARK_TIMER_SECONDS + run.seq / PARK_EVENTS_PER_SECOND

    def _next_due(self, live: LiveRun) -> float | None:
        """When something happens to a waiting run by itself: a timer of its code, a retry, the end of its time."""
        run = live.run
        assert isinstance(run, CodeRun)
        dues = [timer.due for key, timer in live.timers.items() if type(key) is not tuple or key[0] != "timer"]
        due = run.next_due()  # without timers that are no longer wanted
        return min(dues if due is None else [due, *dues], default=None)

    def _park(self, live: LiveRun, seq: int) -> None:
        run, node = live.run, self._node
        assert isinstance(run, CodeRun)
        if live.closed or run.seq != seq or run.done or node.stopping or not self._only_waits(live):
            return
        place = run.cut_off_at if live.listed_at != run.seq else None
        if place is not None and run.state is RunState.RUNNING:
            logger.error(
                "run %s (%s) waits at %s for what nothing can bring, and only its cancellation ends that; if it is an "
                "asyncio.Queue, Event or Future from outside of the workflow: wait for a signal instead",
                *(run.run_id, run.plan.spec.name, place),
                extra={"run_id": run.run_id, "workflow": run.plan.spec.name},
            )
        if not node.options.adopt and run.state is not RunState.SUSPENDED:
            self._refresh_row(live)
            return  # nobody here would wake it
        due = self._next_due(live)
        wake_at = NEVER if due is None or run.state is RunState.SUSPENDED else due
        if run.state is not RunState.SUSPENDED and any(child.state is None for child in run.children.values()):
            wake_at = min(wake_at, node.now() + node.options.child_check_seconds)
        update = live.update(release=True, wake_at=wake_at)
        node.live.pop(live.run_id, None)
        node.teller.forget(live.run_id)
        live.parked = True
        for timer in live.timers.values():  # a process that dies before the commit leaves none behind
            timer.cancel()

        begun = time.monotonic()

        def parked(_error: HeadraceError | None) -> None:
            self.parking.pop(live.run_id, None)
            live.close()
            self.parked_at = time.monotonic()
            if node.commander.rung_at >= begun:
                node.adopter.wake()
            self.wake_at(wake_at)

        self.parking[live.run_id] = live
        try:
            node.journal.append([], parked, update=update)
        except HeadraceError:
            parked(None)

    def _refresh_row(self, live: LiveRun) -> None:
        """A run that rests here for long is not to be listed as it was while it was busy."""
        if live.listed_at != live.run.seq:
            live.listed_at = live.run.seq
            with contextlib.suppress(HeadraceError):
                self._node.journal.append([], None, update=live.update(release=False))

    def wake_at(self, when: float) -> None:
        """Remember to look for parked runs at that time."""
        if when >= NEVER:
            return
        heapq.heappush(self._wakes, when)
        self._arm_wake()

    def _arm_wake(self) -> None:
        if self._wake_timer is not None:
            self._wake_timer.cancel()
            self._wake_timer = None
        if self._wakes and not self._node.stopping:
            delay = max(0.0, self._wakes[0] - self._node.now())
            self._wake_timer = asyncio.get_running_loop().call_later(min(delay, 3600.0), self._wake)

    def _wake(self) -> None:
        self._wake_timer = None
        now = self._node.now()
        due = False
        while self._wakes and self._wakes[0] <= now:
            heapq.heappop(self._wakes)
            due = True
        if due:
            self._node.spawn(self._adopt(), "headrace-wake-parked")
        self._arm_wake()

    async def _adopt(self) -> None:
        await self._node.adopter.adopt_waiting()

    def stop(self) -> None:
        """Wake nothing more."""
        self._wakes.clear()
        if self._wake_timer is not None:
            self._wake_timer.cancel()
            self._wake_timer = None
