"""Applying one event to a code run.

A *stimulus* (an outcome, a fired timer, a signal) wakes the code, which runs until it waits again and may leave commands;
a *command event* answers the command at the head of the queue and must agree with it (:mod:`headrace.durable.matching`).
Folding a stored history runs the same code in the same order: that is replay.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator
from typing import Any

from headrace.core import events as ev
from headrace.core.errors import InvalidCommand, TaskFailed
from headrace.core.fold import await_retry
from headrace.core.run import TaskUnit
from headrace.core.spec import TaskSpec
from headrace.core.states import FINAL_RUN_STATES, FINAL_TASK_STATES, RunState, TaskState
from headrace.durable import effects
from headrace.durable.intercepted import deliver_signal, intercepted_update, intercepts
from headrace.durable.matching import COMMANDED, expect_command, match, missing
from headrace.durable.run import Child, CodeNode, CodeRun, Update, describe
from headrace.durable.running import (
    begin,
    child_error,
    drain,
    give_signal,
    resolve,
    run_handler,
)

START_TIMER = 0
"""The timer of a run whose code begins later; those of the code count from 1."""

HELD = (RunState.PAUSED, RunState.SUSPENDED)
"""Code still hears of what happens; what it asks for waits until the run is resumed."""


def fold(run: CodeRun, event: ev.Event) -> None:
    """Apply one event. Never raises for code that does not fit: the run diverges instead."""
    kind = type(event)
    stimulus = _STIMULI.get(kind)
    if run.stops and kind is ev.TaskCancelled and event.task in run.stops:  # type: ignore[union-attr]
        stimulus = _task_stopped  # code waits to hear it, it does not ask for it
    if stimulus is not None:
        if run.commands and not run.blind and run.state not in HELD:
            expect_command(run, event)
        loop = run.loop
        if event.at > loop.now:  # noqa: PLR1730 - a replay does little else
            loop.now = event.at
        stimulus(run, event)
        run.last_stimulus = event
        if run.main is not None and not run.finished and run.diverged is None and run.state not in FINAL_RUN_STATES:
            drain(run)
    else:
        answer = _ANSWERS.get(kind)
        if answer is None:
            run.diverge(f"event {run.seq + 1} is a {describe(event)}, which code workflows do not have")
        else:
            if kind in COMMANDED:
                match(run, event)
            answer(run, event)
    run.seq += 1


@contextlib.contextmanager
def replaying(run: CodeRun) -> Generator[None]:
    """Around the folding of many events: the run's loop is entered once, and not for each of them."""
    outer = run.loop.enter()
    try:
        yield
    finally:
        run.loop.leave(outer)


# -- stimuli


def _created(run: CodeRun, event: ev.RunCreated) -> None:
    run.run_id = event.run_id
    run.created_at = run.timeout_from = run.loop.now = event.at
    run.params = event.params
    run.tags = event.tags
    run.trigger = event.trigger
    run.parent = event.parent
    run.source_dir = event.source_dir
    run.headers = run.passed = event.headers
    run.chain = event.chain
    run.chain_at = event.at if event.chain_at is None else event.chain_at
    run.key, run.attempt, run.seed = event.key, event.attempt, event.seed or event.run_id
    run.attributes, run.memo = dict(event.attributes), dict(event.memo)
    run.searched = bool(event.attributes)
    for name, payload in event.signals:
        if event.chain is None and intercepts(run, "handle_signal"):  # those of a former run have passed already
            run.early.append(ev.SignalReceived(event.at, name, payload, headers=event.headers))
        else:
            run.signals.setdefault(name, deque()).append(payload)
    if event.start_at is not None and event.start_at > event.at:
        run.timeout_from = event.start_at
        run.timers[START_TIMER] = (None, event.start_at)
        run.effects.append(effects.SetTimer(START_TIMER, event.start_at))
    elif not run.blind:
        begin(run)


def _unit_of(run: CodeRun, event: Any) -> TaskUnit | None:
    unit = run.units.get(event.task)
    if unit is None:
        if run.blind:
            unknown = TaskSpec(id=event.task, kind="python")
            return run.add_unit(CodeNode(event.task, -1, unknown, unknown.timeouts, {}, ""))
        missing(run, event)
        return None
    return unit


def _end_unit(run: CodeRun, unit: TaskUnit, event: Any, state: TaskState) -> None:
    if unit.state not in FINAL_TASK_STATES:
        run.unfinished -= 1
    if run.stops:
        run.stops.discard(event.task)
    unit.state = state
    unit.attempt = event.attempt
    unit.retry_at = None
    unit.ended_at = event.at
    if event.started_at is not None:
        unit.started_at = event.started_at


