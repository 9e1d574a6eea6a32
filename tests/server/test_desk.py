"""What a desk does by itself: waking those who wait, bounding answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace
from headrace.contracts import remote as wire
from headrace.contracts.ready import Claim
from headrace.server.desk import Desk

TASKS = "".join(f"  t{number}: {{run: 'true', queue: far}}\n" for number in range(3))


def asks(joined: wire.Joined, wait: float = 20.0) -> wire.AskClaim:
    return wire.AskClaim(
        worker=joined.worker, epoch=joined.epoch, queues=("far",), room={"shell": 3}, wait_seconds=wait
    )


def test_whoever_waits_is_woken_without_a_poll(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "WAIT_SECONDS_MAX", 3600)

    async def test() -> None:
        file = tmp_path / "far.yaml"
        file.write_text(f"name: far\ntasks:\n{TASKS}")
        async with Headrace(f"sqlite:///{tmp_path}/x.db") as hr:
            desk = Desk(hr._node, lease_seconds=60, poll_seconds=3600)
            joined = await desk.join(wire.Join(queues=("far",)))
            looked = asyncio.Event()
            claim_attempts = hr.store.claim_attempts

            async def claiming(*arguments: Any) -> list[Claim]:
                claims = await claim_attempts(*arguments)
                looked.set()
                return claims

            monkeypatch.setattr(hr.store, "claim_attempts", claiming)
            waiting = asyncio.create_task(desk.claim(asks(joined, wait=3600)))
            await looked.wait()
            await hr.run(str(file))
            assert (await waiting).claims

    asyncio.run(asyncio.wait_for(test(), 60))


def test_a_leader_that_was_alone_hears_of_a_worker_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db") as hr:
            watchdog = hr._node.watchdog
            assert watchdog._is_alone
            await Desk(hr._node, lease_seconds=60).join(wire.Join(queues=("far",)))
            while watchdog._is_alone:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(test(), 30))


def test_a_desk_that_closes_sends_everybody_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "WAIT_SECONDS_MAX", 3600)

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db") as hr:
            desk = Desk(hr._node, lease_seconds=60, poll_seconds=3600)
            waiting = asyncio.create_task(desk.claim(asks(await desk.join(wire.Join(queues=("far",))), wait=3600)))
            while not desk._waiting:
                await asyncio.sleep(0)
            assert desk.is_ready()
            desk.close()
            assert (await waiting).claims == []
            assert not desk.is_ready()

    asyncio.run(asyncio.wait_for(test(), 60))


def test_what_an_answer_cannot_hold_stays_on_offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "ANSWER_BYTES_MAX", 10)

    async def test() -> None:
        file = tmp_path / "far.yaml"
        file.write_text(f"name: far\ntasks:\n{TASKS}")
        async with Headrace(f"sqlite:///{tmp_path}/x.db") as hr:
            desk = Desk(hr._node, lease_seconds=60)
            joined = await desk.join(wire.Join(queues=("far",)))
            await hr.run(str(file))
            keys = set[str]()
            for _ in range(3):
                (one,) = (await desk.claim(asks(joined))).claims
                assert one.delivery == 1
                keys.add(one.key)
            assert len(keys) == 3

    asyncio.run(asyncio.wait_for(test(), 100))
