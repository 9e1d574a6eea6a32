"""Engines whose leader is elected in etcd, and whose users' locks are kept there."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path

from etcd_server import EtcdServer

from headrace import Headrace
from headrace.contracts.locks import Term
from headrace.telemetry.metrics import flat


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.02)


def term(hr: Headrace) -> Term | None:
    return hr._node.leader.term()


def test_one_engine_leads_under_a_term_of_etcd_and_another_follows(tmp_path: Path, etcd_server: EtcdServer) -> None:
    keeper = f"{etcd_server.url}?prefix=cluster-{uuid.uuid4().hex[:8]}"
    store = f"sqlite:///{tmp_path}/x.db"

    async def test() -> None:
        async with asyncio.timeout(90):
            second = Headrace(store, node="b", keeper=keeper)
            async with second, Headrace(store, node="a", keeper=keeper) as first:
                await until(lambda: (term(first) is None) != (term(second) is None))
                leader, follower = (first, second) if term(first) is not None else (second, first)
                before = term(leader)
                assert before is not None
                assert before.authority.startswith("etcd/")
                assert flat(leader.metrics())["headrace_leader"] == 1
                assert flat(follower.metrics())["headrace_leader"] == 0
                rows = {row.name: row.node for row in await follower.locks()}
                assert rows == {"headrace.leader": leader.node_id}
                await leader._node.watchdog.look()  # acts under its term: the store learns the authority
                async with first.lock("door") as one:
                    assert {row.name for row in await second.locks()} == {"door", "headrace.leader"}
                async with second.lock("door") as two:
                    assert two.token > one.token
                await leader._node.leader.resign()
                leader._node.leader.stand = _abstain
                follower._node.watchdog.wake()
                await until(lambda: term(follower) is not None)
                after = term(follower)
                assert after is not None
                assert after.number > before.number
                await follower._node.watchdog.look()

    asyncio.run(test())


async def _abstain() -> None:
    return None
