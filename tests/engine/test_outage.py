"""How soon orphaned runs go on when the store was out of reach: within the lease and two seconds, counted from the death
of their node or from the return of the store, whichever is later. In virtual time, with the lease of database servers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from headrace.backends.stores.memory import MemoryDatabase, MemoryStore
from headrace.contracts.ready import Claim
from headrace.contracts.store import NodeRow
from headrace.core.errors import StoreUnavailable
from headrace.core.ids import Epoch, NodeId
from headrace.engine.gates import Gate, Gatekeeper
from headrace.engine.holding import Holding
from headrace.engine.keeper import Keeper
from headrace.engine.launcher import Launcher
from headrace.engine.node import Node
from headrace.engine.puller import Puller
from headrace.testing.virtual_time import VirtualTime

from graphs import graph  # isort: skip
from rig import Rig, Work, memory_rig, play, start, until  # isort: skip

LEASE_SECONDS = 15.0
PROMISE_SECONDS = 2.0


class Server:
    """A database that is out of reach from time to time."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database
        self.is_down = False
        self.found_lost = asyncio.Event()
        """Somebody was just told of a lost node."""
        self.goes_then = False
        """It is out of reach from that moment on."""


class FarStore(MemoryStore):
    """A handle to it. A call waits for the server before it gives up, as the stores of database servers do."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.database)
        self.server = server

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name in ("close", "open") or not asyncio.iscoroutinefunction(found):
            return found

        async def call(*given: Any, **named: Any) -> Any:
            for _ in range(10):
                if not self.server.is_down:
                    return await found(*given, **named)
                await asyncio.sleep(0.5)
            raise StoreUnavailable("the database is out of reach")

        return call

    def commit_now(self, flush: Any) -> bool:
        return False

    async def expire_lost(self, term: Any = None) -> list[NodeId]:
        lost = await super().expire_lost(term)
        if lost:
            self.server.found_lost.set()
            self.server.is_down = self.server.goes_then
        return lost

    async def commit(self, flush: Any) -> None:
        super().commit_now(flush)


async def delay(folder: Path, *, is_leader: bool, down_after: float | None, down_for: float, fenced: bool) -> float:
    """A node dies and the store goes down some time later (None: as soon as the node was found lost): seconds from when
    both lease and store allow it to the end of the dead node's run."""
    clock = VirtualTime(lambda: False)
    clock.install(1_900_000_000.0)
    try:
        server = Server(MemoryDatabase(clock.time))
        rig = Rig(folder, lambda: FarStore(server), clock.time)  # type: ignore[arg-type]

        async def forever(attempt: Any) -> None:
            await asyncio.Event().wait()

        work = Work(a=forever)
        # The keepers' threads live in real time: those of the survivors have leases that outlive the test.
        names = ("dying", "one", "two") if is_leader else ("one", "dying", "two")
        nodes: dict[str, Node] = {}
        for name in names:
            lease = LEASE_SECONDS if name == "dying" else 9e9
            nodes[name] = await rig.node(work if name == "dying" else None, node=name, lease_seconds=lease)
            nodes[name].options = msgspec.structs.replace(nodes[name].options, lease_seconds=LEASE_SECONDS)
        dying = nodes.pop("dying")
        live = await start(dying, graph(a=None))
        await until(lambda: work.begun["a"])
        await dying.journal.drained()
        assert dying.membership.keeper is not None
        await dying.membership.keeper.stop()
        dying.abandon()
        died = clock.time()
        if down_after is None:
            server.goes_then = True
            await server.found_lost.wait()
        else:
            await asyncio.sleep(down_after)
        server.is_down = True
        if fenced:  # the outage outlives their leases, too
            await asyncio.sleep(down_for / 2)
            for node in nodes.values():
                node.membership.lost("the lease could not be renewed in time")
            await asyncio.sleep(down_for / 2)
        else:
            await asyncio.sleep(down_for)
        server.is_down = False
        allowed = max(died + LEASE_SECONDS, clock.time())
        while server.database.runs[live.run_id].ended_at is None:
            await asyncio.sleep(0.01)
        waited = clock.time() - allowed
    finally:
        clock.uninstall()
    await rig.close()
    return waited


@pytest.mark.parametrize("fenced", [False, True], ids=["up", "fenced"])
@pytest.mark.parametrize("is_leader", [False, True], ids=["follower", "leader"])
def test_orphaned_runs_go_on_soon_after_the_store_is_back(tmp_path: Path, is_leader: bool, fenced: bool) -> None:
    """Whenever it goes and comes back: during the dead node's lease, around its end, while its runs are taken over."""
    waits = {
        (down_after, down_for): asyncio.run(
            delay(
                tmp_path / f"{down_after}-{down_for}",
                is_leader=is_leader,
                down_after=down_after,
                down_for=down_for,
                fenced=fenced,
            )
        )
        for down_after in (2.0, 12.0, 14.9, 15.3, None)
        for down_for in (0.7, 4.0, 7.9, 21.7, 66.6)
    }
    late = {when: wait for when, wait in waits.items() if wait > PROMISE_SECONDS}
    assert not late


