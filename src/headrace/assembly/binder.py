"""Binds definitions to code: from a plan to what runs each of its tasks, on the process's executors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from headrace.backends.artifacts.logs import FileLogs
from headrace.backends.executors.binding import Binding as Surroundings
from headrace.backends.executors.kinds import TaskKinds
from headrace.backends.executors.targets import resolve
from headrace.contracts.database import DATABASE
from headrace.contracts.execution import BoundTask, Executor
from headrace.contracts.interceptor import Interceptors
from headrace.core.brains import graph_plan
from headrace.core.errors import InvalidDefinition, Problem, UserCodeError
from headrace.core.plan import Plan
from headrace.core.spec import AnySpec, CodeSpec, TaskSpec
from headrace.core.validate import bounded_problems
from headrace.durable.run import CodePlan
from headrace.engine.away import AwayTask
from headrace.engine.intercepting import intercepted
from headrace.engine.live import Binding


class Binder:
    """One process's way to the code of its own runs' tasks; other nodes' attempts are bound by
    :class:`~headrace.worker.guests.Guests`. ``serves``: whether this node carries out attempts of a queue that ask for
    some labels."""

    def __init__(
        self,
        *,
        serves: Callable[[str, Mapping[str, str]], bool],
        data_dir: Path,
        logs: FileLogs,
        executors: Mapping[str, Executor],
        kinds: TaskKinds,
        functions: dict[str, Callable[..., Any]],
        env_allow: tuple[str, ...],
        interceptors: Interceptors,
    ) -> None:
        self._serves = serves
        self._data_dir = data_dir
        self._logs = logs
        self._executors = executors
        self._kinds = kinds
        self._interceptors = interceptors
        self.functions = functions
        """Functions that cannot be imported by name, by target."""
        self.env_allow = env_allow
        """Environment variables that shell tasks inherit; for what is bound from now on."""

    def bind(self, plan: Any, source_dir: str | None) -> Binding:
        """Bind every task of a plan; all problems are reported at once."""
        surroundings = Surroundings(
            data_dir=self._data_dir,
            logs=self._logs,
            executors=self._executors,
            source_dir=source_dir,
            functions=self.functions,
            env_allow=self.env_allow,
        )
        if isinstance(plan, CodePlan):
            return self._bind_code(plan.spec, surroundings)
        bound: list[BoundTask] = []
        problems: list[Problem] = []
        for node in plan.nodes:
            task = node.spec
            try:
                if task.kind not in self._kinds:
                    raise UserCodeError(
                        f"there is no task kind {task.kind!r}", hint=f"there are: {', '.join(self._kinds)}"
                    )
                bound.append(self._bind_task(task, surroundings))
            except InvalidDefinition as error:
                problems += error.problems
            except UserCodeError as error:
                if error.traceback:
                    error.path = ("tasks", task.id, task.kind)
                    raise
                problems.append(Problem(error.message, path=("tasks", task.id, task.kind), hint=error.hint or ""))
        if problems:
            raise InvalidDefinition(bounded_problems(problems), source=plan.spec.name)
        return Binding(bound, surroundings)

    def _bind_code(self, spec: CodeSpec, surroundings: Surroundings) -> Binding:
        """Find a code workflow's function; the tasks it calls are bound when it first calls them."""
        from headrace.durable.workflow import Code, WorkflowFunction  # noqa: PLC0415 - only programs with code need it

        function = self.functions.get(spec.target)
        if not isinstance(function, WorkflowFunction):
            try:
                function = resolve(spec.target, surroundings.source_dir, {})
            except UserCodeError:  # its file has moved; is it among those that were given?
                given = [one for one in self.functions.values() if isinstance(one, WorkflowFunction)]
                function = next((one for one in given if one.spec.name == spec.name), None)
                if function is None:
                    raise
        if not isinstance(function, WorkflowFunction):
            raise UserCodeError(f"{spec.target} is not a @workflow function", hint="decorate it with @workflow")
        bound: list[BoundTask] = []

        def bind(task: TaskSpec, function: Any) -> int:
            functions = {**self.functions, function.target: function}
            bound.append(self._bind_task(task, surroundings.with_functions(functions)))
            return len(bound) - 1

        return Binding(bound, surroundings, Code(function, bind, self._interceptors))

    def _bind_task(self, task: TaskSpec, surroundings: Surroundings) -> BoundTask:
        """Bind a task, or stand in for it if its attempts are for others. Code that is missing here may be there."""
        if self._serves(task.queue, task.needs_labels):
            return intercepted(self._kinds[task.kind].bind(task, surroundings), self._interceptors)
        try:
            bound = self._kinds[task.kind].bind(task, surroundings)
        except UserCodeError:
            return AwayTask(task.queue, task.executor or "")
        if bound.executor == DATABASE:  # its transaction belongs to the owner of its run
            return intercepted(bound, self._interceptors)
        return AwayTask(task.queue, bound.executor)


def make_plan(spec: AnySpec, version: str) -> Plan | CodePlan:
    """Make a definition ready to run, with the brain that decides it."""
    if isinstance(spec, CodeSpec):
        from headrace.durable.brain import CODE_BRAIN  # noqa: PLC0415 - only programs with code workflows need it

        return CodePlan(spec, version, CODE_BRAIN)
    return graph_plan(spec, version)
