"""Group commit: what shares a commit, what waits for it, and what happens when the store cannot."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace.backends.stores.memory import MemoryStore
from headrace.contracts.execution import Attempt
from headrace.contracts.store import Flush
from headrace.core.errors import Fenced, HeadraceError, StoreFull, StoreUnavailable
from headrace.engine import journal as journal_module

from graphs import graph  # isort: skip
from rig import Rig, Work, ended, final, memory_rig, play, start, states, turns, until, within  # isort: skip


class SlowStore(MemoryStore):
    """Commits only when told, one at a time; keeps the size of each. ``errors`` are raised first, one per commit."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig.open_handle().database)  # type: ignore[attr-defined]
        self._permits: asyncio.Semaphore | None = None
        self.waiting = 0
        self.sizes: list[int] = []
        self.errors: list[HeadraceError] = []
        self.takes_effect = False

    def commit_now(self, flush: Flush) -> bool:
        return False

    def hold(self) -> None:
        """From now on a commit waits for leave."""
        self._permits = asyncio.Semaphore(0)

    def let_go(self) -> None:
        """Commits no longer wait."""
        permits, self._permits = self._permits, None
        if permits is not None:
            permits.release()

    async def one(self) -> None:
        """Let one commit pass, and everything happen that follows without another."""
        assert self._permits is not None
        done = len(self.sizes)
        self._permits.release()
        await until(lambda: len(self.sizes) > done)
        await turns()

    async def commit(self, flush: Flush) -> None:
        if self._permits is not None:
            self.waiting += 1
            await self._permits.acquire()
            self.waiting -= 1
        self.sizes.append(len(flush.events))
        if self.errors:
            if self.takes_effect:
                MemoryStore.commit_now(self, flush)
            raise self.errors.pop(0)
        MemoryStore.commit_now(self, flush)


def test_what_arrives_during_a_commit_shares_the_next(tmp_path: Path) -> None:
    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            store = SlowStore(rig)
            node = await rig.node(store=store)
            version = await node.library.register(graph(a=None), now=0)
            store.hold()
            starting = [asyncio.create_task(node.starter.create_run(version, {})) for _ in range(50)]
            await until(lambda: store.waiting == 1)
            await turns()
            assert store.waiting == 1, "one commit at a time"
            more = [asyncio.create_task(node.starter.create_run(version, {})) for _ in range(30)]
            await turns()
            store.let_go()
            for live in await asyncio.gather(*starting, *more):
                await ended(live)
            assert store.sizes[0] == 50
            assert len(store.sizes) <= 6, f"160 events more in {store.sizes}"

    play(test())


def test_nothing_is_seen_before_its_commit(tmp_path: Path) -> None:
    """No reply, no launch, no end: each waits for the commit that holds it."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            store, work = SlowStore(rig), Work()
            node = await rig.node(work, store=store)
            version = await node.library.register(graph(a=None, b=["a"]), now=0)

            store.hold()
            creating = asyncio.create_task(node.starter.create_run(version, {}))
            await turns()
            assert not creating.done()
            assert not work.begun
            await store.one()
            live = await within(creating)
            await until(lambda: work.done["a"] and store.waiting)
            await turns()
            assert live.run.tasks[0].done, "the decision runs ahead of the disk"
            assert not work.begun["b"], "the launch does not"
            await store.one()
            await until(lambda: work.done["b"] and store.waiting)
            await turns()
            assert live.run.done
            assert not live.done
            store.let_go()
            await ended(live)

    play(test())


def test_a_resume_launches_only_what_is_durable(tmp_path: Path) -> None:
    """The end of a task that comes while the resume is being committed is not durable with it."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            release_a = asyncio.Event()

            async def wait(attempt: Attempt) -> None:
                await release_a.wait()

            store, work = SlowStore(rig), Work(a=wait)
            node = await rig.node(work, store=store)
            live = await start(node, graph(a=None, b=["a"]))
            await until(lambda: work.begun["a"])
            await node.command(live.run_id, "pause", {})
            store.hold()
            resuming = asyncio.create_task(node.command(live.run_id, "resume", {}))
            await until(lambda: store.waiting)
            release_a.set()
            await until(lambda: live.run.tasks[0].done)
            await store.one()
            await within(resuming)
            await turns()
            assert not work.begun["b"], "the end of a is not durable yet"
            store.let_go()
            await ended(live)

    play(test())


