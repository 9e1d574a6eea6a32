"""Nodes of a graph that is being built in Python, and the arrows between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from headrace.authoring.references import Ref
from headrace.core.spec import TaskSpec

if TYPE_CHECKING:
    from headrace.authoring.builder import Dag

T = TypeVar("T")


class Node:
    """A task of a graph under construction, standing in for its output.

    ``node.output`` and ``node["key"]`` address the output or a part of it. ``a >> b`` makes b need a; either side may
    be a list: ``a >> [b, c] >> d``.
    """

    __slots__ = ("_needs", "_spec", "dag")

    def __init__(self, dag: Dag, spec: TaskSpec) -> None:
        self.dag = dag
        self._spec = spec
        self._needs = dict.fromkeys(spec.needs)

    @property
    def id(self) -> str:
        """The task's id."""
        return self._spec.id

    @property
    def output(self) -> Ref:
        """The address of the task's output; for a mapped task the list of its items' outputs."""
        return Ref(("tasks", self.id, "output"))

    @property
    def state(self) -> Ref:
        """The address of the task's final state."""
        return Ref(("tasks", self.id, "state"))

    @property
    def error(self) -> Ref:
        """The address of the task's failure, null if it did not fail."""
        return Ref(("tasks", self.id, "error"))

    @property
    def spec(self) -> TaskSpec:
        """The task as far as it is defined now; needs implied by its arguments are added when the workflow is."""
        needs = tuple(self._needs)
        return self._spec if needs == self._spec.needs else msgspec.structs.replace(self._spec, needs=needs)

    def __getitem__(self, key: str | int) -> Ref:
        return self.output[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.output)  # raises, and says what to do instead

    def __bool__(self) -> bool:
        return bool(self.output)  # raises

    def __str__(self) -> str:
        return str(self.output)

    def __format__(self, spec: str) -> str:
        return format(self.output, spec)

    def __headrace_ref__(self) -> Ref:
        return self.output

    def __rshift__(self, later: T) -> T:
        for node in _nodes(later):
            node.after(self)
        return later

    def __lshift__(self, earlier: T) -> T:
        for node in _nodes(earlier):
            self.after(node)
        return earlier

    def __rrshift__(self, earlier: Sequence[Node]) -> Node:
        for node in _nodes(earlier):
            self.after(node)
        return self

    def __rlshift__(self, later: Sequence[Node]) -> Node:
        for node in _nodes(later):
            node.after(self)
        return self

    def after(self, *earlier: Node) -> Node:
        """Make this task need others; returns itself. Saying it twice does no harm."""
        for node in earlier:
            if node.dag is not self.dag:
                raise ValueError(f"task {node.id!r} belongs to workflow {node.dag.name!r}, not {self.dag.name!r}")
            self._needs[node.id] = None
        self.dag.changed()
        return self

    def __repr__(self) -> str:
        return f"<node {self.id} of {self.dag.name}>"


def _nodes(value: object) -> list[Node]:
    found = list(cast("Sequence[object]", value)) if isinstance(value, (list, tuple)) else [value]
    for node in found:
        if not isinstance(node, Node):
            raise TypeError(f">> joins tasks or lists of tasks, not {type(node).__name__}")
    return cast("list[Node]", found)


def chain(*links: Any) -> None:
    """``chain(a, [b, c], d)`` is ``a >> [b, c] >> d`` in a form that type checkers follow."""
    for earlier, later in pairwise(links):
        for node in _nodes(later):
            node.after(*_nodes(earlier))
