"""Whoever waits for a run that another node has is told of its end: nothing in these tests looks for itself.

Polls are an hour away, also those of a caller who has been promised no word: a word that does not come is a test that ends
by its time limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import (
    Headrace,
    InvalidCommand,
    UpdateRejected,
    continue_as_new,
    dag,
    set_details,
    task,
    wait_for_signal,
    workflow,
)
from headrace import update as update_function
from headrace.client import handle
from headrace.contracts.broker import EVERYTHING
from headrace.core.errors import EngineStopped, Fenced, StoreUnavailable
from headrace.core.ids import NodeId, RunId
from headrace.engine import asker, performer, wisher
from headrace.engine.wisher import WISHES_INFO

HOUR = 3600.0
SECONDS = 60


@workflow
async def listener() -> Any:
    return await wait_for_signal("news")


@workflow
async def twice(turn: int = 1) -> Any:
    news = await wait_for_signal("news")
    if turn == 1:
        continue_as_new(turn=2)
    return news


@workflow
async def counting() -> None:
    while (news := await wait_for_signal("news")) != 4:
        set_details(str(news))


@workflow
async def basket() -> list[str]:
    items: list[str] = []
    open_ = asyncio.Event()

    @update_function
    async def add(text: str) -> list[str]:
        items.append(text)
        return items

    @add.validator
    def _(text: str) -> None:
        if text in items:
            raise ValueError("it is there already")

    @update_function
    async def later() -> str:
        await open_.wait()
        return "now"

    await wait_for_signal("open")
    open_.set()
    await wait_for_signal("close")
    return items


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks for himself."""
    for name in ("MIN", "MAX"):
        monkeypatch.setattr(handle, f"POLL_SECONDS_{name}", HOUR)
        monkeypatch.setattr(asker, f"LOOK_SECONDS_{name}", HOUR)


@pytest.fixture
def parking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performer, "PARK_AFTER_SECONDS", 0.01)


@pytest.fixture
def staying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performer, "PARK_AFTER_SECONDS", HOUR)


def node(folder: Path, name: str, **options: Any) -> Headrace:
    given: dict[str, Any] = {"workflows": [listener, twice, counting, basket], "poll_seconds": HOUR, **options}
    return Headrace(f"sqlite:///{folder}/headrace.db", node=name, **given)


