"""etcd dies, hangs or forgets everything, and claims are overtaken: what was granted stays granted, and tokens rise."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from etcd_server import EtcdServer

from headrace.backends.keepers.etcd import EtcdLocks, patience
from headrace.backends.keepers.etcd_gateway import Gateway, Reply, packed
from headrace.backends.keepers.etcd_url import address_of_url
from headrace.contracts.locks import LockClaim, LockRenewal, LockTurn
from headrace.core.errors import LockMisused, StoreUnavailable
from headrace.core.ids import Epoch, NodeId

TTL_SECONDS = 60.0


@asynccontextmanager
async def two(url: str) -> AsyncIterator[tuple[EtcdLocks, EtcdLocks]]:
    a, b = EtcdLocks(address_of_url(url)), EtcdLocks(address_of_url(url))
    try:
        yield a, b
    finally:
        await a.close()
        await b.close()


async def ask(locks: EtcdLocks, holder: str, *, queue: bool = False, ttl: float = TTL_SECONDS) -> LockTurn:
    claim = LockClaim(name="door", holder=holder, node=NodeId(holder), epoch=Epoch(1), ttl_seconds=ttl, queue=queue)
    return await locks.take_lock(claim)


async def renew(locks: EtcdLocks, holder: str, token: int) -> bool:
    asked = [LockRenewal("door", holder, token, TTL_SECONDS)]
    return (await asyncio.to_thread(locks.renew_locks, NodeId(holder), Epoch(1), asked))[0]


def test_locks_outlive_a_crash_of_etcd(own_etcd: EtcdServer) -> None:
    """What was granted was durable; while etcd is away everybody is told so."""

    async def work() -> None:
        async with two(own_etcd.url) as (a, b):
            token = (await ask(a, "a")).token
            assert not (await ask(b, "b", queue=True)).token
            own_etcd.crash()
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                await renew(a, "a", token)
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                await ask(b, "b")
            own_etcd.start()
            assert await renew(a, "a", token)
            assert (await ask(b, "b")).node == "a"
            await a.release_lock("door", "a")
            assert (await ask(b, "b")).token > token

    asyncio.run(work())


def test_tokens_rise_even_if_etcd_forgets_everything(own_etcd: EtcdServer) -> None:
    """The former holder hears that it has lost the lock, and its token is refused from then on."""

    async def work() -> None:
        async with two(own_etcd.url) as (a, b):
            for number in range(5):
                await ask(a, f"a{number}")
                await a.release_lock("door", f"a{number}")
            token = (await ask(a, "a")).token
            own_etcd.forget()
            own_etcd.start()
            assert (await ask(b, "b")).token > token
            assert not await renew(a, "a", token)

    asyncio.run(work())


class Overtaken(EtcdLocks):
    """Its first transaction after a look arrives late: after ``meanwhile``."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def _unless_gone(self, transaction: dict[str, Any]) -> Reply | None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return await super()._unless_gone(transaction)


def test_a_claim_under_way_that_was_released_is_never_granted(etcd_server: EtcdServer) -> None:
    """However late it arrives: etcd takes no key under a lease that is gone."""

    async def work() -> None:
        address = address_of_url(f"{etcd_server.url}?prefix=late")
        late, granted = Overtaken(address), []

        async def release() -> None:
            await late.release_lock("door", "a")
            late._decide = no_more  # the caller is gone
            granted.append(await late.locks())

        async def no_more(claim: LockClaim) -> LockTurn:
            return LockTurn(0)

        late.meanwhile = release
        try:
            assert not (await ask(late, "a")).token
            assert granted == [[]]
            assert await late.locks() == []
        finally:
            await late.close()

    asyncio.run(work())


