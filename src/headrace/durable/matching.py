"""Holds events against commands: what the history tells against what the code asks for. Where they differ, the run
diverges, with both sides and their places in the message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.core import events as ev
from headrace.core.states import RunState
from headrace.durable import following
from headrace.durable.run import CodeRun, Place, describe, waiting_place


def expect_command(run: CodeRun, event: ev.Event) -> None:
    command = run.commands[0]
    if command.wanted is not None and not command.wanted():
        run.commands.popleft()
        if run.commands:
            expect_command(run, event)
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
COMMANDED = frozenset(_KEYS)

_FROM_OUTSIDE = frozenset({"terminated", following.RUN_TIMEOUT, following.EXECUTION_TIMEOUT})
"""Ends that the code did not ask for."""


def match(run: CodeRun, event: ev.Event) -> None:
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
    missing(run, event)


def missing(run: CodeRun, event: ev.Event) -> None:
    asked = next((command for command in run.commands if command.wanted is None or command.wanted()), None)
    if asked is not None:  # what the code does instead says more than what it waits for
        run.diverge(
            f"event {run.seq + 1}: the history has {describe(event)}, but the code now asks for "
            f"{_command_text(asked)} at {asked.place}, after {describe(run.last_stimulus)}",
            asked.place,
        )
        return
    waiting = _waiting(run)
    names = ", ".join(f"{what} ({place})" for what, place in waiting)
    run.diverge(
        f"event {run.seq + 1}: the history has {describe(event)}, but the code has not asked for it; "
        f"it waits for {names or 'nothing'} after {describe(run.last_stimulus)}",
        waiting[0][1] if waiting else None,
    )


def _waiting(run: CodeRun) -> list[tuple[str, Place]]:
    """What the code waits for instead, each with its line: tasks, or else whatever it is that the main code awaits."""
    nodes: list[Any] = [unit.node for unit in run.units.values() if not unit.done]  # of code all are CodeNodes
    if nodes:
        return [(f"task {node.id}", node.place) for node in nodes[:5]]
    place = waiting_place(run)
    signals = [name for name, futures in run.waiters.items() if any(not future.done() for future in futures)]
    what = f"signal {', '.join(signals)}" if signals else "what is awaited"
    return [] if place is None else [(what, place)]
