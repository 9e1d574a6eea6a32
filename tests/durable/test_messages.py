"""Signals, queries and updates of one run: order, buffers, refusals. Every step is replayed (``CodeRig``)."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import deque
from typing import Any

import pytest

from headrace import (
    InvalidCommand,
    NotDeterministic,
    NotFound,
    UpdateRejected,
    continue_as_new,
    handlers_finished,
    query,
    signal,
    task,
    update,
    wait_for_signal,
    wait_until,
    workflow,
)
from headrace.core import inputs as inp
from headrace.durable.following import next_run
from headrace.testing import Environment

from code_rig import CodeRig  # isort: skip


@task
async def double(n: int) -> int:
    return 2 * n


# ---- signals ---------------------------------------------------------------------------------------------------------


@workflow
async def reads_signals(count: int) -> list[Any]:
    await asyncio.sleep(10)
    return [await wait_for_signal("item") for _ in range(count)]


def test_signals_wait_until_asked_for_and_keep_their_order() -> None:
    rig = CodeRig(reads_signals, 3)
    rig.signal("item", 1)
    rig.signal("other", "x")
    rig.signal("item", 2)
    rig.fire(1)
    assert not rig.run.done
    rig.signal("item", 3)
    assert rig.run.output == [1, 2, 3]


def test_a_repeated_key_is_dropped() -> None:
    rig = CodeRig(reads_signals, 2)
    assert rig.signal("item", 1, key="sender/1")
    assert rig.signal("item", 1, key="sender/1") == []
    rig.signal("item", 2, key="sender/2")
    rig.fire(1)
    assert rig.run.output == [1, 2]


def test_a_run_that_has_ended_takes_no_signals() -> None:
    rig = CodeRig(reads_signals, 0)
    rig.fire(1)
    with pytest.raises(InvalidCommand, match="takes no signals: it has ended"):
        rig.signal("item", 1)


@workflow
async def two_readers() -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def reader(name: str, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                found[name] = await wait_for_signal("item")
        except TimeoutError:
            found[name] = "late"

    await asyncio.gather(reader("first", 10), reader("second", 1000), reader("third", 1000))
    return found


def test_readers_of_one_name_are_served_in_their_order() -> None:
    rig = CodeRig(two_readers)
    for value in "abc":
        rig.signal("item", value)
    assert rig.run.output == {"first": "a", "second": "b", "third": "c"}


def test_a_reader_that_gives_up_leaves_the_line_to_the_others() -> None:
    rig = CodeRig(two_readers)
    rig.fire(1)
    rig.signal("item", "a")
    rig.signal("item", "b")
    assert rig.run.output == {"first": "late", "second": "a", "third": "b"}


@workflow
async def cancels_a_served_reader() -> Any:
    async def reader() -> Any:
        return await wait_for_signal("item")

    async def spoiler() -> None:
        await wait_for_signal("item")
        first.cancel()  # it has its signal, but has not run yet

    spoiling = asyncio.create_task(spoiler())
    await asyncio.sleep(0)
    first, second = asyncio.create_task(reader()), asyncio.create_task(reader())
    await spoiling
    return [await asyncio.gather(first, second, return_exceptions=True) and None, await wait_for_signal("item")]


def test_a_cancelled_reader_does_not_take_a_signal_along() -> None:
    rig = CodeRig(cancels_a_served_reader)
    rig.signal("item", 1)  # the spoiler's; cancels `first`
    rig.signal("item", 2)  # the second reader's
    rig.signal("item", 3)
    assert rig.run.output == [None, 3]


@workflow
async def handles_signals(count: int) -> list[Any]:
    found: list[Any] = []
    await asyncio.sleep(5)

    @signal
    async def item(n: int) -> None:
        found.append(await double(n))

    @signal
    def ping() -> None:
        found.append("ping")

    await wait_until(lambda: len(found) >= count)
    return found


def test_handlers_take_what_came_before_them() -> None:
    rig = CodeRig(handles_signals, 3)
    rig.signal("item", 1)
    rig.signal("item", 2)
    rig.fire(1)
    rig.signal("ping")
    rig.perform("double#2")
    rig.perform("double")
    assert rig.run.output == ["ping", 4, 2]


@workflow
async def handler_breaks() -> None:
    @signal
    def item(n: int) -> None:
        raise ValueError(f"not {n}")

    await asyncio.sleep(1e6)


def test_a_signal_handler_that_raises_fails_the_run() -> None:
    rig = CodeRig(handler_breaks)
    rig.signal("item", 3)
    assert rig.run.state == "failed"
    assert rig.run.failure is not None
    assert (rig.run.failure.type, rig.run.failure.message) == ("ValueError", "not 3")


@workflow
async def rounds(left: int, seen: list[Any]) -> list[Any]:
    seen = [*seen, await wait_for_signal("item")]
    if left > 1:
        continue_as_new(left=left - 1, seen=seen)
    return seen


def test_continuing_as_new_takes_unread_signals_along() -> None:
    rig = CodeRig(rounds, 3, [], signals=[("item", 1), ("item", 2), ("other", 9), ("item", 3)])
    for _ in range(2):
        assert rig.run.state == "continued"
        created = next_run(rig.run)
        assert created is not None
        assert created.chain == rig.run.chain or created.chain == rig.run.run_id
        rig = CodeRig(rounds, *created.params.values(), signals=created.signals)
    assert rig.run.output == [1, 2, 3]
    assert rig.run.signals["other"] == deque([9])


@workflow
async def collects(rounds: int, seen: list[int]) -> list[int]:
    seen = list(seen)

    @signal
    async def item(n: int) -> None:
        await asyncio.sleep(n)
        seen.append(n)

    await asyncio.sleep(2)
    await wait_until(handlers_finished)
    if rounds > 1:
        continue_as_new(rounds=rounds - 1, seen=seen)
    return seen


def test_a_run_waits_for_its_handlers_before_it_continues() -> None:
    async def main() -> None:
        async with Environment(always_replay=True) as env:
            run = await env.start(collects, 2, [])
            for n in (1, 7, 5):
                await run.signal("item", n)
            await env.advance("3s")
            await run.signal("item", 3)
            assert await run.result() == [1, 5, 3, 7]

    asyncio.run(main())


# ---- queries ---------------------------------------------------------------------------------------------------------


@workflow
async def asked() -> Any:
    state: dict[str, Any] = {"step": "new"}
    ready = asyncio.Event()

    @query
    def status(key: str = "step") -> Any:
        return state[key]

    @query
    def calls_a_task() -> Any:
        return double(1)

    @query
    def wakes_the_code() -> None:
        ready.set()

    @query
    def starts_code() -> None:
        asyncio.get_running_loop().call_later(1, print)

    @query
    def waits() -> Any:
        return wait_for_signal("item").send(None)

    @query
    def continues() -> None:
        continue_as_new()

    @query
    def draws() -> list[Any]:
        return [random.random(), str(uuid.uuid4())]

    @query
    def opens() -> None:
        open("/etc/passwd")  # noqa: PTH123, SIM115

    await double(1)
    state["step"] = "waiting"
    await ready.wait()


def test_queries_see_the_state_and_take_arguments() -> None:
    rig = CodeRig(asked)
    assert rig.query("status") == "new"
    rig.perform("double")
    assert rig.query("status") == "waiting"
    with pytest.raises(NotFound, match="no query 'nothing'; it has: calls_a_task, continues"):
        rig.query("nothing")
    with pytest.raises(InvalidCommand, match="query 'status' failed: KeyError: 'shape'"):
        rig.query("status", "shape")


@pytest.mark.parametrize("name", ["calls_a_task", "waits", "continues", "opens", "starts_code"])
def test_queries_may_only_look(name: str) -> None:
    rig = CodeRig(asked)
    rig.perform("double")
    with pytest.raises(NotDeterministic):
        rig.query(name)
    assert rig.again().run.diverged is None


def test_a_query_that_wakes_code_is_refused_and_the_run_is_known_to_be_spoiled() -> None:
    rig = CodeRig(asked)
    rig.perform("double")
    with pytest.raises(NotDeterministic, match="may only look"):
        rig.query("wakes_the_code")
    assert rig.run.spoiled, "the event was set before anybody was woken: the run must be rebuilt"
    assert not rig.again().run.spoiled


def test_a_query_does_not_use_up_random_numbers() -> None:
    rig = CodeRig(asked)
    assert rig.query("draws") == rig.query("draws")


# ---- updates ---------------------------------------------------------------------------------------------------------


@workflow
async def cart(limit: int) -> list[str]:
    items: list[str] = []

    @update
    async def add(item: str) -> int:
        if item == "broken":
            raise ValueError("no such item")
        await double(len(items))
        items.append(item)
        return len(items)

    @add.validator
    def _(item: str) -> None:
        if item in items:
            raise ValueError(f"{item} is in the cart")
        if item == "nosy":
            double(1)

    @update
    def clear() -> object:
        items.clear()
        return object()

    await wait_until(lambda: len(items) >= limit)
    return items


def test_updates_are_validated_answered_and_done_once() -> None:
    rig = CodeRig(cart, 3)
    rig.update("u1", "add", "apple")
    assert not rig.run.updates["u1"].done
    rig.perform("double")
    assert (rig.run.updates["u1"].done, rig.run.updates["u1"].output) == (True, 1)
    assert rig.update("u1", "add", "apple") == []
    with pytest.raises(UpdateRejected, match="apple is in the cart"):
        rig.update("u2", "add", "apple")
    with pytest.raises(UpdateRejected, match="missing a required argument: 'item'"):
        rig.update("u3", "add")
    with pytest.raises(UpdateRejected, match="no update 'remove'; it has: add, clear"):
        rig.update("u4", "remove", "apple")
    with pytest.raises(UpdateRejected, match="may only look"):
        rig.update("u5", "add", "nosy")
    assert len([event for event in rig.kinds() if event.startswith("update.accepted")]) == 1


def test_an_update_whose_handler_raises_is_answered_with_that() -> None:
    rig = CodeRig(cart, 3)
    rig.update("u1", "add", "broken")
    failure = rig.run.updates["u1"].failure
    assert failure is not None
    assert (failure.type, failure.message) == ("ValueError", "no such item")
    rig.update("u2", "clear")
    failure = rig.run.updates["u2"].failure
    assert failure is not None
    assert failure.type == "bad_result"
    assert not rig.run.done


def test_an_update_may_still_be_under_way_when_the_run_ends() -> None:
    rig = CodeRig(cart, 1)
    rig.update("u1", "add", "apple")
    rig.update("u2", "add", "pear")
    rig.perform("double#2")
    assert rig.run.output == ["pear"]
    assert rig.run.updates["u2"].done
    assert not rig.run.updates["u1"].done
    with pytest.raises(InvalidCommand, match="takes no updates: it has ended"):
        rig.update("u3", "add", "plum")


# ---- conditions ------------------------------------------------------------------------------------------------------


@workflow
async def conditions() -> list[Any]:
    log: list[Any] = []
    state = {"n": 0}

    async def counts() -> None:
        for n in range(3):
            state["n"] = await double(n)

    async def watches(bound: int) -> None:
        await wait_until(lambda: state["n"] >= bound)
        log.append(bound)

    async def watches_badly() -> None:
        try:
            await wait_until(lambda: 1 // (4 - state["n"]) < 0)
        except ZeroDivisionError:
            log.append("raised")

    await asyncio.gather(counts(), watches(4), watches(2), watches_badly())
    try:
        async with asyncio.timeout(5):
            await wait_until(lambda: False)
    except TimeoutError:
        log.append("late")
    return log


def test_conditions_are_looked_at_whenever_the_code_rests() -> None:
    rig = CodeRig(conditions)
    assert rig.finish() == [2, 4, "raised", "late"]


# ---- while the run is held ------------------------------------------------------------------------------------------


def test_a_paused_run_hears_everything_and_asks_for_nothing() -> None:
    rig = CodeRig(reads_signals, 2)
    rig.fire(1)
    rig.give(inp.Pause())
    rig.signal("item", 1)
    rig.signal("item", 2)
    assert not rig.run.done
    assert rig.run.commands
    rig.give(inp.Resume())
    assert rig.run.output == [1, 2]


@workflow
async def timers_meanwhile() -> str:
    waiting = asyncio.create_task(asyncio.sleep(50))
    await double(1)
    await asyncio.sleep(5)
    await wait_for_signal("go")
    await waiting
    return "done"


def test_timers_asked_for_in_a_pause_are_set_afterwards() -> None:
    rig = CodeRig(timers_meanwhile)
    rig.give(inp.Pause())
    rig.perform("double")
    rig.signal("go")
    assert [command.key for command in rig.run.commands] == [2]
    assert rig.give(inp.TimerDue(1)) == []
    rig.give(inp.Resume())
    rig.fire(2)
    rig.fire(1)
    assert rig.run.output == "done"


class Basket:
    """State of a user's own, whose methods answer."""

    def __init__(self) -> None:
        self.looks: list[int] = []

    def look(self) -> int:
        self.looks.append(1)
        return len(self.looks)