def test_a_flood_is_held_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the bound of the backlog nothing is launched and no run created, until the disk has caught up."""
    monkeypatch.setattr(journal_module, "BACKLOG_EVENTS_MAX", 20)

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            store, work = SlowStore(rig), Work()
            node = await rig.node(work, store=store, slots={"inline": 5})
            live = await start(node, graph(each={"map": list(range(200))}))
            await until(lambda: work.begun)
            store.hold()
            await until(lambda: store.waiting and not node.planner.gatekeeper.open)
            await turns(200)
            begun = sum(work.begun.values())
            assert begun < 200
            version = await node.library.register(graph(a=None), now=0)
            creating = asyncio.create_task(node.starter.create_run(version, {}))
            await turns(200)
            assert sum(work.begun.values()) == begun
            assert not creating.done()
            store.let_go()
            await ended(live)
            await ended(await within(creating))
            assert max(store.sizes) <= 20 + 5 + 1

    play(test())


@pytest.mark.parametrize("takes_effect", [False, True], ids=["lost", "unknown"])
def test_a_store_that_comes_back_in_time_costs_nothing(takes_effect: bool, tmp_path: Path) -> None:
    """Out of reach for two commits, which did or did not take effect: the same batch is tried again."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            store, work = SlowStore(rig), Work()
            store.takes_effect = takes_effect
            node = await rig.node(work, store=store)
            store.errors = [StoreUnavailable("away"), StoreUnavailable("still away")]
            live = await start(node, graph(a=None, b=["a"]))
            assert states(await ended(live)) == {"a": "succeeded", "b": "succeeded"}
            assert work.begun == {"a": 1, "b": 1}

    play(test())


def test_a_full_store_stops_the_engine_and_loses_nothing(tmp_path: Path) -> None:
    """Everybody who waits is told why; what was acknowledged goes on when there is room again."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            release = asyncio.Event()

            async def wait(attempt: Attempt) -> None:
                await release.wait()

            store, work = SlowStore(rig), Work(a=wait)
            node = await rig.node(work, store=store)
            acknowledged = await start(node, graph(a=None, b=["a"]))
            await until(lambda: work.begun["a"])
            full = StoreFull("the disk is full", hint="free some space")
            store.errors = [full]
            release.set()
            await within(acknowledged.until_closed())
            assert (acknowledged.done, acknowledged.error, node.broken) == (False, full, full)
            with pytest.raises(StoreFull, match="free some space"):
                await start(node, graph(c=None))
            with pytest.raises(StoreFull):
                await node.command(acknowledged.run_id, "cancel", {})
            await node.stop()
            assert not work.begun["b"]

            again = await rig.node(work)
            run = await final(again, acknowledged.run_id)
            assert states(run) == {"a": "succeeded", "b": "succeeded"}

    play(test())


def test_an_at_most_once_attempt_does_not_start_if_its_start_cannot_be_recorded(tmp_path: Path) -> None:
    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            store, work = SlowStore(rig), Work()
            node = await rig.node(work, store=store)
            store.hold()
            version = await node.library.register(graph(once={"at_most_once": True}), now=0)
            creating = asyncio.create_task(node.starter.create_run(version, {}))
            await until(lambda: store.waiting)
            store.let_go()
            live = await creating
            store.errors = [StoreFull("full")]
            await within(live.until_closed())
            await turns()
            assert not work.begun
            await within(node.launcher.idle())

    play(test())


def test_a_cancel_in_the_same_commit_as_a_recorded_start(tmp_path: Path) -> None:
    """The attempt's launch and its withdrawal come in the same turn: it never begins, and the run ends."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            store, work = SlowStore(rig), Work()
            node = await rig.node(work, store=store)
            live = await start(node, graph(once={"at_most_once": True}))
            await node.command(live.run_id, "cancel", {})  # in the turn in which the start was handed in
            run = await ended(live)
            assert (run.state, work.begun["once"]) == ("cancelled", 0)
            assert node.planner._executor_gates["inline"].inside == 0

    play(test())


def test_everybody_who_waits_is_told_when_the_node_is_fenced(tmp_path: Path) -> None:
    """Also those whose events no commit had taken yet; and the node joins again and works."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            store = SlowStore(rig)
            node = await rig.node(store=store)
            version = await node.library.register(graph(a=None), now=0)
            store.hold()
            first = asyncio.create_task(node.starter.create_run(version, {}))
            await until(lambda: store.waiting)
            second = asyncio.create_task(node.starter.create_run(version, {}))
            await turns()
            epoch = node.epoch
            store.errors = [Fenced("another epoch")]
            node.membership.lost("it was taken")
            store.let_go()
            for waiting in (first, second):
                with pytest.raises(Fenced):
                    await within(waiting)
            await until(lambda: node.epoch > epoch and not node.membership.is_rejoining)
            joined = node.epoch
            assert (await ended(await start(node, graph(a=None)))).state == "succeeded"
            assert node.epoch == joined, "the old journal's last word fenced the node again"

    play(test())
