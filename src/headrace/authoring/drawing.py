"""A graph as text for terminals, and as Mermaid for documents. Both are bounded and say what they leave out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice

from headrace.core.spec import TaskSpec, TriggerRule, WorkflowSpec
from headrace.core.states import TaskState

TEXT_TASKS_MAX = 200
"""Tasks drawn as text; nobody reads more."""

MERMAID_EDGES_MAX = 500
"""Mermaid itself refuses to draw more edges than this by default."""

INDENT_LEVELS_MAX = 20
"""Levels that are indented; deeper ones stay in the same column."""

SYMBOLS: Mapping[str, str] = {
    TaskState.WAITING: "·",
    TaskState.READY: "○",
    TaskState.RUNNING: "▶",
    TaskState.RETRYING: "↻",
    TaskState.SUCCEEDED: "✓",
    TaskState.FAILED: "✗",
    TaskState.SKIPPED: "↷",
    TaskState.UPSTREAM_FAILED: "⊘",
    TaskState.CANCELLED: "■",
}

_COLOURS: Mapping[str, str] = {
    TaskState.RUNNING: "fill:#dbeafe,stroke:#2563eb,color:#111",
    TaskState.RETRYING: "fill:#fef3c7,stroke:#d97706,color:#111",
    TaskState.SUCCEEDED: "fill:#dcfce7,stroke:#16a34a,color:#111",
    TaskState.FAILED: "fill:#fee2e2,stroke:#dc2626,color:#111",
    TaskState.SKIPPED: "fill:#f3f4f6,stroke:#9ca3af,color:#111",
    TaskState.UPSTREAM_FAILED: "fill:#ffedd5,stroke:#ea580c,color:#111",
    TaskState.CANCELLED: "fill:#e5e7eb,stroke:#4b5563,color:#111",
}


def draw_text(spec: WorkflowSpec, states: Mapping[str, str] | None = None, *, tasks_max: int = TEXT_TASKS_MAX) -> str:
    """The graph as a tree of lines.

    Every task appears once, below the one it waits for longest; other tasks it needs stand behind ``<-``. A task with
    a single follower is continued in the same column with ``↓``, so a chain of steps does not run out of the window.
    ``states`` puts a symbol before each id. The workflow must be valid: a cycle is not drawn.
    """
    parents = _deepest_needs(spec)
    count = len(spec.tasks)
    lines = [f"{spec.name} ({count:,} task{'' if count == 1 else 's'})"]
    for branch, task_id in islice(_tree(parents), tasks_max):
        lines.append(f"{branch}{_label(spec.tasks[task_id], parents[task_id], states)}")
    if tasks_max < count:
        lines.append(f"... and {count - tasks_max:,} more tasks")
    return "\n".join(lines) + "\n"


def tree_of(spec: WorkflowSpec) -> Iterator[tuple[str, str]]:
    """The tree that :func:`draw_text` draws, line by line: what stands before a task, and the task's id."""
    return _tree(_deepest_needs(spec))


