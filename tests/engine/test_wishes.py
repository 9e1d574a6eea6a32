"""Whoever waits for a run that another node has is told of its end: nothing in these tests looks for itself.

Polls are an hour away, also those of a caller who has been promised no word: a word that does not come is a test that ends
by its time limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wishes_rig
from wishes_rig import HOUR, calls, known, listener, node, play, promised, twice, until, wishes

from headrace import dag, task
from headrace.client import handle
from headrace.core.errors import EngineStopped, Fenced
from headrace.core.ids import NodeId, RunId
from headrace.engine import asker, parker


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks for himself."""
    for name in ("MIN", "MAX"):
        monkeypatch.setattr(handle, f"POLL_SECONDS_{name}", HOUR)
        monkeypatch.setattr(asker, f"LOOK_SECONDS_{name}", HOUR)


@pytest.fixture
def parking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parker, "PARK_AFTER_SECONDS", 0.01)


@pytest.fixture
def staying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parker, "PARK_AFTER_SECONDS", HOUR)


# ---- ends ------------------------------------------------------------------------------------------------------------


def test_the_end_on_another_node_is_told_and_nothing_is_asked_meanwhile(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(listener)
            results = [asyncio.ensure_future((await waiting.get(run.id)).result()) for _ in range(3)]
            await promised(waiting, run.id, callers=3)
            await known(owner, run.id)
            reads = calls(waiting, "run", "wish", "nodes", "history")
            assert [wish.node for wish in await wishes(waiting, run.id)] == ["b"]  # one, however many wait
            assert reads == []
            await owner.signal(run.id, "news", 7)
            assert await asyncio.gather(*results) == [7] * 3
            assert reads.count("wish") in (1, 2)  # two if the owner was reading the wishes just then, and told twice
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
            assert row.wake_at == parker.NEVER
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
    file.write_text(GRAPH.replace("FILE", wishes_rig.__file__), encoding="utf-8")

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


# ---- what is left ----------------------------------------------------------------------------------------------------


def test_a_wait_that_is_given_up_takes_its_wish_back(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(listener)
            there = await waiting.get(run.id)
            first, second = (asyncio.ensure_future(there.result()) for _ in range(2))
            await promised(waiting, run.id, callers=2)
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
            waiting._node.membership.fence(Fenced("for the test"))
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


def test_who_waits_is_known_only_while_the_run_is_here(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(listener)
            result = asyncio.ensure_future((await waiting.get(run.id)).result())
            await promised(waiting, run.id)
            await known(owner, run.id)
            for _ in range(2):  # who has only waited since the first time is parked
                owner._node.parker._park_idle()
            await until(lambda: not owner.runs_in_memory)
            assert owner._node.teller.known == {}
            await owner.signal(run.id, "news", 7)
            assert await result == 7
            assert owner._node.teller.known == {}

    play(test)
