"""A specification made ready to run: who follows whom, as direct references, templates compiled.

Built once per workflow version in O(tasks + edges) and shared, read-only, by every run of that version.
"""

from __future__ import annotations

from typing import Any, ClassVar

from headrace.core.expressions import Compiled, compile_condition, compile_value, is_constant
from headrace.core.spec import NO_TIMEOUTS, RetryPolicy, TaskSpec, TriggerRule, WorkflowSpec

CONSTANT_CALL = (compile_value({}), compile_value({}))


class PlanNode:
    """One task of a plan. ``upstream`` and ``downstream`` hold node indices."""

    __slots__ = (
        "_call",
        "_map",
        "_when",
        "args",
        "decides_by_counts",
        "downstream",
        "has_constant_call",
        "id",
        "index",
        "options",
        "plain",
        "prefers",
        "retries",
        "rule",
        "spec",
        "timeouts",
        "total",
    )

    headers: ClassVar[dict[str, str] | None] = None
    """A graph's tasks have the headers of their run."""

    def __init__(self, index: int, spec: TaskSpec) -> None:
        self.index = index
        self.id = spec.id
        self.spec = self.options = spec
        """``options`` is what does not differ between the calls of a task: here there is only one."""
        self.args = spec.args
        self.rule: TriggerRule = spec.trigger
        self.total = len(spec.needs)
        self.downstream: list[int] = []
        self.retries: RetryPolicy = spec.retries
        self.timeouts = spec.timeouts if spec.timeouts != NO_TIMEOUTS else NO_TIMEOUTS
        self.decides_by_counts = spec.when is None and not spec.is_mapped
        """True when the counts alone make it ready: neither a condition nor a list to evaluate."""
        self.plain = self.decides_by_counts and spec.trigger is TriggerRule.ALL_SUCCESS
        """The commonest kind: ready when all it needs has succeeded, with nothing to evaluate."""
        self.prefers = spec.prefers
        """True when it matters where it is carried out."""
        self.has_constant_call = False
        """Known to have no templates in its config and arguments, found when they were first rendered."""
        self._call: tuple[Compiled, Compiled] | None = None
        self._when: Compiled | None = None
        self._map: Compiled | None = None

    @property
    def call(self) -> tuple[Compiled, Compiled]:
        """Compiled ``config`` and ``args``; compiled on first use, so that a huge graph starts at once."""
        if self._call is None:
            spec = self.spec
            if is_constant(spec.config) and is_constant(spec.args):
                self._call = CONSTANT_CALL  # one object for all of them: most tasks of huge graphs
                self.has_constant_call = True
            else:
                self._call = (compile_value(spec.config), compile_value(spec.args))
        return self._call

    @property
    def when(self) -> Compiled | None:
        """The compiled condition, None without one."""
        if self._when is None and self.spec.when is not None:
            self._when = compile_condition(self.spec.when)
        return self._when

    @property
    def map(self) -> Compiled:
        """The compiled list of a mapped task."""
        if self._map is None:
            self._map = compile_value(self.spec.map)
        return self._map


class Plan:
    """A workflow version ready to run."""

    __slots__ = ("brain", "by_id", "leaves", "nodes", "output", "source_dir", "spec", "version")

    def __init__(self, spec: WorkflowSpec, version: str) -> None:
        self.spec = spec
        self.version = version
        self.brain: Any = None
        """Who decides runs of this plan; set by :func:`headrace.core.brains.graph_plan`."""
        self.nodes = [PlanNode(index, task) for index, task in enumerate(spec.tasks.values())]
        self.by_id = {node.id: node for node in self.nodes}
        for node in self.nodes:
            for upstream in node.spec.needs:
                self.by_id[upstream].downstream.append(node.index)
        self.leaves = [node for node in self.nodes if not node.downstream]
        self.output: Compiled | None = None
        if isinstance(spec.output, (str, dict, list)):
            self.output = compile_value(spec.output)

    def __len__(self) -> int:
        return len(self.nodes)


def render_call(node: PlanNode, scope: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """An attempt's ``config`` and ``args``. Raises ``TemplateError`` or ``NeedValue``."""
    config, args = node.call
    if config is CONSTANT_CALL[0]:
        return node.spec.config, node.spec.args
    return (
        node.spec.config if config.is_constant else config.render(scope),
        node.spec.args if args.is_constant else args.render(scope),
    )
