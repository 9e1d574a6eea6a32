"""Two brains, one body: who decides a run.

A graph run is decided by dependency counters (:mod:`headrace.core.decide`), a code run by replaying its coroutine
(:mod:`headrace.durable.brain`). Both read and write the same events; the engine asks a plan for its brain and does not
know which it is.
"""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

from headrace.core import decide as graph
from headrace.core import effects
from headrace.core.events import Event, RunCreated
from headrace.core.fold import fold
from headrace.core.inputs import Input
from headrace.core.plan import Plan
from headrace.core.run import GraphRun, Run, Unit
from headrace.core.view import RunView, view_run


class Brain(Protocol):
    """What the engine asks. Everything is pure in the sense of :mod:`headrace.core.decide`."""

    def new(self, plan: Any, code: Any = None) -> Run:
        """An empty run, to be created or to fold a history into. ``code`` is what a code workflow runs; without it a
        history can be read but not gone on with."""
        ...

    def create(self, run: Any, event: RunCreated) -> list[Event]:
        """The first events of a new run, folded in."""
        ...

    def decide(self, run: Any, given: Input, now: float) -> list[Event]:
        """The events that follow from an input, folded in. Raises :class:`InvalidCommand`."""
        ...

    def fold(self, run: Any, event: Event) -> None:
        """Apply a stored event."""
        ...

    def folding(self, run: Any) -> contextlib.AbstractContextManager[None]:
        """Enter this around the folding of many events of one run; nothing else may be done in it."""
        ...

    def launchable(self, run: Any) -> list[Unit]:
        """Units that owe an attempt."""
        ...

    def deadline(self, run: Any) -> float | None:
        """When the run's time is over."""
        ...

    def pending(self, run: Any) -> list[Any]:
        """Effects owed besides attempts and deadlines: see :mod:`headrace.durable.effects`."""
        ...

    def close(self, run: Any) -> None:
        """The run leaves this node's memory; it may still be looked at."""
        ...

    def view(self, run: Any, *, items: bool = False) -> RunView:
        """The run as people read it."""
        ...


class GraphBrain:
    """Decides by dependency counters."""

    @staticmethod
    def new(plan: Plan, code: object = None) -> GraphRun:
        """An empty run."""
        return GraphRun(plan)

    create = staticmethod(graph.create)
    decide = staticmethod(graph.decide)
    fold = staticmethod(fold)

    @staticmethod
    def folding(run: GraphRun) -> contextlib.AbstractContextManager[None]:
        """Nothing to prepare."""
        return contextlib.nullcontext()

    launchable = staticmethod(effects.launchable_units)
    deadline = staticmethod(effects.run_deadline)
    view = staticmethod(view_run)

    @staticmethod
    def close(run: GraphRun) -> None:
        """Nothing to let go of."""

    @staticmethod
    def pending(run: GraphRun) -> list[Any]:
        """Nothing besides attempts and deadlines."""
        return []


GRAPH_BRAIN: Brain = GraphBrain()


def graph_plan(spec: Any, version: str) -> Plan:
    """The plan of a graph, with its brain."""
    plan = Plan(spec, version)
    plan.brain = GRAPH_BRAIN
    return plan
