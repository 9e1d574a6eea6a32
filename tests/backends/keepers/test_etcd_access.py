"""An etcd that wants to know who asks: users with passwords, and certificates."""

import asyncio

import pytest
from etcd_server import EncryptedEtcd, EtcdServer

from headrace.backends.keepers.etcd import EtcdLocks
from headrace.backends.keepers.etcd_gateway import Gateway
from headrace.backends.keepers.etcd_url import address_of_url
from headrace.contracts.locks import LockClaim, LockRenewal
from headrace.core.errors import StoreUnavailable
from headrace.core.ids import Epoch, NodeId


async def take(locks: EtcdLocks, holder: str) -> int:
    claim = LockClaim(name="door", holder=holder, node=NodeId("a"), epoch=Epoch(1), ttl_seconds=60)
    return (await locks.take_lock(claim)).token


async def refusal(url: str) -> StoreUnavailable:
    locks = EtcdLocks(address_of_url(url))
    try:
        with pytest.raises(StoreUnavailable) as raised:
            await take(locks, "x")
        return raised.value
    finally:
        await locks.close()


async def add_user(url: str) -> None:
    """``ann`` may do anything below ``headrace/``, and nothing else."""
    gateway = Gateway(address_of_url(url))
    below = {"permType": "READWRITE", "key": "aGVhZHJhY2Uv", "range_end": "aGVhZHJhY2Uw"}
    try:
        for name, role in (("root", "root"), ("ann", "headrace")):
            await gateway.post("auth/role/add", {"name": role})
            await gateway.post("auth/user/add", {"name": name, "password": "s3cret"})
            await gateway.post("auth/user/grant", {"user": name, "role": role})
        await gateway.post("auth/role/grant", {"name": "headrace", "perm": below})
        await gateway.post("auth/enable", {})
    finally:
        await gateway.close()


def test_user_and_password(own_etcd: EtcdServer) -> None:
    """Log in, and again when etcd has forgotten the login: it keeps it in memory only."""

    async def work() -> None:
        await add_user(own_etcd.url)
        host = own_etcd.url.removeprefix("etcd://")
        locks = EtcdLocks(address_of_url(f"etcd://ann:s3cret@{host}"))
        try:
            token = await take(locks, "a")
            assert token
            own_etcd.crash()
            own_etcd.start()
            assert await take(locks, "a") == token
            own_etcd.crash()
            own_etcd.start()
            asked = [LockRenewal("door", "a", token, 60)]
            assert await asyncio.to_thread(locks.renew_locks, NodeId("a"), Epoch(1), asked) == [True]
            assert [row.name for row in await locks.locks()] == ["door"]
            await locks.release_lock("door", "a")
            assert await locks.locks() == []
        finally:
            await locks.close()
        for url in (f"etcd://ann:wrong@{host}", f"etcd://{host}", f"etcd://ann:s3cret@{host}?prefix=elsewhere"):
            error = await refusal(url)
            assert "refuses us" in error.message, url
            assert "s3cret" not in str(error)
            assert "wrong" not in str(error)

    asyncio.run(work())


def test_certificates() -> None:
    """Of theirs, that we check; and of ours, that they do."""
    server = EncryptedEtcd()

    async def work() -> None:
        ours = f"cert={server.certificate}&key={server.key}"
        locks = EtcdLocks(address_of_url(f"{server.url}?ca={server.authority}&{ours}"))
        try:
            assert await take(locks, "a")
        finally:
            await locks.close()
        assert "cannot be reached" in (await refusal(f"{server.url}?ca={server.authority}")).message
        assert "certificate verify failed" in (await refusal(f"{server.url}?{ours}")).message

    try:
        server.start()
        asyncio.run(work())
    finally:
        server.close()
