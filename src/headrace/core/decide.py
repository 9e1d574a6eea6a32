"""The graph brain: one input to the events that follow from it.

``decide(run, input, now)`` is pure but for folding the events it returns into ``run`` as it goes (each decision rests on
the one before). It reads no clock and does no I/O; the same state and input give the same events. The engine makes the
events durable before it acts on anything that became ready.

An input that comes too late (an outcome of an attempt that is over, a timer of a task that has ended) gives no events.
A command that does not fit the run's state raises :class:`InvalidCommand` and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.core import events as ev
from headrace.core import inputs as inp
from headrace.core.errors import InvalidCommand, TemplateError
from headrace.core.expressions import NeedValue
from headrace.core.fold import fold, fold_success, judge
from headrace.core.ids import attempt_key
from headrace.core.retry import next_attempt_at
from headrace.core.run import GraphRun, Run, TaskUnit, Unit
from headrace.core.states import FINAL_TASK_STATES, RunState, TaskState
from headrace.core.triggers import Verdict

STARTS_MAX = 5
"""Recorded starts of one attempt after which it counts as lost for good: something in it kills its process."""

_OPEN = (TaskState.READY, TaskState.RUNNING, TaskState.RETRYING)


def create(run: GraphRun, event: ev.RunCreated) -> list[ev.Event]:
    """The first events of a new run: its creation and what can be decided at once."""
    events: list[ev.Event] = [event]
    fold(run, event)
    _settle(run, events, event.at)
    return events


def decide(run: GraphRun, given: inp.Input, now: float) -> list[ev.Event]:
    """The events that follow from one input, already folded into ``run``. ``now``: seconds since the epoch."""
    events: list[ev.Event] = []
    handler = _HANDLERS.get(type(given))
    if handler is None:
        raise InvalidCommand(f"run {run.run_id} is a graph: it takes no {type(given).__name__.lower()}")
    handler(run, given, now, events)
    if run.undecided or run.unfinished == 0:
        _settle(run, events, now)
    return events


def _emit(run: GraphRun, events: list[ev.Event], event: ev.Event) -> None:
    events.append(event)
    fold(run, event)


# ---- outcomes -------------------------------------------------------------------------------------------------------


def _current(run: GraphRun, task: str, item: int | None, attempt: int) -> Unit | None:
    """The unit an outcome is about, or None if the outcome is late."""
    unit = run.unit(task, item)
    if unit is None or unit.state not in _OPEN or attempt != unit.attempt + 1:
        return None
    return unit


def _succeeded(run: GraphRun, given: inp.Succeeded, now: float, events: list[ev.Event]) -> None:
    # The commonest input by far: _current written out.
    unit = run.unit(given.task, given.item)
    if unit is not None and unit.state in _OPEN and given.attempt == unit.attempt + 1:
        event = ev.TaskSucceeded(now, given.task, given.attempt, given.started_at, given.output, given.item)
        events.append(event)
        fold_success(run, unit, event)
        run.seq += 1


def _failed(run: GraphRun, given: inp.Failed, now: float, events: list[ev.Event]) -> None:
    unit = _current(run, given.task, given.item, given.attempt)
    if unit is None:
        return
    due = None
    if run.state is not RunState.CANCELLING:
        assert unit.first_ready_at is not None
        due = next_attempt_at(
            unit.node.retries,
            given.failure,
            attempt=given.attempt,
            key=attempt_key(run.run_id, given.task, given.item, given.attempt),
            first_ready_at=unit.first_ready_at,
            now=now,
        )
    event: ev.Event
    if due is not None:
        event = ev.AttemptFailed(
            now, given.task, given.attempt, given.failure, due, given.started_at, given.item, given.details
        )
    else:
        event = ev.TaskFailed(now, given.task, given.attempt, given.failure, given.started_at, given.item)
    _emit(run, events, event)


def _skipped(run: GraphRun, given: inp.Skipped, now: float, events: list[ev.Event]) -> None:
    if _current(run, given.task, given.item, given.attempt) is not None:
        event = ev.TaskSkipped(now, given.task, given.reason, given.item, given.attempt, given.started_at)
        _emit(run, events, event)


def _cancelled(run: GraphRun, given: inp.Cancelled, now: float, events: list[ev.Event]) -> None:
    if run.state is RunState.CANCELLING and _current(run, given.task, given.item, given.attempt) is not None:
        _emit(run, events, ev.TaskCancelled(now, given.task, given.item, given.attempt, given.started_at))


def _started(run: GraphRun, given: inp.Started, _now: float, events: list[ev.Event]) -> None:
    if _current(run, given.task, given.item, given.attempt) is not None:
        event = ev.TaskStarted(given.at, given.task, given.attempt, given.item, given.node, given.external, given.queue)
        _emit(run, events, event)


def _heartbeat(run: GraphRun, given: inp.Heartbeat, now: float, events: list[ev.Event]) -> None:
    if _current(run, given.task, given.item, given.attempt) is not None:
        _emit(run, events, ev.TaskHeartbeat(now, given.task, given.attempt, given.item, given.details))
    elif given.strict:
        raise attempt_is_over(run, given)


def _outcome(run: GraphRun, given: inp.Outcome, now: float, events: list[ev.Event]) -> None:
    unit = _current(run, given.task, given.item, given.attempt)
    if unit is None or (isinstance(unit, TaskUnit) and unit.items is not None):
        raise attempt_is_over(run, given)
    started_at = now if unit.started_at is None else unit.started_at
    if given.failure is None:
        succeeded = inp.Succeeded(given.task, given.item, given.attempt, started_at, given.output)
        _succeeded(run, succeeded, now, events)
    else:
        _failed(run, inp.Failed(given.task, given.item, given.attempt, started_at, given.failure), now, events)


def attempt_is_over(run: Run, given: inp.Heartbeat | inp.Outcome) -> InvalidCommand:
    """Why something said from outside about an attempt is refused."""
    unit = run.unit(given.task, given.item)
    name = given.task if given.item is None else f"{given.task}[{given.item}]"
    if unit is None:
        return InvalidCommand(f"run {run.run_id} has no task {name}", hint="the token belongs to another run")
    if unit.state in FINAL_TASK_STATES:
        what = f"the task is {unit.state}"
    elif run.done:
        what = f"the run is {run.state}"
    else:
        what = f"attempt {unit.attempt + 1} is under way by now"
    return InvalidCommand(
        f"attempt {given.attempt} of task {name} in run {run.run_id} takes no more word from outside: {what}",
        hint="each attempt has a token of its own and is completed once",
    )


def _interrupted(run: GraphRun, given: inp.Interrupted, now: float, events: list[ev.Event]) -> None:
    unit = _current(run, given.task, given.item, given.attempt)
    if unit is not None and unit.state is TaskState.RUNNING and (unit.away or not unit.node.spec.at_most_once):
        _emit(run, events, ev.AttemptInterrupted(now, given.task, given.attempt, given.item))


# ---- time -----------------------------------------------------------------------------------------------------------


def _task_timed_out(run: GraphRun, given: inp.TaskTimedOut, now: float, events: list[ev.Event]) -> None:
    unit = run.unit(given.task, None)
    if not isinstance(unit, TaskUnit) or unit.state not in _OPEN:
        return
    bound = unit.node.timeouts.task
    failure = ev.Failure("task_timeout", f"the task took longer than its bound of {bound:g} s")
    recorded = unit.state is TaskState.RUNNING
    started = unit.started_at if recorded else None
    under_way = recorded or unit.launched
    _emit(run, events, ev.TaskFailed(now, given.task, unit.attempt + under_way, failure, started))
    for item in unit.items or ():
        if item.state in _OPEN:
            _emit(run, events, ev.TaskCancelled(now, given.task, item.item, item.attempt))


def _run_timed_out(run: GraphRun, _given: inp.RunTimedOut, now: float, events: list[ev.Event]) -> None:
    if run.state in (RunState.RUNNING, RunState.PAUSED):
        reason = f"the run took longer than its bound of {run.plan.spec.timeout:g} s"
        _stop(run, ev.RunCancelRequested(now, reason, timed_out=True), events)


# ---- commands -------------------------------------------------------------------------------------------------------


def _refuse(run: GraphRun, verb: str, why: str) -> InvalidCommand:
    return InvalidCommand(f"run {run.run_id} cannot be {verb}: {why}")


def _cancel(run: GraphRun, given: inp.Cancel, now: float, events: list[ev.Event]) -> None:
    if run.done:
        raise _refuse(run, "cancelled", f"it has ended ({run.state})")
    if run.state is not RunState.CANCELLING:
        _stop(run, ev.RunCancelRequested(now, given.reason), events)


def _stop(run: GraphRun, request: ev.RunCancelRequested, events: list[ev.Event]) -> None:
    """Record the wish, then cancel everything that is not under way; the rest follows when attempts have stopped."""
    _emit(run, events, request)
    _cancel_idle(run, request.at, events)


def _cancel_idle(run: GraphRun, now: float, events: list[ev.Event]) -> None:
    for unit in run.tasks:
        if unit.items is not None:
            for item in unit.items:
                if item.state in _OPEN and not item.launched:
                    _emit(run, events, ev.TaskCancelled(now, unit.node.id, item.item, item.attempt))
        elif unit.state not in FINAL_TASK_STATES and not unit.launched:
            _emit(run, events, ev.TaskCancelled(now, unit.node.id, None, unit.attempt))


def _pause(run: GraphRun, given: inp.Pause, now: float, events: list[ev.Event]) -> None:
    if run.state is RunState.PAUSED:
        return
    if run.state is not RunState.RUNNING:
        raise _refuse(run, "paused", f"it is {run.state}")
    _emit(run, events, ev.RunPaused(now, given.reason))


def _resume(run: GraphRun, _given: inp.Resume, now: float, events: list[ev.Event]) -> None:
    if run.done:
        raise InvalidCommand(
            f"run {run.run_id} cannot be resumed: it has ended ({run.state})",
            hint=None
            if run.state is RunState.SUCCEEDED
            else f"to run again what failed: headrace runs retry {run.run_id}",
        )
    if run.state is RunState.PAUSED:
        _emit(run, events, ev.RunResumed(now))


def _retry(run: GraphRun, given: inp.Retry, now: float, events: list[ev.Event]) -> None:
    if not run.done:
        raise _refuse(run, "retried", f"it has not ended ({run.state})")
    unknown = [task for task in given.tasks if task not in run.plan.by_id]
    if unknown:
        raise _refuse(run, "retried", f"its workflow has no task {', '.join(map(repr, unknown))}")
    if given.tasks:
        roots = {run.plan.by_id[task].index for task in given.tasks}
    else:
        again = (TaskState.FAILED, TaskState.UPSTREAM_FAILED, TaskState.CANCELLED)
        roots = {unit.node.index for unit in run.tasks if unit.state in again}
    if not roots:
        raise _refuse(run, "retried", "no task failed")
    chosen = _with_followers(run, roots, ran_too=bool(given.tasks))
    names = tuple(run.plan.nodes[index].id for index in sorted(chosen))
    _emit(run, events, ev.RunRetried(now, names, given.reason))


def _with_followers(run: GraphRun, roots: set[int], *, ran_too: bool) -> set[int]:
    """``roots`` and the tasks below them that have to be judged again: those that did not run because of them, and with
    ``ran_too`` also those that ran on what is now out of date."""
    chosen = set(roots)
    stack = list(roots)
    while stack:
        for child in run.plan.nodes[stack.pop()].downstream:
            if child not in chosen and (ran_too or run.tasks[child].state is not TaskState.SUCCEEDED):
                chosen.add(child)
                stack.append(child)
    return chosen


def _values_loaded(run: GraphRun, _given: inp.ValuesLoaded, _now: float, _events: list[ev.Event]) -> None:
    run.wanted.clear()


def _recovered(run: GraphRun, _given: inp.Recovered, now: float, events: list[ev.Event]) -> None:
    """Judge what the former owner left: attempts whose outcome nobody knows, decisions it had not made."""
    if run.done:
        return
    for unit in list(run.units()):
        if unit.state is TaskState.RUNNING and not unit.external and not unit.away:
            _lost(run, unit, now, events)
    if run.state is RunState.CANCELLING:
        _cancel_idle(run, now, events)
    run.undecided.clear()
    waiting = TaskState.WAITING
    run.undecided.extend(unit for unit in run.tasks if unit.state is waiting and judge(unit) is not Verdict.WAIT)


def _lost(run: GraphRun, unit: Unit, now: float, events: list[ev.Event]) -> None:
    """An attempt was under way when its process ended. It runs again, unless it must not or keeps killing processes."""
    spec = unit.node.spec
    if spec.at_most_once:
        message = "the process ended before the outcome was known, and an at-most-once task is never run again"
    elif unit.starts >= STARTS_MAX:
        message = f"the process ended {unit.starts} times while this attempt was under way; it is not tried again"
    else:
        return
    failure = ev.Failure("lost", message, retryable=False)
    _emit(run, events, ev.TaskFailed(now, unit.node.id, unit.attempt + 1, failure, unit.started_at, unit.item))


# ---- what follows ---------------------------------------------------------------------------------------------------


def _settle(run: GraphRun, events: list[ev.Event], now: float) -> None:
    """Make every decision that is due: a skip may decide the next task, so go on until nothing is left."""
    undecided = run.undecided
    waiting: list[TaskUnit] = []
    while undecided:
        unit = undecided.popleft()
        if unit.state is not TaskState.WAITING:
            continue
        try:
            event = _decide_task(run, unit, now)
        except NeedValue as need:
            run.wanted.add(need.digest)
            waiting.append(unit)
            continue
        if event is not None:
            _emit(run, events, event)
    undecided.extend(waiting)
    if run.unfinished == 0 and not run.done and not waiting:
        _finish(run, events, now)


def _decide_task(run: GraphRun, unit: TaskUnit, now: float) -> ev.Event | None:
    """The event that takes a waiting task on, None when it has to wait after all."""
    node = unit.node
    answer = judge(unit)
    if answer is Verdict.WAIT:
        return None
    if run.state is RunState.CANCELLING:
        return ev.TaskCancelled(now, node.id)
    if answer is Verdict.UPSTREAM_FAILED:
        return ev.TaskUpstreamFailed(now, node.id)
    if answer is Verdict.SKIP:
        return ev.TaskSkipped(now, node.id, f"trigger rule {node.rule} cannot be met")
    scope = run.template_scope()
    try:
        if node.when is not None and not node.when.render(scope):
            return ev.TaskSkipped(now, node.id, f"condition is false: {node.spec.when}")
        if node.spec.is_mapped:
            return _map(node.spec.max_items, node.map.render(scope), unit, now)
    except TemplateError as error:
        return ev.TaskFailed(now, node.id, 0, ev.Failure("template", error.message))
    return ev.TaskReady(now, node.id)


def _map(bound: int, items: Any, unit: TaskUnit, now: float) -> ev.Event:
    task = unit.node.id
    if isinstance(items, dict):
        items = [{"key": key, "value": value} for key, value in items.items()]
    if not isinstance(items, (list, tuple)):
        message = f"map needs a list, got {type(items).__name__}: {unit.node.spec.map}"
        return ev.TaskFailed(now, task, 0, ev.Failure("template", message))
    if len(items) > bound:
        message = f"map has {len(items):,} items, more than the bound of {bound:,}; raise max_items to allow it"
        return ev.TaskFailed(now, task, 0, ev.Failure("map_too_large", message))
    return ev.TaskMapped(now, task, list(items))


def _finish(run: GraphRun, events: list[ev.Event], now: float) -> None:
    """Every task has ended: the run ends in the same commit."""
    if run.state is RunState.CANCELLING:
        if run.deadline_passed:
            failure = ev.Failure("run_timeout", run.reason or "the run took too long")
            _emit(run, events, ev.RunFinished(now, RunState.FAILED, failure=failure))
        else:
            _emit(run, events, ev.RunFinished(now, RunState.CANCELLED))
        return
    if run.failed_task is not None:
        finished = ev.RunFinished(now, RunState.FAILED, None, run.failure, run.failed_task)
        _emit(run, events, finished)
        return
    if any(unit.state is TaskState.CANCELLED for unit in run.tasks):  # left so by a retry of other tasks
        _emit(run, events, ev.RunFinished(now, RunState.CANCELLED))
        return
    try:
        output = _output(run)
    except NeedValue as need:
        run.wanted.add(need.digest)
        return
    except TemplateError as error:
        failure = ev.Failure("template", f"the workflow's output: {error.message}")
        _emit(run, events, ev.RunFinished(now, RunState.FAILED, failure=failure))
        return
    _emit(run, events, ev.RunFinished(now, RunState.SUCCEEDED, output))


def _output(run: GraphRun) -> Any:
    """The run's result: what ``output`` says, else the outputs of the leaves that succeeded, by task id. The outputs of
    mapped leaves are left to their items: repeating them in the last event would store them twice."""
    plan = run.plan
    if plan.output is not None:
        return plan.output.render(run.template_scope())
    leaves = (run.tasks[node.index] for node in plan.leaves)
    return {unit.node.id: unit.output for unit in leaves if unit.state is TaskState.SUCCEEDED and unit.items is None}


_HANDLERS: dict[type, Callable[[GraphRun, Any, float, list[ev.Event]], None]] = {
    inp.Succeeded: _succeeded,
    inp.Failed: _failed,
    inp.Skipped: _skipped,
    inp.Cancelled: _cancelled,
    inp.Started: _started,
    inp.Interrupted: _interrupted,
    inp.Heartbeat: _heartbeat,
    inp.Outcome: _outcome,
    inp.TaskTimedOut: _task_timed_out,
    inp.RunTimedOut: _run_timed_out,
    inp.Cancel: _cancel,
    inp.Pause: _pause,
    inp.Resume: _resume,
    inp.Retry: _retry,
    inp.ValuesLoaded: _values_loaded,
    inp.Recovered: _recovered,
}
