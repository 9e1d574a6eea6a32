"""What a code run owes the world besides attempts. Named by run and number, so that repeating one is harmless."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from headrace.durable.run import CodeRun


class SetTimer(msgspec.Struct, frozen=True):
    """Tell the run when ``due`` (seconds since the epoch) has come."""

    timer: int
    due: float


class DropTimer(msgspec.Struct, frozen=True):
    """The code no longer wants the timer."""

    timer: int


class StartChild(msgspec.Struct, frozen=True):
    """Make sure that the child run exists, and tell the run of its end."""

    child: str
    run_id: str
    target: str
    params: dict[str, Any]
    key: str | None = None
    headers: dict[str, str] = {}


class SendMessage(msgspec.Struct, frozen=True):
    """Bring a signal or cancel request to another run, then tell the run."""

    message: int
    run_id: str
    kind: str
    name: str
    payload: Any
    headers: dict[str, str] = {}


class Reply(msgspec.Struct, frozen=True):
    """An update is answered: wake whoever waits for it."""

    update: str


class Withdraw(msgspec.Struct, frozen=True):
    """Stop attempts whose calls have been cancelled."""


class Stop(msgspec.Struct, frozen=True):
    """Stop the attempt of a call; the run waits to hear that it has."""

    task: str


class Ended(msgspec.Struct, frozen=True):
    """The run is over: tell its parent, deal with its children, start ``next_run`` if it continues."""

    next_run: str | None


def pending(run: CodeRun) -> list[Any]:
    """Everything owed besides attempts, for whoever takes the run over."""
    if run.done:
        return []
    owed: list[Any] = []
    for number, (timer, due) in run.timers.items():
        if timer is None or not timer.cancelled():
            owed.append(SetTimer(number, due))
    for name, child in run.children.items():
        if child.state is None:
            owed.append(StartChild(name, child.run_id, child.target, child.params, child.key, child.headers))
    owed.extend(Stop(task) for task in sorted(run.stops))
    owed.extend(
        SendMessage(number, sent.run_id, sent.kind, sent.name, sent.payload, sent.headers)
        for number, sent in run.messages.items()
    )
    return owed
