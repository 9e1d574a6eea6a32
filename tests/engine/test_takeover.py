"""Nodes that die, hang, come back: their runs go on elsewhere, and nobody writes twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headrace.backends.stores.memory import MemoryStore
from headrace.contracts.execution import Attempt
from headrace.core import events as ev
from headrace.core.decide import STARTS_MAX
from headrace.core.errors import Fenced, StoreUnavailable, UserCodeError
from headrace.core.plan import Plan
from headrace.engine import adopter as adopter_module
from headrace.engine.node import Node

from graphs import graph, graph_of  # isort: skip
from rig import Rig, Work, binder, ended, events_of, final, memory_rig, play, start, states, turns, until, within  # isort: skip


async def forever(attempt: Attempt) -> None:
    await asyncio.Event().wait()


async def frozen(rig: Rig, spec: Any, *, task: str) -> tuple[Node, Any, Work]:
    """A node that hangs in ``task`` and whose lease has ended without its noticing: a zombie."""
    work = Work(**{task: forever})
    node = await rig.node(work, lease_seconds=600.0)
    live = await start(node, spec)
    await until(lambda: work.begun[task])
    await node.journal.drained()
    rig.clock.offset += 1000
    return node, live, work


def test_a_zombie_is_fenced_and_joins_again(tmp_path: Path) -> None:
    """It wakes up after its runs went on elsewhere: what it has to say is refused, it drops everything, joins again
    under a new epoch and works."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            go = asyncio.Event()

            async def late(attempt: Attempt) -> str:
                await go.wait()
                return "from the zombie"

            zombie_work = Work(a=late)
            zombie = await rig.node(zombie_work, lease_seconds=600.0)
            live = await start(zombie, graph(a=None, b=["a"]))
            await until(lambda: zombie_work.begun["a"])
            rig.clock.offset += 1000
            heir = await rig.node(Work())
            run = await final(heir, live.run_id)
            assert run.tasks[0].output is None
            epoch = zombie.epoch
            go.set()
            await until(lambda: zombie.epoch != epoch and not zombie.membership.is_rejoining)
            assert live.closed
            assert not zombie_work.begun["b"]
            ends = [event for event in await events_of(heir.store, live.run_id) if isinstance(event, ev.TaskSucceeded)]
            assert [event.task for event in ends] == ["a", "b"]
            assert (zombie.counts.fenced, heir.counts.nodes_lost, heir.counts.runs_adopted) == (1, 1, 1)
            assert (await ended(await start(zombie, graph(c=None)))).state == "succeeded"

    play(test())


def test_a_node_that_slept_through_its_lease_begins_nothing_before_it_has_joined_anew(tmp_path: Path) -> None:
    """It is suspended just as its commit is answered. Nothing has fenced it yet, but what it would begin now others may
    have done."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            epochs: list[int] = []
            node: Node

            async def first(attempt: Attempt) -> None:
                keeper = node.membership.keeper
                assert keeper is not None
                keeper.trusted_until = 0.0  # as after a long sleep; the next renewal is minutes away

            async def second(attempt: Attempt) -> None:
                epochs.append(node.epoch)

            node = await rig.node(Work(first=first, second=second), lease_seconds=600.0)
            epoch = node.epoch
            live = await start(node, graph(first=None, second=["first"]))
            assert states(await final(node, live.run_id)) == {"first": "succeeded", "second": "succeeded"}
            assert len(epochs) == 1
            assert epochs[0] > epoch

    play(test())


def test_an_at_most_once_task_of_a_dead_node_fails_as_lost(tmp_path: Path) -> None:
    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            spec = graph(once={"at_most_once": True}, after={"needs": ["once"], "trigger": "all_done"})
            _, live, first = await frozen(rig, spec, task="once")
            work = Work()
            run = await final(await rig.node(work), live.run_id)
            assert states(run) == {"once": "failed", "after": "succeeded"}
            assert run.failure is not None
            assert run.failure.type == "lost"
            assert (first.begun["once"], work.begun["once"]) == (1, 0)

    play(test())


def test_a_task_that_kills_its_process_is_given_up(tmp_path: Path) -> None:
    """Each process that takes the run over dies in the same task; the sixth does not try it again, and the rest goes on."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            spec = graph(deadly=None, good={"needs": ["deadly"], "trigger": "all_done"})
            _, live, _ = await frozen(rig, spec, task="deadly")
            for _ in range(5):
                work = Work(deadly=forever)
                node = await rig.node(work, lease_seconds=600.0)
                await until(lambda work=work: work.begun["deadly"])
                await node.journal.drained()
                rig.clock.offset += 1000
            work = Work()
            run = await final(await rig.node(work), live.run_id)
            assert states(run) == {"deadly": "failed", "good": "succeeded"}
            assert not work.begun["deadly"]

    play(test())


