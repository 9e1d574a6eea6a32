"""An update is answered whichever node holds the run: through the inbox, read from the history, done once."""

import asyncio
from collections import Counter

import pytest

from headrace import Headrace, InvalidCommand, UpdateRejected, dag, task, update, wait_for_signal, workflow
from headrace.backends.stores.memory import MemoryDatabase, MemoryStore

SECONDS = 60
done: Counter[str] = Counter()


@task
async def book(text: str) -> str:
    done[text] += 1
    return text.upper()


@workflow
async def basket() -> list[str]:
    items: list[str] = []
    open_ = asyncio.Event()

    @update
    async def add(text: str, times: int = 1) -> list[str]:
        items.extend([await book(text)] * times)
        return list(items)

    @add.validator
    def _(text: str, times: int = 1) -> None:
        if text.upper() in items:
            raise ValueError("it is there already")

    @update
    async def later() -> str:
        await open_.wait()
        return "now"

    await wait_for_signal("open")
    open_.set()
    await wait_for_signal("close")
    return items


def play(test) -> None:
    async def run() -> None:
        done.clear()
        base = MemoryDatabase()
        async with (
            asyncio.timeout(SECONDS),
            Headrace(MemoryStore(base)) as owner,
            Headrace(MemoryStore(base), adopt=False) as asking,
        ):
            await test(owner, asking)

    asyncio.run(run())


def test_the_answer_comes_from_the_owner_and_once() -> None:
    async def test(owner: Headrace, asking: Headrace) -> None:
        run = await owner.start(basket)
        assert await asking.update(run.id, "add", "a", update_id="u1") == ["A"]
        assert await asking.update(run.id, "add", "a", update_id="u1") == ["A"]
        assert await owner.update(run.id, "add", "a", update_id="u1") == ["A"]
        assert (
            await asyncio.gather(*(asking.update(run.id, "add", "b", 2, update_id="u2") for _ in range(5)))
            == [["A", "B", "B"]] * 5
        )
        assert done == {"a": 1, "b": 1}
        assert len(await asking.update(run.id, "add", "x" * 300_000)) == 4  # both ways over the bound of an event
        assert asking.live(run.id) is None
        await owner.signal(run.id, "open")
        await owner.signal(run.id, "close")
        assert (await run.result())[:3] == ["A", "B", "B"]
        assert await asking.update(run.id, "add", "a", update_id="u1") == ["A"]  # its answer is in the history

    play(test)


def test_a_refusal_says_what_the_owner_said_and_leaves_nothing() -> None:
    async def test(owner: Headrace, asking: Headrace) -> None:
        run = await owner.start(basket)
        await asking.update(run.id, "add", "a")
        events = len(await owner.history(run.id))
        for arguments, message in (
            (("add", "a"), "it is there already"),
            (("add", "b", "many"), "argument 'times': Expected `int`, got `str`"),
            (("add",), "missing a required argument: 'text'"),
            (("remove", "a"), "has no update 'remove'; it has: add, later"),
        ):
            with pytest.raises(UpdateRejected, match=message):
                await asking.update(run.id, *arguments)
        assert len(await owner.history(run.id)) == events
        assert await owner.store.inbox([run.id], owner._node.id) == []

    play(test)


def test_a_run_that_ends_first_answers_nobody() -> None:
    async def test(owner: Headrace, asking: Headrace) -> None:
        run = await owner.start(basket)
        waits = asyncio.create_task(asking.update(run.id, "later"))
        async for event in grown(owner, run.id):
            if "UpdateAccepted" in event:
                break
        await owner.terminate(run.id)
        with pytest.raises(InvalidCommand, match="ended \\(terminated\\) before it answered"):
            await waits
        with pytest.raises(InvalidCommand, match="it has ended"):
            await asking.update(run.id, "later")

    play(test)


def test_an_owner_that_leaves_hands_the_question_over() -> None:
    async def test(owner: Headrace, asking: Headrace) -> None:
        run = await owner.start(basket)
        waits = asyncio.create_task(asking.update(run.id, "later", update_id="u"))
        async for event in grown(owner, run.id):
            if "UpdateAccepted" in event:
                break
        await owner.close()
        while asking.live(run.id) is None:  # nobody else is there: who asks takes the run up
            await asyncio.sleep(0.01)
        await asking.signal(run.id, "open")
        assert await waits == "now"

    play(test)


def test_graphs_take_no_updates() -> None:
    async def test(owner: Headrace, asking: Headrace) -> None:
        with dag("graph") as graph:
            book(text="a")
        run = await owner.run(graph)
        await run.wait()
        with pytest.raises(InvalidCommand):
            await asking.update(run.id, "add", "a")

    play(test)


async def grown(hr: Headrace, run_id: str):
    """The names of a run's events, as they come."""
    seen = 0
    while True:
        events = await hr.history(run_id)
        for event in events[seen:]:
            yield type(event).__name__
        seen = len(events)
        await asyncio.sleep(0.01)
