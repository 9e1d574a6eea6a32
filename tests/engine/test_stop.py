"""An engine that is told to stop twice."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

from headrace import Headrace, dag, task


def test_who_leaves_while_another_waits_for_attempts_interrupts_them(tmp_path: Path) -> None:
    """A program that ends then would take them along as failures: ``asyncio.run`` cancels whatever is left."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    tries: list[int] = []

    @task
    async def held() -> str:
        tries.append(len(tries))
        begun.set()
        await go_on.wait()
        return "done"

    with dag("flow") as flow:
        held()

    url = f"sqlite:///{tmp_path}/x.db"

    async def interrupted() -> str:
        async with Headrace(url, workflows=[flow]) as hr:
            run = await hr.run(flow)
            await begun.wait()
            draining = asyncio.ensure_future(hr.close(drain_seconds=math.inf))
            await asyncio.sleep(0)  # it has begun
        assert hr.under_way == 0
        await draining
        return run.id

    async def resumed(run_id: str) -> object:
        go_on.set()
        async with Headrace(url, workflows=[flow]) as hr:
            return await (await hr.get(run_id)).result()

    run_id = asyncio.run(asyncio.wait_for(interrupted(), 30))
    assert asyncio.run(asyncio.wait_for(resumed(run_id), 30)) == {"held": "done"}
    assert tries == [0, 1]
