"""Servers that crash and networks that break in the middle: nothing acknowledged is lost, nothing is done twice, and work
goes on by itself. The same for every database."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest
from network import Network
from outages import CUTS, R1, Writer

from headrace.backends.stores import database_pool
from headrace.core.errors import StoreUnavailable
from headrace.testing.store_conformance import StoreHarness
from headrace.testing.store_conformance.stage import Node, Stage, new_run, run_id


class OutageHarness(StoreHarness, Protocol):
    """A store on a server that can be crashed and started, and reached through a network that can break."""

    server: Any
    driver_error: type[Exception]

    def wire(self) -> Any:
        """How the network tells one of its requests from the next."""
        ...

    def handle_through(self, port: int) -> Any:
        """A store reached through something that listens on that port."""
        ...

    def renewal_through(self, port: int) -> Any:
        """The renewal of leases, reached likewise."""
        ...

    def counting(self, table: str) -> str:
        """A query for the number of rows of a table."""
        ...

    def sql(self, text: str) -> str:
        """What the server's client prints."""
        ...

    async def claim_late(self, node: str, epoch: int) -> None:
        """Send the first claim of a node once more."""
        ...


@asynccontextmanager
async def node_behind(network: Network, harness: OutageHarness) -> AsyncIterator[Node]:
    """A node whose store is reached through a network that can break."""
    store = harness.handle_through(network.port)
    await store.open()
    try:
        yield await Stage(harness).node("a", store=store, lease_seconds=600.0)
    finally:
        network.cut = ""
        network.refuses = False
        await store.close()


