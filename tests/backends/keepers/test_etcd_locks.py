"""etcd keeps locks and elects leaders as promised; FencedLockConformance is not: etcd does not know the nodes' leases."""

import asyncio
import itertools
from collections.abc import Callable

import pytest
from etcd_server import EtcdServer

from headrace.backends.keepers.etcd import EtcdLocks
from headrace.backends.keepers.etcd_gateway import Gateway
from headrace.backends.keepers.etcd_url import address_of_url
from headrace.core.ids import Epoch, NodeId
from headrace.testing.lock_conformance import ElectionConformance, LockConformance, Member

_PREFIXES = itertools.count()


class EtcdCluster:
    """See :class:`headrace.testing.lock_conformance.LockHarness`; a prefix of its own in an etcd that is shared. Time
    passes as it does: etcd's clock cannot be moved."""

    ttl_seconds = 5.0  # half of it is how long a busy machine may stand still in these tests
    place_seconds = 3.0

    def __init__(self, server: EtcdServer) -> None:
        self.url = f"{server.url}?prefix=test-{next(_PREFIXES)}"
        self._gateway = Gateway(address_of_url(self.url))
        self._open: list[EtcdLocks] = []

    def handle(self) -> EtcdLocks:
        self._open.append(EtcdLocks(address_of_url(self.url), place_seconds=self.place_seconds))
        return self._open[-1]

    async def member(self, name: str) -> Member:
        return Member(self.handle(), NodeId(name), Epoch(1))

    async def lose(self, member: Member) -> None:
        """Nobody tells etcd: what the node had falls free when its time is over."""
        await self.advance(self.ttl_seconds)

    async def advance(self, seconds: float) -> None:
        """And what is over is seen to by etcd, which looks twice a second."""
        await asyncio.sleep(seconds)
        while seconds >= self.ttl_seconds and any([await self._is_ending(lease) for lease in await self._leases()]):
            await asyncio.sleep(0.05)

    async def _leases(self) -> list[str]:
        return [lease["ID"] for lease in (await self._gateway.post("lease/leases", {})).body.get("leases", [])]

    async def _is_ending(self, lease: str) -> bool:
        """Less than a second is left, or it is over and not yet seen to."""
        return int((await self._gateway.post("lease/timetolive", {"ID": lease})).body.get("TTL", 0)) == 0

    async def close(self) -> None:
        for locks in self._open:
            await locks.close()
        await self._gateway.close()


class TestEtcdLocks(LockConformance, ElectionConformance):
    @pytest.fixture
    def cluster(self, etcd_server: EtcdServer) -> Callable[[], EtcdCluster]:
        return lambda: EtcdCluster(etcd_server)
