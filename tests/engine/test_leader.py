"""Nodes elect one of them, which alone looks after all; the others go on working."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.backends.stores.memory import MemoryDatabase, MemoryStore
from headrace.backends.stores.memory_named_locks import NamedLocks
from headrace.contracts.locks import LEADER, LockClaim, LockRenewal, LockRow, LockTurn
from headrace.core.ids import Epoch, NodeId
from headrace.engine import forker
from headrace.engine.node import Node
from headrace.engine.options import NodeOptions
from headrace.testing.virtual_time import VirtualTime

from graphs import graph  # isort: skip
from rig import Rig, Work, binder, ended, final, memory_rig, play, start, until  # isort: skip


async def leader_row(node: Node) -> LockRow | None:
    return next((row for row in await node.locks.locks() if row.name == LEADER), None)


def term_of(node: Node) -> int | None:
    term = node.leader.term()
    return None if term is None else term.number


def test_the_first_node_leads_and_the_second_follows(tmp_path: Path) -> None:
    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            first, second = await rig.node(node="first"), await rig.node(node="second")
            assert (term_of(second), second.leader.leading_node) == (None, "first")
            row = await leader_row(second)
            assert row is not None
            assert (row.node, row.token) == ("first", term_of(first))
            assert (await ended(await start(second, graph(a=None)))).state == "succeeded"

    play(test())


def test_a_node_that_takes_nothing_over_does_not_lead(tmp_path: Path) -> None:
    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            guest = await rig.node(adopt=False)
            assert await leader_row(guest) is None

    play(test())


def test_another_one_leads_as_soon_as_the_leader_stops(tmp_path: Path) -> None:
    """Leases have ten minutes to go. The leader resigns before it drains."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            go = asyncio.Event()

            async def late(attempt: Any) -> None:
                await go.wait()

            work = Work(a=late)
            first = await rig.node(work, lease_seconds=600.0)
            second = await rig.node(lease_seconds=600.0)
            old = term_of(first)
            live = await start(first, graph(a=None))
            await until(lambda: work.begun["a"])
            stopping = asyncio.create_task(first.stop(drain_seconds=60.0))
            await until(lambda: term_of(second) is not None)
            assert old is not None
            assert (term_of(second) or 0) > old
            assert not live.closed, "it drains, with its run"
            assert await first.watchdog.look() == [], "it does not stand again"
            go.set()
            await stopping
            assert (await final(second, live.run_id)).state == "succeeded"

    play(test())


def test_a_leader_that_was_followed_is_refused_and_steps_down(tmp_path: Path) -> None:
    """It was suspended for longer than its lease and still believes in itself; the lost node's lease is not for it to
    take any more."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            old = await rig.node(lease_seconds=600.0)
            term = term_of(old)
            rig.clock.offset += 1000
            new = await rig.node(lease_seconds=600.0)
            assert (term_of(new) or 0) > (term or 0)
            assert term_of(old) == term
            await rig.open_handle().join(NodeId("dead"), -1.0, "", {})
            assert await old.watchdog.look() == []
            assert term_of(old) is None
            assert await new.watchdog.look() == ["dead"]

    play(test())


def test_the_leader_finds_a_lost_node_and_everybody_takes_its_runs_over(tmp_path: Path) -> None:
    async def test() -> None:
        async with memory_rig(tmp_path) as rig:

            async def forever(attempt: Any) -> None:
                await asyncio.Event().wait()

            leader = await rig.node(lease_seconds=1e6, live_runs_max=0)
            follower = await rig.node(lease_seconds=1e6)
            work = Work(a=forever)
            dying = await rig.node(work, lease_seconds=600.0)
            live = await start(dying, graph(a=None))
            await until(lambda: work.begun["a"])
            await dying.journal.drained()
            rig.clock.offset += 1000
            assert await follower.watchdog.look() == []
            assert await leader.watchdog.look() == [dying.id]
            assert (await final(follower, live.run_id)).state == "succeeded"

    play(test())


@pytest.mark.parametrize("command", ["cancel", "reset"])
def test_a_command_to_a_run_of_a_lost_node_frees_its_other_runs_too(tmp_path: Path, command: str) -> None:
    """The leader finds nobody lost any more, and nobody looks by himself for an hour."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:

            async def forever(attempt: Any) -> None:
                await asyncio.Event().wait()

            patient = {"lease_seconds": 1e6, "poll_seconds": 3600.0}
            leader, follower = await rig.node(**patient), await rig.node(**patient, live_runs_max=0)
            work = Work(a=forever)
            dying = await rig.node(work, lease_seconds=600.0)
            one, two = await start(dying, graph(a=None)), await start(dying, graph(a=None))
            await until(lambda: work.begun["a"] == 2)
            await dying.journal.drained()
            rig.clock.offset += 1000
            if command == "cancel":
                await follower.commander.send(one.run_id, "cancel", {})
            else:
                held, is_claimed = await forker._hold(follower, one.run_id)
                assert held is not None and is_claimed
            assert (await final(leader, two.run_id)).state == "succeeded"
            assert follower.counts.nodes_lost == 1
            assert await leader.watchdog.look() == []

    play(test())


