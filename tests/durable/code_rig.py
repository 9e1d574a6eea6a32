"""A code workflow without an engine: inputs go to the brain by hand, and every step is held against its replay.

After each decision the run is rebuilt from its encoded history ("always replay"): state, owed effects, waiting calls and
the line on which every coroutine stands must be the same. A history cut within a decision must lead to the rest of it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from headrace.core import events as ev
from headrace.core import inputs as inp
from headrace.core.codec import decode_event, encode_event
from headrace.core.states import TaskState
from headrace.durable import effects
from headrace.durable.brain import CODE_BRAIN
from headrace.durable.fold import fold
from headrace.durable.looking import ask
from headrace.durable.looking import close as close_code
from headrace.durable.run import CodePlan, CodeRun
from headrace.durable.workflow import Code, WorkflowFunction

OPEN: list[CodeRun] = []
"""Runs of this test; closed after it, as an engine would."""

STEPS_MAX = 2_000
SOON_SECONDS = 10_000
"""A timer due later fires only when there is nothing else to do."""
RUN_ID = "01codeworkflowundertest0000"


class CodeRig:
    """One run of a code workflow. ``events`` is its whole history, ``stored`` the same as bytes, ``now`` the time."""

    def __init__(
        self,
        workflow: WorkflowFunction[..., Any],
        *args: Any,
        stored: list[bytes] | None = None,
        signals: list[tuple[str, Any]] | None = None,
        at: float = 1_000_000.0,
        **kwargs: Any,
    ) -> None:
        self.workflow = workflow
        self.now = at
        self.functions: dict[int, Any] = {}
        self.events: list[ev.Event] = []
        self.stored: list[bytes] = []
        self.borders: list[int] = []
        self.done: list[str] = []
        """Calls that were carried out, in order."""
        if stored is not None:
            self.run = self.replay(stored)
            self.stored = list(stored)
            self.events = [decode_event(data) for data in stored]
            self.now = max(at, *(event.at for event in self.events))
            return
        self.run = self._new()
        created = ev.RunCreated(
            at, RUN_ID, workflow.spec.name, "v", workflow.bind(*args, **kwargs), signals=signals or []
        )
        self._take(CODE_BRAIN.create(self.run, created))

    def _new(self) -> CodeRun:
        def bind(_spec: Any, task: Any) -> int:
            index = len(self.functions)
            self.functions[index] = task
            return index

        run = CODE_BRAIN.new(CodePlan(self.workflow.spec, "v", CODE_BRAIN), Code(self.workflow, bind))
        OPEN.append(run)
        return run

    def replay(self, stored: list[bytes]) -> CodeRun:
        """A new run of the same code with this history."""
        run = self._new()
        events = [decode_event(data) for data in stored]
        run.prepare(len(events), {event.patch for event in events if isinstance(event, ev.Patched)})
        for event in events:
            fold(run, event)
        run.effects.clear()
        run.fresh.clear()
        return run

    # ---- inputs ------------------------------------------------------------------------------------------------------

    def give(self, given: inp.Input, *, after: float = 1.0) -> list[ev.Event]:
        """Decide one input, ``after`` seconds later. Raises what the brain raises; nothing may have changed then."""
        before = state_of(self.run)
        self.now += after
        try:
            events = CODE_BRAIN.decide(self.run, given, self.now)
        except Exception:
            assert state_of(self.run) == before, "a refused input changed something"
            raise
        return self._take(events)

    def succeed(self, step: str, output: Any = None) -> list[ev.Event]:
        """A call returned."""
        return self.give(inp.Succeeded(step, None, self.run.units[step].attempt + 1, self.now, output))

    def fail(self, step: str, message: str = "no", *, retryable: bool | None = None) -> list[ev.Event]:
        """A call's attempt failed."""
        failure = ev.Failure("ValueError", message, retryable=retryable)
        return self.give(inp.Failed(step, None, self.run.units[step].attempt + 1, self.now, failure))

    def fire(self, timer: int) -> list[ev.Event]:
        """A timer's time has come."""
        self.now = max(self.now, self.run.timers[timer][1])
        return self.give(inp.TimerDue(timer), after=0.0)

    def signal(self, name: str, payload: Any = None, key: str | None = None) -> list[ev.Event]:
        """A signal came."""
        return self.give(inp.Signal(name, payload, key))

    def update(self, update: str, name: str, *args: Any) -> list[ev.Event]:
        """An update came."""
        return self.give(inp.Update(update, name, {"args": list(args)}))

    def query(self, name: str, *args: Any) -> Any:
        """Ask; nothing may change."""
        before = state_of(self.run)
        try:
            return ask(self.run, name, {"args": list(args)})
        finally:
            assert state_of(self.run) == before, "a query changed something"

    def perform(self, step: str) -> list[ev.Event]:
        """Carry a call out with its real function and report the outcome."""
        unit = self.run.units[step]
        self.done.append(step)
        function = self.functions[unit.node.index].__headrace_function__
        try:
            output = run_now(function(**unit.node.spec.args))
        except Exception as error:
            return self.fail(step, str(error))
        return self.succeed(step, msgspec.to_builtins(output))

    def ready(self) -> list[str]:
        """Calls that owe an attempt."""
        return [unit.node.id for unit in CODE_BRAIN.launchable(self.run)]

    def finish(self, seed: int | None = None, *, stop: Callable[[], bool] = lambda: False) -> Any:
        """Carry out what is owed until the run ends, in an order of the seed's choice; the output."""
        chance = random.Random(seed)
        for _ in range(STEPS_MAX):
            if self.run.done or stop():
                break
            ready = self.ready()
            if seed is not None:
                chance.shuffle(ready)
            timers = sorted(live_timers(self.run).items(), key=lambda item: (item[1], item[0]))
            soon = bool(timers) and timers[0][1] - self.now < SOON_SECONDS
            if ready and not (soon and seed is not None and chance.random() < 0.2):
                self.perform(ready[0])
            elif timers:
                self.fire(timers[0][0])
            else:
                raise AssertionError(f"the run waits for ever: {positions(self.run)} {self.run.diverged}")
        else:
            raise AssertionError("the run does not end")
        return self.run.output

    # ---- always replay ----------------------------------------------------------------------------------------------

    def _take(self, events: list[ev.Event]) -> list[ev.Event]:
        first = len(self.stored)
        self.events += events
        self.stored += [encode_event(event) for event in events]
        self.borders.append(len(self.stored))
        self.run.fresh.clear()
        self.run.effects.clear()
        assert self.run.seq == len(self.stored), "numbers have gaps"
        if self.run.diverged is None:
            self._compare(first)
        return events

    def _compare(self, first: int) -> None:
        again = self.replay(self.stored)
        assert again.diverged is None, again.diverged
        assert state_of(again) == state_of(self.run), "the replay is in another state"
        close_code(again)
        OPEN.remove(again)
        for cut in range(max(first, 1), len(self.stored)):  # what a decision left out follows from what it recorded
            part = self.replay(self.stored[:cut])
            if first == 0:
                rest = CODE_BRAIN.decide(part, inp.ValuesLoaded(), self.now)
                assert [describe(event) for event in rest] == [describe(event) for event in self.events[cut:]]
            close_code(part)

    def again(self) -> CodeRig:
        """The same run as another process finds it."""
        return CodeRig(self.workflow, stored=self.stored, at=self.now)

    def kinds(self) -> list[str]:
        """The history in short."""
        return [describe(event) for event in self.events]


