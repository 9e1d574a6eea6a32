"""Claims runs for this node and gives them up, one call of the store after the other.

A claim and a release of one run must not meet: a release that is repeated, because the answer to it got lost, would
give the run up under the hands of who claimed it in between. So they take turns; a call that nobody waits for any more
keeps its turn until it is over.

A run that this node owns and does not have in memory would never go on, as its owner lives. So what was claimed and is
not wanted is given back, as soon as the store is in reach.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.contracts.store import BACK_SECONDS
from headrace.core.errors import Fenced, HeadraceError
from headrace.core.ids import Epoch, RunId

if TYPE_CHECKING:
    from headrace.engine.node import Node

logger = logging.getLogger("headrace.adopter")

T = TypeVar("T")


class Ownership:
    """One node's way to own runs, and to own them no longer. Runs that it creates, parks and ends are the journal's."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._turn = asyncio.Lock()
        self._owed: set[RunId] = set()
        """Runs that are to be given back."""
        self._calls: set[asyncio.Task[Any]] = set()

    async def claim(self, limit: int, run_ids: Sequence[RunId] | None = None) -> list[RunId]:
        """Take unowned runs; see :meth:`headrace.contracts.store.Leases.claim`. Who waits for them is known on return.
        Safe to cancel: what is claimed nevertheless is given back."""
        epoch = self._node.epoch
        call = self._begin(self._claim(epoch, limit, run_ids))
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            call.add_done_callback(lambda call: self._unwanted(call, epoch))
            raise

    async def _claim(self, epoch: Epoch, limit: int, run_ids: Sequence[RunId] | None) -> list[RunId]:
        """A run that this node itself is just letting go of, in a commit whose outcome it has not heard, may be given up
        once more when that is repeated. So that is waited for, and the run claimed anew."""
        node = self._node
        async with self._turn:
            claimed = await node.store.claim(node.id, epoch, limit, run_ids)
            self._owed.difference_update(claimed)  # they had been given up, though nobody heard of it
            try:
                leaving = {run_id: live for run_id in claimed if (live := node.leaving(run_id)) is not None}
                if leaving:
                    for live in leaving.values():
                        await live.until_closed()
                    again = list(leaving)
                    await node.store.release(node.id, epoch, again)
                    again = await node.store.claim(node.id, epoch, len(again), again)
                    claimed = [run_id for run_id in claimed if run_id not in leaving or run_id in again]
                if claimed:
                    await node.teller.claimed(claimed)
            except BaseException:
                self.give_back_soon(claimed, epoch)
                raise
        return claimed

    def _unwanted(self, call: asyncio.Task[list[RunId]], epoch: Epoch) -> None:
        if not call.cancelled() and call.exception() is None:
            self.give_back_soon(call.result(), epoch)

    async def give_back(self, run_ids: Sequence[RunId], epoch: Epoch) -> None:
        """Give up runs that were claimed under an epoch: before this returns, or, if the store is out of reach, as soon
        as it is back."""
        self._owed.update(run_ids)
        call = self._begin(self._release(run_ids, epoch))
        try:
            await asyncio.shield(call)
        except HeadraceError as error:
            logger.warning("runs could not be given up; it is tried again", extra={"error": str(error)})
            self._insist(run_ids, epoch)
        except asyncio.CancelledError:
            self._insist(run_ids, epoch)  # in case that call fails
            raise

    def give_back_soon(self, run_ids: Sequence[RunId], epoch: Epoch) -> None:
        """Begin to give up runs that were claimed under an epoch."""
        self._owed.update(run_ids)
        self._insist(run_ids, epoch)

    def _insist(self, run_ids: Sequence[RunId], epoch: Epoch) -> None:
        if run_ids:
            self._node.spawn(self._until_given_back(run_ids, epoch), "headrace-give-back-runs")

    async def _until_given_back(self, run_ids: Sequence[RunId], epoch: Epoch) -> None:
        while True:
            try:
                await asyncio.shield(self._begin(self._release(run_ids, epoch)))
                break
            except HeadraceError:
                await asyncio.sleep(BACK_SECONDS)
        self._node.adopter.wake()

    async def _release(self, run_ids: Sequence[RunId], epoch: Epoch) -> None:
        """Give up those that were not claimed again. What was claimed under an epoch that is over is held no longer."""
        node = self._node
        async with self._turn:
            owed = [run_id for run_id in run_ids if run_id in self._owed]
            if owed and node.holds(epoch):
                try:
                    await node.store.release(node.id, epoch, owed)
                except Fenced:
                    logger.debug("runs need not be given up: the lease is lost", extra={"count": len(owed)})
            self._owed.difference_update(owed)

    def _begin(self, call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return task
