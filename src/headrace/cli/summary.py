"""What a command says about a run that has ended, or was left, in the form the user asked for."""

from __future__ import annotations

import sys
import time
from typing import Any

import msgspec

from headrace.cli.colors import BOLD, DIM, RED, Paint
from headrace.cli.exits import ExitCode
from headrace.cli.options import Session
from headrace.cli.output import Format, write, write_document
from headrace.cli.progress import failure_text
from headrace.cli.times import span
from headrace.client.client import Client
from headrace.client.documents import INTERRUPTED, WAITING, is_interrupted, run_document
from headrace.contracts.store import RunRow
from headrace.core.states import FINAL_RUN_STATES, RunState, TaskState
from headrace.core.view import RunView, TaskView

OUTPUT_CHARS_MAX = 4_000
"""A longer output is cut in the summary; ``runs show -o json`` has all of it."""

FAILURES_SHOWN_MAX = 5
TRACEBACK_LINES_MAX = 60


RUN_EXIT_CODES = {
    RunState.SUCCEEDED: ExitCode.SUCCEEDED,
    RunState.CONTINUED: ExitCode.SUCCEEDED,
    RunState.FAILED: ExitCode.FAILED,
    RunState.SUSPENDED: ExitCode.FAILED,
    RunState.CANCELLED: ExitCode.CANCELLED,
    RunState.TERMINATED: ExitCode.CANCELLED,
}
"""By the state in which a run ended, or was suspended."""

BAD_INPUT_TYPES = frozenset({"map_too_large"})
"""Failures that say something of what was given to the run rather than of its work: a list over its bound is bad input
whether that is known before the run starts or only when an earlier task has made it."""

RETRIED = (RunState.FAILED, RunState.CANCELLED)


async def loaded(client: Client, view: RunView) -> RunView:
    """The same run with its large values in place of references to them."""
    view.output = await client.value(view.output)
    for task in view.tasks.values():
        task.output = await client.value(task.output)
        for item in task.item_list or ():
            item.output = await client.value(item.output)
    return view


def exit_code(view: RunView) -> int:
    """The exit code of a command that waited for this run."""
    if view.state == RunState.FAILED and view.error is not None and view.error.type in BAD_INPUT_TYPES:
        return ExitCode.BAD_INPUT
    return RUN_EXIT_CODES.get(RunState(view.state), ExitCode.INTERRUPTED)


def write_run(view: RunView, form: Format, session: Session) -> None:
    """The run as one document, or as a few lines for people."""
    if form is not Format.TEXT:
        write_document(run_document(view, interrupted=view.state not in FINAL_RUN_STATES), form)
        return
    write("\n".join(Summary(session).lines(view)))


