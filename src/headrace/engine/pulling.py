"""A node's own source of other nodes' attempts: its store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from headrace.contracts.ready import Beat, Claim, Result, labels_of
from headrace.core.errors import EngineStopped

if TYPE_CHECKING:
    from headrace.engine.node import Node


class StoreSource:
    """See :class:`headrace.engine.puller.AttemptSource`. Claims are bound to the node's lease: one whose answer got lost
    on the way would be held, and carried out by nobody, as long as the node lives. So after an error the store is asked
    what this node holds."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._mine: dict[str, int] = {}
        """Claims that arrived here and are not over, with their delivery."""
        self._epoch = node.epoch
        self._is_unsure = False
        """A claim has failed, and may have been made."""

    async def claim(self, room: Mapping[str, int]) -> list[Claim]:
        """See there. Returns at once; new offers ring the node's bell."""
        node = self._node
        if not node.is_joined:
            raise EngineStopped("the node is joining anew")
        epoch = node.epoch
        if epoch != self._epoch:
            self._mine, self._epoch = {}, epoch
        if self._is_unsure:
            held = await node.store.held(node.id, epoch)
            self._is_unsure = False
            lost = [claim for claim in held if self._mine.get(claim.key) != claim.delivery]
            if lost:
                return self._took(lost)
        options = node.options
        labels = labels_of(node.id, options.labels)
        try:
            return self._took(await node.store.claim_attempts(node.id, epoch, options.queues, labels, room))
        except BaseException:
            self._is_unsure = True
            raise

    def _took(self, claims: list[Claim]) -> list[Claim]:
        self._mine.update((claim.key, claim.delivery) for claim in claims)
        return claims

    def _forget(self, over: Iterable[Beat | Result]) -> None:
        """These claims are over. The same attempt may have been claimed anew meanwhile."""
        for one in over:
            if self._mine.get(one.key) == one.delivery:
                del self._mine[one.key]

    async def report(self, beats: Sequence[Beat]) -> dict[str, Literal["stop", "lost"]]:
        """See there."""
        verdicts = await self._node.store.report(self._node.id, self._node.epoch, beats)
        self._forget(beat for beat in beats if verdicts.get(beat.key) == "lost")
        return verdicts

    async def complete(self, results: Sequence[Result]) -> int:
        """See there. Rings the owners."""
        answers = await self._node.store.complete(self._node.id, self._node.epoch, results)
        self._forget(results)
        for bell in {bell for bell in answers if bell}:
            self._node.waker.ring(bell)
        return sum(bell is None for bell in answers)

    async def give_back(self, claims: Sequence[Beat]) -> None:
        """See there."""
        await self._node.store.give_back(self._node.id, self._node.epoch, claims)
