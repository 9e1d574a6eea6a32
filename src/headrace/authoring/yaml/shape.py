"""Plain data to a workflow specification: every problem is collected, none stops the reading of the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from headrace.authoring.convert import (
    Wrong,
    expected,
    kind_of,
    to_mapping,
    to_param,
    to_retries,
    to_timeouts,
    unknown_key,
)
from headrace.authoring.kinds import Kinds, check_executor, config_problems, setting_names, shorthand_of, to_config
from headrace.authoring.loaded import SourcePath
from headrace.authoring.yaml.fields import DEFAULT_FIELDS, SYNONYMS, TASK_FIELDS, TOP_FIELDS, Field
from headrace.authoring.yaml.locate import Key
from headrace.authoring.yaml.schedules import read_schedules
from headrace.core.errors import Problem
from headrace.core.schedules import Definition
from headrace.core.spec import NO_RETRY, NO_TIMEOUTS, ParamSpec, RetryPolicy, TaskSpec, Timeouts, WorkflowSpec
from headrace.core.suggest import listed

PROBLEMS_MAX = 1_000
"""Reading tasks stops after this many problems: a generated file with one mistake in each task has made its point."""


class Shaper:
    """Reads one definition. Afterwards ``problems`` holds what was wrong, with paths of the source."""

    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds
        self.problems: list[Problem] = []
        self.schedules: tuple[Definition, ...] = ()
        self.retries: RetryPolicy = NO_RETRY
        self.timeouts: Timeouts = NO_TIMEOUTS
        self.executor: str | None = None
        self.max_parallel: int | None = None

    def workflow(self, data: object, default_name: str) -> WorkflowSpec | None:
        """The specification as far as it could be read; None if there is nothing to go on."""
        if not isinstance(data, dict):
            found = "the file is empty" if data is None else f"a workflow is a mapping, not {kind_of(data)}"
            self.add(Wrong(found, "begin with:\nname: my_workflow\ntasks:\n  hello: {run: echo hello}"), ())
            return None
        top = cast("dict[str, Any]", data)
        values: dict[str, Any] = {"name": default_name}
        for key, value in top.items():
            field = TOP_FIELDS.get(key)
            if field is None:
                self.add(self.unknown(key, TOP_FIELDS, "a workflow"), (key,))
            elif field.read is not None:
                self.read(values, field, value, (key,))
        if "output" in top:
            values["output"] = top["output"]
        values["params"] = self.params(top.get("params"))
        self.schedules = read_schedules(top.get("schedules"), values["name"], values["params"], self.problems)
        self.defaults(top.get("defaults"))
        if "tasks" not in top:
            self.add(Wrong("there are no tasks", "add tasks:, a mapping from id to task"), ())
            return None
        tasks = self.tasks(top["tasks"])
        return None if tasks is None else WorkflowSpec(tasks=tasks, **values)

    # ---- problems -------------------------------------------------------------------------------------------

    def add(self, wrong: Wrong, path: SourcePath) -> None:
        full: SourcePath = (*path, *wrong.path)
        if wrong.at_key:
            # A refused key is named by ``path`` itself, or lies inside the value there.
            full = full if wrong.path else path
            full = (*full[:-1], Key(full[-1])) if full else full
        self.problems.append(Problem(wrong.message, path=full, hint=wrong.hint))

    def read(self, values: dict[str, Any], field: Field, value: object, path: SourcePath) -> bool:
        """Put a field's value where it belongs; False if it was wrong."""
        if value is None or field.read is None:
            return True
        try:
            values[field.attribute] = field.read(value)
        except Wrong as wrong:
            self.add(wrong, path)
            return False
        return True

    def unknown(self, key: str, known: Mapping[str, object], what: str) -> Wrong:
        wrong = unknown_key(key, known, what)
        synonym = SYNONYMS.get(key.lower())
        hint = f"did you mean {synonym!r}?" if synonym in known else wrong.hint
        return Wrong(wrong.message, hint, at_key=True)

    def unknown_in_task(self, key: str, raw: Mapping[str, object], id: str) -> Wrong:  # noqa: A002
        """A setting of the task's kind that stands beside the kind, as in other systems, or no key at all."""
        wrong = self.unknown(key, {**dict.fromkeys(self.kinds), **TASK_FIELDS}, f"task {id!r}")
        owner = next((kind for kind in raw if kind in self.kinds and key in setting_names(self.kinds[kind])), None)
        first = shorthand_of(owner, self.kinds) if owner is not None else None
        if owner is None or key == first:
            return wrong
        inside = f"{first}: ..., {key}: ..." if first else f"{key}: ..."
        return Wrong(wrong.message, f"it is a setting of {owner!r}: {owner}: {{{inside}}}", at_key=True)

    # ---- sections -------------------------------------------------------------------------------------------

    def params(self, data: object) -> dict[str, ParamSpec]:
        params: dict[str, ParamSpec] = {}
        if data is None:
            return params
        if not isinstance(data, dict):
            self.add(expected("a mapping", data, "{year: 2013, city: {type: str}}"), ("params",))
            return params
        for name, value in cast("dict[str, Any]", data).items():
            try:
                params[name] = to_param(value)
            except Wrong as wrong:
                self.add(wrong, ("params", name))
                params[name] = ParamSpec()  # so that references to it are not reported as well
        return params

    def defaults(self, data: object) -> None:
        if data is None:
            return
        if not isinstance(data, dict):
            self.add(expected("a mapping", data, "{timeout: 10m, retries: 3}"), ("defaults",))
            return
        for key, value in cast("dict[str, Any]", data).items():
            path = ("defaults", key)
            field = DEFAULT_FIELDS.get(key)
            try:
                if key == "retries":
                    self.retries = to_retries(value, NO_RETRY)
                elif key == "timeout":
                    self.timeouts = to_timeouts(value, NO_TIMEOUTS)
                elif field is None or field.read is None:
                    raise self.unknown(key, DEFAULT_FIELDS, "defaults")
                elif value is not None:
                    setattr(self, field.attribute, field.read(value))
            except Wrong as wrong:
                self.add(wrong, path)

    # ---- tasks ----------------------------------------------------------------------------------------------

    def tasks(self, data: object) -> dict[str, TaskSpec] | None:
        tasks: dict[str, TaskSpec] = {}
        if isinstance(data, dict):
            for id, value in cast("dict[str, object]", data).items():  # noqa: A001
                tasks[id] = self.task(id, value, ("tasks", id))
                if self.has_given_up():
                    return None
            return tasks
        if isinstance(data, list):
            for path, id, value in self.listed_tasks(cast("list[object]", data)):  # noqa: A001
                if id in tasks:
                    self.add(Wrong(f"there are two tasks {id!r}", "rename one of them"), (*path, "id"))
                tasks[id] = self.task(id, value, path)
                if self.has_given_up():
                    return None
            return tasks
        self.add(expected("a mapping from id to task", data, "{hello: {run: echo hello}}"), ("tasks",))
        return None

    def has_given_up(self) -> bool:
        """Whether there are so many problems that reading stops."""
        if len(self.problems) < PROBLEMS_MAX:
            return False
        self.add(Wrong(f"reading stopped after {PROBLEMS_MAX:,} problems, which probably have one cause"), ())
        return True

    def listed_tasks(self, data: list[object]) -> Iterator[tuple[SourcePath, str, object]]:
        for position, value in enumerate(data):
            id = cast("dict[str, object]", value).get("id") if isinstance(value, dict) else None  # noqa: A001
            if isinstance(id, str):
                yield ("tasks", position), id, value
            else:
                self.add(Wrong("a task in a list needs an id", "{id: hello, run: echo hello}"), ("tasks", position))

    def task(self, id: str, data: object, path: SourcePath) -> TaskSpec:  # noqa: A002
        """One task; what is wrong with it is left out of the result."""
        before = len(self.problems)
        values: dict[str, Any] = {"id": id, "kind": "", "retries": self.retries, "timeouts": self.timeouts}
        kinds: list[str] = []
        try:
            raw = to_mapping(data)
        except Wrong as wrong:
            self.add(Wrong(wrong.message, '{run: "echo hello"}'), path)
            raw = {}
        for key, value in raw.items():
            field = TASK_FIELDS.get(key)
            if field is not None:
                if field.read is None:
                    self.special(values, key, value, path)
                else:
                    self.read(values, field, value, (*path, key))
            elif key in self.kinds:
                kinds.append(key)
                self.kind(values, key, value, (*path, key))
            else:
                self.add(self.unknown_in_task(key, raw, id), (*path, key))
        self.one_kind(kinds, id, path, is_complete=len(self.problems) == before)
        try:
            check_executor(values["kind"], values.get("executor"))
        except Wrong as wrong:
            self.add(wrong, (*path, "executor"))
        self.apply_defaults(values, raw)
        return TaskSpec(**values)

    def special(self, values: dict[str, Any], key: str, value: object, path: SourcePath) -> None:
        """Fields that build on a default, or mean something by being null."""
        try:
            if key == "retries":
                values["retries"] = to_retries(value, self.retries)
            elif key == "timeout":
                values["timeouts"] = to_timeouts(value, self.timeouts)
            elif key == "map":
                values["map"] = [] if value is None else value  # so that uses of item are not reported as well
                if value is None:
                    raise expected("a list", value, '"{{ tasks.list_files.output }}"')
            elif path[-1] != value and not isinstance(path[-1], int):
                raise Wrong(f"the id is {path[-1]!r} already, by its key", "remove id, or make tasks a list")
        except Wrong as wrong:
            self.add(wrong, (*path, key))

    def kind(self, values: dict[str, Any], name: str, value: object, path: SourcePath) -> None:
        values["kind"] = name
        try:
            config = values["config"] = to_config(name, value, self.kinds)
        except Wrong as wrong:
            self.add(wrong, path)
            return
        for wrong in config_problems(self.kinds[name], config):
            self.add(wrong, path)

    def one_kind(self, kinds: list[str], id: str, path: SourcePath, *, is_complete: bool) -> None:  # noqa: A002
        if len(kinds) > 1:
            names = " and ".join(map(repr, kinds))
            self.add(Wrong(f"task {id!r} has {names}; a task does one thing", "make it two tasks"), path)
        elif not kinds and is_complete:
            hint = f"give it one of: {listed(self.kinds)}"
            self.add(Wrong(f"task {id!r} does nothing", hint), path)

    def apply_defaults(self, values: dict[str, Any], raw: Mapping[str, object]) -> None:
        if values.get("at_most_once") and "retries" not in raw:
            values["retries"] = NO_RETRY
        if self.executor is not None and "executor" not in raw and values["kind"] == "python":
            values["executor"] = self.executor
        if self.max_parallel is not None and "max_parallel" not in raw and "map" in values:
            values["max_parallel"] = self.max_parallel
