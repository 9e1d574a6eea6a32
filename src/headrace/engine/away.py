"""Attempts that others carry out, as their owner names and hears of them. For the dispatcher."""

from __future__ import annotations

from typing import Any

from headrace.contracts.execution import Attempt, BoundTask
from headrace.contracts.ready import Outcome
from headrace.core import inputs as inp
from headrace.core.events import Failure
from headrace.core.ids import attempt_key
from headrace.core.run import Unit
from headrace.engine.gates import Ticket, away_name
from headrace.engine.live import LiveRun


class AwayTask:
    """In the place of a bound task whose queue or labels this node does not serve. ``slots_of``: the executor it will
    take there, '' if that is not known here."""

    def __init__(self, queue: str, slots_of: str) -> None:
        self.executor = away_name(queue, slots_of)
        self.slots_of = slots_of

    async def run(self, attempt: Attempt) -> Any:
        """Never called: the planner offers it."""
        raise AssertionError(f"{attempt.key} is not for this node")


def executor_of(bound: BoundTask) -> str:
    """Whose slots a bound task takes, where it is carried out."""
    return bound.slots_of if isinstance(bound, AwayTask) else bound.executor


def key_of(ticket: Ticket) -> str:
    """The attempt's key."""
    unit = ticket.unit
    return attempt_key(ticket.live.run_id, unit.node.id, unit.item, ticket.attempt)


def unit_of(live: LiveRun, key: str) -> Unit | None:
    """The unit whose attempt under way has this key."""
    name, _, attempt = key.partition("/")[2].rpartition("/")
    task, bracket, item = name.partition("[")
    unit = live.run.unit(task, int(item[:-1]) if bracket else None)
    return unit if unit is not None and unit.attempt + 1 == int(attempt) else None


def input_of(outcome: Outcome, output: Any, unit: Unit, *, cancelled: bool) -> inp.Input | None:
    """What an outcome from elsewhere is to its run; None if it was stopped, but is wanted."""
    task, item, attempt = outcome.task, outcome.item, outcome.attempt
    started = outcome.started_at or 0.0
    failure = outcome.failure
    if outcome.kind == "succeeded":
        return inp.Succeeded(task, item, attempt, started, output)
    if outcome.kind == "skipped":
        return inp.Skipped(task, item, attempt, started, outcome.reason)
    if outcome.kind == "external":
        return inp.Started(task, item, attempt, started, outcome.worker, external=True)
    if cancelled and outcome.kind in ("cancelled", "lost"):
        return inp.Cancelled(task, item, attempt, outcome.started_at)
    if outcome.kind == "cancelled":
        return None
    if outcome.kind == "lost":
        why = "an at-most-once task is never run again" if unit.node.options.at_most_once else "it is not tried again"
        failure = Failure(
            "lost",
            f"{outcome.worker} was lost while it carried the attempt out ({outcome.reason}); {why}",
            retryable=False,
        )
    assert failure is not None
    return inp.Failed(task, item, attempt, outcome.started_at, failure, outcome.details)