def test_nobody_gets_past_a_line_that_has_formed_meanwhile(etcd_server: EtcdServer) -> None:
    """The claim was decided when nobody stood there."""

    async def work() -> None:
        url = f"{etcd_server.url}?prefix=line"
        late = Overtaken(address_of_url(url))
        async with two(url) as (b, c):

            async def a_line_forms() -> None:
                assert (await ask(c, "c")).token
                assert not (await ask(b, "b", queue=True)).token
                await c.release_lock("door", "c")

            late.meanwhile = a_line_forms
            try:
                assert not (await ask(late, "a")).token
                assert (await ask(b, "b", queue=True)).token
            finally:
                await late.close()

    asyncio.run(work())


def test_a_token_counts_from_the_birth_at_its_own_revision(etcd_server: EtcdServer) -> None:
    """If the keeper was born anew between look and claim, tokens of the old birth are too low."""

    async def work() -> None:
        address = address_of_url(f"{etcd_server.url}?prefix=born")
        late, gateway = Overtaken(address), Gateway(address)

        async def born_anew() -> None:
            await gateway.post("kv/deleterange", {"key": packed("born/keeper")})
            async with two(f"{etcd_server.url}?prefix=born") as (b, _):
                assert (await ask(b, "b")).token  # which makes it be born
                await b.release_lock("door", "b")

        try:
            first = (await ask(late, "first")).token
            await late.release_lock("door", "first")
            late.meanwhile = born_anew
            token = (await ask(late, "a")).token
            assert [row.token for row in await late.locks()] == [token]
            assert token > first
        finally:
            await late.close()
            await gateway.close()

    asyncio.run(work())


def test_the_bell_of_the_next_one_is_told(etcd_server: EtcdServer) -> None:
    """etcd knows the node, somebody else its bell."""

    async def bell_of(node: NodeId) -> str:
        return f"bell of {node}"

    async def work() -> None:
        locks = EtcdLocks(address_of_url(f"{etcd_server.url}?prefix=bell"), bell_of=bell_of)
        try:
            await ask(locks, "a")
            await ask(locks, "b", queue=True)
            assert await locks.release_lock("door", "nobody") == ""
            assert await locks.release_lock("door", "a") == "bell of b"
        finally:
            await locks.close()

    asyncio.run(work())


def test_a_holder_cannot_ask_for_more_time_than_it_took(etcd_server: EtcdServer) -> None:
    """It would go by a time that etcd does not grant."""

    async def work() -> None:
        async with two(f"{etcd_server.url}?prefix=more") as (a, _):
            token = (await ask(a, "a", ttl=TTL_SECONDS / 2)).token
            with pytest.raises(LockMisused, match="30 s"):
                await ask(a, "a")
            assert not await renew(a, "a", token)

    asyncio.run(work())


def test_renewals_by_the_hundred(etcd_server: EtcdServer) -> None:
    """etcd bounds the operations of a transaction; answers keep their order."""

    async def work() -> None:
        async with two(f"{etcd_server.url}?prefix=many") as (a, _):
            token = (await ask(a, "a")).token
            mine, strange = LockRenewal("door", "a", token, 1.0), LockRenewal("gate", "a", token, 1.0)
            asked = [mine, strange] * 130
            done = await asyncio.to_thread(a.renew_locks, NodeId("a"), Epoch(1), asked)
            assert done == [True, False] * 130

    asyncio.run(work())


def test_a_member_that_is_down_is_left_for_the_next(own_etcd: EtcdServer, etcd_server: EtcdServer) -> None:
    """Claims and renewals alike."""

    async def work() -> None:
        async with two(f"{own_etcd.url},127.0.0.1:{etcd_server.port}?prefix=members") as (a, _):
            own_etcd.crash()
            token = (await ask(a, "a")).token
            assert await renew(a, "a", token)

    asyncio.run(work())