def test_a_fenced_leader_leads_no_more_and_may_be_elected_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            node = await rig.node(node="n", lease_seconds=600.0)
            first = term_of(node)
            node.membership.lost("for the test")
            assert term_of(node) is None
            await until(lambda: term_of(node) is not None)
            assert (term_of(node) or 0) > (first or 0)

    play(test())


def test_only_the_leader_deletes_old_runs(tmp_path: Path) -> None:
    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            leader = await rig.node(lease_seconds=1e6)
            follower = await rig.node(lease_seconds=1e6, retention_seconds=500.0)
            live = await start(leader, graph(a=None))
            await ended(live)
            rig.clock.offset += 1000
            follower.janitor.rouse()
            for _ in range(20):
                await asyncio.sleep(0)
            assert await follower.store.run(live.run_id) is not None
            await leader.leader.resign()
            await follower.watchdog.look()
            await until_gone(follower, live.run_id)

    async def until_gone(node: Node, run_id: Any) -> None:
        async with asyncio.timeout(20):
            while await node.store.run(run_id) is not None:
                await asyncio.sleep(0)

    play(test())


def test_a_janitor_of_an_earlier_term_deletes_nothing_and_its_node_steps_down(tmp_path: Path) -> None:
    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            old = await rig.node(lease_seconds=600.0)
            live = await start(old, graph(a=None))
            await ended(live)
            rig.clock.offset += 1000
            new = await rig.node(lease_seconds=600.0)
            assert term_of(old) is not None
            old.janitor.keep_for(500.0)
            await until(lambda: term_of(old) is None)
            assert await new.store.run(live.run_id) is not None

    play(test())


class OtherLocks:
    """A keeper of locks that is not the store and knows no epochs."""

    authority = "other/1"

    def __init__(self) -> None:
        self._locks = NamedLocks()
        self._token = 100

    def _next(self) -> int:
        self._token += 1
        return self._token

    async def take_lock(self, claim: LockClaim) -> LockTurn:
        return self._locks.take(claim, 0.0, lambda *_: 1e9, self._next)

    def renew_locks(self, node: NodeId, epoch: Epoch, renewals: Sequence[LockRenewal]) -> list[bool]:
        return [self._locks.renew(renewal, 0.0) for renewal in renewals]

    async def release_lock(self, name: str, holder: str) -> str:
        return self._locks.release(name, holder, 0.0, lambda *_: 1e9) or ""

    async def locks(self) -> list[LockRow]:
        return self._locks.rows(0.0, lambda *_: 1e9)


def test_somebody_else_may_keep_the_locks(tmp_path: Path) -> None:
    """Terms carry who gave them, and the store refuses the lower ones."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            locks = OtherLocks()
            nodes: list[Node] = []
            for name in ("first", "second"):
                options = NodeOptions(node=name, lease_seconds=600.0)
                node = Node(rig.open_handle(), rig.artifacts, binder(Work()), options, now=rig.clock, locks=locks)
                rig.nodes.append(node)
                await node.start()
                nodes.append(node)
            first, second = nodes
            assert await leader_row(first) is not None
            assert [row.name for row in await rig.open_handle().locks()] == []
            term = first.leader.term()
            assert term is not None
            assert (term.number, term.authority) == (101, "other/1")
            await first.stop()
            await until(lambda: term_of(second) == 102)
            with pytest.raises(Exception, match="term 101 of other/1 is over"):
                await second.store.expire_lost(term)

    play(test())


class CountingStore(MemoryStore):
    """Counts queries by name."""

    def __init__(self, database: MemoryDatabase) -> None:
        super().__init__(database)
        self.count: Counter[str] = Counter()

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if asyncio.iscoroutinefunction(found):
            self.count[name] += 1
        return found


def test_idle_nodes_ask_little(tmp_path: Path) -> None:
    """Under two queries a second alone, and under six for a cluster of three, renewals of leases and locks included."""
    minutes, lease = 10, 15.0

    async def rates(number: int) -> float:
        time = VirtualTime(lambda: False)
        time.install(1_900_000_000.0)
        try:
            database = MemoryDatabase(time.time)
            rig = Rig(tmp_path, lambda: CountingStore(database), time.time)  # type: ignore[arg-type]
            nodes = [await rig.node(lease_seconds=9e9) for _ in range(number)]
            for node in nodes:  # the keepers' threads live in real time: their lease outlives the test
                node.options = msgspec.structs.replace(node.options, lease_seconds=lease)
            await asyncio.sleep(60)
            before = sum(node.store.count.total() for node in nodes)  # type: ignore[attr-defined]
            await asyncio.sleep(60 * minutes)
            asked = sum(node.store.count.total() for node in nodes) - before  # type: ignore[attr-defined]
        finally:
            time.uninstall()
        await rig.close()
        return asked / (60 * minutes) + (number + 1) * 3 / lease

    assert asyncio.run(rates(1)) < 2
    assert asyncio.run(rates(3)) < 6
