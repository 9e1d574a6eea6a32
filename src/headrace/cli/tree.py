"""The live picture of a run on a terminal: its tasks as a tree, mapped ones with a bar, redrawn in place.

What does not fit is collapsed: tasks under way and failed ones keep a line each, the others are counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from headrace.authoring.drawing import SYMBOLS
from headrace.cli.progress import branches_of, done_count, done_of, duration, failure_text
from headrace.cli.terminal import quiet_control_keys
from headrace.cli.times import span
from headrace.core.spec import AnySpec
from headrace.core.states import FINAL_RUN_STATES, TaskState
from headrace.core.view import RunView, TaskView

REFRESH_SECONDS = 0.15
NAME_WIDTH_MAX = 44
BAR_WIDTH = 24
STYLES = {
    TaskState.WAITING: "bright_black",
    TaskState.READY: "bright_black",
    TaskState.RUNNING: "cyan",
    TaskState.RETRYING: "yellow",
    TaskState.SUCCEEDED: "green",
    TaskState.FAILED: "red",
    TaskState.SKIPPED: "bright_black",
    TaskState.UPSTREAM_FAILED: "magenta",
    TaskState.CANCELLED: "yellow",
}
DIM = "bright_black"

# Which states keep a line of their own when not all fit, and in which order they win.
_TELLING = (TaskState.RUNNING, TaskState.RETRYING, TaskState.FAILED, TaskState.CANCELLED)
_COUNTED = (
    TaskState.SUCCEEDED,
    TaskState.SKIPPED,
    TaskState.UPSTREAM_FAILED,
    TaskState.READY,
    TaskState.WAITING,
)


class Tree:
    """Shows one run on standard error, which must be a terminal."""

    def __init__(self, spec: AnySpec, *, colors: bool = True) -> None:
        self._console = Console(stderr=True, no_color=not colors, highlight=False, soft_wrap=False)
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
        self._branches = {task_id: branch for branch, task_id in branches_of(spec)}
        self._view: RunView | None = None
        self._since: dict[tuple[str, int], float] = {}
        self._remarks: list[str] = []
        self._ticking: asyncio.Task[None] | None = None
        self._restore = contextlib.ExitStack()

    def start(self) -> None:
        """Take the bottom of the terminal."""
        self._restore.enter_context(quiet_control_keys(sys.stdin))
        self._live.start()
        self._ticking = asyncio.create_task(self._tick())

    def show(self, view: RunView) -> None:
        """The run as it is now; drawn with the next tick."""
        for task_id, task in view.tasks.items():
            if task.state == TaskState.RUNNING and task.started_at is None:
                # The start of a short attempt is not recorded before its end: the clock is ours until then.
                task.started_at = self._since.setdefault((task_id, task.attempts), time.time())
        self._view = view

    def say(self, text: str) -> None:
        """A remark, kept below the tasks."""
        self._remarks.append(text)
        self._draw()

    def stop(self) -> None:
        """Leave the last picture standing."""
        if self._ticking is None:
            return
        self._ticking.cancel()
        self._ticking = None
        self._draw()
        self._live.stop()
        self._restore.close()

    async def _tick(self) -> None:
        while True:
            begun = time.monotonic()
            self._draw()
            # Never more than a tenth of the time, however slow the terminal.
            await asyncio.sleep(max(REFRESH_SECONDS, 9 * (time.monotonic() - begun)))

    def _draw(self) -> None:
        if self._view is None:
            return
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone; the run goes on
            self._live.update(picture(self._view, self._branches, self._console.size, self._remarks), refresh=True)


def picture(view: RunView, branches: dict[str, str], size: tuple[int, int], remarks: Sequence[str] = ()) -> Group:
    """The whole picture for a terminal of ``size`` (columns, lines). ``branches``: what stands before each task in the
    tree, in the tree's order; empty when the graph is too large for one."""
    columns, height = size
    ended = view.state in FINAL_RUN_STATES
    room = max(5, height - 3 - len(remarks))
    whole = len(view.tasks) <= room
    lines = _Lines(columns, branches).tree(view) if whole else _Lines(columns, {}).collapsed(view, room)
    if not ended:
        head = Text.assemble(
            (view.workflow, "bold"),
            f"  {view.state}",
            (f"  {_how_far(view)}", DIM),
            (f"  {span(time.time() - view.created_at)}", DIM),
            (f"  {' '.join(view.details.split())}" if view.details else "", ""),
        )
        lines.insert(0, head)
    lines = lines[: max(1, height - 1 - len(remarks))]
    lines += [Text(remark, "yellow") for remark in remarks]
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(*lines)


def _how_far(view: RunView) -> str:
    """Tasks that have ended. How many there will be is known of a graph only."""
    done, total = done_count(view), len(view.tasks)
    if view.kind == "graph":
        return f"{done:,} of {total:,} tasks"
    under_way = f", {total - done:,} under way" if total > done else ""
    return f"{done:,} task{'' if done == 1 else 's'} done{under_way}"


