"""``hr.replay`` and ``check_replay``: the code of today against what is stored, before anything runs on it."""

import asyncio

import pytest

from headrace import Headrace, InvalidCommand, dag, task, wait_for_signal, workflow
from headrace.backends.stores.memory import MemoryDatabase, MemoryStore

SECONDS = 60


@task
async def one(n: int) -> int:
    return n


@task
async def two(n: int) -> int:
    return n


@workflow(name="waits")
async def waits(n: int) -> str:
    await one(n)
    return f"got {await wait_for_signal('go')}"


@workflow(name="waits")
async def changed(n: int) -> str:
    await two(n)
    return f"got {await wait_for_signal('go')}"


@workflow(name="waits")
async def longer(n: int) -> str:
    await one(n)
    got = await wait_for_signal("go")
    await two(n)
    return f"got {got}"


def play(test) -> None:
    async def run() -> None:
        async with asyncio.timeout(SECONDS):
            await test()

    asyncio.run(run())


async def waiting(hr: Headrace):
    run = await hr.start(waits, 1)
    async for view in hr.watch(run.id, interval_seconds=0.01):
        if "one" in view.tasks and view.tasks["one"].state == "succeeded":
            break
    return run


def test_a_stored_run_and_an_exported_history_replay_alike() -> None:
    async def test() -> None:
        async with Headrace("memory://") as hr:
            run = await waiting(hr)
            events = await hr.history(run.id, resolve=True)
            for history in (run.id, run.id[:22], events):
                replayed = await hr.replay(history)
                assert (replayed.run_id, replayed.workflow, replayed.difference) == (run.id, "waits", None)
            assert (await hr.replay(run.id, longer)).difference is None  # what follows may change
            assert (await hr.replay(events[:1], changed)).difference is None  # nothing has been asked for yet
            other = await hr.replay(events, changed)
            assert other.difference is not None
            assert "task.succeeded one" in other.difference
            assert (await hr.show(run.id)).state == "running"  # only looked at
            await hr.signal(run.id, "go", "on")
            assert await run.result() == "got on"
            ended = await hr.replay(run.id)
            assert (ended.difference, ended.events) == (None, len(await hr.history(run.id)))
            cut = await hr.replay(run.id, longer)
            assert cut.difference is not None
            assert "run.finished" in cut.difference

    play(test)


def test_what_has_no_code_is_told() -> None:
    async def test() -> None:
        async with Headrace("memory://") as hr:
            with dag("graph") as graph:
                one(n=1)
            run = await hr.run(graph)
            await run.wait()
            with pytest.raises(InvalidCommand, match="is a graph"):
                await hr.replay(run.id)
            with pytest.raises(InvalidCommand, match=r"begins with the event run\.created"):
                await hr.replay((await hr.history(run.id))[1:])
            with pytest.raises(InvalidCommand, match=r"begins with the event run\.created"):
                await hr.replay([], waits)

    play(test)


def test_check_replay_suspends_what_does_not_fit_before_anything_runs() -> None:
    async def test() -> None:
        base = MemoryDatabase()
        async with Headrace(MemoryStore(base), adopt=False) as hr:
            misfit, fitting = await waiting(hr), await hr.start(waits, 2)
        module = globals()
        old = module["waits"]
        module["waits"] = changed  # the release of today; the runs' code is found by its name
        try:
            async with Headrace(MemoryStore(base), adopt=False, check_replay=True) as hr:
                row = await hr.row(misfit.id)
                assert (row.state, row.owner) == ("suspended", None)
                reason = (await hr.show(misfit.id)).reason
                assert reason is not None
                assert "task.succeeded one" in reason
                states = {row.run_id: row.state for row in await hr.runs(where="status = 'suspended'")}
                assert misfit.id in states
        finally:
            module["waits"] = old
        async with Headrace(MemoryStore(base), check_replay=True) as hr:
            await hr.resume(misfit.id)
            for run in (misfit, fitting):
                if (await hr.row(run.id)).state == "suspended":
                    await hr.resume(run.id)
                await hr.signal(run.id, "go", "on")
                assert await (await hr.get(run.id)).result() == "got on"

    play(test)


def test_check_replay_leaves_alone_what_fits_and_what_others_hold() -> None:
    async def test() -> None:
        base = MemoryDatabase()
        async with Headrace(MemoryStore(base)) as other:
            held = await waiting(other)
            async with Headrace(MemoryStore(base), adopt=False, check_replay=True) as hr:
                assert (await hr.row(held.id)).state == "running"
                assert await hr.runs(states=("suspended",)) == []
            await other.signal(held.id, "go", "on")
            assert await held.result() == "got on"

    play(test)
