"""The stored facts. A run is its events, numbered 1, 2, 3 ... without a gap.

Times are seconds since the epoch (UTC) as ``float``. ``item`` is the index in a mapped task, None for a plain task.
A finished task is one event; its start time rides in it. ``task.started`` is written only for attempts that outlive
a flush and for ``at_most_once`` tasks.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Failure(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Why an attempt failed.

    ``type`` is the exception's class name, ``exit``, ``http``, ``timeout``, ``heartbeat_timeout``, ``queue_timeout``,
    ``task_timeout``, ``lost``, ``crashed``, ``template``, ``map_too_large``. ``bases`` are the exception's base class
    names, for retry rules. ``code`` is an exit code or HTTP status. ``traceback`` holds the user's frames. ``retryable``
    is the task's own word on it (True, False, or None when it said nothing); ``retry_after`` seconds override the next
    delay.
    """

    type: str
    message: str
    bases: tuple[str, ...] = ()
    code: int | None = None
    traceback: str = ""
    retryable: bool | None = None
    retry_after: float | None = None

    @property
    def text(self) -> str:
        """``TYPE: message``, or the type alone of an exception that says no more (``TimeoutError``)."""
        return f"{self.type}: {self.message}" if self.message else self.type


class _Event(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", gc=False):
    at: float


class RunCreated(_Event, frozen=True, tag="run.created"):
    """The run exists; a client was or will be told so. Always event 1.

    ``parent`` is ``run/child`` of the run that wants its result. ``signals`` are messages taken over from the run that
    this one continues, ``chain`` the first run of that chain and ``chain_at`` the time of its creation. ``key`` is the
    business key. ``attempt`` counts the tries of the workflow's own retry policy; the code begins at ``start_at``.
    ``reset_from`` is ``run/event``: the history up to there was copied from that run. ``seed`` is the run whose chance
    and derived ids the copied part repeats. ``headers`` travel beside the parameters, to all that the run calls."""

    run_id: str
    workflow: str
    version: str
    params: dict[str, Any] = {}
    tags: dict[str, str] = {}
    trigger: str = "manual"
    source_dir: str | None = None
    parent: str | None = None
    signals: list[tuple[str, Any]] = []
    chain: str | None = None
    chain_at: float | None = None
    key: str | None = None
    attributes: dict[str, Any] = {}
    memo: dict[str, Any] = {}
    attempt: int = 1
    start_at: float | None = None
    reset_from: str | None = None
    seed: str | None = None
    headers: dict[str, str] = {}


class TaskStarted(_Event, frozen=True, tag="task.started"):
    """An attempt began. Written for long or at-most-once attempts, and for ``external`` ones: their function has
    returned, the outcome is still to come from somebody else. ``queue`` is set if the attempt is on offer to others: what
    becomes of it does not depend on the run's owner."""

    task: str
    attempt: int
    item: int | None = None
    node: str = ""
    external: bool = False
    queue: str = ""


class TaskHeartbeat(_Event, frozen=True, tag="task.heartbeat"):
    """An attempt said that it lives, and how far it is: ``details`` are there for the attempt that follows it. Written
    every few seconds at most, and only when details changed."""

    task: str
    attempt: int
    item: int | None = None
    details: Any = None


class AttemptInterrupted(_Event, frozen=True, tag="attempt.interrupted"):
    """The node stopped in an orderly way while a recorded attempt was under way, or took back one on offer that nobody
    had begun: it is owed again, and its start does not count as one that a crash ended."""

    task: str
    attempt: int
    item: int | None = None


class TaskSucceeded(_Event, frozen=True, tag="task.succeeded"):
    """A task or one item of a mapped task has its output. ``at`` is when it ended."""

    task: str
    attempt: int
    started_at: float
    output: Any = None
    item: int | None = None


class AttemptFailed(_Event, frozen=True, tag="attempt.failed"):
    """An attempt failed and another will follow, ready at ``retry_at``. ``details`` are those of its last heartbeat."""

    task: str
    attempt: int
    failure: Failure
    retry_at: float
    started_at: float | None = None
    item: int | None = None
    details: Any = None


class TaskFailed(_Event, frozen=True, tag="task.failed"):
    """A task or item failed for good. ``started_at`` is None if it never started (queue timeout, bad template)."""

    task: str
    attempt: int
    failure: Failure
    started_at: float | None = None
    item: int | None = None


class TaskSkipped(_Event, frozen=True, tag="task.skipped"):
    """A task or item will not run: its trigger rule, its ``when``, or its own wish (``SkipTask``)."""

    task: str
    reason: str
    item: int | None = None
    attempt: int = 0
    started_at: float | None = None


class TaskUpstreamFailed(_Event, frozen=True, tag="task.upstream_failed"):
    """A task cannot run because of failures above it."""

    task: str


class TaskCancelled(_Event, frozen=True, tag="task.cancelled"):
    """A task or item was cancelled before or while running."""

    task: str
    item: int | None = None
    attempt: int = 0
    started_at: float | None = None


class TaskCancelRequested(_Event, frozen=True, tag="task.cancel_requested"):
    """Workflow code no longer wants a call's result, but waits until its attempt has stopped."""

    task: str


class TaskMapped(_Event, frozen=True, tag="task.mapped"):
    """A mapped task knows its items."""

    task: str
    items: list[Any]


class TaskReady(_Event, frozen=True, tag="task.ready"):
    """A task's ``when`` condition held. Tasks without a condition become ready by the counts alone, with no event."""

    task: str


class TimerSet(_Event, frozen=True, tag="timer.set"):
    """Workflow code waits for a time; ``due`` in seconds since the epoch."""

    timer: int
    due: float


class TimerFired(_Event, frozen=True, tag="timer.fired"):
    """The time has come."""

    timer: int


class SignalReceived(_Event, frozen=True, tag="signal.received"):
    """A named message reached the run. ``key`` names its sender's command, so that a repeated one is known."""

    name: str
    payload: Any = None
    key: str | None = None
    headers: dict[str, str] = {}


class UpdateAccepted(_Event, frozen=True, tag="update.accepted"):
    """A request passed its validator; its handler runs. ``update`` is the caller's id: it is never run twice."""

    update: str
    name: str
    payload: Any = None
    headers: dict[str, str] = {}


class UpdateCompleted(_Event, frozen=True, tag="update.completed"):
    """The handler of an update returned or raised."""

    update: str
    output: Any = None
    failure: Failure | None = None


class ChildStarted(_Event, frozen=True, tag="child.started"):
    """The run wants a child. ``policy`` says what becomes of it when this run ends first: ``terminate``, ``cancel`` or
    ``abandon``. ``params`` are the child's parameters, ``target`` its workflow, ``key`` its business key."""

    child: str
    run_id: str
    target: str
    params: dict[str, Any] = {}
    policy: str = "terminate"
    key: str | None = None
    headers: dict[str, str] = {}


class ChildEnded(_Event, frozen=True, tag="child.ended"):
    """A child reached its final state."""

    child: str
    state: str
    output: Any = None
    failure: Failure | None = None


class MessageSent(_Event, frozen=True, tag="message.sent"):
    """A signal or cancel request for another run is durable there (or ``failure`` says why it cannot be)."""

    message: int
    failure: Failure | None = None


class MessageRequested(_Event, frozen=True, tag="message.requested"):
    """Workflow code wants a signal or cancel request to be sent to another run."""

    message: int
    run_id: str
    kind: str
    name: str = ""
    payload: Any = None
    headers: dict[str, str] = {}


class Patched(_Event, frozen=True, tag="patched"):
    """The run has taken the new side of ``patched(id)``."""

    patch: str


class AttributesSet(_Event, frozen=True, tag="attributes.set"):
    """Workflow code changed what lists and searches show: ``values`` are typed attributes (None removes one), ``memo`` is
    not searchable, ``details`` is a text for people."""

    values: dict[str, Any] = {}
    memo: dict[str, Any] = {}
    details: str | None = None


class RunSuspended(_Event, frozen=True, tag="run.suspended"):
    """The workflow's code does not fit the run's history, or cannot be replayed; ``reason`` says where. Nothing happens
    until somebody resumes the run."""

    reason: str = ""


class RunCancelRequested(_Event, frozen=True, tag="run.cancel_requested"):
    """Somebody asked for the run to be cancelled, or it ran out of time; nothing new starts from here on."""

    reason: str = ""
    timed_out: bool = False


class RunPaused(_Event, frozen=True, tag="run.paused"):
    """Nothing new starts until the run is resumed; attempts under way go on."""

    reason: str = ""


class RunResumed(_Event, frozen=True, tag="run.resumed"):
    """A paused run goes on."""


class RunRetried(_Event, frozen=True, tag="run.retried"):
    """A finished run goes on: ``tasks`` return to waiting (for mapped tasks: their items that did not succeed)."""

    tasks: tuple[str, ...]
    reason: str = ""


class RunForked(_Event, frozen=True, tag="run.forked"):
    """The history before this was copied from another run (see ``reset_from``); from here on the run goes its own way:
    chance and derived ids are its own, the clock of its timeouts starts anew."""

    reason: str = ""


class RunFinished(_Event, frozen=True, tag="run.finished"):
    """The run reached a final state: ``succeeded``, ``failed``, ``cancelled``, ``terminated``, or ``continued`` as
    ``next_run``; a failed one may be tried again as ``next_run``, whose code begins at ``retry_at``."""

    state: str
    output: Any = None
    failure: Failure | None = None
    failed_task: str | None = None
    next_run: str | None = None
    retry_at: float | None = None


Event = (
    RunCreated
    | TaskStarted
    | TaskHeartbeat
    | AttemptInterrupted
    | TaskSucceeded
    | AttemptFailed
    | TaskFailed
    | TaskSkipped
    | TaskUpstreamFailed
    | TaskCancelled
    | TaskCancelRequested
    | TaskMapped
    | TaskReady
    | TimerSet
    | TimerFired
    | SignalReceived
    | UpdateAccepted
    | UpdateCompleted
    | ChildStarted
    | ChildEnded
    | MessageRequested
    | MessageSent
    | Patched
    | AttributesSet
    | RunSuspended
    | RunCancelRequested
    | RunPaused
    | RunResumed
    | RunRetried
    | RunForked
    | RunFinished
)
