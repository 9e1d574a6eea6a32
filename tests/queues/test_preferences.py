"""Sticky tasks and preferred labels: who gets an attempt, and for how long the others wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace, RunCancelled
from headrace.contracts.ready import labels_of
from headrace.core import events as ev

import preferring as tasks  # isort: skip
from queue_rig import Cluster, cluster, history, play, until  # isort: skip


async def home(nodes: Cluster, **options: Any) -> Headrace:
    return await nodes.worker("home", labels={"home": "yes"}, threads=1, **options)


async def waiting(hr: Headrace) -> None:
    """Until one attempt is on offer that nobody has claimed."""
    while sum(row.waiting for row in await hr.store.queues()) != 1:
        await asyncio.sleep(0.01)


async def can_claim(worker: Headrace) -> int:
    """How many attempts this worker would get now."""
    node, options = worker._node, worker.node_options
    labels = labels_of(node.id, options.labels)
    return len(await node.store.claim_attempts(node.id, node.epoch, options.queues, labels, {"thread": 1}))


@asynccontextmanager
async def full(owner: Headrace, folder: Path) -> AsyncIterator[None]:
    """The slot of the worker at home is taken."""
    await owner.run(tasks.blocking, {"folder": str(folder)})
    await until((folder / "blocked").exists)
    yield
    (folder / "go").touch()


async def first_has_ended(owner: Headrace, workflow: Any, folder: Path) -> Any:
    """Start a run whose first task ends on the worker at home, whose slot is taken from then on."""
    run = await owner.run(workflow, {"folder": str(folder)})
    await until((folder / "first_begun").exists)
    blocking = await owner.run(tasks.blocking, {"folder": str(folder)})
    await waiting(owner)
    (folder / "first").touch()
    await until((folder / "blocked").exists)
    return run, blocking


@pytest.mark.parametrize("workflow", [tasks.staying, tasks.code], ids=["graph", "code"])
def test_a_sticky_task_waits_for_the_process_of_the_task_before_it(tmp_path: Path, workflow: Any) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner, worker, other = await nodes.owner(), await home(nodes), await nodes.worker("other")
            run, _ = await first_has_ended(owner, workflow, tmp_path)
            await waiting(owner)
            assert await can_claim(other) == 0
            (tmp_path / "go").touch()
            await run.result()
            assert (worker._node.puller.done, other._node.puller.done) == (3, 0)

    play(test)


def test_a_full_process_is_waited_for_no_longer_than_its_time(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner, worker, other = (
                await nodes.owner(),
                await home(nodes),
                await nodes.worker("other", poll_seconds=3600),
            )
            run, blocking = await first_has_ended(owner, tasks.leaving, tmp_path)
            await run.result()
            assert (worker._node.puller.done, other._node.puller.done) == (1, 1)
            (tmp_path / "go").touch()
            await blocking.result()

    play(test)


@pytest.mark.parametrize("is_noticed", [True, False])
def test_a_dead_process_is_waited_for_no_longer_than_its_time(tmp_path: Path, is_noticed: bool) -> None:
    """Nor until its time is over, if its death is noticed: that is an hour then."""

    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner, other = await nodes.owner(), await nodes.worker("other")
            dead = Headrace(
                nodes.url, node="home", adopt=False, pull=True, queues=("gpu",), labels={"home": "yes"}, threads=1
            )
            await dead.__aenter__()
            try:
                workflow = tasks.staying if is_noticed else tasks.leaving
                run, _ = await first_has_ended(owner, workflow, tmp_path)
                if is_noticed:
                    await waiting(owner)
                else:  # it may have gone elsewhere by now
                    while not any(isinstance(event, ev.TaskSucceeded) for event in await history(owner, run.id)):
                        await asyncio.sleep(0.01)
                dead._node.abandon()
                if is_noticed:
                    await dead.store.close()  # as the death of its process does
                assert await run.result() == {"follow": "followed"}
                assert other._node.puller.done == 1
            finally:
                (tmp_path / "go").touch()
                await dead.store.close()

    play(test)


def test_labels_are_preferred_to_the_owner_itself(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner, worker = await nodes.owner(queues=("default", "gpu")), await home(nodes)
            await (await owner.run(tasks.labelled, {"folder": str(tmp_path)})).result()
            assert worker._node.puller.done == 1

    play(test)


def test_labels_that_nobody_has_cost_no_wait(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner, other = await nodes.owner(queues=("default", "gpu")), await nodes.worker("other")
            await (await owner.run(tasks.labelled, {"folder": str(tmp_path)})).result()
            assert other._node.puller.done == 0

    play(test)


@pytest.mark.parametrize("workflow", [tasks.hasty_labelled, tasks.once], ids=["plain", "at most once"])
def test_an_attempt_comes_home_when_its_time_is_over(tmp_path: Path, workflow: Any) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner = await nodes.owner(queues=("default", "gpu"), pull=False)
            worker = await home(nodes)
            async with full(owner, tmp_path):
                await (await owner.run(workflow, {"folder": str(tmp_path)})).result()
                assert worker._node.puller.done == 0
                assert (tmp_path / "followed").read_text() == "x"

    play(test)


def test_what_prefers_its_owner_waits_for_a_slot_there(tmp_path: Path) -> None:
    items = list(range(50))

    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner = await nodes.owner(queues=("default", "gpu"), labels={"home": "yes"}, threads=1)
            other = await nodes.worker("other", threads=4)
            run = await owner.run(tasks.at_home, {"items": items})
            assert await run.result() == items
            assert other._node.puller.done == 0

    play(test)


def test_cancelling_what_waits_for_a_preferred_process(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner = await nodes.owner(queues=("default", "gpu"))
            await home(nodes)
            async with full(owner, tmp_path):
                run = await owner.run(tasks.labelled, {"folder": str(tmp_path)})
                await waiting(owner)
                await run.cancel()
                with pytest.raises(RunCancelled):
                    await run.result()
                assert not (tmp_path / "followed").exists()

    play(test)
