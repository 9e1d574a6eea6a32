"""The locks of a worker without database access: its server takes them in its name."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.contracts import remote as wire
from headrace.contracts.locks import LockClaim, LockRenewal, LockRow, LockTurn
from headrace.core.errors import Fenced
from headrace.core.ids import Epoch, NodeId
from headrace.worker.link import Link


class ServerLocks:
    """See :class:`headrace.contracts.locks.Locks`; over a link."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def take_lock(self, claim: LockClaim) -> LockTurn:
        """See the contract."""
        asked = wire.AskTakeLock(
            worker=claim.node,
            epoch=claim.epoch,
            name=claim.name,
            holder=_short(claim.holder),
            ttl_seconds=claim.ttl_seconds,
            queue=claim.queue,
            wait_seconds=claim.wait_seconds,
        )
        got = await self._link.call("take-lock", asked, wire.LockTaken, wait_seconds=claim.wait_seconds)
        return LockTurn(got.token, got.node, got.ahead, got.frees_in_seconds)

    def renew_locks(self, node: NodeId, epoch: Epoch, renewals: Sequence[LockRenewal]) -> list[bool]:
        """See the contract: from the keeper's thread."""
        held = [wire.WireLock(name=one.name, holder=_short(one.holder), token=one.token) for one in renewals]
        ttl = renewals[0].ttl_seconds
        asked = wire.AskRenewLocks(worker=node, epoch=epoch, locks=held, ttl_seconds=ttl)
        try:
            return self._link.call_now("renew-locks", asked, wire.LocksRenewed, max(1.0, ttl / 4)).kept
        except Fenced:
            return [False] * len(renewals)

    async def release_lock(self, name: str, holder: str) -> str:
        """See the contract; the server rings whoever is next. The epoch does not matter: nobody else has this holder."""
        worker = holder.rpartition("/")[0]
        asked = wire.AskReleaseLock(worker=worker, epoch=Epoch(0), name=name, holder=_short(holder))
        await self._link.call("release-lock", asked, wire.Nothing)
        return ""

    async def locks(self) -> list[LockRow]:
        """None: a worker lists no locks."""
        return []


def _short(holder: str) -> str:
    """The server puts the worker's name before it."""
    return holder.rpartition("/")[2]