def test_a_stopped_node_hands_its_runs_over(tmp_path: Path) -> None:
    """What was interrupted is no outcome, whatever user code makes of it; the run goes on at once, elsewhere."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:

            async def bitter(attempt: Attempt) -> None:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    raise RuntimeError("interrupted!") from None

            work = Work(a=bitter)
            first = await rig.node(work)
            live = await start(first, graph(a=None))
            await until(lambda: work.begun["a"])
            await first.stop()
            run = await final(await rig.node(Work()), live.run_id)
            assert states(run) == {"a": "succeeded"}
            assert run.tasks[0].attempt == 1

    play(test())


def test_orderly_stops_do_not_count_as_crashes(tmp_path: Path) -> None:
    """An attempt that outlives many deployments is not taken for one that kills its process."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            node = await rig.node(Work(a=forever))
            live = await start(node, graph(a=None))
            run_id = live.run_id
            for _ in range(STARTS_MAX + 2):
                await node.stop()
                work = Work(a=forever)
                node = await rig.node(work)
                await until(lambda work=work: work.begun["a"])
            await node.stop()
            heir = await rig.node(Work())
            assert (await final(heir, run_id)).state == "succeeded"

    play(test())


def test_bad_runs_do_not_keep_good_ones_from_being_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More runs without code than a claim takes at once, all older than the good one."""
    monkeypatch.setattr(adopter_module, "CLAIM_RUNS", 5)

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            holder = await rig.node(slots={"inline": 0})
            codeless = [await start(holder, graph_of({"a": None}, name="codeless")) for _ in range(12)]
            good = await start(holder, graph_of({"a": None}, name="good"))
            await holder.stop()
            bind = binder(Work())

            def picky(plan: Plan, source_dir: str | None) -> Any:
                if plan.spec.name == "codeless":
                    raise UserCodeError("cannot import module 'gone'")
                return bind(plan, source_dir)

            node = await rig.node(bind=picky)
            assert states(await final(node, good.run_id)) == {"a": "succeeded"}
            assert len(node.adopter.refused) == 12
            rows = [await node.store.run(live.run_id) for live in codeless]
            assert [row.owner for row in rows if row is not None] == [None] * 12
            # A node that has the code takes them.
            able = await rig.node()
            for live in codeless:
                assert (await final(able, live.run_id)).state == "succeeded"

    play(test())


def test_a_store_that_is_out_of_reach_says_nothing_about_a_run(tmp_path: Path) -> None:
    """Reading a claimed run fails for a moment: it is not refused, and taken over in the next round."""

    class Flaky(MemoryStore):
        failures = 1

        async def history(self, *args: Any, **options: Any) -> Any:
            if self.failures:
                self.failures -= 1
                raise StoreUnavailable("locked")
            return await super().history(*args, **options)

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            holder = await rig.node(slots={"inline": 0})
            live = await start(holder, graph(a=None))
            await holder.stop()
            node = rig.build(store=Flaky(holder.store.database), lease_seconds=0.6)  # type: ignore[attr-defined]
            with pytest.raises(StoreUnavailable):
                await node.start()
            node.spawn(node.adopter.watch(), "watch")
            assert states(await final(node, live.run_id)) == {"a": "succeeded"}
            assert not node.adopter.refused

    play(test())


@pytest.mark.parametrize(("command", "state"), [("cancel", "cancelled"), ("pause", "paused")])
def test_a_run_that_nobody_owns_is_commanded_without_its_code(command: str, state: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            holder = await rig.node(slots={"inline": 0})
            live = await start(holder, graph(a=None, b=["a"]))
            await holder.stop()

            def no_code(plan: Plan, source_dir: str | None) -> Any:
                raise UserCodeError("cannot import module 'gone'")

            node = await rig.node(bind=no_code, adopt=False)
            await node.command(live.run_id, command, {})
            row = await node.store.run(live.run_id)
            assert row is not None
            assert (row.state, row.owner) == (state, None)

    play(test())


def test_a_command_from_another_node_is_applied_at_once(tmp_path: Path) -> None:
    """By the bell: the safety poll is an hour away."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            work = Work(a=forever)
            owner = await rig.node(work, poll_seconds=3600.0)
            other = await rig.node(adopt=False)
            live = await start(owner, graph(a=None, b=None))
            await until(lambda: work.begun["a"])
            await other.command(live.run_id, "pause", {"reason": "a look"})
            await until(lambda: live.run.state == "paused")
            await other.command(live.run_id, "resume", {})
            await until(lambda: live.run.state == "running")
            await other.command(live.run_id, "cancel", {})
            assert (await ended(live)).state == "cancelled"
            assert not await other.store.inbox([live.run_id], other.id), "what was applied is gone from the inbox"

    play(test())


