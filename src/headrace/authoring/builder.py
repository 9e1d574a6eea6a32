"""The graph builder: ``with dag("nightly") as d:`` and ``@dag``.

It builds the same specification that the equivalent YAML gives: arguments that are outputs of tasks become templates,
and templates imply needs.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from contextvars import Token
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack, cast

import msgspec

from headrace.authoring import convert
from headrace.authoring.kinds import check_executor
from headrace.authoring.nodes import Node
from headrace.authoring.references import Params, Ref, to_plain
from headrace.authoring.signatures import bound_arguments, description_of, params_of
from headrace.authoring.tasks import (
    CallListener,
    Duration,
    NodeOptions,
    TaskFunction,
    call_listener,
    checked_options,
)
from headrace.core.errors import InvalidDefinition, Problem
from headrace.core.spec import NO_RETRY, NO_TIMEOUTS, ParamSpec, RetryPolicy, TaskSpec, Timeouts, WorkflowSpec
from headrace.core.suggest import did_you_mean
from headrace.core.validate import validate

_READ: dict[str, Callable[[object], Any]] = {
    "max_items": convert.to_max_items,
    "needs_labels": convert.to_labels,
    "sticky": convert.to_bool,
    "prefer_labels": convert.to_labels,
    "prefer_for": convert.to_duration,
}
"""Options that are read by themselves."""

_DEFAULTS = ("retries", "timeout", "executor", "max_parallel")


class Each:
    """Marks the argument of ``.map(...)`` that is mapped over."""

    __slots__ = ("items",)

    def __init__(self, items: Any) -> None:
        self.items = items


def each(items: Any) -> Any:
    """Name the argument to map over where several could be meant: ``f.map(a=each(xs), b=[1, 2])``."""
    return Each(items)


class Dag:
    """A workflow graph under construction. Made by :func:`dag`; a context manager, or a decorator.

    ``spec`` is the validated workflow, ``functions`` the task functions by target, ``source_dir`` the folder of the
    file that defines it. ``params`` and ``item``/``index`` address run parameters and the item of a mapped task.
    """

    def __init__(
        self,
        name: str | None,
        *,
        params: Mapping[str, Any] | None,
        description: str,
        tags: str | tuple[str, ...] | list[str],
        max_parallel: int | None,
        timeout: Duration | None,
        defaults: Mapping[str, Any] | None,
        source_dir: str | None,
    ) -> None:
        self.name = name or ""
        self.source_dir = source_dir
        self.functions: dict[str, Callable[..., Any]] = {}
        self.item = Ref(("item",))
        self.index = Ref(("index",))
        self.output: Any = msgspec.UNSET
        self._description = description
        self._tags = _read("tags", convert.to_texts, tags)
        self._max_parallel = max_parallel
        self._timeout = None if timeout is None else _read("timeout", convert.to_duration, timeout)
        self._params = {key: _param(key, value) for key, value in (params or {}).items()}
        self._nodes: dict[str, Node] = {}
        self._spec: WorkflowSpec | None = None
        self._tokens: list[Token[CallListener | None]] = []
        self._set_defaults(defaults or {})

    def _set_defaults(self, defaults: Mapping[str, Any]) -> None:
        for key in defaults:
            if key not in _DEFAULTS:
                raise TypeError(f"defaults has no {key!r}; {did_you_mean(key, _DEFAULTS, what='it has')}")
        self._retries: RetryPolicy = _retries(defaults.get("retries"), NO_RETRY)
        self._timeouts: Timeouts = _timeouts(defaults.get("timeout"), NO_TIMEOUTS)
        self._executor: str | None = defaults.get("executor")
        self._map_parallel: int | None = defaults.get("max_parallel")

    # ---- as a context manager or decorator ----------------------------------------------------------------------

    def __enter__(self) -> Dag:
        if not self.name:
            raise TypeError('a workflow needs a name: with dag("nightly") as d:')
        self._tokens.append(call_listener.set(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        call_listener.reset(self._tokens.pop())
        if kind is None and not self._tokens:
            _ = self.spec  # a mistake is reported here, at the definition, and not where it is first run

    def __call__(self, function: Callable[..., Any]) -> Dag:
        """Build from a function: its parameters are the workflow's, its result the workflow's output."""
        self.name = self.name or function.__name__
        self._description = self._description or description_of(function)
        self._params = {**params_of(function), **self._params}
        self.source_dir = str(Path(inspect.unwrap(function).__code__.co_filename).resolve().parent)
        with self:
            result = function(**{key: Ref(("params", key)) for key in params_of(function)})
            if result is not None:
                self.output = result
        return self

    # ---- what it holds --------------------------------------------------------------------------------------------

    @property
    def params(self) -> Params:
        """The parameters: ``d.params.year``."""
        return Params(self._params)

    @property
    def spec(self) -> WorkflowSpec:
        """The validated workflow. Raises :class:`InvalidDefinition` with all problems."""
        if self._spec is None:
            self._spec = validate(
                WorkflowSpec(
                    name=self.name,
                    tasks={key: node.spec for key, node in self._nodes.items()},
                    params=self._params,
                    description=self._description,
                    tags=self._tags,
                    max_parallel=self._max_parallel,
                    timeout=self._timeout,
                    output=self.output if self.output is msgspec.UNSET else to_plain(self.output),
                )
            )
        return self._spec

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The tasks so far, by id."""
        return self._nodes

    def __getitem__(self, id: str) -> Node:  # noqa: A002 - what it is
        if id not in self._nodes:
            raise KeyError(f"workflow {self.name!r} has no task {id!r}; {did_you_mean(id, self._nodes, what='tasks')}")
        return self._nodes[id]

    def to_yaml(self) -> str:
        """The workflow as YAML that loads to the same specification."""
        from headrace.authoring.yaml.writer import to_yaml  # noqa: PLC0415

        return to_yaml(self.spec)

    def changed(self) -> None:
        """Forget the finished specification: something was added."""
        self._spec = None

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name == "output":
            object.__setattr__(self, "_spec", None)

    def __repr__(self) -> str:
        return f"<dag {self.name}: {len(self._nodes)} tasks>"

    # ---- adding tasks ---------------------------------------------------------------------------------------------

    def run(
        self, id: str, command: str | list[str], *, map: Any = msgspec.UNSET, args: Mapping[str, Any] | None = None,  # noqa: A002
        config: Mapping[str, Any] | None = None, **options: Unpack[NodeOptions],
    ) -> Node:  # fmt: skip
        """A shell command. ``config`` holds further settings of the kind, ``args`` what YAML calls ``with``."""
        return self.task(id, "run", {"command": command, **(config or {})}, args, map=map, **options)

    def http(self, id: str, url: str, *, map: Any = msgspec.UNSET, method: str | None = None,  # noqa: A002
             config: Mapping[str, Any] | None = None, **options: Unpack[NodeOptions]) -> Node:  # fmt: skip
        """An HTTP request. ``config`` holds further settings of the kind, such as ``headers`` and ``json``."""
        settings = {"url": url, **({"method": method} if method else {}), **(config or {})}
        return self.task(id, "http", settings, map=map, **options)

    def task(
        self, id: str, kind: str, config: Mapping[str, Any] | None = None, args: Mapping[str, Any] | None = None,  # noqa: A002
        *, map: Any = msgspec.UNSET, **options: Unpack[NodeOptions],  # noqa: A002
    ) -> Node:  # fmt: skip
        """A task of any kind, plug-ins included. Raises :class:`InvalidDefinition` if the id is taken."""
        fields = self._fields(options, kind, is_mapped=map is not msgspec.UNSET)
        fields["id"] = id
        if map is not msgspec.UNSET:
            fields["map"] = to_plain(map)
        return self.add(TaskSpec(kind=kind, config=to_plain(config or {}), args=to_plain(args or {}), **fields))

    def add(self, spec: TaskSpec) -> Node:
        """A finished task. Raises :class:`InvalidDefinition` if its id is taken."""
        if spec.id in self._nodes:
            problem = Problem(
                f"there is a task {spec.id!r} already", path=("tasks", spec.id), hint="give it another id"
            )
            raise InvalidDefinition([problem], source=f"workflow {self.name!r}")
        node = self._nodes[spec.id] = Node(self, spec)
        self.changed()
        return node

    def call(self, task: TaskFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A task function was called inside ``with dag(...)``."""
        return self._add_function(task, bound_arguments(task, args, kwargs), msgspec.UNSET)

    def map(self, task: TaskFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``task.map(...)`` was called inside ``with dag(...)``."""
        arguments = bound_arguments(task, args, kwargs)
        name = _mapped_argument(task, arguments)
        items = arguments[name]
        arguments[name] = self.item
        return self._add_function(task, arguments, items.items if isinstance(items, Each) else items)

    def _add_function(self, task: TaskFunction[..., Any], arguments: dict[str, Any], items: Any) -> Node:
        for value in arguments.values():
            if isinstance(value, Node) and value.dag is not self:
                raise ValueError(f"task {value.id!r} belongs to workflow {value.dag.name!r}, not {self.name!r}")
        options = dict(task.defaults)
        id = options.pop("id", None) or self._free_id(task.name)  # noqa: A001
        config = {"function": self._target(task)}
        return self.task(str(id), "python", config, arguments, map=items, **cast("NodeOptions", options))

    def workflow(self, workflow: Any, arguments: Mapping[str, Any]) -> Node:
        """A workflow was called inside ``with dag(...)``: a run of it is a task."""
        target: str = workflow.target
        module, _, name = target.rpartition(":")
        if module.endswith(".py") and str(Path(module).parent) == self.source_dir:
            target = f"{Path(module).name}:{name}"
        self.functions[target] = workflow
        return self.task(self._free_id(workflow.spec.name), "workflow", {"target": target}, arguments)

    def _free_id(self, name: str) -> str:
        name = name if name != "<lambda>" else "lambda"
        count = 1
        candidate = name
        while candidate in self._nodes:
            count += 1
            candidate = f"{name}_{count}"
        return candidate

    def _target(self, task: TaskFunction[..., Any]) -> str:
        """The target, relative to the workflow's own folder if it is a script there: the same on every machine."""
        target = task.target
        if task.file is not None and str(task.file.parent) == self.source_dir:
            target = f"{task.file.name}:{target.rpartition(':')[2]}"
        function = task.__headrace_function__
        if self.functions.setdefault(target, function) is not function:
            problem = Problem(f"two different functions are both called {target!r}", hint="give them different names")
            raise InvalidDefinition([problem], source=f"workflow {self.name!r}")
        return target

    def _fields(self, options: NodeOptions, kind: str, *, is_mapped: bool) -> dict[str, Any]:
        given = cast("dict[str, Any]", dict(checked_options(options)))
        fields: dict[str, Any] = {
            "retries": _retries(given.pop("retries", msgspec.UNSET), self._retries)
            if "retries" in given or not given.get("at_most_once")
            else NO_RETRY,
            "timeouts": _timeouts(given.pop("timeout", msgspec.UNSET), self._timeouts),
        }
        if "needs" in given:
            fields["needs"] = self._needs(given.pop("needs"))
        if given.get("when") is not None:
            fields["when"] = _read("when", convert.to_when, to_plain(given["when"]))
        if "trigger" in given:
            fields["trigger"] = _read("trigger", convert.to_trigger, given["trigger"])
        if "tags" in given:
            fields["tags"] = _read("tags", convert.to_texts, given["tags"])
        for name in (
            "max_parallel",
            "executor",
            "priority",
            "queue",
            "at_most_once",
            "allow_failure",
            "description",
        ):
            if name in given:
                fields[name] = given[name]
        if given.get("prefer_for", 0) is None:
            del given["prefer_for"]
        for name, read in _READ.items():
            if name in given:
                fields[name] = _read(name, read, given[name])
        _read("executor", lambda name: check_executor(kind, name), fields.get("executor"))
        if kind == "python" and self._executor is not None:
            fields.setdefault("executor", self._executor)
        if is_mapped and self._map_parallel is not None:
            fields.setdefault("max_parallel", self._map_parallel)
        return fields

    def _needs(self, needs: Any) -> tuple[str, ...]:
        listed = cast("list[Any]", list(needs) if isinstance(needs, (list, tuple)) else [needs])
        names: dict[str, None] = {}
        for need in listed:
            if isinstance(need, Node) and need.dag is not self:
                raise ValueError(f"task {need.id!r} belongs to workflow {need.dag.name!r}, not {self.name!r}")
            if not isinstance(need, (Node, str)):
                raise TypeError(f"needs takes tasks or their ids, not {type(need).__name__}")
            names[need.id if isinstance(need, Node) else need] = None
        return tuple(names)


def dag(
    name: str | Callable[..., Any] | None = None, /, *, params: Mapping[str, Any] | None = None,
    description: str = "", tags: str | tuple[str, ...] | list[str] = (), max_parallel: int | None = None,
    timeout: Duration | None = None, defaults: Mapping[str, Any] | None = None,
) -> Dag:  # fmt: skip
    """Define a workflow graph.

    ``with dag("nightly", params={"year": 2013}) as d:`` collects the task functions called inside. ``@dag`` on a
    function does the same: its parameters become the workflow's parameters, its result the workflow's output.

    A parameter is a default (its type is the parameter's), a type (``int``: required) or a :class:`ParamSpec`.
    ``defaults`` holds ``retries``, ``timeout``, ``executor`` and ``max_parallel`` for tasks that do not set them.
    Raises :class:`InvalidDefinition`, at the end of the block, with all problems.
    """
    file = sys._getframe(1).f_globals.get("__file__")
    made = Dag(
        None if callable(name) else name,
        params=params,
        description=description,
        tags=tags,
        max_parallel=max_parallel,
        timeout=timeout,
        defaults=defaults,
        source_dir=str(Path(file).resolve().parent) if file else None,
    )
    return made(name) if callable(name) else made


_TYPES: dict[Any, str] = {int: "int", float: "float", str: "str", bool: "bool", list: "list", dict: "dict"}


def _param(name: str, value: Any) -> ParamSpec:
    if isinstance(value, ParamSpec):
        return value
    if isinstance(value, type) and value in _TYPES:
        return ParamSpec(type=cast("Any", _TYPES[value]))
    if isinstance(value, type):
        raise TypeError(
            f"parameter {name!r} cannot be of type {value.__name__}; there are {', '.join(_TYPES.values())}"
        )
    return convert.default_param(to_plain(value))


def _read(name: str, read: Callable[[object], Any], value: object) -> Any:
    """A converted option; what is wrong with it is a mistake in the program, raised where it is written."""
    try:
        return read(value)
    except convert.Wrong as wrong:
        raise TypeError(f"{name}: {wrong.message}" + (f"; {wrong.hint}" if wrong.hint else "")) from None


def _retries(value: Any, default: RetryPolicy) -> RetryPolicy:
    if value is msgspec.UNSET:
        return default
    return _read("retries", lambda given: convert.to_retries(given, default), _as_dict(value))


def _timeouts(value: Any, default: Timeouts) -> Timeouts:
    if value is msgspec.UNSET:
        return default
    return _read("timeout", lambda given: convert.to_timeouts(given, default), _as_dict(value))


def _as_dict(value: Any) -> Any:
    return dict(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else value


def _is_output(value: Node | Ref) -> bool:
    return isinstance(value, Node) or str(value).startswith("{{ tasks")


def _mapped_argument(task: TaskFunction[..., Any], arguments: dict[str, Any]) -> str:
    marked = [name for name, value in arguments.items() if isinstance(value, Each)]
    if len(marked) == 1:
        return marked[0]
    listed = [name for name, value in arguments.items() if isinstance(value, (list, tuple, range))]
    upstream = [name for name, value in arguments.items() if isinstance(value, (Node, Ref))]
    # A parameter given next to a list or to a task's output is a constant far more often than the list.
    outputs = [name for name in upstream if _is_output(arguments[name])]
    for candidates in (listed + outputs, listed + upstream):
        if len(candidates) == 1:
            return candidates[0]
    if not listed and not upstream:
        hint = "give it a list or the output of a task"
        raise TypeError(f"{task.name}.map(...) has no argument to map over; {hint}")
    names = ", ".join(marked or listed + upstream)
    raise TypeError(f"{task.name}.map(...) could map over {names}; mark one of them with each(...)")