@workflow
async def looked_at() -> list[int]:
    found = [3, 1, 2]
    looks = 0
    lines: deque[str] = deque(maxlen=2)
    basket = Basket()

    def note() -> None:
        lines.append("looked")

    @query
    def smallest() -> int:
        found.sort()
        return found[0]

    @query
    def count() -> int:
        nonlocal looks
        looks += 1
        return looks

    @query
    def notes() -> int:
        note()
        return len(lines)

    @query
    def fails() -> None:
        found.clear()
        raise ValueError("too late")

    @query
    def least() -> int:
        return min(sorted(found))

    query(basket.look)
    await wait_for_signal("go")
    return [*found, looks, len(lines), len(basket.looks)]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("smallest", "changed found: a query may only look"),
        ("count", "changed looks"),
        ("notes", "changed lines"),
        ("look", "changed self.looks"),
        ("fails", "failed: ValueError: too late"),
    ],
)
def test_a_query_that_changes_a_variable_is_refused_and_changes_nothing(name: str, what: str) -> None:
    async def test() -> None:
        async with Environment(always_replay=True) as env:
            run = await env.start(looked_at)
            await env.settle()
            for _ in range(2):
                with pytest.raises(InvalidCommand, match=what):
                    await run.query(name)
            assert await run.query("least") == 1
            await run.signal("go")
            assert await run.result() == [3, 1, 2, 0, 0, 0]

    asyncio.run(test())
