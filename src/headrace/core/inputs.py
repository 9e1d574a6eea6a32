"""What the world can tell a run. Inputs are not stored; the events that follow from them are."""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.core.events import Failure


class Succeeded(msgspec.Struct, frozen=True, gc=False):
    """An attempt returned. ``attempt`` must be the one under way, otherwise the outcome is late and refused."""

    task: str
    item: int | None
    attempt: int
    started_at: float
    output: Any


class Failed(msgspec.Struct, frozen=True, gc=False):
    """An attempt failed, or could not be started (``started_at`` None). ``details`` are those of its last heartbeat."""

    task: str
    item: int | None
    attempt: int
    started_at: float | None
    failure: Failure
    details: Any = None


class Skipped(msgspec.Struct, frozen=True, gc=False):
    """A task asked to be skipped."""

    task: str
    item: int | None
    attempt: int
    started_at: float
    reason: str


class Cancelled(msgspec.Struct, frozen=True, gc=False):
    """An attempt was stopped because its run is being cancelled."""

    task: str
    item: int | None
    attempt: int
    started_at: float | None


class Interrupted(msgspec.Struct, frozen=True, gc=False):
    """An attempt was stopped because its node stops; only for attempts whose start was recorded."""

    task: str
    item: int | None
    attempt: int


class Started(msgspec.Struct, frozen=True, gc=False):
    """An attempt is about to start or has outlived a flush; recorded so that others see it. ``external``: its function
    has returned and left the outcome to somebody else. ``queue``: it is on offer there, ``node`` has claimed it (or
    nobody yet)."""

    task: str
    item: int | None
    attempt: int
    at: float
    node: str
    external: bool = False
    queue: str = ""


class Heartbeat(msgspec.Struct, frozen=True, gc=False):
    """An attempt says how far it is. ``strict``: it comes from outside, who wants to hear of a refusal."""

    task: str
    item: int | None
    attempt: int
    details: Any = None
    strict: bool = False


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """Command: what became of an attempt, told from outside: its ``output``, or its ``failure``."""

    task: str
    item: int | None
    attempt: int
    output: Any = None
    failure: Failure | None = None


class TaskTimedOut(msgspec.Struct, frozen=True, gc=False):
    """The time for the whole task is over."""

    task: str


class RunTimedOut(msgspec.Struct, frozen=True, gc=False):
    """The time for the whole run is over."""


class Cancel(msgspec.Struct, frozen=True, gc=False):
    """Command: cancel the run."""

    reason: str = ""


class Pause(msgspec.Struct, frozen=True, gc=False):
    """Command: start nothing new."""

    reason: str = ""


class Resume(msgspec.Struct, frozen=True, gc=False):
    """Command: go on after a pause. A run that is not paused takes no notice."""


class Retry(msgspec.Struct, frozen=True, gc=False):
    """Command: run again what failed. ``tasks`` narrows it to these tasks and what follows from them; a named task runs
    again even if it succeeded."""

    tasks: tuple[str, ...] = ()
    reason: str = ""


class ValuesLoaded(msgspec.Struct, frozen=True, gc=False):
    """Large values that decisions waited for are in ``run.values`` now."""


class TimerDue(msgspec.Struct, frozen=True, gc=False):
    """The time of a durable timer has come."""

    timer: int


class Signal(msgspec.Struct, frozen=True, gc=False):
    """Command: a named message for workflow code. ``key`` names the sender's command; a repeated one is dropped."""

    name: str
    payload: Any = None
    key: str | None = None
    headers: dict[str, str] = {}


class Update(msgspec.Struct, frozen=True, gc=False):
    """Command: a request to workflow code. ``update`` is the caller's id; a repeated one is not run again."""

    update: str
    name: str
    payload: Any = None
    headers: dict[str, str] = {}


class ChildDone(msgspec.Struct, frozen=True, gc=False):
    """A child reached its final state."""

    child: str
    state: str
    output: Any = None
    failure: Failure | None = None


class MessageDone(msgspec.Struct, frozen=True, gc=False):
    """A message to another run is durable there, or cannot be delivered."""

    message: int
    failure: Failure | None = None


class Terminate(msgspec.Struct, frozen=True, gc=False):
    """Command: end the run without running any more of its code. ``next_run`` takes its place."""

    reason: str = ""
    next_run: str | None = None


class Recovered(msgspec.Struct, frozen=True, gc=False):
    """The run was loaded by a node after its former owner was lost or let go of it."""


Input = (
    Succeeded
    | Failed
    | Skipped
    | Cancelled
    | Started
    | Interrupted
    | Heartbeat
    | Outcome
    | TaskTimedOut
    | RunTimedOut
    | Cancel
    | Pause
    | Resume
    | Retry
    | ValuesLoaded
    | TimerDue
    | Signal
    | Update
    | ChildDone
    | MessageDone
    | Terminate
    | Recovered
)
