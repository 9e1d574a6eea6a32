"""Facts to state. ``fold(run, event)`` applies one event; a run's state is the fold of its history.

Folding moves counters, not graphs: the end of a task costs work in proportion to the tasks that need it. Tasks whose
counts now call for a decision that needs an event (a condition, a list, a skip) are put on ``run.undecided``; tasks
that became ready by counts alone go straight to ``run.fresh``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.core import events as ev
from headrace.core.errors import InvalidTransition
from headrace.core.run import GraphRun, TaskUnit, Unit
from headrace.core.states import FINAL_TASK_STATES, RUN_TRANSITIONS, TASK_TRANSITIONS, RunState, TaskState
from headrace.core.triggers import Verdict, verdict

_SUCCEEDED, _SKIPPED = TaskState.SUCCEEDED, TaskState.SKIPPED
_RUN, _WAIT = Verdict.RUN, Verdict.WAIT
_WAITING, _READY, _RUNNING = TaskState.WAITING, TaskState.READY, RunState.RUNNING
_OPEN = TASK_TRANSITIONS[ev.TaskSucceeded][0]


def fold(run: GraphRun, event: ev.Event) -> None:
    """Apply one event in place. Raises :class:`InvalidTransition` when it does not fit, with the run's place in its
    history; the state is then no longer to be used."""
    handler = _HANDLERS.get(type(event))
    if handler is None:
        raise InvalidTransition(f"run {run.run_id}: no fold for {type(event).__name__}")
    handler(run, event)
    run.seq += 1


def judge(unit: TaskUnit) -> Verdict:
    """What the trigger rule says about a task now."""
    node = unit.node
    return verdict(node.rule, node.total, unit.success, unit.failed, unit.upstream_failed, unit.skipped)


# ---- tasks ----------------------------------------------------------------------------------------------------------


def _enter(run: GraphRun, unit: Unit, event: ev.Event) -> None:
    """Move a unit along the transition table."""
    sources, target = TASK_TRANSITIONS[type(event)]
    if unit.state not in sources:
        raise InvalidTransition(
            f"run {run.run_id}, event {run.seq + 1}: {type(event).__name__} meets {unit.name} in state {unit.state}, "
            f"expected one of {', '.join(sorted(sources))}",
            hint="this is a defect in Headrace or a damaged history; please report it with `headrace runs show -o json`",
        )
    unit.state = target


def _of(run: GraphRun, task: str, item: int | None) -> Unit:
    unit = run.unit(task, item)
    if unit is None:
        raise InvalidTransition(f"run {run.run_id}, event {run.seq + 1}: the workflow has no {task!r} item {item}")
    return unit


def _make_ready(run: GraphRun, unit: Unit, at: float) -> None:
    unit.state = TaskState.READY
    unit.first_ready_at = at
    run.fresh.append(unit)


def _reconsider(run: GraphRun, unit: TaskUnit, at: float) -> None:
    """A waiting task's counts changed: ready by itself, undecided, or still waiting."""
    answer = judge(unit)
    if answer is _WAIT:
        return
    if answer is _RUN and unit.node.decides_by_counts and run.state is not RunState.CANCELLING:
        _make_ready(run, unit, at)
    else:
        run.undecided.append(unit)


def _ended(run: GraphRun, unit: Unit, at: float) -> None:
    """A unit reached a final state: tell its mapped task, or the tasks that need it."""
    unit.ended_at = at
    if unit.item is None:
        assert isinstance(unit, TaskUnit)
        _task_ended(run, unit, at)
        return
    task = run.tasks[unit.node.index]
    task.items_left -= 1
    if unit.state is not _SUCCEEDED and unit.state is not _SKIPPED:
        task.items_failed += 1
        if task.failure is None:
            task.failure = unit.failure
    if task.items_left == 0 and task.state not in FINAL_TASK_STATES:
        _close_map(run, task, at)


def _close_map(run: GraphRun, task: TaskUnit, at: float) -> None:
    """All items ended: the mapped task ends with them, with no event of its own."""
    items = task.items or []
    states = {item.state for item in items}
    if TaskState.CANCELLED in states:
        task.state = TaskState.CANCELLED
    elif task.items_failed:
        task.state = TaskState.FAILED
    elif items and states == {_SKIPPED}:
        task.state = _SKIPPED
        task.reason = "every item was skipped"
    else:
        task.state = _SUCCEEDED
    started = [item.started_at for item in items if item.started_at is not None]
    task.started_at = min(started) if started else None
    task.ended_at = at
    _task_ended(run, task, at)


def _task_ended(run: GraphRun, unit: TaskUnit, at: float) -> None:
    run.unfinished -= 1
    state = unit.state
    if state is TaskState.FAILED:
        run.tasks_failed += 1
        if not unit.node.spec.allow_failure and run.failed_task is None:
            run.failed_task = unit.node.id
            run.failure = unit.failure
    tasks = run.tasks
    for index in unit.node.downstream:
        child = tasks[index]
        _count(child, state, 1)
        if child.state is TaskState.WAITING:
            _reconsider(run, child, at)