class Summary:
    """The lines for people."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._paint = Paint(enabled=session.colors(sys.stdout))

    def lines(self, view: RunView) -> list[str]:
        """How a run ended or was left: head, counts, failures, output, what to do."""
        ended = view.state in FINAL_RUN_STATES
        state = view.state if ended or view.state in WAITING else INTERRUPTED
        took = span((view.ended_at or time.time()) - view.created_at)
        head = f"{self._paint(view.workflow, BOLD)} {self._paint.state(state, state, BOLD)} after {took}"
        lines = [head + self._paint(f"   run {view.id}", DIM)]
        counts = _counts(view)
        if counts:
            lines.append(f"  tasks: {counts}")
        if view.reason:
            lines.append(f"  reason: {view.reason}")
        return lines + self._endings(view, interrupted=not ended)

    def endings(self, view: RunView, row: RunRow) -> list[str]:
        """The same without the head, for a run that may well be going on."""
        return self._endings(view, interrupted=is_interrupted(row) or row.state in WAITING)

    def _endings(self, view: RunView, *, interrupted: bool) -> list[str]:
        lines = self._failures(view)
        if view.state == RunState.SUCCEEDED and _says_something(view.output):
            lines += self._output(view.output)
        option = self._session.store_option
        if interrupted:
            lines.append(f"  to go on: headrace runs resume {view.id}{option}")
        elif view.state in RETRIED and view.kind == "code":
            again = _again_from(view)
            if _has_undone(view):  # from the middle it would go on as if that were still done
                lines.append(f"  to do it again from the beginning: headrace runs reset {view.id} --to-event 1{option}")
            elif again is not None:
                lines.append(f"  to do it again from there: headrace runs reset {view.id} --to-task {again}{option}")
        elif view.state in RETRIED:
            what = "what failed" if view.state == RunState.FAILED else "what was cancelled"
            lines.append(f"  to run again {what}: headrace runs retry {view.id}{option}")
        return lines

    def _failures(self, view: RunView) -> list[str]:
        failed = [(task_id, task) for task_id, task in view.tasks.items() if task.state == TaskState.FAILED]
        # The one that decided first, then the others in order.
        failed.sort(key=lambda pair: pair[0] != view.failed_task)
        lines: list[str] = []
        if view.error is not None and view.failed_task is None:
            lines += ["", f"  {self._paint(f'{view.error.type}:', RED)} {view.error.message}"]
            lines += [*(self._paint(f"    {line}", DIM) for line in _shortened(view.error.traceback.splitlines())), ""]
        for position, (task_id, task) in enumerate(failed[:FAILURES_SHOWN_MAX]):
            lines += self._failure(task_id, task, whole=position == 0)
            if position == 0 and task.error is not None and task.error.type in ("exit", "signal", "timeout"):
                option = self._session.store_option
                lines.insert(-1, f"    what it wrote: headrace runs logs {view.id} {task_id}{option}")
        if len(failed) > FAILURES_SHOWN_MAX:
            lines.append(f"  ... and {len(failed) - FAILURES_SHOWN_MAX:,} more failed tasks")
        return lines

    def _failure(self, task_id: str, task: TaskView, *, whole: bool) -> list[str]:
        tries = f" after {task.attempts} attempts" if task.attempts > 1 and task.items is None else ""
        error = task.error
        head = f"  {self._paint(f'task {task_id} failed', RED)}{tries}: {failure_text(task)}"
        if not whole or error is None:
            return [head]
        more = _shortened(error.traceback.splitlines() or error.message.splitlines()[1:])
        return ["", head, *(self._paint(f"    {line}", DIM) for line in more), ""]

    def _output(self, output: Any) -> list[str]:
        text = (
            output if isinstance(output, str) else msgspec.json.format(msgspec.json.encode(output), indent=2).decode()
        )
        if len(text) > OUTPUT_CHARS_MAX:
            rest = len(text) - OUTPUT_CHARS_MAX
            text = text[:OUTPUT_CHARS_MAX] + f"\n... {rest:,} more characters: headrace runs show -o json"
        lines = text.splitlines()
        if len(lines) <= 1:
            return [f"  output: {text}"]
        return ["  output:", *(f"    {line}" for line in lines)]


def _shortened(lines: list[str]) -> list[str]:
    if len(lines) <= TRACEBACK_LINES_MAX:
        return lines
    half = TRACEBACK_LINES_MAX // 2
    return [*lines[:half], f"... {len(lines) - 2 * half} lines left out ...", *lines[-half:]]


def _again_from(view: RunView) -> str | None:
    """The task from which a run of code that has failed is likely to be done again: the one that failed, or was
    cancelled, or the last."""
    for state in (TaskState.FAILED, TaskState.CANCELLED):
        ended_so = [task_id for task_id, task in view.tasks.items() if task.state == state]
        if ended_so:
            return ended_so[-1]
    return next(reversed(view.tasks), None)


def _has_undone(view: RunView) -> bool:
    """Whether a saga of the run has begun to undo its steps."""
    return any(
        isinstance(ledger, dict) and ledger.get("state") in ("compensating", "compensated", "undo_failed")
        for name, ledger in view.memo.items()
        if name.startswith(("saga:", "saga#")) or name == "saga"
    )


def _says_something(output: Any) -> bool:
    """Not for outputs that are there only because every run has one: ``{"publish": null}``."""
    if isinstance(output, dict):
        return any(value is not None for value in output.values())
    return output is not None


def _counts(view: RunView) -> str:
    """How the tasks ended, when that is not simply "all succeeded"."""
    counts: dict[str, int] = {}
    for task in view.tasks.values():
        counts[task.state] = counts.get(task.state, 0) + 1
    if not counts or set(counts) == {TaskState.SUCCEEDED}:
        return ""
    return ", ".join(f"{counts[state]:,} {state.replace('_', ' ')}" for state in TaskState if state in counts)
