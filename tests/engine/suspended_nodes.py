"""A simulated host: whole nodes in one process, each on an event loop of its own, all on one memory database and one clock.

Nothing runs but what the simulation gives a turn: one pass of one node's loop, or one round of its keeper. A node that is
suspended (SIGSTOP) gets none, wherever it was: between its decision and its commit, while a commit is on its way, between
an answer and what follows from it, in the middle of renewing its lease. Time passes when nobody who is awake has anything to
do. Chance alone decides, by the seed; so a failure can be had again
(in most cases: sets are gone through in an order of their own, which ``PYTHONHASHSEED`` decides).

The database bears witness: who writes an event, and who owns the run at that moment.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any

import mill_tasks
import pytest
import simulated_flows as flows

from headrace import Headrace, HeadraceError
from headrace.backends.stores.memory import MemoryDatabase, MemoryStore
from headrace.contracts.store import Flush
from headrace.core import events as ev
from headrace.core.codec import decode_event
from headrace.core.errors import Fenced
from headrace.core.ids import Epoch, NodeId
from headrace.durable.virtual import install
from headrace.engine import launcher as launcher_module
from headrace.engine import membership as membership_module
from headrace.engine.keeper import RENEWALS_PER_LEASE, Keeper

LEASE_SECONDS = 6.0
NODES = 3
ALIVE_MIN = 1
PAUSE_SECONDS = 3.0
"""Between two runs that a node starts."""
SETTLE_STEPS_MAX = 1_000_000

ENDS = (ev.TaskSucceeded, ev.TaskFailed, ev.TaskSkipped, ev.TaskCancelled, ev.TaskUpstreamFailed)


class _Poll(selectors.DefaultSelector):
    """Never waits: time is not real."""

    def select(self, timeout: float | None = None) -> Any:
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """One node's; by the simulated clock, and without threads."""

    def __init__(self, world: World) -> None:
        super().__init__(_Poll())
        self._world = world

    def time(self) -> float:
        return self._world.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def next_at(self, now: float) -> float | None:
        """When it has something to do; None if nothing but what comes from outside."""
        loop: Any = self
        if loop._ready or loop._selector.select(0):
            return now
        return min((handle._when for handle in loop._scheduled if not handle._cancelled), default=None)


class FarStore(MemoryStore):
    """What is asked travels for a while, and so does the answer. Notes who writes."""

    def __init__(self, world: World, node: SimulatedNode) -> None:
        super().__init__(world.database)
        self._world = world
        self._node = node

    def commit_now(self, flush: Flush) -> bool:
        return False

    async def commit(self, flush: Flush) -> None:
        self._world.may_suspend(self._node, 0.03)
        await asyncio.sleep(self._world.random.choice([0.0, 0.001, 0.05]))
        self._write(flush)
        self._world.may_suspend(self._node, 0.03)
        await asyncio.sleep(self._world.random.choice([0.0, 0.001, 0.05]))

    def _write(self, flush: Flush) -> None:
        world, base = self._world, self.database
        fresh = [event for event in flush.events if event[1] not in base.events.get(event[0], {})]
        owners = {run.run_id: run.owner for run in flush.new_runs}
        owners |= {run_id: base.runs[run_id].owner for run_id, _, _ in fresh if run_id in base.runs}
        row = base.nodes.get(flush.node)
        is_owner = row is not None and row.epoch == flush.epoch and not row.lost
        try:
            super().commit_now(flush)
        except Fenced:
            world.counts["refused"] += 1
            raise
        world.counts["commits"] += 1
        for run_id, seq, data in fresh:
            if not is_owner or owners[run_id] != flush.node:
                world.stale.append(f"event {seq} of {run_id} by {flush.node}, owner {owners[run_id]}")
            world.committed(run_id, decode_event(data))

    def renew(self, node: NodeId, epoch: Epoch, lease_seconds: float) -> bool:
        self._world.may_suspend_now(self._node)
        kept = super().renew(node, epoch, lease_seconds)
        self._world.may_suspend_now(self._node)
        return kept


