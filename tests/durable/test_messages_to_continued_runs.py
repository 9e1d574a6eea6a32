"""Whoever holds the id of a run that continued as another reaches the one that follows, with every kind of message."""

import asyncio

import pytest

from headrace import (
    Headrace,
    InvalidCommand,
    RunFailed,
    continue_as_new,
    query,
    update,
    wait_for_signal,
    wait_until,
    workflow,
)
from headrace.backends.stores.memory import MemoryDatabase, MemoryStore

SECONDS = 60


@workflow
async def counter(round_number: int = 0, total: int = 0) -> int:
    @query
    def state() -> list[int]:
        return [round_number, total]

    @update
    async def add(number: int) -> int:
        nonlocal total
        total += number
        return total

    @update
    async def never() -> None:
        await wait_for_signal("never")

    end = asyncio.create_task(wait_for_signal("end"))
    following = asyncio.create_task(wait_for_signal("next"))
    await wait_until(lambda: end.done() or following.done())
    if following.done():
        continue_as_new(round_number=round_number + 1, total=total)
    return total


@pytest.mark.parametrize("held_by_another", [False, True])
def test_updates_and_queries_follow(held_by_another: bool) -> None:
    async def test(owner: Headrace, asking: Headrace) -> None:
        run = await owner.start(counter)
        assert await asking.update(run.id, "add", 1, update_id="first") == 1
        for _ in range(2):
            await owner.signal(run.id, "next")
        while await owner.query(run.id, "state") != [2, 1]:
            await asyncio.sleep(0)
        assert await asking.update(run.id, "add", 2, update_id="second") == 3
        assert await asking.update(run.id, "add", 2, update_id="second") == 3, "answered once"
        assert await asking.update(run.id, "add", 1, update_id="first") == 1, "the first run has its answer"
        assert await asking.query(run.id, "state") == [2, 3]
        await owner.signal(run.id, "end")
        assert await run.result() == 3
        assert await asking.query(run.id, "state") == [2, 3]
        with pytest.raises(InvalidCommand, match="has ended \\(succeeded\\)"):
            await asking.update(run.id, "add", 4)

    play(test, held_by_another)


def test_what_a_run_had_accepted_is_not_asked_of_the_next() -> None:
    async def test(owner: Headrace, asking: Headrace) -> None:
        run = await owner.start(counter)
        waits = asyncio.create_task(asking.update(run.id, "never", update_id="accepted"))
        while not any(type(event).__name__ == "UpdateAccepted" for event in await owner.history(run.id)):
            await asyncio.sleep(0)
        await owner.signal(run.id, "next")
        for answer in (waits, asking.update(run.id, "never", update_id="accepted")):
            with pytest.raises(InvalidCommand, match="before it answered"):
                await answer

    play(test, held_by_another=False)


def test_the_handle_sends_them_too() -> None:
    async def test(owner: Headrace, _asking: Headrace) -> None:
        run = await owner.start(counter)
        assert await run.update("add", 1, update_id="first") == 1
        assert await run.update("add", number=1, update_id="first") == 1, "answered once"
        assert await run.query("state") == [0, 1]
        for _ in range(2):
            await run.signal("next", key="once")
        while await run.query("state") != [1, 1]:
            await asyncio.sleep(0)
        await run.terminate("enough")
        with pytest.raises(RunFailed, match="terminated: enough"):
            await run.result()
        assert await run.query("state") == [1, 1], "the second signal was the first"

    play(test, held_by_another=False)


def play(test, held_by_another: bool) -> None:
    async def run() -> None:
        base = MemoryDatabase()
        async with (
            asyncio.timeout(SECONDS),
            Headrace(MemoryStore(base)) as owner,
            Headrace(MemoryStore(base), adopt=False) as other,
        ):
            await test(owner, other if held_by_another else owner)

    asyncio.run(run())
