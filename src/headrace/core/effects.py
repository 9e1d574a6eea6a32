"""What is still owed to the world, as a function of folded state.

The node that runs a graph acts step by step: units that became ready are on ``run.fresh``. Whoever takes a run over
computes the same from nothing with :func:`pending`. Effects are named by run, task, item and attempt, so repeating one
is harmless: the outcome of a repeated attempt is recorded once.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from headrace.core.run import GraphRun, Unit
from headrace.core.states import RunState, TaskState


class Launch(msgspec.Struct, frozen=True, order=True):
    """Carry out an attempt, not before ``not_before`` (seconds since the epoch; 0: now)."""

    task: str
    item: int
    """-1 for a plain task."""
    attempt: int
    not_before: float = 0.0


class SetTimer(msgspec.Struct, frozen=True, order=True):
    """Tell the run when a bound is over."""

    kind: Literal["run", "task"]
    task: str
    at: float


class LoadValue(msgspec.Struct, frozen=True, order=True):
    """Bring a large value that a decision waits for."""

    digest: str


Effect = Launch | SetTimer | LoadValue

_LAUNCHABLE = (TaskState.READY, TaskState.RUNNING, TaskState.RETRYING)


def is_launchable(unit: Unit) -> bool:
    """Whether the unit owes an attempt (mapped tasks owe those of their items, none of their own)."""
    if unit.state not in _LAUNCHABLE or unit.external:
        return False
    return unit.item is not None or unit.items is None  # type: ignore[attr-defined]  # no item: it is a TaskUnit


def task_deadline(unit: Unit) -> float | None:
    """When the bound of a whole task is over, None without one."""
    bound = unit.node.timeouts.task
    if bound is None or unit.first_ready_at is None or unit.item is not None or unit.state not in _LAUNCHABLE:
        return None
    return unit.first_ready_at + bound


def external_deadline(unit: Unit) -> tuple[float, str] | None:
    """When an attempt that is completed from outside has taken too long, and which bound that is: ``timeout`` or
    ``heartbeat_timeout``; None without one."""
    if not unit.external or unit.state is not TaskState.RUNNING or unit.started_at is None:
        return None
    bounds = unit.node.timeouts
    dues: list[tuple[float, str]] = []
    if bounds.attempt is not None:
        dues.append((unit.started_at + bounds.attempt, "timeout"))
    if bounds.heartbeat is not None:
        dues.append((max(unit.started_at, unit.beat_at or 0.0) + bounds.heartbeat, "heartbeat_timeout"))
    return min(dues) if dues else None


def run_deadline(run: GraphRun) -> float | None:
    """When the bound of the run is over, None without one."""
    bound = run.plan.spec.timeout
    if bound is None or run.state not in (RunState.RUNNING, RunState.PAUSED):
        return None
    return run.timeout_from + bound


def launchable_units(run: GraphRun) -> list[Unit]:
    """Units that owe an attempt, in the order of the definition. Nothing is owed while a run is paused or being
    cancelled."""
    if run.state is not RunState.RUNNING:
        return []
    return [unit for unit in run.units() if is_launchable(unit)]


def pending(run: GraphRun) -> list[Effect]:
    """Everything owed, in the order of the definition."""
    effects: list[Effect] = []
    for unit in launchable_units(run):
        item = -1 if unit.item is None else unit.item
        effects.append(Launch(unit.node.id, item, unit.attempt + 1, unit.retry_at or 0.0))
    deadline = run_deadline(run)
    if deadline is not None:
        effects.append(SetTimer("run", "", deadline))
    for unit in run.tasks:
        deadline = task_deadline(unit)
        if deadline is not None:
            effects.append(SetTimer("task", unit.node.id, deadline))
    effects.extend(LoadValue(digest) for digest in sorted(run.wanted))
    return effects
