"""The other nodes and workers as a dispatcher sees them: which queues they serve, with which labels and slots.

Read from the nodes' own entries in the store, every few seconds at most and only while something is to be given away.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.contracts.ready import labels_of

if TYPE_CHECKING:
    from headrace.contracts.store import NodeRow
    from headrace.engine.node import Node

REFUSED_INFO = "refused"
"""Where a node's entry says which runs it cannot take over, and why: the reason by run."""

FRESH_SECONDS = 1.0
"""How old the picture of the others may be when attempts are offered."""


class Peer(msgspec.Struct, frozen=True):
    """A live node or worker that pulls."""

    queues: frozenset[str]
    labels: Mapping[str, str]
    slots: Mapping[str, int]

    def serves(self, queue: str, labels: Mapping[str, str]) -> bool:
        """Whether it takes attempts of that queue that ask for these labels."""
        return queue in self.queues and labels.items() <= self.labels.items()


def describe(
    queues: Iterable[str], labels: Mapping[str, str], slots: Mapping[str, int], *, pulls: bool
) -> dict[str, Any]:
    """What a node tells the others of itself, as part of its entry."""
    return {"queues": sorted(queues), "labels": dict(labels), "slots": dict(slots), "pulls": pulls}


def refused_by(rows: Iterable[NodeRow], run_id: str) -> dict[str, str]:
    """The nodes that are up and cannot take a run over, with the reason each gives."""
    return {
        row.node: row.info[REFUSED_INFO][run_id]
        for row in rows
        if row.live and run_id in row.info.get(REFUSED_INFO, ())
    }


def peer_of(row: NodeRow) -> Peer | None:
    """A node's entry read back; None for one that takes nothing."""
    info = row.info
    if not row.live or not info.get("pulls"):
        return None
    return Peer(frozenset(info.get("queues", ())), labels_of(row.node, info.get("labels", {})), info.get("slots", {}))


class Peers:
    """All of them, as of the last look."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._peers: list[Peer] = []
        self._looked_at = float("-inf")

    async def refresh(self) -> None:
        """Look again."""
        me = self._node.id
        rows = await self._node.store.nodes()
        self._peers = [peer for row in rows if row.node != me and (peer := peer_of(row)) is not None]
        self._looked_at = time.monotonic()

    async def refresh_if_old(self) -> None:
        """Look again unless that was done just now."""
        if time.monotonic() - self._looked_at > FRESH_SECONDS:
            await self.refresh()

    def __bool__(self) -> bool:
        return bool(self._peers)

    def serve(self, queue: str, labels: Mapping[str, str]) -> bool:
        """Whether anybody takes such attempts."""
        return any(peer.serves(queue, labels) for peer in self._peers)

    def slots(self, queue: str, executor: str) -> int:
        """Slots of an executor that all who serve the queue have together."""
        return sum(peer.slots.get(executor, 0) for peer in self._peers if queue in peer.queues)

    def spare(self, executor: str) -> dict[str, int]:
        """Slots of the others for an executor, by queue."""
        found: dict[str, int] = {}
        for peer in self._peers:
            for queue in peer.queues:
                found[queue] = found.get(queue, 0) + peer.slots.get(executor, 0)
        return {queue: slots for queue, slots in found.items() if slots}