def _tree(parents: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    children: dict[str | None, list[str]] = {}
    for task_id, parent in parents.items():
        children.setdefault(parent, []).append(task_id)
    # Depth-first with an explicit stack: task_id, the margin before it, the mark at it, and the margin of what follows.
    stack = _branches(children.get(None, []), "")
    while stack:
        task_id, margin, mark, below = stack.pop()
        yield f"{margin}{mark}", task_id
        following = children.get(task_id, [])
        if len(following) == 1:
            stack.append((following[0], below, "↓  ", below))
        else:
            stack.extend(_branches(following, below))


def _branches(ids: list[str], margin: str) -> list[tuple[str, str, str, str]]:
    """Followers as stack entries, the first on top."""
    deep = len(margin) >= 3 * INDENT_LEVELS_MAX
    entries: list[tuple[str, str, str, str]] = []
    for position, task_id in enumerate(ids):
        is_last = position == len(ids) - 1
        mark = "└─ " if is_last else "├─ "
        below = margin if deep else margin + ("   " if is_last else "│  ")
        entries.append((task_id, margin, mark, below))
    return entries[::-1]


def _deepest_needs(spec: WorkflowSpec) -> dict[str, str | None]:
    """The need of each task that has the longest way behind it (the first of equals), in topological order."""
    waiting = {task_id: len(task.needs) for task_id, task in spec.tasks.items()}
    dependents: dict[str, list[str]] = {task_id: [] for task_id in spec.tasks}
    for task_id, task in spec.tasks.items():
        for need in task.needs:
            dependents[need].append(task_id)
    depth: dict[str, int] = {}
    parents: dict[str, str | None] = {}
    order = [task_id for task_id, count in waiting.items() if not count]
    for task_id in order:  # grows while it is walked
        needs = spec.tasks[task_id].needs
        parents[task_id] = max(needs, key=depth.__getitem__) if needs else None
        depth[task_id] = max((depth[need] + 1 for need in needs), default=0)
        for other in dependents[task_id]:
            waiting[other] -= 1
            if not waiting[other]:
                order.append(other)
    # Followers in the order of the definition.
    return {task_id: parents[task_id] for task_id in spec.tasks if task_id in parents}


def _label(task: TaskSpec, parent: str | None, states: Mapping[str, str] | None) -> str:
    symbol = SYMBOLS.get(states.get(task.id, TaskState.WAITING), "?") + " " if states is not None else ""
    notes: list[str] = [task.kind]
    if task.is_mapped:
        notes.append("map")
    if task.trigger is not TriggerRule.ALL_SUCCESS:
        notes.append(str(task.trigger))
    if task.when is not None:
        notes.append("when " + _shorten(_expression(task.when), 40))
    others = [need for need in task.needs if need != parent]
    also = f"  <- {_listed(others)}" if others else ""
    return f"{symbol}{task.id}  [{', '.join(notes)}]{also}"


def _expression(when: str) -> str:
    return re.sub(r"^\s*\{\{\s*|\s*\}\}\s*$", "", when) if when.count("{{") == 1 else when


def _listed(ids: list[str]) -> str:
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5:,} more" if len(ids) > 5 else "")


def _shorten(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


# ---- Mermaid ------------------------------------------------------------------------------------------------------


def draw_mermaid(
    spec: WorkflowSpec, states: Mapping[str, str] | None = None, *, edges_max: int = MERMAID_EDGES_MAX
) -> str:
    """The graph as a Mermaid flowchart. Ids and labels are escaped, so any task id is safe. Mapped tasks are drawn as
    stacks, tasks with a condition as hexagons; ``states`` colours them. At most ``edges_max`` edges and as many tasks;
    a comment says what is left out."""
    names = {task_id: f"t{position}" for position, task_id in enumerate(spec.tasks)}
    shown = dict(list(spec.tasks.items())[:edges_max])
    lines = ["flowchart TD"]
    for task_id, task in shown.items():
        before, after = ("[[", "]]") if task.is_mapped else ("{{", "}}") if task.when is not None else ("[", "]")
        lines.append(f'  {names[task_id]}{before}"{_escaped(task_id)}"{after}')
    edges = [(need, task_id) for task_id, task in shown.items() for need in task.needs if need in shown]
    for need, task_id in edges[:edges_max]:
        rule = shown[task_id].trigger
        arrow = "-->" if rule is TriggerRule.ALL_SUCCESS else f"-->|{rule}|"
        lines.append(f"  {names[need]} {arrow} {names[task_id]}")
    hidden = (len(spec.tasks) - len(shown), max(0, len(edges) - edges_max))
    if any(hidden):
        lines.append(f"  %% not drawn: {hidden[0]:,} tasks, {hidden[1]:,} edges")
    if states is not None:
        lines.extend(_coloured(shown, names, states))
    return "\n".join(lines) + "\n"


def _coloured(shown: Mapping[str, TaskSpec], names: Mapping[str, str], states: Mapping[str, str]) -> list[str]:
    lines: list[str] = []
    for state, colours in _COLOURS.items():
        members = [names[task_id] for task_id in shown if states.get(task_id) == state]
        if members:
            lines.append(f"  classDef {state} {colours}")
            lines.append(f"  class {','.join(members)} {state}")
    return lines


def _escaped(text: str) -> str:
    """Mermaid's own entities: ``#34;`` is a quote."""
    return "".join(each if each.isalnum() or each in "_-. " else f"#{ord(each)};" for each in text)