def _count(child: TaskUnit, state: TaskState, by: int) -> None:
    if state is _SUCCEEDED:
        child.success += by
    elif state is _SKIPPED:
        child.skipped += by
    elif state is TaskState.UPSTREAM_FAILED:
        child.upstream_failed += by
    else:
        child.failed += by


def _on_task_succeeded(run: GraphRun, event: ev.TaskSucceeded) -> None:
    fold_success(run, _of(run, event.task, event.item), event)


def fold_success(run: GraphRun, unit: Unit, event: ev.TaskSucceeded) -> None:
    """Apply the commonest event to the unit it is about (``run.seq`` is left to the caller). Written out flat: nearly
    all of an engine's events are these."""
    if unit.state not in _OPEN:
        _enter(run, unit, event)
    unit.state = _SUCCEEDED
    unit.attempt = event.attempt
    unit.started_at = event.started_at
    unit.output = event.output
    unit.retry_at = None
    at = unit.ended_at = event.at
    if unit.item is not None:
        task = run.tasks[unit.node.index]
        task.items_left -= 1
        if task.items_left == 0 and task.state not in FINAL_TASK_STATES:
            _close_map(run, task, at)
        return
    run.unfinished -= 1
    for index in unit.node.downstream:
        child = run.tasks[index]
        child.success += 1
        if child.state is _WAITING:
            node = child.node
            if node.plain and run.state is _RUNNING:
                if child.success == node.total:
                    child.state = _READY
                    child.first_ready_at = at
                    run.fresh.append(child)
            else:
                _reconsider(run, child, at)


def _on_attempt_failed(run: GraphRun, event: ev.AttemptFailed) -> None:
    unit = _of(run, event.task, event.item)
    _enter(run, unit, event)
    await_retry(unit, event)
    run.fresh.append(unit)


def await_retry(unit: Unit, event: ev.AttemptFailed) -> None:
    """What a unit keeps of an attempt that failed and is followed by another."""
    unit.attempt = event.attempt
    unit.starts = 0
    unit.external = unit.away = False
    if event.details is not None:
        unit.details = event.details
    unit.failure = event.failure
    unit.started_at = event.started_at
    unit.retry_at = event.retry_at


def _on_task_failed(run: GraphRun, event: ev.TaskFailed) -> None:
    unit = _of(run, event.task, event.item)
    _enter(run, unit, event)
    unit.attempt = event.attempt
    unit.failure = event.failure
    unit.retry_at = None
    if event.started_at is not None:
        unit.started_at = event.started_at
    _ended(run, unit, event.at)


def _on_task_skipped(run: GraphRun, event: ev.TaskSkipped) -> None:
    unit = _of(run, event.task, event.item)
    _enter(run, unit, event)
    unit.attempt = event.attempt
    unit.reason = event.reason
    unit.retry_at = None
    unit.started_at = event.started_at
    _ended(run, unit, event.at)


def _on_task_upstream_failed(run: GraphRun, event: ev.TaskUpstreamFailed) -> None:
    unit = _of(run, event.task, None)
    _enter(run, unit, event)
    _ended(run, unit, event.at)


def _on_task_cancelled(run: GraphRun, event: ev.TaskCancelled) -> None:
    unit = _of(run, event.task, event.item)
    _enter(run, unit, event)
    unit.attempt = event.attempt
    unit.retry_at = None
    if event.started_at is not None:
        unit.started_at = event.started_at
    _ended(run, unit, event.at)


def _on_task_started(run: GraphRun, event: ev.TaskStarted) -> None:
    unit = _of(run, event.task, event.item)
    _enter(run, unit, event)
    unit.starts += 1
    unit.external = event.external
    unit.away = bool(event.queue)
    unit.started_at = event.at
    unit.retry_at = None


def _on_task_heartbeat(run: GraphRun, event: ev.TaskHeartbeat) -> None:
    unit = _of(run, event.task, event.item)
    _enter(run, unit, event)
    unit.beat_at = event.at
    if event.details is not None:
        unit.details = event.details


def _on_attempt_interrupted(run: GraphRun, event: ev.AttemptInterrupted) -> None:
    unit = _of(run, event.task, event.item)
    _enter(run, unit, event)
    unit.starts -= 1
    unit.away = False
    unit.started_at = None


def _on_task_ready(run: GraphRun, event: ev.TaskReady) -> None:
    unit = _of(run, event.task, None)
    _enter(run, unit, event)
    _make_ready(run, unit, event.at)


def _on_task_mapped(run: GraphRun, event: ev.TaskMapped) -> None:
    unit = _of(run, event.task, None)
    assert isinstance(unit, TaskUnit)
    _enter(run, unit, event)
    unit.first_ready_at = event.at
    unit.item_values = event.items
    unit.items = [Unit(unit.node, index) for index in range(len(event.items))]
    unit.items_left = len(unit.items)
    for item in unit.items:
        _make_ready(run, item, event.at)
    if not unit.items:
        _close_map(run, unit, event.at)