def _task_succeeded(run: CodeRun, event: ev.TaskSucceeded) -> None:
    unit = run.units.get(event.task) or _unit_of(run, event)
    if unit is None:
        return
    # _end_unit and resolve, without the calls: nearly all events are these.
    if unit.state not in FINAL_TASK_STATES:
        run.unfinished -= 1
    if run.stops:
        run.stops.discard(event.task)
    unit.state = TaskState.SUCCEEDED
    unit.attempt, unit.started_at, unit.ended_at = event.attempt, event.started_at, event.at
    unit.retry_at = None
    unit.output = event.output
    future = run.futures.pop(event.task, None)
    if future is not None and not future.done():
        future.set_result(event.output)


def _task_failed(run: CodeRun, event: ev.TaskFailed) -> None:
    unit = _unit_of(run, event)
    if unit is None:
        return
    _end_unit(run, unit, event, TaskState.FAILED)
    unit.failure = event.failure
    run.tasks_failed += 1
    failure = event.failure
    resolve(
        run,
        event.task,
        error=TaskFailed(f"task {event.task} failed: {failure.text}", task=event.task, failure=failure),
    )


def _task_skipped(run: CodeRun, event: ev.TaskSkipped) -> None:
    unit = _unit_of(run, event)
    if unit is not None:
        _end_unit(run, unit, event, TaskState.SKIPPED)
        unit.reason = event.reason
        resolve(run, event.task, None)


def _task_stopped(run: CodeRun, event: Any) -> None:
    unit = _unit_of(run, event)
    if unit is not None:
        _end_unit(run, unit, event, TaskState.CANCELLED)
        resolve(run, event.task, None)


def _timer_fired(run: CodeRun, event: ev.TimerFired) -> None:
    entry = run.timers.pop(event.timer, None)
    if run.blind:
        return
    if event.timer == START_TIMER and run.main is None:
        begin(run)
        return
    if entry is None or entry[0] is None:
        missing(run, event)
        return
    run.loop.fire(entry[0])


def _signal(run: CodeRun, event: ev.SignalReceived) -> None:
    if event.key is not None:
        run.seen_keys.add(event.key)
    if not run.blind and intercepts(run, "handle_signal"):
        if run.main is None:
            run.early.append(event)
        else:
            deliver_signal(run, event)
        return
    handler = run.handlers.get(("signal", event.name))
    if handler is not None and not run.blind:
        run_handler(run, handler, event.payload, None)
        return
    give_signal(run, event.name, event.payload)


def _update_accepted(run: CodeRun, event: ev.UpdateAccepted) -> None:
    run.updates[event.update] = Update(event.name)
    if run.blind:
        return
    handler = run.handlers.get(("update", event.name))
    if handler is None:
        run.diverge(f"event {run.seq + 1}: the history has an update {event.name!r}, the code has no handler for it")
        return
    invoke = intercepted_update(run, handler, event) if intercepts(run, "handle_update") else None
    run_handler(run, handler, event.payload, event.update, invoke)


def _child_ended(run: CodeRun, event: ev.ChildEnded) -> None:
    child = run.children.get(event.child)
    if child is None:
        missing(run, event)
        return
    child.state, child.output, child.failure = event.state, event.output, event.failure
    if event.state == RunState.SUCCEEDED:
        resolve(run, f"child:{event.child}", event.output)
        return
    future = run.futures.get(f"child:{event.child}")
    resolve(run, f"child:{event.child}", error=child_error(event.child, child))
    if future is not None and not future.cancelled():
        future.exception()  # looked at: who awaits the handle hears of it, now or later, and nobody has to


def _message_sent(run: CodeRun, event: ev.MessageSent) -> None:
    if run.messages.pop(event.message, None) is None:
        missing(run, event)
        return
    if event.failure is None:
        resolve(run, f"message:{event.message}", None)
    else:
        resolve(run, f"message:{event.message}", error=InvalidCommand(event.failure.message))


def _cancel_requested(run: CodeRun, event: ev.RunCancelRequested) -> None:
    run.state = RunState.CANCELLING
    run.reason = event.reason or None
    run.cancelled = True
    if run.blind:
        return
    if run.main is None:  # its code has not begun
        run.timers.clear()
        run.finish_with(RunState.CANCELLED)
    elif not run.main.done():
        run.main.cancel()


_STIMULI: dict[type, Callable[[CodeRun, Any], None]] = {
    ev.RunCreated: _created,
    ev.TaskSucceeded: _task_succeeded,
    ev.TaskFailed: _task_failed,
    ev.TaskSkipped: _task_skipped,
    ev.TimerFired: _timer_fired,
    ev.SignalReceived: _signal,
    ev.UpdateAccepted: _update_accepted,
    ev.ChildEnded: _child_ended,
    ev.MessageSent: _message_sent,
    ev.RunCancelRequested: _cancel_requested,
}


# -- answers, and what wakes nobody


def _attempt_failed(run: CodeRun, event: ev.AttemptFailed) -> None:
    unit = _unit_of(run, event)
    if unit is not None:
        unit.state = TaskState.RETRYING
        await_retry(unit, event)
        run.fresh.append(unit)