class _Lines:
    def __init__(self, columns: int, branches: dict[str, str]) -> None:
        self._columns = columns
        self._branches = branches
        self._name_width = 0

    def tree(self, view: RunView) -> list[Text]:
        """Every task, in the order of the tree where there is one."""
        ids = list(dict.fromkeys((*(task_id for task_id in self._branches if task_id in view.tasks), *view.tasks)))
        self._measure(ids)
        return [self._task(task_id, view.tasks[task_id]) for task_id in ids]

    def collapsed(self, view: RunView, room: int) -> list[Text]:
        """The telling tasks, a line for the rest of each state."""
        groups: dict[str, list[str]] = {}
        for task_id, task in view.tasks.items():
            groups.setdefault(task.state, []).append(task_id)
        counted = [(state, len(groups[state])) for state in _COUNTED if state in groups]
        telling = [(state, groups[state]) for state in _TELLING if state in groups]
        left = room - len(counted)
        if sum(len(members) for _, members in telling) > left:
            left -= len(telling)  # each may need a line for those that do not fit
        shown: list[str] = []
        for state, members in telling:
            fit = members[: max(0, left - len(shown))]
            shown += fit
            if len(members) > len(fit):
                counted.append((state, len(members) - len(fit)))
        self._measure(shown)
        lines = [self._count(state, count) for state, count in counted if state == TaskState.SUCCEEDED]
        lines += [self._task(task_id, view.tasks[task_id]) for task_id in view.tasks if task_id in set(shown)]
        return lines + [self._count(state, count) for state, count in counted if state != TaskState.SUCCEEDED]

    def _measure(self, ids: Sequence[str]) -> None:
        widest = max((len(self._branches.get(task_id, "")) + len(task_id) for task_id in ids), default=0)
        self._name_width = min(widest, NAME_WIDTH_MAX, max(10, self._columns // 2))

    def _count(self, state: str, count: int) -> Text:
        style = STYLES[TaskState(state)]
        what = f"{count:,} {'more ' if state in _TELLING else ''}task{'' if count == 1 else 's'}"
        return Text.assemble((f"{SYMBOLS[state]} ", style), (f"{what} {state.replace('_', ' ')}", DIM))

    def _task(self, task_id: str, task: TaskView) -> Text:
        branch = self._branches.get(task_id, "")
        width = self._name_width - len(branch)
        name = task_id if len(task_id) <= width else task_id[: width - 1] + "…"
        state = TaskState(task.state)
        quiet = state in (TaskState.WAITING, TaskState.READY, TaskState.SKIPPED)
        line = Text.assemble(
            (branch, DIM),
            (f"{SYMBOLS[state]} ", STYLES[state]),
            (f"{name:<{width}}  ", DIM if quiet else ""),
        )
        if task.items is not None:
            _append_bar(line, task.items)
        taken = duration(task)
        if taken is not None and state in (
            TaskState.RUNNING,
            TaskState.RETRYING,
            TaskState.SUCCEEDED,
            TaskState.FAILED,
        ):
            line.append(f"{span(taken)}  ", DIM)
        line.append(*_note(task))
        return line


def _append_bar(line: Text, counts: dict[str, int]) -> None:
    """A bar of a mapped task's items, and what is to be known of them."""
    total = sum(counts.values())
    done = done_of(counts)
    failed = counts.get(TaskState.FAILED, 0)
    if total:
        full = BAR_WIDTH * done // total
        bad = min(full, -(-BAR_WIDTH * failed // total)) if failed else 0
        line.append("━" * (full - bad), "green").append("━" * bad, "red").append("━" * (BAR_WIDTH - full), DIM)
        line.append("  ")
    line.append(f"{done:,}/{total:,}  ")
    for state in (TaskState.RUNNING, TaskState.RETRYING, TaskState.FAILED, TaskState.SKIPPED):
        count = counts.get(state, 0)
        if count and (state != TaskState.RUNNING or done < total):
            line.append(f"{count:,} {state}  ", STYLES[state])


def _note(task: TaskView) -> tuple[str, str]:
    """What else there is to say, and its style."""
    state = task.state
    if state == TaskState.RETRYING:
        wait = "" if task.retry_at is None else f"again in {span(max(0.0, task.retry_at - time.time()))}: "
        return f"attempt {task.attempts} failed, {wait}{failure_text(task)}", "yellow"
    if state == TaskState.FAILED:
        tries = f"after {task.attempts} attempts: " if task.attempts > 1 and task.items is None else ""
        return f"{tries}{failure_text(task)}", "red"
    if state == TaskState.RUNNING and task.attempts > 1 and task.items is None:
        return f"attempt {task.attempts}", "yellow"
    if state == TaskState.SUCCEEDED and task.attempts > 1 and task.items is None:
        return f"after {task.attempts} attempts", DIM
    if state in (TaskState.SKIPPED, TaskState.CANCELLED):
        return f"{state}: {task.reason}" if task.reason else str(state), DIM
    if state == TaskState.UPSTREAM_FAILED:
        return "upstream failed", DIM
    return "", ""
