"""What must hold after every fold, recomputed the slow and obvious way. Used by tests and by ``headrace`` debug runs."""

from __future__ import annotations

from collections import Counter

from headrace.core.run import GraphRun, TaskUnit
from headrace.core.states import FINAL_TASK_STATES, RunState, TaskState


def check(run: GraphRun) -> None:
    """Raise ``AssertionError`` naming the first invariant that does not hold. O(tasks + edges + items)."""
    open_tasks = sum(not unit.done for unit in run.tasks)
    assert run.unfinished == open_tasks, f"unfinished is {run.unfinished}, but {open_tasks} tasks are open"
    failed = sum(unit.state is TaskState.FAILED for unit in run.tasks)
    assert run.tasks_failed == failed, f"tasks_failed is {run.tasks_failed}, but {failed} tasks failed"
    if run.state in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED):
        assert open_tasks == 0, f"the run is {run.state}, but {open_tasks} tasks are open"
        assert run.ended_at is not None, "a finished run has an end"
    if run.state is RunState.SUCCEEDED:
        bad = [u.node.id for u in run.tasks if u.state is TaskState.FAILED and not u.node.spec.allow_failure]
        assert not bad, f"the run succeeded, but {bad} failed"
        cancelled = [unit.node.id for unit in run.tasks if unit.state is TaskState.CANCELLED]
        assert not cancelled, f"the run succeeded, but {cancelled} were cancelled"
    for unit in run.tasks:
        _check_counts(run, unit)
        _check_items(unit)
        if unit.done:
            assert unit.ended_at is not None, f"{unit.name} is {unit.state} without an end"
        if unit.state in (TaskState.READY, TaskState.RUNNING, TaskState.RETRYING):
            assert unit.first_ready_at is not None, f"{unit.name} is {unit.state} but was never ready"
        if unit.state is TaskState.RETRYING:
            assert unit.retry_at is not None, f"{unit.name} waits for a retry without a time"
        if unit.state is TaskState.SUCCEEDED and unit.items is None:
            assert unit.attempt >= 1, f"{unit.name} succeeded without an attempt"


def _check_counts(run: GraphRun, unit: TaskUnit) -> None:
    counts: Counter[str] = Counter()
    for need in unit.node.spec.needs:
        upstream = run.tasks[run.plan.by_id[need].index]
        if upstream.done:
            state = upstream.state
            counts["failed" if state is TaskState.CANCELLED else str(state)] += 1
    kept = {
        "succeeded": unit.success,
        "failed": unit.failed,
        "upstream_failed": unit.upstream_failed,
        "skipped": unit.skipped,
    }
    for state, count in kept.items():
        assert count == counts[state], f"{unit.name} counts {count} {state} upstream, but there are {counts[state]}"


def _check_items(unit: TaskUnit) -> None:
    if unit.items is None:
        return
    assert unit.item_values is not None, f"{unit.name} has items without values"
    assert len(unit.items) == len(unit.item_values), f"{unit.name} has another number of items than values"
    still = sum(item.state not in FINAL_TASK_STATES for item in unit.items)
    assert unit.items_left == still, f"{unit.name} counts {unit.items_left} items left, but {still} are open"
    if unit.state in (TaskState.SUCCEEDED, TaskState.SKIPPED):
        assert still == 0, f"{unit.name} is {unit.state} with open items"
