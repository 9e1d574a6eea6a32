"""What a waiting command shows of a run: nothing, lines, or (in ``tree``) a picture that is redrawn."""

from __future__ import annotations

import sys
import time
from typing import Protocol

from headrace.authoring.drawing import tree_of
from headrace.cli.times import span
from headrace.core.spec import AnySpec, WorkflowSpec
from headrace.core.states import FINAL_RUN_STATES, FINAL_TASK_STATES, TaskState
from headrace.core.view import RunView, TaskView

TREE_TASKS_MAX = 500
"""A larger graph is never drawn whole."""

LINES_TASKS_MAX = 500
"""Above this many tasks, those that go well are counted, not named."""

_NEWS = (TaskState.FAILED, TaskState.RETRYING)

COUNT_SECONDS = 5.0
"""How often counts of a long run are repeated."""


class Progress(Protocol):
    """Shows one run. Used from the event loop's thread only; trouble with the terminal is never an error."""

    def start(self) -> None:
        """Begin to show."""
        ...

    def show(self, view: RunView) -> None:
        """The run as it is now."""
        ...

    def say(self, text: str) -> None:
        """A remark to the user."""
        ...

    def stop(self) -> None:
        """Show nothing more. Idempotent."""
        ...


class Silence:
    """Shows nothing but remarks."""

    def start(self) -> None:
        """Nothing to do."""

    def show(self, view: RunView) -> None:
        """Nothing to do."""

    def say(self, text: str) -> None:
        """A line on standard error."""
        _write(text)

    def stop(self) -> None:
        """Nothing to do."""


class Lines(Silence):
    """One line per change of a task, without control codes, for logs and pipes."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._seen: dict[str, tuple[str, int]] = {}
        self._run_state = ""
        self._counted = ("", 0.0)

    def show(self, view: RunView) -> None:
        """Lines for what has changed since the last call."""
        named = len(view.tasks) <= LINES_TASKS_MAX
        lines: list[str] = []
        if not self._run_state:
            count = len(view.tasks)
            lines.append(f"run {view.id}: {view.workflow}, {count:,} task{'' if count == 1 else 's'}")
        elif view.state != self._run_state and view.state not in FINAL_RUN_STATES:
            lines.append(f"run {view.id}: {view.state}")
        self._run_state = view.state
        for task_id, task in view.tasks.items():
            seen = (task.state, task.attempts)
            before = self._seen.get(task_id)
            if before == seen:
                continue
            self._seen[task_id] = seen
            line = _change(task_id, task, before)
            if line and (named or task.state in _NEWS):
                lines.append(line)
        lines += self._counts(view, named=named)
        if lines:
            at = f"{time.monotonic() - self._begun:7.1f} s  "
            _write("\n".join(at + line for line in lines))

    def _counts(self, view: RunView, *, named: bool) -> list[str]:
        """Where a long run is: the items of mapped tasks, and the tasks of a graph too large to name them."""
        now = time.monotonic()
        last, at = self._counted
        if now - at < COUNT_SECONDS and view.state not in FINAL_RUN_STATES:
            return []
        lines = [
            f"{task_id}: {done_of(task.items):,} of {sum(task.items.values()):,} items{_failed(task.items)}"
            for task_id, task in view.tasks.items()
            if task.items and task.state not in FINAL_TASK_STATES and done_of(task.items)
        ]
        if not named:
            lines.append(f"{done_count(view):,} of {len(view.tasks):,} tasks done")
        text = "\n".join(lines)
        if not at:  # the beginning is not worth a line
            self._counted = (text, now)
            return []
        if text == last:
            return []
        self._counted = (text, now)
        return lines


def _change(task_id: str, task: TaskView, before: tuple[str, int] | None) -> str:
    """The line for a task that changed, or an empty one."""
    state = task.state
    if state in (TaskState.WAITING, TaskState.READY):
        return ""
    if state == TaskState.RETRYING:
        wait = "" if task.retry_at is None else f"; again in {span(task.retry_at - time.time())}"
        return f"{task_id}: attempt {task.attempts} failed: {failure_text(task)}{wait}"
    if state == TaskState.RUNNING:
        if task.items is not None:
            return "" if before and before[0] == state else f"{task_id}: {sum(task.items.values()):,} items"
        return f"{task_id}: running" + (f" (attempt {task.attempts})" if task.attempts > 1 else "")
    text = f"{task_id}: {state}"
    taken = duration(task)
    if taken is not None and state == TaskState.SUCCEEDED:
        text += f" in {span(taken)}"
    if task.attempts > 1 and task.items is None:
        text += f" after {task.attempts} attempts"
    if task.items is not None:
        text += f", {sum(task.items.values()):,} items{_failed(task.items)}"
    if task.error is not None and state != TaskState.SUCCEEDED:
        return f"{text}: {failure_text(task)}"
    return f"{text}: {task.reason}" if task.reason else text


def branches_of(spec: AnySpec) -> list[tuple[str, str]]:
    """The tree of a graph, line by line: what stands before a task, and its id. Code has none, nor do large graphs."""
    if not isinstance(spec, WorkflowSpec) or len(spec.tasks) > TREE_TASKS_MAX:
        return []
    return list(tree_of(spec))


def failure_text(task: TaskView) -> str:
    """A task's failure in one line."""
    if task.error is None:
        return ""
    message = " ".join(task.error.message.split())
    # Exceptions need their name; "exit", "timeout" and the like say in their message what they are.
    text = message if message and task.error.type[:1].islower() else f"{task.error.type}: {message}".rstrip(": ")
    return text if len(text) <= 300 else text[:297] + "..."


def duration(task: TaskView) -> float | None:
    """Seconds from the start of a task to its end, or to now."""
    if task.started_at is None:
        return None
    end = task.ended_at
    if end is None:
        end = time.time()
    return max(0.0, end - task.started_at)


def done_of(counts: dict[str, int]) -> int:
    """Items in a final state."""
    return sum(count for state, count in counts.items() if state in FINAL_TASK_STATES)


def done_count(view: RunView) -> int:
    """Tasks in a final state."""
    return sum(task.state in FINAL_TASK_STATES for task in view.tasks.values())


def _failed(counts: dict[str, int]) -> str:
    failed = counts.get(TaskState.FAILED, 0)
    return f", {failed:,} failed" if failed else ""


def _write(text: str) -> None:
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # nobody listens; the run goes on