class SimulatedNode:
    """One process: a loop, a keeper, an engine."""

    def __init__(self, world: World, name: str, folder: Path) -> None:
        self.world = world
        self.name = name
        self.loop = Loop(world)
        self.suspended_until = 0.0
        self.keeper: Keeper | None = None
        self.keeper_due = 0.0
        self.in_keeper = False
        self.is_starting = False
        self.headrace = Headrace(
            FarStore(world, self),
            workflows=[flows.mill, flows.sums],
            node=name,
            data_dir=folder / name,
            lease_seconds=LEASE_SECONDS,
            now=lambda: world.now,
            pull=True,
            queues=["default"] if name == "n0" else ["default", "far"],
        )
        self.main = self.loop.create_task(self._main())

    @property
    def is_awake(self) -> bool:
        return self.suspended_until <= self.world.now and not self.in_keeper

    async def _main(self) -> None:
        turn = 0
        async with self.headrace:
            while not self.world.over:
                await asyncio.sleep(PAUSE_SECONDS * self.world.random.uniform(0.5, 1.5))
                if self.world.enough:
                    continue
                turn += 1
                self.is_starting = True
                try:
                    started: Coroutine[Any, Any, Any] = (
                        self.headrace.run(flows.mill) if turn % 2 else self.headrace.start(flows.sums)
                    )
                    self.world.acknowledged.append((await started).id)
                except HeadraceError:  # nothing was acknowledged
                    pass
                self.is_starting = False

    def next_at(self) -> float | None:
        found = self.loop.next_at(self.world.now)
        if self.keeper is None:
            return found
        return self.keeper_due if found is None else min(found, self.keeper_due)

    def step(self) -> None:
        """One pass of the loop, or one round of the keeper."""
        if self.keeper is not None and self.keeper_due <= self.world.now and self.world.random.random() < 0.5:
            keeper = self.keeper
            self.in_keeper = True
            wait = keeper.round()
            self.in_keeper = False
            if keeper is self.keeper:
                if wait is None:
                    self.keeper = None
                else:
                    self.keeper_due = self.world.now + wait
            return
        flows.NODE = self.name
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()


