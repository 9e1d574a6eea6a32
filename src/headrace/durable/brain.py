"""The code brain: decides a run by running its coroutine against its history.

``fold`` applies one event. A *stimulus* (an outcome, a fired timer, a signal) wakes the code, which runs until it waits
again and may leave commands; a *command event* answers the command at the head of the queue and must agree with it.
``decide`` turns an input into a stimulus and then answers the commands it brought forth, so that both are in one flush.

Folding a stored history runs the same code in the same order: that is replay. Nothing in here reads a clock or does
I/O; user code is kept from it by the loop and by :mod:`headrace.durable.virtual`.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator
from typing import Any

from headrace.core import events as ev
from headrace.core import inputs as inp
from headrace.core.decide import attempt_is_over
from headrace.core.errors import InvalidCommand, TaskFailed, UpdateRejected
from headrace.core.ids import attempt_key
from headrace.core.retry import next_attempt_at
from headrace.core.run import TaskUnit, Unit
from headrace.core.spec import TaskSpec
from headrace.core.states import RunState, TaskState
from headrace.core.view import RunView, view_run
from headrace.durable import effects, following
from headrace.durable.intercepted import deliver_signal, intercepted_update, intercepted_validator, intercepts
from headrace.durable.run import Child, CodeNode, CodeRun, Update, describe
from headrace.durable.running import (
    begin,
    child_error,
    close,
    drain,
    give_signal,
    looking,
    resolve,
    run_handler,
)

START_TIMER = 0
"""The timer of a run whose code begins later; those of the code count from 1."""

STARTS_MAX = 5
"""Recorded starts of one attempt after which it counts as lost for good: something in it kills its process."""

_OPEN = (TaskState.READY, TaskState.RUNNING, TaskState.RETRYING)
_HELD = (RunState.PAUSED, RunState.SUSPENDED)
"""Code still hears of what happens; what it asks for waits until the run is resumed."""


# ---- fold -----------------------------------------------------------------------------------------------------------


def fold(run: CodeRun, event: ev.Event) -> None:
    """Apply one event. Never raises for code that does not fit: the run diverges instead."""
    kind = type(event)
    stimulus = _STIMULI.get(kind)
    if run.stops and kind is ev.TaskCancelled and event.task in run.stops:  # type: ignore[union-attr]
        stimulus = _task_stopped  # code waits to hear it, it does not ask for it
    if stimulus is not None:
        if run.commands and not run.blind and run.state not in _HELD:
            _expected_command(run, event)
        loop = run.loop
        if event.at > loop.now:  # noqa: PLR1730 - a replay does little else
            loop.now = event.at
        run.last_stimulus = event
        stimulus(run, event)
        if run.main is not None and not run.finished and run.diverged is None and not run.done:
            drain(run)
    else:
        answer = _ANSWERS.get(kind)
        if answer is None:
            run.diverge(f"event {run.seq + 1} is a {describe(event)}, which code workflows do not have")
        else:
            if kind in _COMMANDED:
                _match(run, event)
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


def _expected_command(run: CodeRun, event: ev.Event) -> None:
    command = run.commands[0]
    if command.wanted is not None and not command.wanted():
        run.commands.popleft()
        if run.commands:
            _expected_command(run, event)
        return
    run.diverge(
        f"event {run.seq + 1}: the history goes on with {describe(event)}, "
        f"but the code now asks for {_command_text(command)} at {command.place}, after {describe(run.last_stimulus)}",
        command.place,
    )


def _command_text(command: Any) -> str:
    tag = str(command.kind.__struct_config__.tag)
    return f"{tag} {command.key}" if command.key is not None else tag


_KEYS: dict[type, Callable[[Any], object]] = {
    ev.TimerSet: lambda event: event.timer,
    ev.ChildStarted: lambda event: event.child,  # its target is where its code is: that may move
    ev.MessageRequested: lambda event: (event.message, event.kind),
    ev.Patched: lambda event: event.patch,
    ev.AttributesSet: lambda event: None,
    ev.UpdateCompleted: lambda event: event.update,
    ev.TaskCancelled: lambda event: event.task,
    ev.TaskCancelRequested: lambda event: event.task,
    ev.RunFinished: lambda event: event.state,
}
_COMMANDED = frozenset(_KEYS)

_FROM_OUTSIDE = frozenset({"terminated", following.RUN_TIMEOUT, following.EXECUTION_TIMEOUT})
"""Ends that the code did not ask for."""


def _match(run: CodeRun, event: ev.Event) -> None:
    """Take the command that this event answers; diverge if it is another one."""
    if run.blind:
        return
    if isinstance(event, ev.RunFinished) and (
        run.state is RunState.SUSPENDED or (event.failure is not None and event.failure.type in _FROM_OUTSIDE)
    ):
        return
    while run.commands:
        command = run.commands.popleft()
        if command.wanted is not None and not command.wanted() and command.key != _KEYS[type(event)](event):
            continue
        if command.kind is type(event) and command.key == _KEYS[type(event)](event):
            return
        run.diverge(
            f"event {run.seq + 1}: the history has {describe(event)}, "
            f"the code asks for {_command_text(command)} at {command.place}",
            command.place,
        )
        return
    _missing(run, event)


def _missing(run: CodeRun, event: ev.Event) -> None:
    asked = next((command for command in run.commands if command.wanted is None or command.wanted()), None)
    if asked is not None:  # what the code does instead says more than what it waits for
        run.diverge(
            f"event {run.seq + 1}: the history has {describe(event)}, but the code now asks for "
            f"{_command_text(asked)} at {asked.place}, after {describe(run.last_stimulus)}",
            asked.place,
        )
        return
    run.diverge(
        f"event {run.seq + 1}: the history has {describe(event)}, but the code has not asked for it; "
        f"it waits for {', '.join(_waiting(run)) or 'nothing'} after {describe(run.last_stimulus)}"
    )


def _waiting(run: CodeRun) -> list[str]:
    names = [f"task {step} ({unit.node.place})" for step, unit in run.units.items() if not unit.done]  # type: ignore[attr-defined]
    return names[:5]


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
            return run.add_unit(CodeNode(event.task, -1, TaskSpec(id=event.task, kind="python"), {}, ""))
        _missing(run, event)
        return None
    return unit


def _end_unit(run: CodeRun, unit: TaskUnit, event: Any, state: TaskState) -> None:
    if not unit.done:
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
    _end_unit(run, unit, event, TaskState.SUCCEEDED)
    unit.output = event.output
    resolve(run, event.task, event.output)


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
        error=TaskFailed(
            f"task {event.task} failed: {failure.type}: {failure.message}", task=event.task, failure=failure
        ),
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
        _missing(run, event)
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
        _missing(run, event)
        return
    child.state, child.output, child.failure = event.state, event.output, event.failure
    if event.state == RunState.SUCCEEDED:
        resolve(run, f"child:{event.child}", event.output)
        return
    resolve(run, f"child:{event.child}", error=child_error(event.child, child))


def _message_sent(run: CodeRun, event: ev.MessageSent) -> None:
    if run.messages.pop(event.message, None) is None:
        _missing(run, event)
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
        unit.attempt = event.attempt
        unit.starts = 0
        unit.external = unit.away = False
        if event.details is not None:
            unit.details = event.details
        unit.failure = event.failure
        unit.started_at = event.started_at
        unit.retry_at = event.retry_at
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


# ---- decide ---------------------------------------------------------------------------------------------------------


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
            events.append(suspended)
            fold(run, suspended)
        return
    if run.state in _HELD or run.blind:
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
    if unit is None or unit.state not in _OPEN or given.attempt != unit.attempt + 1 or run.done:
        return None
    return unit


def _on_succeeded(run: CodeRun, given: inp.Succeeded, now: float) -> ev.Event | None:
    if _current(run, given) is None:
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
    if unit is None or unit.state is not TaskState.RUNNING or (unit.node.spec.at_most_once and not unit.away):
        return None
    return ev.AttemptInterrupted(now, given.task, given.attempt)


def _on_task_timed_out(run: CodeRun, given: inp.TaskTimedOut, now: float) -> ev.Event | None:
    unit = run.units.get(given.task)
    if unit is None or unit.state not in _OPEN:
        return None
    failure = ev.Failure("task_timeout", f"the task took longer than its bound of {unit.node.timeouts.task:g} s")
    return ev.TaskFailed(now, given.task, unit.attempt + 1, failure)


def _on_timer(run: CodeRun, given: inp.TimerDue, now: float) -> ev.Event | None:
    entry = run.timers.get(given.timer)
    if entry is None or run.done or run.state in _HELD:
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
    except Exception as error:
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
    if unit.node.spec.at_most_once:
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


# ---- the brain ------------------------------------------------------------------------------------------------------


def launchable(run: CodeRun) -> list[Unit]:
    """Calls that owe an attempt."""
    if not run.launching:
        return []
    stops = run.stops
    return [unit for unit in run.tasks if unit.state in _OPEN and not unit.external and unit.node.id not in stops]


class CodeBrain:
    """Decides by replaying code."""

    new = staticmethod(CodeRun)
    create = staticmethod(create)
    decide = staticmethod(decide)
    fold = staticmethod(fold)
    folding = staticmethod(replaying)
    launchable = staticmethod(launchable)
    deadline = staticmethod(following.deadline)
    pending = staticmethod(effects.pending)
    close = staticmethod(close)

    @staticmethod
    def view(run: CodeRun, *, items: bool = False) -> RunView:
        """The run as people read it."""
        view = view_run(run, items=items)  # type: ignore[arg-type]
        view.next_run = run.next_run
        view.details, view.kind = run.details, "code"
        return view


CODE_BRAIN = CodeBrain()
