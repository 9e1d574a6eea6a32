"""Task kind ``workflow``: a whole run as a task of a graph.

The attempt starts a run and waits for its end. The run has the attempt's name as its business key, so an attempt that is
launched again after a crash finds the run that it had started and goes on waiting; another attempt (a retry) starts
another run. Waiting takes no slot that the run's own tasks need.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

import msgspec

from headrace.backends.executors.settings import check_config, has_template
from headrace.backends.executors.targets import resolve
from headrace.contracts.execution import Attempt, AttemptError, BindContext
from headrace.core.errors import InvalidDefinition, Problem, UserCodeError
from headrace.core.spec import TaskSpec

EXECUTOR = "workflow"

RunsOne = Callable[[Any, Attempt], Coroutine[Any, Any, Any]]
"""Starts a run of a definition for an attempt, or finds the one it had started, and gives its result. Raises
:class:`AttemptError` if the run does not succeed."""


class WorkflowConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``target`` names a code workflow or a graph: ``module:name`` or ``path/file.py:name``, looked up like the functions
    of ``python`` tasks. The task's arguments are the run's parameters."""

    target: str


class WorkflowTask:
    """The kind. ``runs`` is the engine's; without one, definitions are only checked."""

    name: ClassVar[str] = "workflow"
    Config: ClassVar[type[msgspec.Struct]] = WorkflowConfig
    shorthand: ClassVar[str | None] = "target"

    def __init__(self, runs: RunsOne | None = None) -> None:
        self._runs = runs

    def bind(self, task: TaskSpec, context: BindContext) -> BoundWorkflow:
        """Find the workflow. Raises :class:`UserCodeError`, :class:`InvalidDefinition`."""
        check_config(task, WorkflowConfig)
        target = task.config["target"]
        if has_template(target):
            problem = Problem("the workflow of a task cannot be a template", path=("tasks", task.id, self.name))
            raise InvalidDefinition([problem], source=f"task {task.id!r}")
        definition: Any = resolve(target, context.source_dir, context.functions)
        if not hasattr(definition, "spec"):
            raise UserCodeError(
                f"{target} is no workflow", hint="decorate it with @workflow or @dag; for a task: python"
            )
        return BoundWorkflow(definition, self._runs)


class BoundWorkflow:
    """A run to be."""

    executor = EXECUTOR

    def __init__(self, definition: Any, runs: RunsOne | None) -> None:
        self._definition = definition
        self._runs = runs

    async def run(self, attempt: Attempt) -> Any:
        """Start the run, or find it, and wait for its result."""
        if self._runs is None:
            raise AttemptError("no_engine", "runs are started by an engine only", retryable=False)
        return await self._runs(self._definition, attempt)