def close_all() -> None:
    """Let go of every run's coroutines."""
    for run in OPEN:
        close_code(run)
    OPEN.clear()


def describe(event: ev.Event) -> str:
    """An event without its times."""
    tag = str(type(event).__struct_config__.tag)
    for field in ("task", "timer", "child", "name", "update", "patch", "message", "state"):
        value = getattr(event, field, None)
        if value is not None:
            return f"{tag} {value}"
    return tag


def run_now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the task's function waits")


def live_timers(run: CodeRun) -> dict[int, float]:
    """Timers that are still wanted."""
    return {number: due for number, (timer, due) in run.timers.items() if timer is None or not timer.cancelled()}


def positions(run: CodeRun) -> list[tuple[str, list[str]]]:
    """Where every coroutine of the run stands."""
    found: list[tuple[str, list[str]]] = []
    for task in sorted(run.loop.tasks, key=hash):
        lines: list[str] = []
        at: Any = task.get_coro()
        while at is not None and len(lines) < 50:
            frame = getattr(at, "cr_frame", None) or getattr(at, "ag_frame", None) or getattr(at, "gi_frame", None)
            lines.append(f"{getattr(at, '__qualname__', type(at).__name__)}:{frame.f_lineno if frame else '-'}")
            at = getattr(at, "cr_await", None) or getattr(at, "ag_await", None) or getattr(at, "gi_yieldfrom", None)
        found.append((task.get_name(), lines))
    return found


def state_of(run: CodeRun) -> dict[str, Any]:
    """Everything that follows from the history, as values that can be compared."""
    units = {
        name: {
            **{field: getattr(unit, field) for field in type(unit).__struct_fields__ if field not in MEMORY_OF_UNIT},
            "spec": unit.node.spec,
        }
        for name, unit in run.units.items()
    }
    return {
        **{name: getattr(run, name) for name in COMPARED},
        "units": units,
        "timers": live_timers(run),
        "signals": {name: list(waiting) for name, waiting in run.signals.items() if waiting},
        "updates": {name: msgspec.to_builtins(update) for name, update in run.updates.items()},
        "children": {name: msgspec.to_builtins(child) for name, child in run.children.items()},
        "waits": sorted(run.futures),
        "waiters": {name: live for name, line in run.waiters.items() if (live := sum(not one.done() for one in line))},
        "commands": [(command.kind.__name__, command.key) for command in run.commands],
        "handlers": sorted(run.handlers),
        "chance": run.random.getstate() if run.random is not None else None,
        "launchable": [] if run.done else [unit.node.id for unit in CODE_BRAIN.launchable(run)],
        "pending": sorted(map(repr, effects.pending(run))),
        "positions": [] if run.done else positions(run),
        "patches": sorted(name for name, taken in run.patches.items() if taken),
    }


MEMORY_OF_UNIT = {"planned", "launched", "node", "items", "item_values"}
COMPARED = (
    *("run_id", "seq", "state", "params", "tags", "parent", "output", "failure", "failed_task", "next_run", "reason"),
    *("cancelled", "counts", "seen_keys", "messages", "attributes", "memo", "details", "message_count"),
    *("finished", "unfinished", "tasks_failed", "created_at", "ended_at", "chain"),
)

__all__ = ["CodeRig", "TaskState", "asyncio", "describe", "live_timers", "positions", "state_of"]
