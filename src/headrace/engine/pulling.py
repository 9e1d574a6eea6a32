"""A node's own source of other nodes' attempts: its store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from headrace.contracts.ready import Beat, Claim, Result, labels_of
from headrace.core.errors import EngineStopped

if TYPE_CHECKING:
    from headrace.engine.node import Node


class StoreSource:
    """See :class:`headrace.engine.puller.AttemptSource`. Claims are bound to the node's lease."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def claim(self, room: Mapping[str, int]) -> list[Claim]:
        """See there. Returns at once; new offers ring the node's bell."""
        node = self._node
        if not node.is_joined:
            raise EngineStopped("the node is joining anew")
        options = node.options
        labels = labels_of(node.id, options.labels)
        return await node.store.claim_attempts(node.id, node.epoch, options.queues, labels, room)

    async def report(self, beats: Sequence[Beat]) -> dict[str, Literal["stop", "lost"]]:
        """See there."""
        return await self._node.store.report(self._node.id, self._node.epoch, beats)

    async def complete(self, results: Sequence[Result]) -> int:
        """See there. Rings the owners."""
        answers = await self._node.store.complete(self._node.id, self._node.epoch, results)
        for bell in {bell for bell in answers if bell}:
            self._node.waker.ring(bell)
        return sum(bell is None for bell in answers)

    async def give_back(self, claims: Sequence[Beat]) -> None:
        """See there."""
        await self._node.store.give_back(self._node.id, self._node.epoch, claims)
