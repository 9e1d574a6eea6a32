"""Election: of the nodes of one store, one leads, under a term.

Every node that takes runs over is a candidate. Who holds the lock :data:`~headrace.contracts.locks.LEADER` leads; its
token is the term, and terms only rise. There is nothing else to agree on: the leader has no state of its own, so a new
one begins where the store stands.

Two things keep two leaders from acting. A leader believes in itself only by its monotonic clock, from before its last
renewal and less a margin (:mod:`~headrace.engine.holding`), so it stops before another one can be elected. And what it
does to the store carries its term, which is checked in the same transaction: a process that was suspended in the middle
of an act is refused when it wakes up (:class:`~headrace.core.errors.NotLeader`), whatever it believes.

A leader steps down when it loses the lock or its node the lease, when it is refused, and when its node begins to stop or
drain: then it gives the lock back, so that another one leads at once. Source: River's ``internal/leadership``, and
Lampson, "How to build a highly available system using consensus" (1996), for leases with a local margin.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from headrace.contracts.locks import LEADER, STORE, Term
from headrace.core.ids import Epoch, NodeId
from headrace.engine.holding import Held, Holding

logger = logging.getLogger("headrace.leader")


class Leader:
    """One node as a candidate, and as the leader while it is. ``who`` gives the node and the epoch it stands under;
    ``authority`` is who gives terms; ``on_change`` is called when it begins or ceases to lead."""

    def __init__(
        self,
        holding: Holding,
        who: Callable[[], tuple[NodeId, Epoch]],
        *,
        authority: str = STORE,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._holding = holding
        self._who = who
        self._authority = authority
        self._on_change = on_change
        self._held: Held | None = None
        self._turn = asyncio.Lock()
        self.leading_node = ""
        """Who led when this node stood last; '' for nobody, or itself."""
        self.frees_in_seconds = 0.0
        """When the right of who led then ends at the latest, unless it is renewed."""

    def term(self) -> Term | None:
        """The term this node leads under; None if it does not lead, as far as it can know."""
        held = self._held
        return Term(held.token, self._authority) if held is not None and held.is_held else None

    async def stand(self) -> Term | None:
        """Lead if nobody else does; the term if this node leads. Raises :class:`Fenced` and what the keeper of the locks
        raises."""
        async with self._turn:
            term = self.term()
            if term is not None:
                return term
            self.step_down("its time as leader is over")
            node, epoch = self._who()
            # One holder per epoch: an answer that was lost is found by asking again.
            answer = await self._holding.ask(LEADER, _holder(node, epoch), node, epoch, self.step_down, queue=False)
            if isinstance(answer, Held):
                if self._who() != (node, epoch):  # it was fenced meanwhile
                    self._holding.forget(answer.claim.holder)
                    return None
                self._held = answer
                self.leading_node = ""
                logger.info("this node leads", extra={"node": node, "term": answer.token})
                self._on_change()
                return self.term()
            self.leading_node, self.frees_in_seconds = answer.node, answer.frees_in_seconds
            return None

    def step_down(self, why: str) -> None:
        """Lead no more; does not give the lock back. Idempotent."""
        held, self._held = self._held, None
        if held is not None:
            self._holding.forget(held.claim.holder)
            logger.warning("this node leads no more", extra={"term": held.token, "why": why})
            self._on_change()

    def fall_silent(self) -> None:
        """Lead no more, without a word: for tests in which the node dies."""
        held, self._held = self._held, None
        if held is not None:
            self._holding.forget(held.claim.holder)

    async def resign(self) -> bool:
        """Lead no more and let another one lead at once; False if this node did not lead. Idempotent."""
        async with self._turn:  # it may be standing at this moment
            held, self._held = self._held, None
        if held is None:
            return False
        logger.info("this node resigns as the leader", extra={"term": held.token})
        self._on_change()
        await self._holding.release(LEADER, held.claim.holder)
        return True


def _holder(node: NodeId, epoch: Epoch) -> str:
    return f"{node}/{epoch}"
