"""The part of the worker protocol that is about locks, as scenarios; see :mod:`headrace.testing.server_conformance`."""

from __future__ import annotations

import asyncio
from typing import Any

from headrace.testing.server_conformance import PROBLEM, Worker, _Scene, scenario

LOCK: dict[str, Any] = {"name": "door", "ttl_seconds": 30.0}


async def take(worker: Worker, holder: str, **more: Any) -> Any:
    """Ask once."""
    return await worker.ask("take-lock", worker.me | LOCK | {"holder": holder} | more)


async def release(worker: Worker, holder: str) -> None:
    """Give it back."""
    await worker.ask("release-lock", worker.me | {"name": "door", "holder": holder})


async def kept(worker: Worker, holder: str, token: int) -> list[bool]:
    """What became of a lock when it was renewed."""
    locks = [{"name": "door", "holder": holder, "token": token}]
    return (await worker.ask("renew-locks", worker.me | {"locks": locks, "ttl_seconds": 30.0}))["kept"]


class ServerLockConformance:
    """One holder at a time, rising tokens, ends."""

    @scenario
    async def test_one_holder_at_a_time_under_rising_tokens(self, scene: _Scene) -> None:
        """Whoever waits is told who has it; asking again as the holder changes nothing."""
        one, other = await scene.worker().join(), await scene.worker().join()
        first = await take(one, "h1")
        assert first["token"] > 0
        assert (await take(one, "h1"))["token"] == first["token"]
        turn = await take(other, "h2")
        assert (turn["token"], turn["node"], turn["ahead"]) == (0, one.me["worker"], 0)
        assert turn["frees_in_seconds"] > 0
        assert (await take(one, "h3"))["ahead"] == 1
        await release(one, "h1")
        assert (await take(other, "h2"))["token"] > first["token"]

    @scenario
    async def test_an_answer_waits_for_the_turn_to_come(self, scene: _Scene) -> None:
        """As long as is asked for, and no longer than the server says."""
        one, other = await scene.worker().join(), await scene.worker().join()
        first = await take(one, "h1")
        while True:
            waiting = asyncio.create_task(take(other, "h2", wait_seconds=60))
            await asyncio.wait([waiting], timeout=0.2)
            if not waiting.done():
                await release(one, "h1")
            if (await waiting)["token"]:
                break
        assert (await waiting)["token"] > first["token"]

    @scenario
    async def test_whoever_only_asks_is_in_no_line(self, scene: _Scene) -> None:
        """And does not wait."""
        one, other = await scene.worker().join(), await scene.worker().join()
        await take(one, "h1")
        assert (await take(other, "h2", queue=False, wait_seconds=60))["token"] == 0
        assert (await take(other, "h3"))["ahead"] == 0

    @scenario
    async def test_a_lock_is_renewed_until_it_is_released(self, scene: _Scene) -> None:
        """Releasing twice is one releasing; a holder is one worker's alone."""
        one, other = await scene.worker().join(), await scene.worker().join()
        token = (await take(one, "h1"))["token"]
        assert await kept(one, "h1", token) == [True]
        assert await kept(one, "h1", token - 1) == [False]
        await release(other, "h1")
        assert await kept(other, "h1", token) == [False]
        assert await kept(one, "h1", token) == [True]
        await release(one, "h1")
        await release(one, "h1")
        assert await kept(one, "h1", token) == [False]

    @scenario
    async def test_locks_end_with_the_lease(self, scene: _Scene) -> None:
        """Left, or taken by whoever joins under the name."""
        one, other = await scene.worker().join("w"), await scene.worker().join()
        await take(one, "h1")
        again = await scene.worker().join("w")
        told = await one.ask("take-lock", one.me | LOCK | {"holder": "h1"}, 409)
        assert told["type"] == PROBLEM + "fenced"
        token = (await take(other, "h2"))["token"]
        assert token > 0
        await other.ask("leave", other.me)
        assert (await take(again, "h3"))["token"] > token

    @scenario
    async def test_what_cannot_be_meant_is_refused(self, scene: _Scene) -> None:
        """The leader's lock above all."""
        worker = await scene.worker().join()
        for wrong in (
            {"name": "headrace.leader"},
            {"name": ""},
            {"name": "x" * 201},
            {"name": "a\0b"},
            {"ttl_seconds": 0.5},
            {"holder": ""},
            {"wait_seconds": -1},
        ):
            asked = worker.me | LOCK | {"holder": "h"} | wrong
            assert (await worker.ask("take-lock", asked, 422))["type"] == PROBLEM + "bad-request"