def test_a_member_that_hangs_is_left_for_the_next(own_etcd: EtcdServer, etcd_server: EtcdServer) -> None:
    """Its kernel takes the connection, and nothing comes. All members are asked in half of the lock's time."""

    async def work() -> None:
        async with two(f"{etcd_server.url}?prefix=hangs") as (a, _):
            token = (await ask(a, "a")).token
        async with two(f"{own_etcd.url},127.0.0.1:{etcd_server.port}?prefix=hangs") as (a, _):
            with own_etcd.suspended():
                asked = [LockRenewal("door", "a", token, TTL_SECONDS)]
                assert await asyncio.to_thread(a.renew_locks, NodeId("a"), Epoch(1), asked) == [True]

    asyncio.run(work())


@pytest.mark.parametrize(("times", "members", "seconds"), [([60, 6], 3, 1), ([60], 3, 4), ([1], 3, 0.5), ([8], 1, 4)])
def test_a_renewal_waits_no_longer_than_it_may(times: list[float], members: int, seconds: float) -> None:
    assert patience([LockRenewal("door", "a", 1, ttl) for ttl in times], members) == seconds


def test_a_renewal_counts_only_at_the_member_that_was_read_from(own_etcd: EtcdServer, etcd_server: EtcdServer) -> None:
    """As it may not be behind a load balancer: what one member was told says nothing about another."""

    class Balanced(Gateway):
        def post_now(self, path: str, body: Any, *, member: str, seconds: float = 4.0) -> Reply:
            other = f"http://127.0.0.1:{etcd_server.port}" if path == "lease/keepalive" else member
            return super().post_now(path, body, member=other, seconds=seconds)

    async def work() -> None:
        address = address_of_url(f"{own_etcd.url},127.0.0.1:{etcd_server.port}?prefix=balanced")
        async with two(f"{own_etcd.url}?prefix=balanced") as (a, _):
            token = (await ask(a, "a")).token
            a._etcd, single = Balanced(address), a._etcd
            with pytest.raises(StoreUnavailable, match="not one member"):
                a._renew(f"http://127.0.0.1:{own_etcd.port}", NodeId("a"), [LockRenewal("door", "a", token, 1.0)], 4.0)
            await a._etcd.close()
            a._etcd = single
            assert await renew(a, "a", token)

    asyncio.run(work())


def test_locks_outlive_the_members_of_a_cluster() -> None:
    """As long as a majority is left; whoever leads the rest does not matter. Without one nothing is granted."""

    async def patiently(work: Callable[[], Awaitable[Any]]) -> Any:
        """While the members elect a leader they say so."""
        while True:
            try:
                return await work()
            except StoreUnavailable:
                await asyncio.sleep(0.1)

    async def work() -> None:
        async with two(f"etcd://{','.join(f'127.0.0.1:{one.port}' for one in cluster)}") as (a, b):
            token = (await patiently(lambda: ask(a, "a"))).token
            cluster[0].crash()
            assert await patiently(lambda: renew(a, "a", token))
            assert (await patiently(lambda: ask(b, "b"))).node == "a"
            cluster[0].start_soon()
            cluster[1].crash()
            assert await patiently(lambda: renew(a, "a", token))
            await patiently(lambda: a.release_lock("door", "a"))
            later = (await patiently(lambda: ask(b, "b"))).token
            assert later > token
            cluster[2].crash()
            with pytest.raises(StoreUnavailable):
                await renew(b, "b", later)
            with pytest.raises(StoreUnavailable):
                await ask(a, "a2")

    cluster = [EtcdServer() for _ in range(3)]
    for one in cluster:
        one.join([(other.peer_url, other.name_in_cluster) for other in cluster])
    try:
        for one in cluster:
            one.start_soon()
        asyncio.run(work())
    finally:
        for one in cluster:
            one.close()


def test_what_is_not_etcd_is_told(etcd_server: EtcdServer) -> None:
    """A page is no answer."""

    async def work() -> None:
        async with two(etcd_server.url) as (a, _):
            with pytest.raises(StoreUnavailable, match="does not answer as etcd does"):
                await a._etcd.post("../version-of-something-else", {})

    asyncio.run(work())
