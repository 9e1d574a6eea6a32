"""Checks a workflow definition whole, before anything of it is stored or run.

Everything wrong is reported at once, in the order of the definition, each with its path. What a template refers to is
a dependency: ``{{ tasks.load.output }}`` adds ``load`` to the task's needs. Cost is linear in tasks and edges.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, cast

import msgspec

from headrace.core.cycles import find_cycles
from headrace.core.errors import InvalidDefinition, Problem, TemplateError
from headrace.core.expressions import (
    DEPTH_MAX,
    Reference,
    compile_condition,
    compile_template,
    has_template,
    shorten,
    template_refs,
)
from headrace.core.params import spec_problems
from headrace.core.retry import policy_problems
from headrace.core.spec import (
    LABELS_RESERVED,
    MAP_ITEMS_MAX_LIMIT,
    NO_RETRY,
    NO_TIMEOUTS,
    PREFER_SECONDS_MAX,
    QUEUE_DEFAULT,
    RetryPolicy,
    TaskSpec,
    Timeouts,
    WorkflowSpec,
)
from headrace.core.suggest import did_you_mean

NAME_CHARS_MAX = 200
"""The longest workflow name, task id or parameter name."""

TASKS_MAX = 1_000_000
"""The most tasks one workflow may have."""

LABELS_MAX = 32
"""Labels that a task may ask for."""

PRIORITY_MAX = 1_000_000
"""Priorities lie between minus and plus this."""

PROBLEMS_SHOWN_MAX = 50
"""Problems listed in one error; the rest are counted."""

TASK_ATTRIBUTES = ("output", "state", "error")
RUN_ATTRIBUTES = ("id", "workflow", "tags", "created_at")
SCOPE_NAMES = ("params", "tasks", "item", "index", "run")

_name = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*").fullmatch
_param_name = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*").fullmatch
_retry_rule = re.compile(
    r"(?:exit:\d{1,3}(?:-\d{1,3})?|http:[1-5](?:\d\d|xx)|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)"
).fullmatch

Path = tuple[str | int, ...]


def validate(spec: WorkflowSpec) -> WorkflowSpec:
    """The same workflow with implied needs added: those written by hand first, then in order of reference.

    Idempotent. Raises :class:`InvalidDefinition` with all problems, at most :data:`PROBLEMS_SHOWN_MAX` of them shown.
    """
    completed, problems = find_problems(spec)
    if problems:
        raise InvalidDefinition(bounded_problems(problems), source=f"workflow {spec.name!r}")
    return completed


def find_problems(spec: WorkflowSpec) -> tuple[WorkflowSpec, list[Problem]]:
    """What :func:`validate` returns and what it would raise, for callers who know where in a file a path is."""
    checker = _Checker(spec)
    return checker.check(), checker.problems


def bounded_problems(problems: list[Problem]) -> list[Problem]:
    """At most :data:`PROBLEMS_SHOWN_MAX` problems, and one more that counts the rest."""
    rest = len(problems) - PROBLEMS_SHOWN_MAX
    if rest <= 0:
        return problems
    return [*problems[:PROBLEMS_SHOWN_MAX], Problem(f"... and {rest:,} more problem{'s' if rest > 1 else ''}")]


def templates(value: Any, path: Path = ()) -> list[tuple[Path, str]]:
    """Every string with a template inside a value, with its place, in order. Raises :class:`TemplateError` on nesting
    over :data:`headrace.core.expressions.DEPTH_MAX`."""
    found: list[tuple[Path, str]] = []
    if isinstance(value, str):
        if has_template(value):
            found.append((path, value))
    elif isinstance(value, (dict, list, tuple)):
        _collect(cast("Any", value), path, DEPTH_MAX, found)
    return found


def _collect(value: Any, path: Path, depth_left: int, found: list[tuple[Path, str]]) -> None:
    # Paths are built only where there is something to report: most strings are constants.
    if not depth_left:
        raise TemplateError(f"a value is nested more than {DEPTH_MAX} levels deep")
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(part, str):
            if has_template(part):
                found.append(((*path, key), part))
        elif isinstance(part, (dict, list, tuple)):
            _collect(part, (*path, key), depth_left - 1, found)


class _Checker:
    """One validation: the spec, what was found wrong so far, and the tasks that need themselves."""

    def __init__(self, spec: WorkflowSpec) -> None:
        self.spec = spec
        self.problems: list[Problem] = []
        self.selfish: set[str] = set()

    def problem(self, path: Path, message: str, hint: str = "") -> None:
        self.problems.append(Problem(message, path=path, hint=hint))

    def suggest(self, word: str, names: Iterable[object], what: str) -> str:
        """What was probably meant; nothing once nobody will see it, because comparing names is slow."""
        return did_you_mean(word, names, what=what) if len(self.problems) < PROBLEMS_SHOWN_MAX else ""

    def check(self) -> WorkflowSpec:
        spec = self.spec
        self.name(("name",), spec.name, "workflow name")
        for name, param in spec.params.items():
            if len(name) > NAME_CHARS_MAX or not _param_name(name):
                self.problem(("params", name), f"{_cut(name)} is not a parameter name", "use letters, digits, _ and -")
            for message in spec_problems(param):
                self.problem(("params", name), message)
        self.at_least_one(("max_parallel",), spec.max_parallel)
        self.positive(("timeout",), spec.timeout)
        tasks = self.tasks()
        self.output()
        self.cycles(tasks)
        return spec if tasks is spec.tasks else msgspec.structs.replace(spec, tasks=tasks)

    # ---- names and numbers --------------------------------------------------------------------------------

    def name(self, path: Path, name: str, what: str) -> None:
        if len(name) > NAME_CHARS_MAX:
            self.problem(path, f"the {what} has {len(name)} characters; the most is {NAME_CHARS_MAX}")
        elif not _name(name):
            hint = "begin with a letter or _, then use letters, digits, _ . and -"
            self.problem(path, f"{_cut(name)} is not a valid {what}", hint)

    def labels(self, path: Path, labels: dict[str, str]) -> None:
        if len(labels) > LABELS_MAX:
            self.problem(path, f"{len(labels)} labels are asked for; the most is {LABELS_MAX}")
        for name, value in labels.items():
            self.name((*path, name), name, "label")
            if name.startswith(LABELS_RESERVED):
                hint = "give the nodes a label of your own, or use sticky"
                self.problem((*path, name), f"labels that begin with {LABELS_RESERVED} are Headrace's own", hint)
            if not 1 <= len(value) <= NAME_CHARS_MAX or not value.isprintable():
                self.problem(
                    (*path, name), f"{_cut(value)} is not a valid value of a label", "use short printable text"
                )

    def at_least_one(self, path: Path, value: int | None) -> None:
        if value is not None and value < 1:
            self.problem(path, f"{path[-1]} must be at least 1, not {value}")

    def positive(self, path: Path, value: float | None) -> None:
        if value is not None and not value > 0:
            self.problem(path, f"{path[-1]} must be greater than 0 seconds, not {value:g}", "leave it out for no limit")

    # ---- tasks --------------------------------------------------------------------------------------------

    def tasks(self) -> dict[str, TaskSpec]:
        """Check every task; returns them with implied needs, or the same mapping if nothing was implied."""
        tasks = self.spec.tasks
        if not tasks:
            self.problem(("tasks",), "the workflow has no tasks", "add at least one")
        if len(tasks) > TASKS_MAX:
            self.problem(("tasks",), f"the workflow has {len(tasks):,} tasks; the most is {TASKS_MAX:,}")
            return tasks
        completed: dict[str, TaskSpec] = {}
        changed = False
        for id, task in tasks.items():  # noqa: A001 - what it is
            implied = self.task(id, task)
            if implied:
                task = msgspec.structs.replace(task, needs=(*task.needs, *implied))  # noqa: PLW2901
                changed = True
            completed[id] = task
        return completed if changed else tasks

    def task(self, id: str, task: TaskSpec) -> list[str]:  # noqa: A002
        """Check one task; returns the needs its templates imply, in order of reference."""
        path = ("tasks", id)
        if len(id) > NAME_CHARS_MAX or not _name(id):
            self.name(path, id, "task id")
        if task.id != id:
            self.problem((*path, "id"), f"the task under {id!r} calls itself {_cut(task.id)}")
        if task.needs:
            self.needs(path, id, task.needs)
        if task.retries is not NO_RETRY:
            self.retries((*path, "retries"), task.retries)
        if task.timeouts is not NO_TIMEOUTS:
            self.timeouts((*path, "timeouts"), task.timeouts)
        if task.at_most_once and task.retries.attempts > 1:
            hint = "remove retries, or at_most_once if running it twice does no harm"
            self.problem((*path, "retries"), "an at_most_once task is never run again, so it cannot have retries", hint)
        if not -PRIORITY_MAX <= task.priority <= PRIORITY_MAX:
            self.problem((*path, "priority"), f"priority must be between -{PRIORITY_MAX:,} and {PRIORITY_MAX:,}")
        if task.queue != QUEUE_DEFAULT:
            self.name((*path, "queue"), task.queue, "queue name")
        if task.needs_labels or task.prefer_labels or task.prefer_for is not None:
            self.routing(path, task)
        if task.is_mapped:
            self.map(path, task)
        if task.max_parallel is not None:
            self.at_least_one((*path, "max_parallel"), task.max_parallel)
            if not task.is_mapped:
                self.problem(
                    (*path, "max_parallel"),
                    "max_parallel bounds the items of a mapped task, and this task has no map",
                    "remove it, or set max_parallel of the workflow",
                )
        return self.references(path, task)

    def needs(self, path: Path, id: str, needs: tuple[str, ...]) -> None:  # noqa: A002
        tasks = self.spec.tasks
        for position, other in enumerate(needs):
            if other == id:
                self.selfish.add(id)
                self.problem((*path, "needs", position), f"task {id!r} needs itself", "remove it from its needs")
            elif other not in tasks:
                hint = self.suggest(other, tasks, what="tasks")
                self.problem((*path, "needs", position), f"unknown task {_cut(other)}", hint)
        if len(set(needs)) != len(needs):
            seen: set[str] = set()
            for position, other in enumerate(needs):
                if other in seen:
                    self.problem((*path, "needs", position), f"task {other!r} is named twice in needs")
                seen.add(other)

    def retries(self, path: Path, retries: RetryPolicy) -> None:
        for problem in policy_problems(retries):
            self.problem((*path, *problem.path), problem.message, problem.hint)
        for field in ("retry_on", "give_up_on"):
            rules: object = getattr(retries, field)
            for position, rule in enumerate(cast("tuple[object, ...]", () if isinstance(rules, str) else rules)):
                if isinstance(rule, str) and not _retry_rule(rule):
                    hint = "use an exception class name, exit:1, exit:1-9, http:503 or http:5xx"
                    self.problem((*path, field, position), f"{_cut(rule)} names no kind of failure", hint)

    def timeouts(self, path: Path, timeouts: Timeouts) -> None:
        for field in ("attempt", "queue", "task", "heartbeat"):
            self.positive((*path, field), getattr(timeouts, field))

    def routing(self, path: Path, task: TaskSpec) -> None:
        self.labels((*path, "needs_labels"), task.needs_labels)
        self.labels((*path, "prefer_labels"), task.prefer_labels)
        path = (*path, "prefer_for")
        if task.prefer_for is None:
            return
        if not task.prefers:
            hint = "set sticky or prefer_labels, or remove prefer_for"
            self.problem(
                path, "prefer_for bounds the wait for a process that the task prefers, and it prefers none", hint
            )
        elif not 0 < task.prefer_for <= PREFER_SECONDS_MAX:
            self.problem(
                path, f"prefer_for must be more than 0 s and at most {PREFER_SECONDS_MAX:g} s", "5s is a good value"
            )

    def map(self, path: Path, task: TaskSpec) -> None:
        items: Any = task.map
        if not 1 <= task.max_items <= MAP_ITEMS_MAX_LIMIT:
            self.problem((*path, "max_items"), f"max_items must be between 1 and {MAP_ITEMS_MAX_LIMIT:,}")
        if isinstance(items, (list, tuple, dict)):
            count = len(cast("list[Any]", items))
            if count > task.max_items:
                hint = "raise max_items or shorten the list"
                self.problem((*path, "map"), f"map has {count:,} items, more than max_items ({task.max_items:,})", hint)
        elif isinstance(items, str):
            if not has_template(items) or _is_text(items):
                hint = 'write a list, or one expression such as "{{ tasks.list_files.output }}"'
                self.problem((*path, "map"), f"map must be a list, and {shorten(items, 80)} is always text", hint)
        else:
            hint = 'write a list, or one expression such as "{{ tasks.list_files.output }}"'
            self.problem((*path, "map"), f"map must be a list, not {type(items).__name__}", hint)

    # ---- templates ----------------------------------------------------------------------------------------

    def references(self, path: Path, task: TaskSpec) -> list[str]:
        """Check every template of a task, in the order of reading; returns the needs they imply."""
        found: list[tuple[Path, tuple[Reference, ...]]] = []
        if task.is_mapped:
            found += self.looked_up((*path, "map"), task.map)
        if task.when is not None:
            try:
                found.append(((*path, "when"), compile_condition(task.when).refs))
            except TemplateError as error:
                self.problem((*path, "when"), error.message)
        if task.config:
            found += self.looked_up((*path, "config"), task.config)
        if task.args:
            found += self.looked_up((*path, "args"), task.args)
        if not found:
            return []
        needed = dict.fromkeys(task.needs)
        explicit = len(needed)
        for place, refs in found:
            for ref in refs:
                self.reference(place, ref, is_mapped=task.is_mapped, is_bound=explicit > 0)
                if ref[0] == "tasks" and len(ref) > 1:
                    other = str(ref[1])
                    if other == task.id:
                        self.problem(place, f"task {other!r} refers to itself", "its own output is not there yet")
                    elif other in self.spec.tasks:
                        needed[other] = None
        return list(needed)[explicit:]

    def looked_up(self, path: Path, value: Any) -> list[tuple[Path, tuple[Reference, ...]]]:
        """What the templates inside a value refer to; those that cannot be parsed are reported."""
        found: list[tuple[Path, tuple[Reference, ...]]] = []
        try:
            for place, text in templates(value, path):
                try:
                    found.append((place, template_refs(text)))
                except TemplateError as error:
                    self.problem(place, error.message)
        except TemplateError as error:
            self.problem(path, error.message)
        return found

    def reference(self, path: Path, ref: Reference, *, is_mapped: bool, is_bound: bool) -> None:
        root = ref[0]
        key = ref[1] if len(ref) > 1 else None
        if root == "tasks":
            self.task_reference(path, ref, is_bound=is_bound)
        elif root == "params":
            if key is not None and key not in self.spec.params:
                hint = self.suggest(str(key), self.spec.params, what="parameters")
                self.problem(path, f"unknown parameter {_cut(str(key))}", hint)
        elif root == "run":
            if key is not None and key not in RUN_ATTRIBUTES:
                self.problem(path, f"a run has no {str(key)!r}", self.suggest(str(key), RUN_ATTRIBUTES, what="it has"))
        elif root in ("item", "index"):
            self.item_reference(path, str(root), is_mapped=is_mapped)
        else:
            self.problem(path, f"unknown name {_cut(str(root))}", self.suggest(str(root), SCOPE_NAMES, what="names"))

    def item_reference(self, path: Path, name: str, *, is_mapped: bool) -> None:
        if not is_mapped:
            self.problem(path, f"{name!r} has no value in a task without map", "give the task a map")
        elif len(path) > 2 and path[2] in ("map", "when"):
            hint = 'it is evaluated once, before there are items; filter the list: map: "{{ ... | select(...) }}"'
            self.problem(path, f"{name!r} has no value in {path[2]}", hint)

    def task_reference(self, path: Path, ref: Reference, *, is_bound: bool) -> None:
        tasks = self.spec.tasks
        if len(ref) == 1:
            if not is_bound:
                hint = 'write tasks.<id>.output, or list the tasks in "needs"'
                self.problem(path, "which tasks are meant is not known before the run", hint)
            return
        id = str(ref[1])  # noqa: A001
        if id not in tasks:
            self.problem(
                path, f"unknown task {_cut(id)}", self.quoting_hint(ref) or self.suggest(id, tasks, what="tasks")
            )
        elif len(ref) == 2:
            self.problem(path, f"tasks.{id} is not a value", f"write tasks.{id}.output")
        elif ref[2] not in TASK_ATTRIBUTES:
            hint = self.quoting_hint(ref) or self.suggest(str(ref[2]), TASK_ATTRIBUTES, what="it has")
            self.problem(path, f"a task has no {str(ref[2])!r}", hint)

    def quoting_hint(self, ref: Reference) -> str:
        """``tasks.a-b.output`` reads as a subtraction and ``tasks.a.b.output`` as a key of a key."""
        if len(self.problems) >= PROBLEMS_SHOWN_MAX:
            return ""
        beginning = str(ref[1])
        dotted = f"{beginning}.{ref[2]}" if len(ref) > 2 else beginning
        for id in self.spec.tasks:  # noqa: A001
            if id == dotted or id.startswith((f"{beginning}-", f"{beginning}.")):
                return f"an id with - or . is written tasks[{id!r}]"
        return ""

    def output(self) -> None:
        output: Any = self.spec.output
        if output is msgspec.UNSET:
            return
        for place, refs in self.looked_up(("output",), output):
            for ref in refs:
                self.reference(place, ref, is_mapped=False, is_bound=True)

    # ---- cycles -------------------------------------------------------------------------------------------

    def cycles(self, tasks: dict[str, TaskSpec]) -> None:
        needs = {key: task.needs for key, task in tasks.items()}
        for key in self.selfish:  # reported already, and it would hide a longer cycle through the same task
            needs[key] = tuple(other for other in needs[key] if other != key)
        for cycle in find_cycles(needs):
            shown = cycle if len(cycle) <= 20 else [*cycle[:10], f"({len(cycle) - 20} more)", *cycle[-10:]]
            hint = "each needs the one before it; remove one of these needs (a template's reference is one too)"
            self.problem(("tasks", cycle[0], "needs"), "cycle: " + " -> ".join([*shown, cycle[0]]), hint)


def _is_text(template: str) -> bool:
    try:
        return compile_template(template).is_text
    except TemplateError:
        return False  # reported where templates are


def _cut(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
