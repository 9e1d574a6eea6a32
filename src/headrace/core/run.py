"""The folded state of one graph run.

Everything here follows from the run's events, except the few fields marked *memory*, which only help the node that
runs it and are never compared or stored.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from headrace.core.errors import TemplateError
from headrace.core.events import Failure
from headrace.core.expressions import NeedValue
from headrace.core.plan import Plan, PlanNode
from headrace.core.states import FINAL_RUN_STATES, FINAL_TASK_STATES, RunState, TaskState

_is_digest = re.compile(r"[0-9a-f]{64}").fullmatch

REFERENCE_KEY = "$ref"
"""A stored value ``{"$ref": digest, "bytes": n}`` stands for a large one in the artifact store."""


def reference_of(value: Any) -> str | None:
    """The digest if ``value`` stands for a large value, else None. A user's own mapping may have the keys too, as JSON
    schemas and manifests do; it has others beside them, or what it names is no SHA-256 in hexadecimal digits."""
    if type(value) is dict and len(value) == 2 and type(value.get("bytes")) is int:
        digest = value.get(REFERENCE_KEY)
        if type(digest) is str and _is_digest(digest):
            return digest
    return None


def has_reference(value: Any, depth: int = 0) -> bool:
    """Whether a reference stands anywhere inside a value (nested at most 100 deep)."""
    kind = type(value)
    if kind is dict:
        if reference_of(value) is not None:
            return True
        parts = value.values()
    elif kind is list:
        parts = value
    else:
        return False
    return depth < 100 and any(
        has_reference(part, depth + 1) for part in parts if type(part) is dict or type(part) is list
    )


class LostValue:
    """Stands in ``run.values`` for a large value that cannot be read any more; using it is an error that says why."""

    __slots__ = ("why",)

    def __init__(self, why: str) -> None:
        self.why = why


class Unit(msgspec.Struct, eq=False, gc=False):
    """What is tried and ends: a plain task, a mapped task, or one item of it.

    ``attempt`` counts attempts that ended; the one under way is ``attempt + 1``. ``starts`` counts recorded starts of
    the attempt under way; more than one means that processes died around it. ``planned`` and ``launched`` are *memory*:
    an attempt waits for a slot or is under way, or is under way, on this node. ``external``: the attempt under way is
    completed from outside. ``away``: it is on offer to other nodes, or claimed by one. ``details`` are those of the
    last heartbeat that is known, ``beat_at`` its time. A struct without cyclic references: a run may have a million of
    them.
    """

    node: PlanNode
    item: int | None = None
    state: TaskState = TaskState.WAITING
    attempt: int = 0
    starts: int = 0
    first_ready_at: float | None = None
    retry_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    output: Any = None
    failure: Failure | None = None
    reason: str | None = None
    planned: bool = False
    launched: bool = False
    external: bool = False
    away: bool = False
    details: Any = None
    beat_at: float | None = None
    abandoned: bool = False

    @property
    def done(self) -> bool:
        """True in a final state."""
        return self.state in FINAL_TASK_STATES

    @property
    def name(self) -> str:
        """``task`` or ``task[item]``."""
        return self.node.id if self.item is None else f"{self.node.id}[{self.item}]"

    def reset(self) -> None:
        """Back to waiting, as if it had never been tried."""
        self.state = TaskState.WAITING
        self.attempt = self.starts = 0
        self.first_ready_at = self.retry_at = self.started_at = self.ended_at = None
        self.output = self.failure = self.reason = self.details = self.beat_at = None
        self.external = self.away = False


class TaskUnit(Unit, eq=False, gc=False):
    """A task: a unit with counts of how the tasks it needs ended, and its items when it is mapped."""

    success: int = 0
    failed: int = 0
    upstream_failed: int = 0
    skipped: int = 0
    items: list[Unit] | None = None
    item_values: list[Any] | None = None
    items_left: int = 0
    items_failed: int = 0

    def reset(self) -> None:
        """Back to waiting. The counts are about other tasks and stay."""
        super().reset()
        self.items = self.item_values = None
        self.items_left = self.items_failed = 0


class Run:
    """What every run has, whichever brain decides it. See :mod:`headrace.core.brains`."""

    keeps_references = True
    """Whether large outputs stay references in its state; code is given the values."""

    __slots__ = (
        "attributes",
        "created_at",
        "effects",
        "ended_at",
        "failed_task",
        "failure",
        "fresh",
        "headers",
        "key",
        "memo",
        "output",
        "params",
        "parent",
        "plan",
        "reason",
        "run_id",
        "seq",
        "source_dir",
        "stale",
        "state",
        "tags",
        "tasks",
        "tasks_failed",
        "timeout_from",
        "trigger",
        "unfinished",
        "values",
        "wanted",
    )

    def __init__(self, plan: Any) -> None:  # Any: each brain has plans of its own
        self.plan = plan
        self.run_id = ""
        self.seq = 0
        self.state = RunState.RUNNING
        self.created_at = 0.0
        self.timeout_from = 0.0
        """When the run timeout's clock started: at creation, or at the last retry."""
        self.ended_at: float | None = None
        self.params: dict[str, Any] = {}
        self.tags: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        """What travels beside its parameters, as it was given at the start."""
        self.trigger = "manual"
        self.key: str | None = None
        self.attributes: dict[str, Any] = {}
        self.memo: dict[str, Any] = {}
        self.parent: str | None = None
        self.source_dir: str | None = None
        self.output: Any = None
        self.failure: Failure | None = None
        self.failed_task: str | None = None
        self.reason: str | None = None
        self.tasks: list[TaskUnit] = []
        """Its tasks so far, in a stable order."""
        self.unfinished = 0
        self.tasks_failed = 0
        self.fresh: list[Unit] = []  # memory: units that became ready since the planner last looked
        self.effects: list[Any] = []  # memory: other effects that became due since the node last looked
        self.values: dict[str, Any] = {}  # memory: large values by digest, as far as they were loaded
        self.stale = False  # memory: its row in the catalog has to be written with the next events
        self.wanted: set[str] = set()  # memory: digests that a decision waits for

    @property
    def done(self) -> bool:
        """True in a final state."""
        return self.state in FINAL_RUN_STATES

    @property
    def launching(self) -> bool:
        """Whether attempts may be started now."""
        return self.state is RunState.RUNNING

    def unit(self, task: str, item: int | None) -> Unit | None:
        """The unit of that name, or None."""
        raise NotImplementedError

    def scope_for(self, unit: Unit) -> dict[str, Any]:
        """The names that a unit's templates see."""
        raise NotImplementedError

    def value(self, value: Any) -> Any:
        """Replace references by what they stand for. Raises :class:`NeedValue` when it has not been loaded."""
        digest = reference_of(value)
        if digest is None:
            return value
        if digest not in self.values:
            raise NeedValue(digest)
        loaded = self.values[digest]
        if isinstance(loaded, LostValue):
            raise TemplateError(f"an output cannot be read: {loaded.why}")
        return loaded