# ---- the run --------------------------------------------------------------------------------------------------------


def _on_run_created(run: GraphRun, event: ev.RunCreated) -> None:
    if run.seq:
        raise InvalidTransition(f"run {run.run_id}: created twice")
    run.run_id = event.run_id
    run.created_at = run.timeout_from = event.at
    run.params = event.params
    run.tags = event.tags
    run.trigger = event.trigger
    run.parent = event.parent
    run.source_dir = event.source_dir
    run.headers = event.headers
    run.key, run.attributes, run.memo = event.key, event.attributes, event.memo
    for unit in run.tasks:
        node = unit.node
        if not node.total and node.decides_by_counts:
            _make_ready(run, unit, event.at)  # needs nothing, whatever its rule
        elif not node.plain:  # plain tasks wait
            _reconsider(run, unit, event.at)


def _change(run: GraphRun, event: ev.Event, target: RunState) -> None:
    sources, targets = RUN_TRANSITIONS[type(event)]
    if run.state not in sources or target not in targets:
        raise InvalidTransition(
            f"run {run.run_id}, event {run.seq + 1}: {type(event).__name__} meets a run that is {run.state}"
        )
    run.state = target


def _on_cancel_requested(run: GraphRun, event: ev.RunCancelRequested) -> None:
    _change(run, event, RunState.CANCELLING)
    run.reason = event.reason or None
    run.deadline_passed = event.timed_out


def _on_paused(run: GraphRun, event: ev.RunPaused) -> None:
    _change(run, event, RunState.PAUSED)
    run.reason = event.reason or None


def _on_resumed(run: GraphRun, event: ev.RunResumed) -> None:
    _change(run, event, RunState.RUNNING)
    run.reason = None


def _on_finished(run: GraphRun, event: ev.RunFinished) -> None:
    _change(run, event, RunState(event.state))
    run.ended_at = event.at
    run.output = event.output
    run.failure = event.failure
    run.failed_task = event.failed_task


def _on_retried(run: GraphRun, event: ev.RunRetried) -> None:
    _change(run, event, RunState.RUNNING)
    run.ended_at = run.output = run.failure = run.failed_task = run.reason = None
    run.deadline_passed = False
    run.timeout_from = event.at
    run.scope = None
    chosen = [unit for task in event.tasks if isinstance(unit := run.unit(task, None), TaskUnit)]
    for unit in chosen:
        for index in unit.node.downstream:
            _count(run.tasks[index], unit.state, -1)
    reopened: list[Unit] = []
    names = set(event.tasks)
    for unit in chosen:
        run.unfinished += 1
        run.tasks_failed -= unit.state is TaskState.FAILED
        if unit.items is None or unit.state is _SUCCEEDED or not names.isdisjoint(unit.node.spec.needs):
            unit.reset()
            continue
        again = [item for item in unit.items if item.state is not _SUCCEEDED]
        for item in again:
            item.reset()
        unit.state = TaskState.READY
        unit.first_ready_at = event.at  # the clock of the whole task's bound starts again
        unit.failure = unit.ended_at = None
        unit.items_left, unit.items_failed = len(again), 0
        reopened += again
    _still_failed(run)
    for item in reopened:
        _make_ready(run, item, event.at)
    for unit in chosen:
        if unit.state is TaskState.WAITING:
            _reconsider(run, unit, event.at)


def _still_failed(run: GraphRun) -> None:
    """A retry of chosen tasks leaves other failures as they are: one of them still fails the run."""
    for unit in run.tasks if run.tasks_failed else ():
        if unit.state is TaskState.FAILED and not unit.node.spec.allow_failure:
            run.failed_task = unit.node.id
            run.failure = unit.failure
            return


_HANDLERS: dict[type, Callable[[GraphRun, Any], None]] = {
    ev.TaskSucceeded: _on_task_succeeded,
    ev.AttemptFailed: _on_attempt_failed,
    ev.TaskFailed: _on_task_failed,
    ev.TaskSkipped: _on_task_skipped,
    ev.TaskUpstreamFailed: _on_task_upstream_failed,
    ev.TaskCancelled: _on_task_cancelled,
    ev.TaskStarted: _on_task_started,
    ev.TaskHeartbeat: _on_task_heartbeat,
    ev.AttemptInterrupted: _on_attempt_interrupted,
    ev.TaskReady: _on_task_ready,
    ev.TaskMapped: _on_task_mapped,
    ev.RunCreated: _on_run_created,
    ev.RunCancelRequested: _on_cancel_requested,
    ev.RunPaused: _on_paused,
    ev.RunResumed: _on_resumed,
    ev.RunFinished: _on_finished,
    ev.RunRetried: _on_retried,
}
