"""A run that is checked at every step.

After every fold the invariants must hold; after every decision the effects met step by step (``run.fresh``) must be the
difference between what was owed before and after; and folding the stored events again, through the codec, must give the
same state.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from unittest.mock import patch

from headrace.core import decide as deciding
from headrace.core import events as ev
from headrace.core import fold as folding
from headrace.core import inputs as inp
from headrace.core.codec import decode_event, encode_event
from headrace.core.decide import create, decide
from headrace.core.effects import Effect, Launch, pending
from headrace.core.invariants import check
from headrace.core.plan import Plan
from headrace.core.run import GraphRun, Unit
from headrace.core.spec import WorkflowSpec
from headrace.core.states import RunState

from graphs import plan_of  # isort: skip

MEMORY_OF_RUN = {"fresh", "undecided", "values", "wanted", "scope", "plan", "tasks"}
MEMORY_OF_UNIT = {"planned", "launched", "node", "items"}


def state_of(run: GraphRun) -> dict[str, Any]:
    """Everything that follows from the events, as plain values."""
    found = {name: getattr(run, name) for name in GraphRun.__slots__ if name not in MEMORY_OF_RUN}
    for unit in run.units():
        found[unit.name] = {
            name: getattr(unit, name) for name in type(unit).__struct_fields__ if name not in MEMORY_OF_UNIT
        }
    return found


def replay(plan: Plan, stored: list[bytes]) -> GraphRun:
    """The fold of stored events, checked after each."""
    run = GraphRun(plan)
    for data in stored:
        folding.fold(run, decode_event(data))
        check(run)
    return run


def _checking(fold: Any) -> Any:
    def folded(run: GraphRun, *rest: Any) -> None:
        fold(run, *rest)
        check(run)

    return folded


class CheckedRun:
    """A run under test. ``events`` is its whole history, ``stored`` the same as bytes."""

    def __init__(self, spec: WorkflowSpec, params: dict[str, Any] | None = None, *, at: float = 0.0) -> None:
        self.plan = plan_of(spec)
        self.run = GraphRun(self.plan)
        self.events: list[ev.Event] = []
        self.stored: list[bytes] = []
        self.borders: list[int] = []
        """Lengths of the history after each decision: where a commit may end."""
        self.now = at
        event = ev.RunCreated(at, "R", spec.name, self.plan.version, params or {})
        self.created = self._take(lambda: create(self.run, event), [], before_state=None)

    def give(self, given: inp.Input) -> list[ev.Event]:
        """Decide one input. Raises ``InvalidCommand`` as ``decide`` does; nothing may have changed then."""
        before = state_of(self.run)
        owed = pending(self.run)
        state = self.run.state
        try:
            return self._take(lambda: decide(self.run, given, self.now), owed, before_state=state)
        except deciding.InvalidCommand:
            assert state_of(self.run) == before, "a refused command changed something"
            raise

    def _take(self, act: Any, owed: list[Effect], *, before_state: RunState | None) -> list[ev.Event]:
        with (
            patch.object(deciding, "fold", _checking(folding.fold)),
            patch.object(deciding, "fold_success", _checking_success(folding.fold_success)),
        ):
            events: list[ev.Event] = act()
        self.events += events
        self.stored += [encode_event(event) for event in events]
        self.borders.append(len(self.stored))
        assert self.run.seq == len(self.stored), "numbers have gaps"
        self._check_fresh(owed, before_state)
        assert state_of(replay(self.plan, self.stored)) == state_of(self.run), "replay differs from the live state"
        return events

    def _check_fresh(self, before: list[Effect], before_state: RunState | None) -> None:
        """What became ready step by step is what :func:`pending` owes now and did not owe before."""
        run = self.run
        fresh, seen = [], set()
        for unit in run.fresh:
            if id(unit) not in seen:  # a unit may have become ready twice between two looks
                seen.add(id(unit))
                fresh.append(unit)
        run.fresh.clear()
        if run.state is not RunState.RUNNING or before_state not in (None, RunState.RUNNING):
            return  # nothing is launched now, or everything owed is taken up again
        new = attempts(pending(run)) - attempts(before)
        owed = attempts([launch_of(unit) for unit in fresh])
        assert owed & attempts(pending(run)) == new, f"{owed} became ready, but {new} is newly owed"

    def launch(self, task: str, item: int | None = None) -> Unit:
        """Mark an attempt as under way, as the launcher does."""
        unit = self.run.unit(task, item)
        assert unit is not None, f"no unit {task} {item}"
        unit.launched = True
        return unit

    def recovered(self) -> CheckedRun:
        """The same run as another process finds it: folded from what is stored."""
        other = object.__new__(CheckedRun)
        other.plan = self.plan
        other.run = replay(self.plan, self.stored)
        other.run.fresh.clear()
        other.events = [decode_event(data) for data in self.stored]
        other.stored = list(self.stored)
        other.borders = list(self.borders)
        other.created = []
        other.now = self.now
        return other


def _checking_success(fold_success: Any) -> Any:
    # The caller counts the event after this returns; the invariants do not depend on the count.
    return _checking(fold_success)


def attempts(effects: Iterable[Effect]) -> set[tuple[str, int, int]]:
    """The attempts among effects, whenever they are due."""
    return {(effect.task, effect.item, effect.attempt) for effect in effects if isinstance(effect, Launch)}


def launch_of(unit: Unit) -> Launch:
    """The launch of a unit's next attempt."""
    return Launch(unit.node.id, -1 if unit.item is None else unit.item, unit.attempt + 1, unit.retry_at or 0.0)