def test_a_fenced_node_joins_anew_though_its_attempts_and_its_keeper_do_not_end(tmp_path: Path) -> None:
    """Others may carry the attempts out by then, whether it waits or not."""
    blocked, released = threading.Event(), threading.Event()

    class Slow(MemoryStore):
        slow = False

        def renew(self, node: NodeId, epoch: Epoch, lease_seconds: float) -> bool:
            if self.slow and not released.is_set():
                blocked.set()
                released.wait(30)
            return super().renew(node, epoch, lease_seconds)

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            end = asyncio.Event()

            async def goes_on(attempt: Any) -> None:
                while not end.is_set():
                    with contextlib.suppress(asyncio.CancelledError):
                        await end.wait()

            work = Work(a=goes_on)
            store = Slow(rig.open_handle().database)  # type: ignore[attr-defined]
            node = await rig.node(work, store=store, lease_seconds=1.0, stop_seconds=3600.0)
            epoch = node.epoch
            await start(node, graph(a=None))
            await until(lambda: work.begun["a"])
            store.slow = True
            await until(blocked.is_set)
            try:
                node.membership.lost("the test says so")
                await until(lambda: node.is_joined and node.epoch > epoch)
            finally:
                end.set()
                released.set()

    play(test())


def test_what_a_keeper_hears_after_it_was_let_go_is_not_believed(tmp_path: Path) -> None:
    """Another one keeps another lease by then."""
    blocked, released = threading.Event(), threading.Event()

    class Late(MemoryStore):
        def renew(self, node: NodeId, epoch: Epoch, lease_seconds: float) -> bool:
            is_kept = super().renew(node, epoch, lease_seconds)
            blocked.set()
            released.wait(30)
            return is_kept

    async def test() -> None:
        store = Late(MemoryDatabase())
        epoch = await store.join(NodeId("n"), 60.0, "", {})
        holding = Holding(store, 60.0)
        keeper = Keeper(
            store, NodeId("n"), epoch, 0.3, lambda _: None, taken_at=time.monotonic() + 3600, holding=holding
        )
        keeper.start()
        await asyncio.to_thread(blocked.wait, 30)
        keeper.let_go()
        trusted = holding.lease_until
        released.set()
        await keeper.stop()
        assert holding.lease_until == trusted

    play(test())


def test_what_was_announced_while_the_store_was_away_is_told_when_it_is_back(tmp_path: Path) -> None:
    class Away(MemoryStore):
        refusals = 0

        async def nodes(self) -> list[NodeRow]:
            if self.refusals:
                self.refusals -= 1
                raise StoreUnavailable("it is away")
            return await super().nodes()

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            store = Away(rig.open_handle().database)  # type: ignore[attr-defined]
            node = await rig.node(store=store, lease_seconds=1e6, poll_seconds=3600.0)
            other = await rig.node(lease_seconds=1e6, poll_seconds=3600.0)
            heard = asyncio.Event()
            other.adopter.wake = heard.set  # type: ignore[method-assign]
            store.refusals = 1
            node.waker.runs_unowned()
            async with asyncio.timeout(20):
                await heard.wait()

    play(test())


@pytest.mark.parametrize(("is_deaf", "least", "most"), [(True, 49, 51), (False, 12, 16)])
def test_a_puller_that_cannot_be_woken_looks_without_growing_pauses(is_deaf: bool, least: int, most: int) -> None:
    class Source:
        claims = 0

        async def claim(self, room: Any) -> list[Claim]:
            self.claims += 1
            return []

    async def test() -> None:
        clock = VirtualTime(lambda: False)
        clock.install(1_900_000_000.0)
        try:
            source: Any = Source()
            gates = {"thread": Gate("thread", 1)}
            puller = Puller(
                source,
                lambda _: cast("Launcher", None),
                Gatekeeper(lambda _: None),
                lambda: gates,
                cast("Any", None),
                lambda _: "",
                lambda: "",
                name="p",
                poll_seconds=2.0,
                is_deaf=lambda: is_deaf,
            )
            serving = asyncio.create_task(puller.serve())
            await asyncio.sleep(100)
            serving.cancel()
            assert least <= source.claims <= most
        finally:
            clock.uninstall()

    asyncio.run(test())
