"""States and the tables of allowed transitions; the diagrams in the docs are generated from these tables.

``python -m headrace.core.states`` prints the diagrams.
"""

from __future__ import annotations

import enum

from headrace.core import events as ev


class RunState(enum.StrEnum):
    """The state of a run."""

    RUNNING = "running"
    """Entered by ``run.created``, ``run.resumed`` or ``run.retried``; tasks start as they become ready."""
    PAUSED = "paused"
    """Entered by ``run.paused``, left by ``run.resumed`` or a cancel; nothing new starts."""
    CANCELLING = "cancelling"
    """Entered by ``run.cancel_requested``; waits for attempts under way to stop."""
    SUCCEEDED = "succeeded"
    """Final: every task that had to succeed did."""
    FAILED = "failed"
    """Final until retried: a task failed that was not allowed to, or the run timed out."""
    CANCELLED = "cancelled"
    """Final until retried: somebody cancelled it."""
    SUSPENDED = "suspended"
    """Entered by ``run.suspended``: the code of a code workflow does not fit; left by ``run.resumed``."""
    TERMINATED = "terminated"
    """Final: ended from outside without running any more of its code."""
    CONTINUED = "continued"
    """Final: a code workflow went on as a new run."""


class TaskState(enum.StrEnum):
    """The state of a task, or of one item of a mapped task."""

    WAITING = "waiting"
    """For the tasks it needs."""
    READY = "ready"
    """May start; waits for a slot at most."""
    RUNNING = "running"
    """An attempt is under way. Entered by ``task.started``; short attempts show it only while they run."""
    RETRYING = "retrying"
    """An attempt failed, the next one waits for its time."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    UPSTREAM_FAILED = "upstream_failed"
    CANCELLED = "cancelled"


FINAL_RUN_STATES = frozenset(
    {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.TERMINATED, RunState.CONTINUED}
)
FINAL_TASK_STATES = frozenset(
    {
        TaskState.SUCCEEDED,
        TaskState.FAILED,
        TaskState.SKIPPED,
        TaskState.UPSTREAM_FAILED,
        TaskState.CANCELLED,
    }
)

_T = TaskState
_OPEN = frozenset({_T.READY, _T.RUNNING, _T.RETRYING})
_UNFINISHED = _OPEN | {_T.WAITING}

TASK_TRANSITIONS: dict[type, tuple[frozenset[TaskState], TaskState]] = {
    ev.TaskReady: (frozenset({_T.WAITING}), _T.READY),
    ev.TaskMapped: (frozenset({_T.WAITING}), _T.READY),
    ev.TaskStarted: (_OPEN, _T.RUNNING),
    ev.TaskHeartbeat: (_OPEN, _T.RUNNING),
    ev.AttemptInterrupted: (frozenset({_T.RUNNING}), _T.READY),
    ev.AttemptFailed: (_OPEN, _T.RETRYING),
    ev.TaskSucceeded: (_OPEN, _T.SUCCEEDED),
    ev.TaskFailed: (_UNFINISHED, _T.FAILED),
    ev.TaskSkipped: (_UNFINISHED, _T.SKIPPED),
    ev.TaskUpstreamFailed: (frozenset({_T.WAITING}), _T.UPSTREAM_FAILED),
    ev.TaskCancelled: (_UNFINISHED, _T.CANCELLED),
}
"""Event type to (states it may meet, state it leads to). A plain task also goes from waiting to ready without an event,
when the last task it needs ends: that follows from the counts. ``run.retried`` takes tasks back to waiting."""

_R = RunState
RUN_TRANSITIONS: dict[type, tuple[frozenset[RunState], tuple[RunState, ...]]] = {
    ev.RunCancelRequested: (frozenset({_R.RUNNING, _R.PAUSED}), (_R.CANCELLING,)),
    ev.RunPaused: (frozenset({_R.RUNNING}), (_R.PAUSED,)),
    ev.RunResumed: (frozenset({_R.PAUSED, _R.SUSPENDED}), (_R.RUNNING,)),
    ev.RunSuspended: (frozenset({_R.RUNNING, _R.CANCELLING}), (_R.SUSPENDED,)),
    ev.RunFinished: (
        frozenset({_R.RUNNING, _R.PAUSED, _R.CANCELLING, _R.SUSPENDED}),
        (_R.SUCCEEDED, _R.FAILED, _R.CANCELLED, _R.TERMINATED, _R.CONTINUED),
    ),
    ev.RunRetried: (frozenset({_R.SUCCEEDED, _R.FAILED, _R.CANCELLED}), (_R.RUNNING,)),
}


def _tag(event: type) -> str:
    return str(event.__struct_config__.tag)  # type: ignore[attr-defined]


def task_diagram() -> str:
    """The task state diagram, as Mermaid."""
    lines = ["stateDiagram-v2", "    [*] --> waiting: run.created", "    waiting --> ready: tasks it needs have ended"]
    for event, (sources, target) in TASK_TRANSITIONS.items():
        lines += [f"    {source} --> {target}: {_tag(event)}" for source in TaskState if source in sources]
    back = [_T.FAILED, _T.UPSTREAM_FAILED, _T.CANCELLED, _T.SKIPPED]
    lines += [f"    {state} --> waiting: run.retried" for state in back]
    lines += [f"    {state} --> [*]" for state in TaskState if state in FINAL_TASK_STATES]
    return "\n".join(lines) + "\n"


def run_diagram() -> str:
    """The run state diagram, as Mermaid."""
    lines = ["stateDiagram-v2", "    [*] --> running: run.created"]
    for event, (sources, targets) in RUN_TRANSITIONS.items():
        for source in RunState:
            if source in sources:
                lines += [
                    f"    {source} --> {target}: {_tag(event)}"
                    for target in targets
                    if source is not _R.CANCELLING or target is not _R.SUCCEEDED
                ]
    lines += [f"    {state} --> [*]" for state in RunState if state in FINAL_RUN_STATES]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print("```mermaid\n" + run_diagram() + "```\n\n```mermaid\n" + task_diagram() + "```")  # noqa: T201
