"""A run in the memory of the node that owns it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from headrace.contracts.execution import BoundTask
from headrace.contracts.store import RunRow, RunUpdate
from headrace.core.errors import HeadraceError
from headrace.core.ids import RunId
from headrace.core.run import Run
from headrace.core.states import FINAL_TASK_STATES
from headrace.engine.gates import Gate, Ticket
from headrace.engine.timers import Timer


class Binding:
    """A plan with its tasks bound for one source folder; shared by every run of that version."""

    __slots__ = ("bound", "code", "context")

    def __init__(self, bound: Sequence[BoundTask], context: Any, code: Any = None) -> None:
        self.bound = bound
        self.context = context
        self.code = code
        """What a code workflow runs: :class:`headrace.durable.workflow.Code`; None for graphs."""


def take_effects(run: Run) -> list[Any] | None:
    """The effects that became due since the last time; None if there are none."""
    if not run.effects:
        return None
    owed, run.effects = run.effects, []
    return owed


class LiveRun:
    """The run, what it has under way, and who waits for it."""

    __slots__ = (
        "binding",
        "careful",
        "closed",
        "done",
        "error",
        "inert",
        "is_watched_elsewhere",
        "listed_at",
        "map_gates",
        "parked",
        "places",
        "progress_at",
        "rested_at",
        "run",
        "run_gate",
        "run_id",
        "tickets",
        "timers",
        "unsettled",
        "waiters",
        "watchers",
    )

    def __init__(self, run: Run, binding: Binding) -> None:
        self.run = run
        self.run_id = RunId(run.run_id)
        self.binding = binding
        bound = run.plan.spec.max_parallel
        self.run_gate = Gate("run", bound) if bound is not None else None
        self.map_gates: dict[int, Gate] = {}
        self.tickets: dict[Ticket, None] = {}
        """Attempts waiting for a slot or under way, in order of arrival."""
        self.timers: dict[object, Timer] = {}
        self.places: dict[str, str] = {}
        """Which process carried out the last tasks that were not carried out here, by the names of their units."""
        self.careful = False
        """Taken over from a lost node: starts are recorded before they happen, so that a task that kills its process is
        found out."""
        self.inert = False
        """Loaded without its code, for a command only: nothing can be launched."""
        self.parked = False
        """It only waits, and has left this node's memory."""
        self.done = False
        """The run's end is durable."""
        self.closed = False
        """This node no longer owns the run (finished, released or fenced); late outcomes are dropped."""
        self.error: HeadraceError | None = None
        self.waiters: list[asyncio.Future[None]] = []
        self.progress_at = 0.0
        self.unsettled = 0
        """Decisions whose consequences wait for a commit, and effects under way: until then it cannot be seen what the
        run owes."""
        self.listed_at = 0
        """The number of the newest event when the row was last refreshed because the run rested."""
        self.rested_at = 0
        """The number of the newest event when the run was last looked at by whoever parks."""
        self.watchers: set[asyncio.Event] = set()
        self.is_watched_elsewhere = False
        """Other nodes are told of its changes."""

    @property
    def lost(self) -> bool:
        """This node let go of the run before its end: what the run owes is no longer this node's to do."""
        return self.closed and not self.done

    async def until_closed(self) -> None:
        """Wait until the run's end is durable or this node lost it. Safe to cancel: every wait has its own future."""
        if self.closed:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.append(future)
        try:
            await future
        finally:
            if not self.closed:
                self.waiters.remove(future)

    def close(self, error: HeadraceError | None = None) -> None:
        """This node is done with the run. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self.error = error
        for timer in self.timers.values():
            timer.cancel()
        self.timers.clear()
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.notify()
        self.run.plan.brain.close(self.run)

    def notify(self) -> None:
        """Tell whoever watches that something changed."""
        for watcher in self.watchers:
            watcher.set()

    def row(self) -> RunRow:
        """The projection of a new run."""
        run = self.run
        return RunRow(
            run_id=self.run_id,
            workflow=run.plan.spec.name,
            version=run.plan.version,  # type: ignore[arg-type]
            state=str(run.state),
            created_at=run.created_at,
            ended_at=run.ended_at,
            tags=run.tags,
            params=run.params,
            trigger=run.trigger,
            parent=run.parent,
            error=self._error_text(),
            tasks_total=len(run.tasks),
            tasks_done=len(run.tasks) - run.unfinished,
            tasks_failed=run.tasks_failed,
            last_seq=run.seq,
            key=run.key,
            attributes=run.attributes,
        )

    def update(self, *, release: bool, wake_at: float | None = None) -> RunUpdate:
        """The projection as of the newest event."""
        run = self.run
        total = len(run.tasks)
        return RunUpdate(
            self.run_id,
            str(run.state),
            run.seq,
            total,
            total - run.unfinished,
            run.tasks_failed,
            run.ended_at,
            self._error_text(),
            wake_at,
            release,
            run.attributes if getattr(run, "searched", False) else None,  # type: ignore[attr-defined]
        )

    def _error_text(self) -> str | None:
        failure = self.run.failure
        if failure is None:
            return None
        where = f"{self.run.failed_task}: " if self.run.failed_task else ""
        return f"{where}{failure.text}"[:500]

    def progress(self) -> tuple[int, int]:
        """Units ended and known so far, items of mapped tasks counted one by one."""
        ended = total = 0
        for unit in self.run.tasks:
            if unit.items is not None:
                total += len(unit.items)
                ended += len(unit.items) - unit.items_left
            else:
                total += 1
                ended += unit.state in FINAL_TASK_STATES
        return ended, total
