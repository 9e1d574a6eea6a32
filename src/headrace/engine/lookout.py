"""Looks after attempts on offer, slowly and only while there are some: heals what was lost (rows, rings, claimers), tells
runs who carries their attempts out, and clears away what no run wants.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from headrace.contracts.ready import Standing, outcome_kind, run_of
from headrace.contracts.store import BACK_SECONDS
from headrace.core import inputs as inp
from headrace.core.effects import is_launchable
from headrace.core.errors import HeadraceError
from headrace.core.ids import RunId
from headrace.core.states import RunState
from headrace.engine.away import key_of, unit_of
from headrace.engine.gates import Ticket

if TYPE_CHECKING:
    from headrace.engine.dispatcher import Dispatcher
    from headrace.engine.node import Node

logger = logging.getLogger("headrace.dispatcher")

CHECK_SECONDS = 2.0
"""How often a node that has attempts on offer looks after them."""


class Lookout:
    """One node's."""

    def __init__(self, node: Node, dispatcher: Dispatcher) -> None:
        self._node = node
        self._dispatcher = dispatcher
        self._routes = dispatcher.routes
        self._wake = asyncio.Event()

    async def recall(self, run_id: RunId) -> None:
        """Find what a former owner of a run had on offer, before anything of it is planned."""
        prefix = f"{run_id}/"
        for row in await self._node.store.offered(self._node.id):
            if row.key.startswith(prefix) and row.key not in self._dispatcher.away:
                self._dispatcher.found[row.key] = row

    async def serve(self) -> None:
        """Look after what is away, while there is something; and after the others, while something waits here."""
        while True:
            if not self._is_busy():
                self._wake.clear()
                await self._wake.wait()
            try:
                await self._routes.peers.refresh_if_old()
                self._routes.widen()
                self._routes.spill(self._node.planner.executor_gates())
                await asyncio.sleep(CHECK_SECONDS)
                if self._dispatcher.away or self._dispatcher.found:
                    await self.check()
            except HeadraceError as error:
                logger.warning("looking after attempts on offer failed", extra={"error": str(error)})
                await asyncio.sleep(BACK_SECONDS)

    def wake(self) -> None:
        """Attempts wait for a slot: others may have some."""
        if not self._wake.is_set():
            self._wake.set()

    def _is_busy(self) -> bool:
        if self._dispatcher.away or self._dispatcher.found:
            return True
        return any(gate.waiting for gate in self._node.planner.executor_gates())

    async def check(self) -> None:
        """Compare what should be on offer with what is; tell runs who carries their attempts out."""
        node, dispatcher = self._node, self._dispatcher
        await node.watchdog.mind_offers()
        in_vain = dispatcher.preferences.in_vain()
        if in_vain:
            await dispatcher.withdraw(in_vain, stop=False, home=True)
        expected = dict(dispatcher.away)
        waiting = {key_of(ticket) for ticket in dispatcher.waiting}
        rows = {row.key: row for row in await node.store.offered(node.id)}
        told = {(row.run_id, row.kind) for row in await node.store.inbox(None, node.id)}
        missing = [
            ticket
            for key, ticket in expected.items()
            if key not in rows
            and key not in waiting
            and dispatcher.is_wanted(ticket)
            and (run_of(key), outcome_kind(key)) not in told
        ]
        if dispatcher.waiting and dispatcher.settled.is_set():  # whoever was to offer them has failed
            await dispatcher.offer_waiting()
        if missing and dispatcher.settled.is_set():
            again = [ticket for ticket in missing if not ticket.unit.node.options.at_most_once]
            for ticket in missing:
                if ticket.unit.node.options.at_most_once:
                    dispatcher.resume(ticket)
            await dispatcher.offer(again)
        for key, row in rows.items():
            ticket = dispatcher.away.get(key)
            if ticket is not None:
                self._tell(ticket, row)
        unwanted = [ticket for ticket in dispatcher.away.values() if ticket.cancelled]
        if unwanted:
            await dispatcher.withdraw(unwanted, stop=True)
        await self._clear_away(rows)
        waiting_in = {
            dispatcher.away[key].unit.node.options.queue
            for key, row in rows.items()
            if row.worker is None and key in dispatcher.away
        }
        for queue in waiting_in:
            node.waker.queue_ready(queue)  # a wake-up may have been lost

    def _tell(self, ticket: Ticket, row: Standing) -> None:
        """Record who has claimed an attempt that takes long, and what its heartbeats say."""
        unit, live = ticket.unit, ticket.live
        if row.worker is None or live.closed or ticket.cancelled or unit.done:
            return
        if self._dispatcher.told.get(row.key) != row.delivery:
            self._dispatcher.told[row.key] = row.delivery
            at = row.claimed_at if row.claimed_at is not None else self._node.now()
            started = inp.Started(
                unit.node.id, unit.item, ticket.attempt, at, row.worker, queue=unit.node.options.queue
            )
            self._node.decider.feed(live, started)
        if row.details is not None and row.details != ticket.details_told:
            ticket.details_told = row.details
            details = msgspec.json.decode(row.details)
            self._node.decider.feed(live, inp.Heartbeat(unit.node.id, unit.item, ticket.attempt, details))

    async def _clear_away(self, rows: dict[str, Standing]) -> None:
        """Withdraw what no run wants any more: left by a former owner, or by a commit that came in between."""
        stale: list[str] = []
        for key in rows:
            live = self._node.live.get(run_of(key))
            if live is None or key in self._dispatcher.away or live.run.state is RunState.PAUSED:
                continue
            unit = unit_of(live, key)
            if unit is None or unit.done or not is_launchable(unit) or not live.run.launching:
                stale.append(key)
        if stale:
            for _, bell in await self._node.store.withdraw(self._node.id, self._node.epoch, stale):
                self._node.waker.ring(bell)
        for key in list(self._dispatcher.found):
            if key not in rows or run_of(key) not in self._node.live:
                del self._dispatcher.found[key]