def play(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(SECONDS):
            await test()

    asyncio.run(bounded())


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def promised(waiting: Headrace, run_id: str) -> None:
    """Wait until that node has been promised word of a run."""
    words = waiting._node.wisher._words
    await until(lambda: words.get(RunId(run_id)) and all(word.will_come for word in words[RunId(run_id)]))


async def known(owner: Headrace, run_id: str) -> None:
    """Wait until the owner knows who waits."""
    await until(lambda: run_id in owner._node.teller.known)


async def wishes(hr: Headrace, run_id: str) -> list[Any]:
    return await hr.store.wishes(hr._node.id, [RunId(run_id)])


def calls(hr: Headrace, *names: str) -> list[str]:
    """The calls of the store from now on that are so called."""
    seen: list[str] = []
    for name in names:
        inner = getattr(hr.store, name)

        async def call(*args: Any, _name: str = name, _inner: Any = inner, **more: Any) -> Any:
            seen.append(_name)
            return await _inner(*args, **more)

        setattr(hr.store, name, call)
    return seen


# ---- ends ------------------------------------------------------------------------------------------------------------


def test_the_end_on_another_node_is_told_and_nothing_is_asked_meanwhile(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(listener)
            results = [asyncio.ensure_future((await waiting.get(run.id)).result()) for _ in range(3)]
            await known(owner, run.id)
            await promised(waiting, run.id)
            reads = calls(waiting, "run", "wish", "nodes", "history")
            assert [wish.node for wish in await wishes(waiting, run.id)] == ["b"]  # one, however many wait
            await owner.signal(run.id, "news", 7)
            assert await asyncio.gather(*results) == [7] * 3
            assert reads.count("wish") == 1
            assert reads.count("run") <= 6  # two of each handle: to see the end, and to show the run

    play(test)


def test_a_run_that_nobody_waits_for_costs_no_call_of_the_store(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner:
            seen = calls(owner, "wish", "wishes", "forget_wishes")
            for number in range(3):
                run = await owner.run(listener)
                await owner.signal(run.id, "news", number)
                assert await run.result() == number
            assert seen == []

    play(test)


def test_an_owner_that_hears_of_the_wish_after_the_end_tells_still(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(listener)
            hear = owner._node.teller.look
            heard = asyncio.Event()
            owner._node.teller.look = heard.set  # type: ignore[method-assign]
            result = asyncio.ensure_future((await waiting.get(run.id)).result())
            await heard.wait()
            await promised(waiting, run.id)
            await owner.signal(run.id, "news", 7)
            assert await run.result() == 7
            hear()
            assert await result == 7

    play(test)


def test_a_run_that_ends_while_the_wish_is_made_is_seen(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(listener)
            inner = waiting.store.wish

            async def wish(*args: Any) -> Any:
                await owner.signal(run.id, "news", 7)
                await run.result()
                return await inner(*args)

            waiting.store.wish = wish  # type: ignore[method-assign]
            assert await (await waiting.get(run.id)).result() == 7
            await until(lambda: not waiting._node.wisher._left)
            assert await wishes(owner, run.id) == []

    play(test)


def test_the_wait_goes_on_with_the_run_that_follows(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(twice)
            result = asyncio.ensure_future((await waiting.get(run.id)).result())
            await known(owner, run.id)
            await owner.signal(run.id, "news", 6)
            await until(lambda: owner._node.teller.known and run.id not in owner._node.teller.known)
            await owner.signal(run.id, "news", 7)
            assert await result == 7

    play(test)


def test_a_parked_run_stays_parked_and_its_end_is_told_by_whoever_has_it_then(tmp_path: Path, parking: None) -> None:
    async def test() -> None:
        async with (
            node(tmp_path, "a") as first,
            node(tmp_path, "b", adopt=False) as waiting,
            node(tmp_path, "c", adopt=False) as last,
        ):
            run = await first.run(listener)
            await until(lambda: not first.runs_in_memory)
            result = asyncio.ensure_future((await waiting.get(run.id)).result())
            await promised(waiting, run.id)
            assert await first._node.adopter.adopt_waiting() == 0
            row = await waiting.row(run.id)
            assert row.owner is None
            assert row.wake_at == performer.NEVER
            await last.signal(run.id, "news", 7)
            assert await result == 7

    play(test)


def test_the_wait_goes_on_with_the_run_that_a_reset_puts_in_its_place(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(listener)
            result = asyncio.ensure_future((await waiting.get(run.id)).result())
            await known(owner, run.id)
            again = await owner.reset(run.id, to_event=1)
            await known(owner, again.id)
            await owner.signal(again.id, "news", 8)
            assert await result == 8

    play(test)


GRAPH = """
name: asks-far
tasks:
  asked: {workflow: "FILE:listener", queue: far}
output: "{{ tasks.asked.output }}"
"""


def test_an_attempt_that_is_a_run_and_is_carried_out_away_from_its_graph(tmp_path: Path, parking: None) -> None:
    """The graph's owner is told by its run; whoever carries the attempt out, by his wish."""
    file = tmp_path / "graph.yaml"
    file.write_text(GRAPH.replace("FILE", __file__), encoding="utf-8")

    async def test() -> None:
        async with (
            node(tmp_path, "a") as owner,
            node(tmp_path, "b", queues=("far",)) as carrying,
            node(tmp_path, "c", adopt=False) as last,
        ):
            run = await owner.run(file)
            await until(lambda: carrying._node.wisher._words)
            (child,) = carrying._node.wisher._words
            await promised(carrying, child)
            assert (await owner.row(child)).owner is None
            await last.signal(child, "news", 7)
            assert await run.result() == 7

    play(test)


OWNER = """
import asyncio, sys
from pathlib import Path
from headrace import Headrace, dag, task

@task
async def hold(folder: str) -> int:
    if not Path(folder, "go").exists():
        print("begun", flush=True)
        await asyncio.sleep(3600)
    return 7

@dag
def held(folder: str) -> int:
    return hold(folder)

async def main() -> None:
    async with Headrace(f"sqlite:///{sys.argv[1]}/headrace.db", node="killed") as headrace:
        run = await headrace.run(held, {"folder": sys.argv[1]})
        print(run.id, flush=True)
        await run.result()

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_the_wish_outlives_an_owner_that_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "killed_owner.py"
    program.write_text(OWNER, encoding="utf-8")

    async def test() -> None:
        with contextlib.ExitStack() as stack:
            process = subprocess.Popen([sys.executable, str(program), str(tmp_path)], stdout=subprocess.PIPE, text=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout is not None
            stack.callback(process.stdout.close)
            words = [(await asyncio.to_thread(process.stdout.readline)).strip() for _ in range(2)]
            run_id = next(word for word in words if word != "begun")
            async with node(tmp_path, "b", adopt=False, workflows=[]) as waiting:
                result = asyncio.ensure_future((await waiting.get(run_id)).result())
                await promised(waiting, run_id)
                process.kill()
                await asyncio.to_thread(process.wait)
                (tmp_path / "go").touch()
                async with node(tmp_path, "c", workflows=[]):  # takes over what nobody has
                    assert await result == 7

    play(test)


# ---- changes ---------------------------------------------------------------------------------------------------------


def test_a_watcher_elsewhere_sees_changes_and_the_end(
    tmp_path: Path, staying: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handle, "POLL_SECONDS_MIN", 0.0)
    gate = asyncio.Event()

    @task
    async def first() -> int:
        return 1

    @task
    async def second(x: int) -> int:
        await gate.wait()
        return x + 1

    @task
    async def third(x: int) -> int:
        await asyncio.Event().wait()
        return x

    @dag
    def three() -> int:
        return third(second(first()))

    async def test() -> None:
        async with node(tmp_path, "a", workflows=[three]) as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(three)
            states: list[str] = []
            done = asyncio.Event()

            async def watch() -> None:
                async for view in (await waiting.get(run.id)).watch(interval_seconds=0.001):
                    states.append(view.state)
                    if view.tasks["second"].state == "succeeded":
                        done.set()

            watching = asyncio.ensure_future(watch())
            await known(owner, run.id)
            await promised(waiting, run.id)
            await until(lambda: owner.live(RunId(run.id)).is_watched_elsewhere)
            gate.set()
            await done.wait()
            await run.cancel()
            await watching
            assert states[-1] == "cancelled"

    play(test)


def test_a_watcher_of_a_parked_run_sees_its_changes_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(performer, "PARK_AFTER_SECONDS", 0.01)
    monkeypatch.setattr(handle, "POLL_SECONDS_MIN", 0.0)

    async def test() -> None:
        async with (
            node(tmp_path, "a") as first,
            node(tmp_path, "b", adopt=False) as waiting,
            node(tmp_path, "c", adopt=False) as last,
        ):
            last._node.teller.look = lambda: None  # type: ignore[method-assign]
            run = await first.run(counting)
            await until(lambda: not first.runs_in_memory)
            seen: list[Any] = []

            async def watch() -> None:
                async for view in (await waiting.get(run.id)).watch(interval_seconds=0.001):
                    seen.append(view.details)

            watching = asyncio.ensure_future(watch())
            await promised(waiting, run.id)
            for number in range(1, 4):
                await last.signal(run.id, "news", number)
                await until(lambda number=number: seen[-1] == str(number))
            await last.signal(run.id, "news", 4)
            await watching

    play(test)


def test_who_wishes_for_changes_while_another_wish_is_made_is_told_of_them(
    tmp_path: Path, staying: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handle, "POLL_SECONDS_MIN", 0.0)

    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(counting)
            inner, words = waiting.store.wish, waiting._node.wisher._words
            conditions = iter((lambda: len(words[RunId(run.id)]) == 2, lambda: run.id in owner._node.teller.known))

            async def wish(*args: Any) -> Any:
                found = await inner(*args) if len(words[RunId(run.id)]) == 1 else None
                await until(next(conditions, lambda: True))
                return found or await inner(*args)

            waiting.store.wish = wish  # type: ignore[method-assign]
            there = await waiting.get(run.id)
            result = asyncio.ensure_future(there.result())
            await until(lambda: words)

            async def watch() -> None:
                async for _ in there.watch(interval_seconds=0.001):
                    pass

            watching = asyncio.ensure_future(watch())
            await until(lambda: owner.live(RunId(run.id)).is_watched_elsewhere)
            await owner.signal(run.id, "news", 4)
            await asyncio.gather(result, watching)

    play(test)


def test_a_change_before_the_owner_hears_of_the_wish_is_told(
    tmp_path: Path, staying: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handle, "POLL_SECONDS_MIN", 0.0)

    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            hear, heard = owner._node.teller.look, asyncio.Event()
            owner._node.teller.look = heard.set  # type: ignore[method-assign]
            run = await owner.run(counting)
            seen: list[Any] = []

            async def watch() -> None:
                async for view in (await waiting.get(run.id)).watch(interval_seconds=0.001):
                    seen.append(view.details)

            watching = asyncio.ensure_future(watch())
            await heard.wait()
            await promised(waiting, run.id)
            (word,) = waiting._node.wisher._words[RunId(run.id)]
            await until(lambda: not word._told.is_set())  # it has looked once more since it was promised word
            await owner.signal(run.id, "news", 1)
            hear()
            await until(lambda: seen[-1] == "1")
            await owner.signal(run.id, "news", 4)
            await watching

    play(test)


def test_a_refusal_is_told_to_who_has_asked_from_elsewhere(tmp_path: Path, staying: None) -> None:
    """It leaves no event, so nothing else would wake who asked."""

    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as asking:
            run = await owner.run(basket)
            await owner.update(run.id, "add", "x")
            read, may_read = owner._node.commander.apply_inbox, asyncio.Event()

            async def hold(run_ids: Any) -> None:
                await may_read.wait()
                await read(run_ids)

            owner._node.commander.apply_inbox = hold  # type: ignore[method-assign]
            looks = calls(asking, "wish")
            refused = asyncio.ensure_future(asking.update(run.id, "add", "x"))
            await known(owner, run.id)
            await promised(asking, run.id)
            (word,) = asking._node.wisher._words[RunId(run.id)]
            await until(lambda: len(looks) > 1 and not word._told.is_set())  # word that the wish is known has come
            may_read.set()
            with pytest.raises(UpdateRejected, match="there already"):
                await refused

    play(test)


def test_answers_and_refusals_of_updates_are_told(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as asking:
            run = await owner.run(basket)
            assert await asking.update(run.id, "add", "x") == ["x"]
            with pytest.raises(UpdateRejected, match="there already"):
                await asking.update(run.id, "add", "x")
            later = asyncio.ensure_future(asking.update(run.id, "later"))
            await promised(asking, run.id)
            await owner.signal(run.id, "open")
            assert await later == "now"
            never = asyncio.ensure_future(asking.update(run.id, "add", "y"))
            assert await never == ["x", "y"]
            await owner.signal(run.id, "close")
            await run.result()
            with pytest.raises(InvalidCommand, match="it has ended"):
                await asking.update(run.id, "add", "z")

    play(test)


# ---- where no word comes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["an older version", "another host without a broker"])
def test_without_a_promise_the_caller_looks_for_itself(
    tmp_path: Path, staying: None, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    for name in ("POLL_SECONDS_MIN", "POLL_SECONDS_MAX"):
        monkeypatch.setattr(handle, name, 0.01)

    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(listener)
            row = next(row for row in await owner.store.nodes() if row.node == "a")
            if why == "an older version":
                owner._node.teller.look = lambda: None  # type: ignore[method-assign]
                info = {key: value for key, value in row.info.items() if key != WISHES_INFO}
                await owner.store.describe_node(row.node, row.epoch, info)
            else:
                monkeypatch.setattr("headrace.engine.doorbell.here", lambda: "elsewhere")
            result = asyncio.ensure_future((await waiting.get(run.id)).result())
            await until(lambda: RunId(run.id) in waiting._node.wisher._owners)
            (word,) = waiting._node.wisher._words[RunId(run.id)]
            assert not word.will_come
            await owner.signal(run.id, "news", 7)
            assert await result == 7

    play(test)


def test_lost_word_is_made_up_for_by_a_slow_look(
    tmp_path: Path, staying: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wisher, "LOOK_SECONDS", 0.01)

    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False, poll_seconds=0.01) as waiting:
            waiting._node.waker._doorbell.stop()
            run = await owner.run(listener)
            result = asyncio.ensure_future((await waiting.get(run.id)).result())
            await promised(waiting, run.id)
            await owner.signal(run.id, "news", 7)
            assert await result == 7

    play(test)


def test_word_is_promised_once_a_broker_is_there(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            waiting._node.waker.is_in_reach = lambda row: False  # type: ignore[method-assign]
            run = await owner.run(listener)
            result = asyncio.ensure_future((await waiting.get(run.id)).result())
            await known(owner, run.id)
            (word,) = waiting._node.wisher._words[RunId(run.id)]
            assert not word.will_come
            waiting._node.waker.is_in_reach = lambda row: True  # type: ignore[method-assign]
            waiting._node.waker._heard(EVERYTHING)
            await promised(waiting, run.id)
            await owner.signal(run.id, "news", 7)
            assert await result == 7

    play(test)


def test_after_a_broker_was_away_who_waits_looks_once(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            waiting._node.waker._doorbell.stop()
            run = await owner.run(listener)
            result = asyncio.ensure_future((await waiting.get(run.id)).result())
            await promised(waiting, run.id)
            await owner.signal(run.id, "news", 7)
            await run.result()
            waiting._node.waker._heard(EVERYTHING)
            assert await result == 7

    play(test)


def test_an_engine_that_can_no_longer_work_tells_its_callers(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(listener)
            result = asyncio.ensure_future((await waiting.get(run.id)).result())
            await promised(waiting, run.id)
            waiting._node._journal_broke(StoreUnavailable("the disk is gone"))
            with pytest.raises(StoreUnavailable, match="the disk is gone"):
                await result

    play(test)


def test_a_store_out_of_reach_is_told_to_the_caller(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(listener)
            result = asyncio.ensure_future((await waiting.get(run.id)).result())
            await promised(waiting, run.id)

            async def gone(*_: Any) -> Any:
                raise StoreUnavailable("nobody answers")

            waiting.store.wish = waiting.store.run = gone  # type: ignore[method-assign]
            waiting._node.wisher.look()
            with pytest.raises(StoreUnavailable):
                await result

    play(test)


# ---- what is left ----------------------------------------------------------------------------------------------------


def test_a_wait_that_is_given_up_takes_its_wish_back(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(listener)
            there = await waiting.get(run.id)
            first, second = (asyncio.ensure_future(there.result()) for _ in range(2))
            await known(owner, run.id)
            for result in (first, second):
                assert len(await wishes(owner, run.id)) == 1
                result.cancel()
                await asyncio.gather(result, return_exceptions=True)
            while await wishes(owner, run.id):
                await asyncio.sleep(0.005)

    play(test)


def test_a_node_that_stops_takes_its_wishes_back_and_tells_its_callers(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner:
            run = await owner.run(listener)
            async with node(tmp_path, "b", adopt=False) as waiting:
                result = asyncio.ensure_future((await waiting.get(run.id)).result())
                await known(owner, run.id)
            with pytest.raises(EngineStopped):
                await result
            assert await wishes(owner, run.id) == []

    play(test)


def test_an_engine_that_drains_tells_its_callers_at_once(tmp_path: Path, staying: None) -> None:
    begun = asyncio.Event()

    @task
    async def never() -> None:
        begun.set()
        await asyncio.Event().wait()

    @dag
    def endless() -> None:
        never()

    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False, workflows=[endless]) as waiting:
            run = await owner.run(listener)
            await waiting.run(endless)
            await begun.wait()
            result = asyncio.ensure_future((await waiting.get(run.id)).result())
            await promised(waiting, run.id)
            closing = asyncio.ensure_future(waiting.close(drain_seconds=HOUR))
            with pytest.raises(EngineStopped):
                await result
            await waiting.interrupt()
            await closing

    play(test)


def test_a_node_that_joins_anew_wishes_anew(tmp_path: Path, staying: None) -> None:
    """Others forget the wishes of a node that is lost."""

    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(listener)
            result = asyncio.ensure_future((await waiting.get(run.id)).result())
            await known(owner, run.id)
            await owner.store.forget_wishes([(RunId(run.id), NodeId("b"))])
            owner._node.teller.look()
            await until(lambda: run.id not in owner._node.teller.known)
            waiting._node._fence(Fenced("for the test"))
            await known(owner, run.id)
            await owner.signal(run.id, "news", 7)
            assert await result == 7

    play(test)


def test_wishes_of_nodes_that_are_gone_are_forgotten(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner:
            run = await owner.run(listener)
            await owner.store.wish(NodeId("gone"), [RunId(run.id)])
            owner._node.teller.look()
            while await wishes(owner, run.id):
                await asyncio.sleep(0.005)
            assert run.id not in owner._node.teller.known

    play(test)


def test_who_waits_is_known_only_while_the_run_is_here(tmp_path: Path, parking: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(listener)
            result = asyncio.ensure_future((await waiting.get(run.id)).result())
            await promised(waiting, run.id)
            await until(lambda: not owner.runs_in_memory)
            assert owner._node.teller.known == {}
            await owner.signal(run.id, "news", 7)
            assert await result == 7
            assert owner._node.teller.known == {}

    play(test)