def _task_started(run: CodeRun, event: ev.TaskStarted) -> None:
    unit = _unit_of(run, event)
    if unit is not None:
        unit.state = TaskState.RUNNING
        unit.starts += 1
        unit.external = event.external
        unit.away = bool(event.queue)
        unit.started_at = event.at
        unit.retry_at = None


def _task_heartbeat(run: CodeRun, event: ev.TaskHeartbeat) -> None:
    unit = _unit_of(run, event)
    if unit is not None:
        unit.state = TaskState.RUNNING
        unit.beat_at = event.at
        if event.details is not None:
            unit.details = event.details


def _attempt_interrupted(run: CodeRun, event: ev.AttemptInterrupted) -> None:
    unit = _unit_of(run, event)
    if unit is not None:
        unit.state = TaskState.READY
        unit.starts -= 1
        unit.away = False
        unit.started_at = None


def _task_cancelled(run: CodeRun, event: ev.TaskCancelled) -> None:
    unit = _unit_of(run, event)
    if unit is not None:
        _end_unit(run, unit, event, TaskState.CANCELLED)
        run.effects.append(effects.Withdraw())


def _cancel_asked(run: CodeRun, event: ev.TaskCancelRequested) -> None:
    if _unit_of(run, event) is not None:
        run.stops.add(event.task)
        run.effects.append(effects.Stop(event.task))


def _timer_set(run: CodeRun, event: ev.TimerSet) -> None:
    timer = None
    entry = run.timers.get(event.timer)
    if entry is not None:
        timer = entry[0]
    run.timers[event.timer] = (timer, event.due)
    run.effects.append(effects.SetTimer(event.timer, event.due))


def _child_started(run: CodeRun, event: ev.ChildStarted) -> None:
    run.children[event.child] = Child(event.run_id, event.target, event.params, event.policy, event.key, event.headers)
    run.effects.append(
        effects.StartChild(event.child, event.run_id, event.target, event.params, event.key, event.headers)
    )


def _message_requested(run: CodeRun, event: ev.MessageRequested) -> None:
    run.messages[event.message] = event
    run.effects.append(
        effects.SendMessage(event.message, event.run_id, event.kind, event.name, event.payload, event.headers)
    )


def _update_completed(run: CodeRun, event: ev.UpdateCompleted) -> None:
    update = run.updates.setdefault(event.update, Update(""))
    update.done, update.output, update.failure = True, event.output, event.failure
    run.effects.append(effects.Reply(event.update))


def _patched(run: CodeRun, event: ev.Patched) -> None:
    run.patches[event.patch] = True


def _attributes_set(run: CodeRun, event: ev.AttributesSet) -> None:
    for target, values in ((run.attributes, event.values), (run.memo, event.memo)):
        for name, value in values.items():
            if value is None:
                target.pop(name, None)
            else:
                target[name] = value
    if event.details is not None:
        run.details = event.details
    if event.values:
        run.searched = run.stale = True


def _forked(run: CodeRun, event: ev.RunForked) -> None:
    run.seed = run.run_id
    run.timeout_from = run.chain_at = event.at
    run.chance = None


def _suspended(run: CodeRun, event: ev.RunSuspended) -> None:
    run.state = RunState.SUSPENDED
    run.reason = event.reason


def _paused(run: CodeRun, event: ev.RunPaused) -> None:
    run.state = RunState.PAUSED
    run.reason = event.reason or None


def _resumed(run: CodeRun, _event: ev.RunResumed) -> None:
    run.state = RunState.CANCELLING if run.cancelled else RunState.RUNNING
    run.reason = None


def _finished(run: CodeRun, event: ev.RunFinished) -> None:
    run.state = RunState(event.state)
    run.ended_at = event.at
    run.output = event.output
    run.failure = event.failure
    run.failed_task = event.failed_task
    run.next_run, run.retry_at = event.next_run, event.retry_at
    run.commands.clear()
    for unit in run.tasks:
        if not unit.done:
            unit.state = TaskState.CANCELLED
            unit.ended_at = event.at
    run.unfinished = 0
    run.effects.append(effects.Ended(event.next_run))


_ANSWERS: dict[type, Callable[[CodeRun, Any], None]] = {
    ev.AttemptFailed: _attempt_failed,
    ev.TaskStarted: _task_started,
    ev.AttemptInterrupted: _attempt_interrupted,
    ev.TaskHeartbeat: _task_heartbeat,
    ev.TaskCancelled: _task_cancelled,
    ev.TaskCancelRequested: _cancel_asked,
    ev.TimerSet: _timer_set,
    ev.ChildStarted: _child_started,
    ev.MessageRequested: _message_requested,
    ev.UpdateCompleted: _update_completed,
    ev.Patched: _patched,
    ev.AttributesSet: _attributes_set,
    ev.RunSuspended: _suspended,
    ev.RunPaused: _paused,
    ev.RunResumed: _resumed,
    ev.RunForked: _forked,
    ev.RunFinished: _finished,
}