class GraphRun(Run):
    """The state of one run of a graph."""

    __slots__ = ("deadline_passed", "scope", "undecided")

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.tasks = [TaskUnit(node) for node in plan.nodes]
        self.unfinished = len(self.tasks)
        self.deadline_passed = False
        self.undecided: deque[TaskUnit] = deque()  # memory: waiting tasks whose counts changed
        self.scope: dict[str, Any] | None = None  # memory: the names that templates see

    def unit(self, task: str, item: int | None) -> Unit | None:
        """The unit of that name, or None."""
        node = self.plan.by_id.get(task)
        if node is None:
            return None
        unit = self.tasks[node.index]
        if item is None:
            return unit
        return unit.items[item] if unit.items is not None and 0 <= item < len(unit.items) else None

    def units(self) -> Iterator[Unit]:
        """Every task, and every item after its task."""
        for unit in self.tasks:
            yield unit
            if unit.items is not None:
                yield from unit.items

    def output_of(self, unit: Unit) -> Any:
        """A unit's output with references replaced; a mapped task's is the list of its items' outputs."""
        if unit.item is None and isinstance(unit, TaskUnit) and unit.items is not None:
            return [self.value(item.output) for item in unit.items]
        return self.value(unit.output)

    def template_scope(self) -> dict[str, Any]:
        """The names that templates of this run see; ``item`` and ``index`` are added per item."""
        if self.scope is None:
            self.scope = {
                "params": self.params,
                "tasks": _Tasks(self),
                "run": {
                    "id": self.run_id,
                    "workflow": self.plan.spec.name,
                    "tags": self.tags,
                    "created_at": self.created_at,
                },
            }
        return self.scope

    def scope_for(self, unit: Unit) -> dict[str, Any]:
        """The scope for one unit."""
        scope = self.template_scope()
        if unit.item is None:
            return scope
        values = self.tasks[unit.node.index].item_values
        assert values is not None
        return {**scope, "item": values[unit.item], "index": unit.item}


class _Tasks(Mapping[str, "_TaskView"]):
    """``tasks`` in templates."""

    def __init__(self, run: GraphRun) -> None:
        self._run = run

    def __getitem__(self, task: str) -> _TaskView:
        return _TaskView(self._run, self._run.tasks[self._run.plan.by_id[task].index])

    def __iter__(self) -> Iterator[str]:
        return iter(self._run.plan.by_id)

    def __len__(self) -> int:
        return len(self._run.plan.by_id)


class _TaskView(Mapping[str, Any]):
    """``tasks.<id>`` in templates: ``output``, ``state``, ``error``, ``attempts``."""

    _fields = ("output", "state", "error", "attempts", "items")

    def __init__(self, run: GraphRun, unit: TaskUnit) -> None:
        self._run = run
        self._unit = unit

    def __getitem__(self, name: str) -> Any:
        if name == "output":
            return self._run.output_of(self._unit)
        if name == "state":
            return str(self._unit.state)
        if name == "error":
            failure = self._unit.failure
            return None if failure is None else {"type": failure.type, "message": failure.message, "code": failure.code}
        if name == "attempts":
            return self._unit.attempt
        if name == "items":
            return [
                {"state": str(item.state), "output": self._run.value(item.output)} for item in self._unit.items or ()
            ]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)