class World:
    """The simulation. ``suspensions_max``: how often a node is suspended."""

    def __init__(self, seed: int, suspensions_max: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        install(
            mill_tasks.work
        )  # what workflow code sees of clocks and chance, beneath our own patches: those end before
        self.random = Random(seed)
        self.seed = seed
        self.now = 1_000_000.0
        self.database = MemoryDatabase(lambda: self.now)
        self.suspensions_max = suspensions_max
        self.acknowledged: list[str] = []
        self.stale: list[str] = []
        self.counts: Counter[str] = Counter()
        self.outcomes: dict[str, tuple[int, float]] = {}
        self.enough = False
        self.over = False
        ids = Random(seed)
        monkeypatch.setattr(os, "urandom", ids.randbytes)
        for module in (time, membership_module, launcher_module):
            monkeypatch.setattr(module, "monotonic", lambda: self.now)
        self._give_keepers_turns(monkeypatch)
        monkeypatch.setattr(flows, "LEDGER", [])
        monkeypatch.setattr(flows, "now", lambda: self.now)
        self.nodes = [SimulatedNode(self, f"n{number}", folder) for number in range(NODES)]

    def _give_keepers_turns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Instead of threads."""

        def of(keeper: Any) -> SimulatedNode:
            return next(node for node in self.nodes if node.name == keeper._node)

        def start(keeper: Any) -> None:
            node = of(keeper)
            node.keeper, node.keeper_due = keeper, self.now + LEASE_SECONDS / RENEWALS_PER_LEASE

        def let_go(keeper: Any) -> None:
            keeper._stop.set()
            node = of(keeper)
            if node.keeper is keeper:
                node.keeper = None

        monkeypatch.setattr(Keeper, "start", start)
        monkeypatch.setattr(Keeper, "let_go", let_go)

    # ---- time --------------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Somebody who is awake has a turn, or time passes until somebody has something to do."""
        for node in self.nodes:
            if node.main.done() and not self.over:
                node.main.result()
                raise AssertionError(f"seed {self.seed}: {node.name} ended")
        awake = [node for node in self.nodes if node.is_awake and not node.main.done()]
        due = [(at, node) for node in awake if (at := node.next_at()) is not None]
        ready = [node for at, node in due if at <= self.now]
        if ready:
            self.random.choice(ready).step()
            self.now += self.random.choice([0.0, 0.0, 0.0001])
            return
        later = [at for at, _ in due] + [one.suspended_until for one in self.nodes if one.suspended_until > self.now]
        assert later, f"seed {self.seed}: nobody will ever do anything again"
        self.now = min(later)

    def may_suspend(self, node: SimulatedNode, chance: float) -> bool:
        """Now and then a node is, for twice the lease; but never all of them."""
        awake = [one for one in self.nodes if one.suspended_until <= self.now]
        is_time = self.random.random() < chance and self.counts["suspended"] < self.suspensions_max
        if not is_time or node not in awake or len(awake) <= ALIVE_MIN:
            return False
        node.suspended_until = self.now + 2 * LEASE_SECONDS
        self.counts["suspended"] += 1
        return True

    def may_suspend_now(self, node: SimulatedNode) -> None:
        """In the middle of a renewal: everybody else goes on until the node wakes up."""
        if node.in_keeper and self.may_suspend(node, 0.02):
            self.counts["suspended while renewing"] += 1
            while node.suspended_until > self.now:
                self.turn()

    # ---- what is noted -----------------------------------------------------------------------------------------------

    def committed(self, run_id: str, event: ev.Event) -> None:
        if isinstance(event, ev.TaskSucceeded | ev.TaskFailed):
            self.outcomes[f"{run_id}/{_unit(event)}"] = (event.attempt, self.now)
        elif isinstance(event, ev.AttemptFailed):
            self.outcomes[f"{run_id}/{_unit(event)}#{event.attempt}"] = (event.attempt, self.now)

    # ---- the whole ---------------------------------------------------------------------------------------------------

    def play(self) -> None:
        """Suspend so often, let everything end, stop the nodes, judge."""
        while self.counts["suspended"] < self.suspensions_max:
            self.may_suspend(self.random.choice(self.nodes), 0.003)
            self.turn()
        self.enough = True
        runs = self.database.runs
        for _ in range(SETTLE_STEPS_MAX):
            is_starting = any(node.is_starting for node in self.nodes)
            if not is_starting and all(run.ended_at is not None for run in runs.values()):
                break
            self.turn()
        else:
            raise AssertionError(
                f"seed {self.seed}: runs do not end: {[run for run in runs.values() if not run.ended_at]}"
            )
        self.over = True
        while not all(node.main.done() for node in self.nodes):
            self.turn()
        for node in self.nodes:
            node.main.result()
            node.loop.close()
        self.judge()

    def judge(self) -> None:
        where = f"seed {self.seed}"
        assert not self.stale, f"{where}: stale writes: {self.stale[:5]}"
        assert self.acknowledged, where
        for run_id in self.acknowledged:
            assert run_id in self.database.runs, f"{where}: acknowledged run {run_id} is lost"
        for run_id, run in self.database.runs.items():
            stored = sorted(self.database.events[run_id].items())
            assert [seq for seq, _ in stored] == list(range(1, len(stored) + 1)), f"{where}: {run_id} has a gap"
            events = [decode_event(data) for _, data in stored]
            told = "\n".join(map(str, events))
            self._judge_run(f"{where}: {run_id} ({run.workflow})\n{told}", run.workflow, events)
        for key, attempt, at, node in flows.LEDGER:
            self.counts["executions"] += 1
            for outcome in (self.outcomes.get(key), self.outcomes.get(f"{key}#{attempt}")):
                assert outcome is None or at <= outcome[1], f"{where}: {key} ran on {node} after its outcome"

    def _judge_run(self, where: str, workflow: str, events: list[ev.Event]) -> None:
        ends = Counter(_unit(event) for event in events if isinstance(event, ENDS))
        ends += Counter(f"{_unit(event)}#{event.attempt}" for event in events if isinstance(event, ev.AttemptFailed))
        assert max(ends.values()) == 1, f"{where}: recorded twice: {ends}"
        state, count = flows.EXPECTED[workflow]
        end = events[-1]
        assert isinstance(end, ev.RunFinished), where
        if any(isinstance(event, ev.TaskFailed) and event.failure.type == "lost" for event in events):
            self.counts["given up"] += 1  # an attempt whose process was lost again and again is not tried any more
            return
        assert str(end.state) == state, where
        assert sum(isinstance(event, ev.TaskSucceeded) for event in events) == count, where


def _unit(event: Any) -> str:
    item = getattr(event, "item", None)
    return event.task if item is None else f"{event.task}[{item}]"