def test_a_command_acknowledged_for_a_dead_owner_is_applied_by_the_heir(tmp_path: Path) -> None:
    """The owner hangs; the command lies in its inbox. Whoever takes the run over applies it, once."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            zombie, live, _ = await frozen(rig, graph(a=None), task="a")
            await zombie.store.post(live.run_id, "cancel", {"reason": "before the end"})
            heir = await rig.node(Work(a=forever))
            run = await final(heir, live.run_id)
            assert (run.state, run.reason) == ("cancelled", "before the end")
            assert not await heir.store.inbox([live.run_id], heir.id)

    play(test())


def test_a_damaged_command_is_taken_out_of_the_way(tmp_path: Path) -> None:
    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            work = Work(a=forever)
            node = await rig.node(work)
            live = await start(node, graph(a=None))
            await until(lambda: work.begun["a"])
            for kind, payload in [("explode", {}), ("cancel", {"reason": 7}), ("retry", {})]:
                await node.store.post(live.run_id, kind, payload)
            await node.store.post(live.run_id, "cancel", {})
            node.commander.wake()
            assert (await ended(live)).state == "cancelled"
            await node.journal.drained()
            assert not await node.store.inbox([live.run_id], node.id)

    play(test())


def test_a_retry_from_a_node_that_never_saw_the_run(tmp_path: Path) -> None:
    async def test() -> None:
        async with memory_rig(tmp_path) as rig:

            async def fails(attempt: Attempt) -> None:
                raise ValueError("no")

            first = await rig.node(Work(b=fails))
            live = await start(first, graph(a=None, b=["a"], c=["b"]))
            assert (await ended(live)).state == "failed"
            await first.stop()
            work = Work()
            second = await rig.node(work)
            await second.command(live.run_id, "retry", {})
            run = await final(second, live.run_id)
            assert states(run) == {"a": "succeeded", "b": "succeeded", "c": "succeeded"}
            assert work.begun == {"b": 1, "c": 1}

    play(test())


def test_finished_runs_are_deleted_after_their_time(tmp_path: Path) -> None:
    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            forgotten: list[str] = []
            node = await rig.node(Work(hangs=forever))
            old = await start(node, graph(a=None))
            await ended(old)
            rig.clock.offset += 1000
            young, open_run = await start(node, graph(a=None)), await start(node, graph(hangs=None))
            await ended(young)
            node.janitor._delete_logs = forgotten.append
            assert await node.janitor.clean(500.0) == 1
            assert forgotten == [old.run_id]
            assert await node.store.run(old.run_id) is None
            assert await node.store.history(old.run_id) == []
            assert await node.store.run(young.run_id) is not None
            assert await node.store.run(open_run.run_id) is not None
            await within(turns())

    play(test())


def test_a_run_asked_for_while_the_node_joins_anew_is_created_once_it_has(tmp_path: Path) -> None:
    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            node = await rig.node()
            epoch = node.epoch
            node.membership.lost("the test says so")
            live = await start(node, graph(a=None))
            assert states(await final(node, live.run_id)) == {"a": "succeeded"}
            assert node.epoch > epoch

    play(test())


def test_a_request_gives_up_when_the_node_cannot_join_anew(tmp_path: Path) -> None:
    class Away(MemoryStore):
        away = False

        async def join(self, *args: Any, **options: Any) -> Any:
            if self.away:
                raise StoreUnavailable("the disk is gone")
            return await super().join(*args, **options)

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            first = await rig.node()
            store = Away(first.store.database)  # type: ignore[attr-defined]
            node = rig.build(store=store, patience_seconds=0.2)
            await node.start()
            store.away = True
            node.membership.lost("the test says so")
            with pytest.raises(Fenced, match="could not join again"):
                await start(node, graph(a=None))
            await node.stop()

    play(test())
