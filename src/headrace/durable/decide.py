"""From an input to events of a code run: the stimulus, then the answers to the commands it brought forth, so that both
are in one flush.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from headrace.core import events as ev
from headrace.core import inputs as inp
from headrace.core.decide import attempt_is_over
from headrace.core.errors import InvalidCommand, UpdateRejected
from headrace.core.ids import attempt_key
from headrace.core.retry import next_attempt_at
from headrace.core.run import TaskUnit
from headrace.core.states import FINAL_RUN_STATES, RunState, TaskState
from headrace.durable import following
from headrace.durable.fold import HELD, fold
from headrace.durable.intercepted import intercepted_validator, intercepts
from headrace.durable.interrupts import ends_the_run
from headrace.durable.looking import looking
from headrace.durable.run import CodeRun

logger = logging.getLogger("headrace.workflow")

logger = logging.getLogger("headrace.workflow")

STARTS_MAX = 5
"""Recorded starts of one attempt after which it counts as lost for good: something in it kills its process."""

OPEN = (TaskState.READY, TaskState.RUNNING, TaskState.RETRYING)
"""States in which a call can still owe an attempt."""


def create(run: CodeRun, event: ev.RunCreated) -> list[ev.Event]:
    """The first events of a new run."""
    events: list[ev.Event] = [event]
    fold(run, event)
    _answer_commands(run, events, event.at)
    return events


def decide(run: CodeRun, given: inp.Input, now: float) -> list[ev.Event]:
    """The events that follow from an input, folded in. See :mod:`headrace.core.decide`."""
    events: list[ev.Event] = []
    handler = _INPUTS.get(type(given))
    if handler is None:
        raise InvalidCommand(
            f"run {run.run_id} is code: it takes no {type(given).__name__.lower()}",
            hint=f"to do part of it again: headrace runs reset {run.run_id} --to-task TASK",
        )
    event = handler(run, given, now)
    if event is not None:
        events.append(event)
        fold(run, event)
    if run.commands or run.diverged is not None:
        _answer_commands(run, events, now)
    return events


def with_remedy(difference: str) -> str:
    """A report of code that does not fit its history, with what can be done; other reports bring their own."""
    if "hint:" in difference:
        return difference
    return (
        f"{difference}\n  hint: if the code was changed, keep what runs under way have seen: `if patched(...)`: new, "
        "`else`: old; if it was not, it decides by what no replay repeats (`headrace check` finds such lines); then: "
        "headrace runs resume RUN"
    )


def _answer_commands(run: CodeRun, events: list[ev.Event], now: float) -> None:
    if run.diverged is not None:
        if run.state in (RunState.RUNNING, RunState.CANCELLING):
            suspended = ev.RunSuspended(now, with_remedy(run.diverged))
            logger.warning(
                "run %s (%s) is suspended: %s",
                *(run.run_id, run.plan.spec.name, suspended.reason),
                extra={"run_id": run.run_id, "workflow": run.plan.spec.name},
            )
            events.append(suspended)
            fold(run, suspended)
        return
    if run.state in HELD or run.blind:
        return
    while run.commands:
        command = run.commands[0]
        if command.wanted is not None and not command.wanted():
            run.commands.popleft()
            continue
        event = command.make(now)
        if type(event) is ev.RunFinished:
            event = following.completed(run, event)
        events.append(event)
        fold(run, event)


def _current(run: CodeRun, given: Any) -> TaskUnit | None:
    unit = run.units.get(given.task)
    if unit is None or unit.state not in OPEN or given.attempt != unit.attempt + 1 or run.done:
        return None
    return unit


def _on_succeeded(run: CodeRun, given: inp.Succeeded, now: float) -> ev.Event | None:
    # The commonest input by far: _current written out.
    unit = run.units.get(given.task)
    if unit is None or unit.state not in OPEN or given.attempt != unit.attempt + 1 or run.state in FINAL_RUN_STATES:
        return None
    return ev.TaskSucceeded(now, given.task, given.attempt, given.started_at, given.output)


def _on_failed(run: CodeRun, given: inp.Failed, now: float) -> ev.Event | None:
    unit = _current(run, given)
    if unit is None:
        return None
    due = next_attempt_at(
        unit.node.retries,
        given.failure,
        attempt=given.attempt,
        key=attempt_key(run.run_id, given.task, None, given.attempt),
        first_ready_at=unit.first_ready_at or now,
        now=now,
    )
    if due is not None and given.task not in run.stops:
        return ev.AttemptFailed(
            now, given.task, given.attempt, given.failure, due, given.started_at, None, given.details
        )
    return ev.TaskFailed(now, given.task, given.attempt, given.failure, given.started_at)


def _on_skipped(run: CodeRun, given: inp.Skipped, now: float) -> ev.Event | None:
    if _current(run, given) is None:
        return None
    return ev.TaskSkipped(now, given.task, given.reason, None, given.attempt, given.started_at)


def _on_cancelled(run: CodeRun, given: inp.Cancelled, now: float) -> ev.Event | None:
    if given.task not in run.stops or _current(run, given) is None:
        return None
    return ev.TaskCancelled(now, given.task, None, given.attempt, given.started_at)


def _on_started(run: CodeRun, given: inp.Started, _now: float) -> ev.Event | None:
    if _current(run, given) is None:
        return None
    return ev.TaskStarted(given.at, given.task, given.attempt, None, given.node, given.external, given.queue)


def _on_heartbeat(run: CodeRun, given: inp.Heartbeat, now: float) -> ev.Event | None:
    if _current(run, given) is not None:
        return ev.TaskHeartbeat(now, given.task, given.attempt, None, given.details)
    if given.strict:
        raise attempt_is_over(run, given)
    return None


def _on_outcome(run: CodeRun, given: inp.Outcome, now: float) -> ev.Event | None:
    unit = _current(run, given)
    if unit is None:
        raise attempt_is_over(run, given)
    started_at = now if unit.started_at is None else unit.started_at
    if given.failure is None:
        return ev.TaskSucceeded(now, given.task, given.attempt, started_at, given.output)
    return _on_failed(run, inp.Failed(given.task, None, given.attempt, started_at, given.failure), now)


def _on_interrupted(run: CodeRun, given: inp.Interrupted, now: float) -> ev.Event | None:
    unit = _current(run, given)
    if unit is None or unit.state is not TaskState.RUNNING or (unit.node.options.at_most_once and not unit.away):
        return None
    return ev.AttemptInterrupted(now, given.task, given.attempt)


def _on_task_timed_out(run: CodeRun, given: inp.TaskTimedOut, now: float) -> ev.Event | None:
    unit = run.units.get(given.task)
    if unit is None or unit.state not in OPEN:
        return None
    failure = ev.Failure("task_timeout", f"the task took longer than its bound of {unit.node.timeouts.task:g} s")
    return ev.TaskFailed(now, given.task, unit.attempt + 1, failure)


def _on_timer(run: CodeRun, given: inp.TimerDue, now: float) -> ev.Event | None:
    entry = run.timers.get(given.timer)
    if entry is None or run.done or run.state in HELD:
        return None  # resuming looks at the timers again
    return ev.TimerFired(max(now, entry[1]), given.timer)


def _on_signal(run: CodeRun, given: inp.Signal, now: float) -> ev.Event | None:
    if given.key is not None and given.key in run.seen_keys:
        return None
    if run.done:
        raise InvalidCommand(f"run {run.run_id} takes no signals: it has ended ({run.state})")
    handler = run.handlers.get(("signal", given.name))
    if handler is not None:
        handler.check_signal(given.payload)
    return ev.SignalReceived(now, given.name, given.payload, given.key, given.headers)


def _on_update(run: CodeRun, given: inp.Update, now: float) -> ev.Event | None:
    if given.update in run.updates:
        return None
    if run.done:
        raise InvalidCommand(f"run {run.run_id} takes no updates: it has ended ({run.state})")
    handler = run.handlers.get(("update", given.name))
    if handler is None:
        known = ", ".join(sorted(name for kind, name in run.handlers if kind == "update")) or "none"
        raise UpdateRejected(f"the workflow has no update {given.name!r}; it has: {known}")
    run_validator(run, handler, given)
    return ev.UpdateAccepted(now, given.update, given.name, given.payload, given.headers)


def judge_update(run: CodeRun, given: inp.Update) -> None:
    """Raise what an update would be refused with now; nothing changes. Raises :class:`UpdateRejected` and
    :class:`InvalidCommand`."""
    _on_update(run, given, run.created_at)


def run_validator(run: CodeRun, handler: Any, given: inp.Update) -> None:
    """Let the validator look at an update; nothing it does may change the run."""
    try:
        with looking(run):
            check = intercepted_validator(run, handler, given) if intercepts(run, "validate_update") else handler.check
            run.context.run(check, given.payload)
    except UpdateRejected:
        raise
    except BaseException as error:
        if not ends_the_run(error):
            raise
        raise UpdateRejected(f"update {given.name!r} was rejected: {error}") from error


def _on_child(run: CodeRun, given: inp.ChildDone, now: float) -> ev.Event | None:
    child = run.children.get(given.child)
    if child is None or child.state is not None or run.done:
        return None
    return ev.ChildEnded(now, given.child, given.state, given.output, given.failure)


def _on_message(run: CodeRun, given: inp.MessageDone, now: float) -> ev.Event | None:
    if given.message not in run.messages or run.done:
        return None
    return ev.MessageSent(now, given.message, given.failure)


def _on_cancel(run: CodeRun, given: inp.Cancel, now: float) -> ev.Event | None:
    if run.done:
        raise InvalidCommand(f"run {run.run_id} cannot be cancelled: it has ended ({run.state})")
    if run.state is RunState.SUSPENDED:
        return ev.RunFinished(now, RunState.CANCELLED)
    return None if run.cancelled else ev.RunCancelRequested(now, given.reason)


def _on_run_timed_out(run: CodeRun, _given: inp.RunTimedOut, now: float) -> ev.Event | None:
    return None if run.done else following.timed_out(run, now)


def _on_terminate(run: CodeRun, given: inp.Terminate, now: float) -> ev.Event | None:
    if run.done:
        raise InvalidCommand(f"run {run.run_id} cannot be terminated: it has ended ({run.state})")
    failure = ev.Failure("terminated", given.reason or "terminated")
    return ev.RunFinished(now, RunState.TERMINATED, failure=failure, next_run=given.next_run)


def _on_pause(run: CodeRun, given: inp.Pause, now: float) -> ev.Event | None:
    if run.state is RunState.PAUSED:
        return None
    if run.state is not RunState.RUNNING:
        raise InvalidCommand(f"run {run.run_id} cannot be paused: it is {run.state}")
    return ev.RunPaused(now, given.reason)


def _on_resume(run: CodeRun, _given: inp.Resume, now: float) -> ev.Event | None:
    if run.done:
        raise InvalidCommand(f"run {run.run_id} cannot be resumed: it has ended ({run.state})")
    if run.state in (RunState.PAUSED, RunState.SUSPENDED):
        return ev.RunResumed(now)
    return None


def _on_recovered(run: CodeRun, _given: inp.Recovered, now: float) -> ev.Event | None:
    for unit in run.tasks:
        if unit.state is TaskState.RUNNING and not run.done and not unit.external and not unit.away:
            lost = _lost(run, unit, now)
            if lost is not None:
                return lost
    return None


def _lost(_run: CodeRun, unit: TaskUnit, now: float) -> ev.Event | None:
    if unit.node.options.at_most_once:
        message = "the process ended before the outcome was known, and an at-most-once task is never run again"
    elif unit.starts >= STARTS_MAX:
        message = f"the process ended {unit.starts} times while this attempt was under way; it is not tried again"
    else:
        return None
    failure = ev.Failure("lost", message, retryable=False)
    return ev.TaskFailed(now, unit.node.id, unit.attempt + 1, failure, unit.started_at)


def _nothing(_run: CodeRun, _given: Any, _now: float) -> None:
    return None


_INPUTS: dict[type, Callable[[CodeRun, Any, float], ev.Event | None]] = {
    inp.Succeeded: _on_succeeded,
    inp.Failed: _on_failed,
    inp.Skipped: _on_skipped,
    inp.Cancelled: _on_cancelled,
    inp.Started: _on_started,
    inp.Interrupted: _on_interrupted,
    inp.Heartbeat: _on_heartbeat,
    inp.Outcome: _on_outcome,
    inp.TaskTimedOut: _on_task_timed_out,
    inp.TimerDue: _on_timer,
    inp.Signal: _on_signal,
    inp.Update: _on_update,
    inp.ChildDone: _on_child,
    inp.MessageDone: _on_message,
    inp.Cancel: _on_cancel,
    inp.RunTimedOut: _on_run_timed_out,
    inp.Terminate: _on_terminate,
    inp.Pause: _on_pause,
    inp.Resume: _on_resume,
    inp.Recovered: _on_recovered,
    inp.ValuesLoaded: _nothing,
}
