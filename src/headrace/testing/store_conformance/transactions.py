"""Transactions of database tasks: the outcome is kept with what was written, and kept once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from headrace.core.errors import Fenced
from headrace.core.ids import RunId
from headrace.testing.store_conformance.stage import Node, Stage, event, new_run, run_id, scenario, update


async def _node(stage: Stage, name: str = "a") -> Node:
    """A node with a run of its own; skips what stores without transactions for tasks need not do."""
    node = await stage.node(name)
    if not hasattr(node.store, "transact"):
        pytest.skip("this store offers no transactions to tasks")
    await node.start(new_run(1))
    return node


async def _transact(node: Node, work: Callable[[], Any], *, run: RunId | None = None, task: str = "pay") -> bytes:
    """``work`` gives what is kept, or waits for it; the connection is not looked at."""
    store: Any = node.store

    async def waiting(_connection: Any) -> bytes:
        found = work()
        return found if isinstance(found, bytes) else await found

    def at_once(_connection: Any) -> Any:
        return work()

    how = waiting if store.waits_in_transactions else at_once
    return await store.transact(node.name, node.epoch, run or run_id(1), task, how)


class _Counted:
    """Work that counts how often it is done."""

    def __init__(self, output: bytes = b'"done"') -> None:
        self.times = 0
        self.output = output

    def __call__(self) -> bytes:
        self.times += 1
        return self.output


class TransactionsConformance:
    """Scenarios of :class:`headrace.contracts.store.TaskTransactions`."""

    @scenario
    async def test_what_was_kept_is_given_again_and_no_code_runs(self, stage: Stage) -> None:
        """By task: another one of the same run has an outcome of its own."""
        node = await _node(stage)
        first, second = _Counted(b'{"\\u0000": "\xc3\xa4"}'), _Counted()
        assert await _transact(node, first) == first.output
        assert await _transact(node, second) == first.output
        assert (first.times, second.times) == (1, 0)
        assert await _transact(node, second, task="pay[1]") == second.output
        assert second.times == 1

    @scenario
    async def test_it_is_forgotten_when_the_event_is_durable(self, stage: Stage) -> None:
        """In the flush that tells it, which may be repeated; from then on a retry runs again."""
        node = await _node(stage)
        work = _Counted()
        await _transact(node, work)
        await _transact(node, work, task="other")
        flush = node.flush([event(run_id(1), 2)], updates=[update(run_id(1), 2)])
        flush.outcomes_done = [(run_id(1), "pay")]
        await node.store.commit(flush)
        await node.store.commit(flush)
        await _transact(node, work)
        await _transact(node, work, task="other")
        assert work.times == 3

    @scenario
    async def test_a_refused_flush_forgets_nothing(self, stage: Stage) -> None:
        """It is one transaction."""
        node = await _node(stage)
        work = _Counted()
        await _transact(node, work)
        flush = node.flush([event(run_id(1), 2)])
        flush.outcomes_done, flush.epoch = [(run_id(1), "pay")], type(node.epoch)(node.epoch - 1)
        with contextlib.suppress(Fenced):
            await node.store.commit(flush)
        await _transact(node, work)
        assert work.times == 1

    @scenario
    async def test_what_fails_is_not_kept(self, stage: Stage) -> None:
        """Its error arrives as it was raised, even one that the driver might have raised."""
        node = await _node(stage)

        def fails() -> bytes:
            raise TimeoutError("mine")

        try:
            await _transact(node, fails)
        except TimeoutError as error:
            assert str(error) == "mine"
        else:
            raise AssertionError("the error was lost")
        assert await _transact(node, _Counted(b"2")) == b"2"

    @scenario
    async def test_a_node_that_may_not_write_runs_nothing(self, stage: Stage) -> None:
        """Its lease was taken, or the run is somebody else's, or there is none."""
        node = await _node(stage)
        other = await stage.node("b")
        await stage.node("a")
        work = _Counted()
        for who, run in ((node, None), (other, None), (other, run_id(9))):
            try:
                await _transact(who, work, run=run)
            except Fenced:
                continue
            raise AssertionError("a node wrote for a run that it does not own")
        assert work.times == 0

    @scenario
    async def test_a_node_that_loses_its_lease_meanwhile_keeps_nothing(self, stage: Stage) -> None:
        """Not even if the run's next owner has its name. That one does the work."""
        node = await _node(stage)
        store: Any = node.store
        if not store.waits_in_transactions:
            pytest.skip("nobody else can write meanwhile")
        heirs: list[Node] = []

        async def loses() -> bytes:
            heirs.append(await stage.node("a"))
            assert await heirs[0].claim() == [run_id(1)]
            return b'"late"'

        try:
            await _transact(node, loses)
        except Fenced:
            pass
        else:
            raise AssertionError("a fenced node committed")
        assert await _transact(heirs[0], _Counted(b"2")) == b"2"

    @scenario
    async def test_a_second_call_waits_for_the_first(self, stage: Stage) -> None:
        """Over another handle: of two attempts one writes."""
        node = await _node(stage)
        twin = Node(await stage.store(), node.name, node.epoch)
        if not twin.store.waits_in_transactions:  # type: ignore[attr-defined]
            pytest.skip("everybody waits for everybody")
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> bytes:
            begun.set()
            await go_on.wait()
            return b'"slow"'

        work = _Counted()
        first = asyncio.ensure_future(_transact(node, slow))
        await begun.wait()
        second = asyncio.ensure_future(_transact(twin, work))
        asyncio.get_running_loop().call_later(0.2, go_on.set)  # the second is on its way, or comes later: both are fine
        assert (await first, await second) == (b'"slow"', b'"slow"')
        assert work.times == 0

    @scenario
    async def test_cancelled_it_is_rolled_back(self, stage: Stage) -> None:
        """And the next one can begin at once."""
        node = await _node(stage)
        if not node.store.waits_in_transactions:  # type: ignore[attr-defined]
            pytest.skip("a thread cannot be cancelled while it works")
        begun = asyncio.Event()

        async def hangs() -> bytes:
            begun.set()
            await asyncio.Event().wait()
            return b"1"

        first = asyncio.ensure_future(_transact(node, hangs))
        await begun.wait()
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        assert first.cancelled()
        assert await _transact(node, _Counted(b"2")) == b"2"

    @scenario
    async def test_retention_takes_what_was_left(self, stage: Stage) -> None:
        """A run that ended while a task was kept leaves nothing behind for a run of the same id."""
        node = await _node(stage)
        work = _Counted()
        await _transact(node, work)
        await node.finish(run_id(1))
        assert await node.store.delete_runs(1000.0) == [run_id(1)]
        await node.start(new_run(1))
        await _transact(node, work)
        assert work.times == 2