class OutageScenarios:
    """Give a fixture ``harness``."""

    def test_connections_cut_in_the_middle_of_commits(self, harness: OutageHarness) -> None:
        """Before, in the middle of and after the request, after the commit: the journal repeats the flush, which is then there
        once."""

        async def work() -> None:
            async with (
                Network(harness.server.port, harness.wire()).listening() as network,
                node_behind(network, harness) as node,
            ):
                await node.start(new_run(1))
                writer = Writer(node)
                for how, count in itertools.product(CUTS * 5, (1, 40)):
                    network.cut = how
                    await writer.write(count)
                assert network.cuts == len(CUTS) * 5 * 2
                assert network.connections > network.cuts
                assert writer.errors == []
                assert writer.acked == list(range(2, writer.last + 1))
                assert [seq for seq, _ in await node.store.history(R1)] == [1, *writer.acked]
                row = await node.store.run(R1)
                assert row is not None
                assert row.last_seq == writer.last

        asyncio.run(work())

    @pytest.mark.timeout(400)  # a server that recovers on a slow disk takes its time
    def test_a_server_that_crashes_in_the_middle_of_commits(self, harness: OutageHarness) -> None:
        """Killed, or stopped in immediate mode, and started again, several times, under load."""

        async def work() -> None:
            stage = Stage(harness)
            node = await stage.node("a", lease_seconds=600.0)
            await node.start(new_run(1))
            writer = Writer(node)
            stop = asyncio.Event()

            async def load() -> None:
                for turn in itertools.count():
                    await writer.write(1 + turn % 50)
                    if stop.is_set():
                        return

            async with asyncio.TaskGroup() as group:
                task = group.create_task(load())
                for _ in range(3):
                    before = len(writer.acked)
                    while len(writer.acked) < before + 300:
                        assert not task.done()
                        await asyncio.sleep(0)
                    await asyncio.to_thread(harness.server.crash)
                    on_disk = len(writer.acked)
                    await asyncio.to_thread(harness.server.start)
                    found = int(await asyncio.to_thread(harness.sql, harness.counting("events")))
                    assert found >= on_disk + 1  # and the first event
                stop.set()
            assert writer.errors == []
            assert writer.acked == list(range(2, writer.last + 1))
            assert [seq for seq, _ in await node.store.history(R1)] == [1, *writer.acked]
            assert await asyncio.to_thread(node.store.renew, node.name, node.epoch, 600.0)
            await stage.close()

        asyncio.run(work())

    @pytest.mark.parametrize("how", CUTS)
    def test_a_claim_whose_answer_is_lost(self, harness: OutageHarness, how: str) -> None:
        """The caller does not know what it took; its next claim gets it, and nobody else could have."""

        async def work() -> None:
            async with (
                Network(harness.server.port, harness.wire()).listening() as network,
                node_behind(network, harness) as node,
            ):
                await node.start(*(new_run(number) for number in range(1, 6)))
                await node.store.release(node.name, node.epoch, [run_id(number) for number in range(1, 6)])
                assert await node.claim(2) == [R1, run_id(2)]
                network.cut = how
                with pytest.raises(StoreUnavailable):
                    await node.claim(2)
                assert await node.claim() == [run_id(3), run_id(4), run_id(5)]
                assert await node.claim() == []
                rows = [await node.store.run(run_id(number)) for number in range(1, 6)]
                assert {row.owner for row in rows if row is not None} == {"a"}  # the first two were not given up

        asyncio.run(work())

    def test_a_claim_that_arrives_late_takes_nothing(self, harness: OutageHarness) -> None:
        """The node has long gone on with a later one."""

        async def work() -> None:
            stage = Stage(harness)
            node = await stage.node("a")
            await node.start(new_run(1))
            assert await node.claim() == []
            assert await node.claim() == []
            await node.store.release(node.name, node.epoch, [R1])
            with pytest.raises(harness.driver_error, match="too late"):
                await harness.claim_late("a", node.epoch)
            assert await node.claim() == [R1]
            await stage.close()

        asyncio.run(work())

    @pytest.mark.parametrize("how", CUTS)
    def test_questions_are_asked_again(self, harness: OutageHarness, how: str) -> None:
        """Reading, releasing and reserving twice does no harm: the caller notices nothing."""

        async def work() -> None:
            async with (
                Network(harness.server.port, harness.wire()).listening() as network,
                node_behind(network, harness) as node,
            ):
                await node.start(new_run(1))
                network.cut = how
                assert len(await node.store.history(R1)) == 1
                network.cut = how
                assert await node.store.reserve_key(node.name, node.epoch, "w", "k", R1) is None
                network.cut = how
                await node.store.release(node.name, node.epoch, [R1])
                assert network.cuts == 3
                assert await node.claim() == [R1]

        asyncio.run(work())

    def test_a_post_is_never_stored_twice(self, harness: OutageHarness) -> None:
        """Nobody can know whether it arrived: that is what the sender is told."""

        async def work() -> None:
            async with (
                Network(harness.server.port, harness.wire()).listening() as network,
                node_behind(network, harness) as node,
            ):
                await node.start(new_run(1))
                for how in CUTS:
                    network.cut = how
                    with pytest.raises(StoreUnavailable):
                        await node.store.post(R1, "signal", {"how": how})
                found = [row.payload["how"] for row in await node.store.inbox(None, node.name)]
                assert found in (["answer", "sent"], ["answer"])  # nobody waited for what was only sent
                assert len(found) == len(set(found))

        asyncio.run(work())

    def test_a_lease_is_renewed_over_a_new_connection(self, harness: OutageHarness) -> None:
        """The keeper tries again; the thread and its loop go on."""

        async def work() -> None:
            async with (
                Network(harness.server.port, harness.wire()).listening() as network,
                node_behind(network, harness) as node,
            ):
                assert await asyncio.to_thread(node.store.renew, node.name, node.epoch, 60.0)
                for how in CUTS:
                    network.cut = how
                    with pytest.raises(StoreUnavailable):
                        await asyncio.to_thread(node.store.renew, node.name, node.epoch, 60.0)
                    assert await asyncio.to_thread(node.store.renew, node.name, node.epoch, 60.0)

        asyncio.run(work())

    def test_a_network_that_swallows_everything_costs_a_third_of_the_lease(self, harness: OutageHarness) -> None:
        """Then the keeper knows that it could not renew, in time to stop its node."""

        async def work() -> None:
            silent = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
            renewal = harness.renewal_through(silent.sockets[0].getsockname()[1])
            with pytest.raises(StoreUnavailable, match="did not answer in time"):
                await asyncio.to_thread(renewal.renew, "a", 1, 0.3)
            await asyncio.to_thread(renewal.close)
            silent.close()

        asyncio.run(work())

    def test_a_server_that_stays_away_is_an_error_after_some_patience(
        self, harness: OutageHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And no longer one once it is back."""
        monkeypatch.setattr(database_pool, "PATIENCE_SECONDS", 0.1)

        async def work() -> None:
            async with (
                Network(harness.server.port, harness.wire()).listening() as network,
                node_behind(network, harness) as node,
            ):
                network.refuses = True
                network.cut = "before"
                with pytest.raises(StoreUnavailable):
                    await node.store.nodes()
                network.refuses = False
                assert len(await node.store.nodes()) == 1

        asyncio.run(work())
