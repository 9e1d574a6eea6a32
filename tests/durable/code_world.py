"""The world of the engine's crash tests (``mortal``) for code workflows."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from headrace.assembly import make_plan
from headrace.backends.artifacts.files import FileArtifacts
from headrace.client.handle import RunHandle
from headrace.contracts.execution import Attempt
from headrace.contracts.store import Store
from headrace.core import events as ev
from headrace.core.codec import decode_event
from headrace.core.ids import RunId
from headrace.core.params import resolve_params
from headrace.durable.brain import CODE_BRAIN
from headrace.durable.fold import fold
from headrace.durable.looking import close as close_code
from headrace.durable.run import CodePlan, CodeRun
from headrace.durable.workflow import Code, WorkflowFunction
from headrace.engine.live import Binding, LiveRun
from headrace.engine.node import Node
from headrace.engine.options import NodeOptions

from mortal import LEASE_SECONDS, MortalStore, World  # isort: skip
from rig import _Context, binder  # isort: skip

OUTCOMES = (ev.TaskSucceeded, ev.TaskFailed, ev.TaskCancelled, ev.TaskSkipped)


class CodeWorld(World):
    """What outlives a process, with workflows found by their targets. ``work`` counts the tasks' effects by run and
    step."""

    def __init__(self, folder: Path, *workflows: WorkflowFunction[..., Any]) -> None:
        super().__init__(folder, workflows[0].spec)  # type: ignore[arg-type]
        self.workflows = {workflow.target: workflow for workflow in workflows}
        self.answers: list[Any] = []
        """What clients were told."""

    def node_on(self, process: MortalStore) -> Node:
        options = NodeOptions(lease_seconds=LEASE_SECONDS, stop_seconds=2.0)
        artifacts = FileArtifacts(self.folder / "artifacts")
        return Node(process, artifacts, self.bind, options, make_plan=make_plan, now=self.clock)  # type: ignore[arg-type]

    def bind(self, plan: Any, source_dir: str | None) -> Any:
        if not isinstance(plan, CodePlan):
            return binder(self.work)(plan, source_dir)
        bound: list[Any] = []
        process = self.process

        def bind(_spec: Any, task: Any) -> int:
            bound.append(_BoundCall(self, process, task.__headrace_function__))
            return len(bound) - 1

        return Binding(bound, _Context(), Code(self.workflows[plan.spec.target], bind))

    def may_run_call(self, attempt: Attempt) -> None:
        """A call runs only after its run is durable, and never after its outcome is."""
        events = self.stored(RunId(attempt.run_id))
        if not events:
            self.defects.append(f"{attempt.key} runs before its run is durable")
        if any(isinstance(event, OUTCOMES) and event.task == attempt.task for event in events):
            self.defects.append(f"{attempt.key} runs, but its outcome is recorded")


class _BoundCall:
    executor = "inline"

    def __init__(self, world: CodeWorld, process: MortalStore, function: Any) -> None:
        self._world = world
        self._process = process
        self._function = function

    async def run(self, attempt: Attempt) -> Any:
        if self._process.dead:
            await asyncio.Event().wait()  # a dead process runs no code
        world, name = self._world, f"{attempt.run_id}/{attempt.task}"
        if world.peeks:
            world.may_run_call(attempt)
        world.work.begun[name] += 1
        result = await self._function(**attempt.args)
        world.work.done[name] += 1
        return result


async def start_code(
    node: Node, workflow: WorkflowFunction[..., Any], *args: Any, run_id: str | None = None
) -> LiveRun:
    """Start a run; durable on return."""
    version = await node.library.register(workflow.spec, now=node.now())
    params = resolve_params(workflow.spec.params, workflow.bind(*args), workflow=workflow.spec.name)
    return await node.starter.create_run(version, params, run_id=RunId(run_id) if run_id else None)


async def histories(store: Store, run_ids: list[RunId]) -> dict[RunId, list[ev.Event]]:
    """Stored histories."""
    return {run_id: [decode_event(data) for _, data in await store.history(run_id)] for run_id in run_ids}


def check_history(world: CodeWorld, run_id: RunId, events: list[ev.Event]) -> CodeRun | None:
    """Nothing is recorded twice, and the code still does what the history says. The run, or None for graphs."""
    ends = Counter((type(event).__name__, event.task) for event in events if isinstance(event, OUTCOMES))
    twice = [name for name, count in ends.items() if count > 1]
    assert not twice, f"{run_id}: {twice}"
    created = events[0]
    assert isinstance(created, ev.RunCreated)
    found = [workflow for workflow in world.workflows.values() if workflow.spec.name == created.workflow]
    if not found:
        return None
    run = CODE_BRAIN.new(CodePlan(found[0].spec, created.version, CODE_BRAIN), Code(found[0], lambda spec, task: 0))
    run.prepare(len(events), {event.patch for event in events if isinstance(event, ev.Patched)})
    for event in events:
        fold(run, event)
    close_code(run)
    assert run.diverged is None, f"{run_id}: {run.diverged}"
    assert run.done, f"{run_id} has not ended: {events}"
    return run


__all__ = ["CodeWorld", "RunHandle", "check_history", "histories", "start_code"]
