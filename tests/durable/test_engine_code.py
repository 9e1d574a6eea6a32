"""Code workflows on a real engine and SQLite: messages to live, parked and ended runs, suspension and mending, memory."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import (
    Headrace,
    InvalidCommand,
    NotDeterministic,
    RunCancelled,
    RunFailed,
    UpdateRejected,
    continue_as_new,
    query,
    start_child,
    task,
    update,
    wait_for_signal,
    wait_until,
    workflow,
)
from headrace.durable.run import CodeRun
from headrace.durable.workflow import WorkflowFunction
from headrace.engine import parker
from headrace.engine.parker import NEVER
from headrace.testing import Environment

from rig import until, within  # isort: skip

PARKED_RUNS = int(os.environ.get("HEADRACE_PARKED", "2000"))
"""100,000 in the soak runs."""
BYTES_PER_PARKED_RUN = 300 * 1024 * 1024 / 100_000
LIFE_SECONDS_MAX = 30.0 + PARKED_RUNS / 100


@pytest.fixture
def park_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parker, "PARK_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(parker, "PARK_TIMER_SECONDS", 0.05)


def play(folder: Path, *acts: Callable[[Headrace], Awaitable[None]], **options: Any) -> None:
    """Each act has an engine of its own on the same database."""

    async def main() -> None:
        for act in acts:
            async with Headrace(f"sqlite:///{folder}/headrace.db", **options) as hr:
                await act(hr)

    asyncio.run(within(main(), LIFE_SECONDS_MAX))


async def parked(hr: Headrace, run_id: str) -> None:
    await until(lambda: run_id not in hr._node.live)
    await hr._node.journal.drained()
    row = await hr.row(run_id)
    assert (row.owner, row.ended_at) == (None, None)
    assert row.wake_at is not None


def kinds(events: list[Any]) -> list[str]:
    return [type(event).__name__ for event in events]


async def last_seq(hr: Headrace, run_id: str) -> int:
    await hr.settled(run_id)
    return (await hr.row(run_id)).last_seq


begun: list[str] = []
"""What tasks did; every test clears it."""


@task
async def work(n: int) -> int:
    begun.append(f"work {n}")
    return 2 * n


@workflow
async def entity() -> list[Any]:
    state: list[Any] = []
    ready = asyncio.Event()

    @query
    def items() -> list[Any]:
        return state

    @query
    def spoils() -> None:
        ready.set()

    @update
    async def add(n: int) -> int:
        if n < 0:
            raise ValueError("negative")
        await asyncio.sleep(0.2)
        state.append(await work(n))
        return len(state)

    @update
    async def never() -> None:
        await wait_for_signal("never")

    state.append(await work(1))
    waiting = asyncio.create_task(ready.wait())
    state.append(await wait_for_signal("item"))
    waiting.cancel()
    await asyncio.sleep(0.3)
    return state


@pytest.mark.usefixtures("park_at_once")
def test_a_parked_run_is_woken_by_messages_and_by_its_timers() -> None:
    begun.clear()

    async def act(hr: Headrace) -> None:
        run = await hr.start(entity)
        await parked(hr, run.id)
        assert (await hr.row(run.id)).wake_at == NEVER
        before = await last_seq(hr, run.id)
        assert await hr.query(run.id, "items") == [2]
        assert await last_seq(hr, run.id) == before, "asking a parked run changes nothing"
        await parked(hr, run.id)
        assert await hr.update(run.id, "add", 4) == 2, "it parks in the middle and answers all the same"
        await parked(hr, run.id)
        await hr.signal(run.id, "item", "a")
        await parked(hr, run.id)
        due = (await hr.row(run.id)).wake_at
        assert due is not None
        assert due < NEVER
        assert await run.result() == [2, 8, "a"]
        assert begun == ["work 1", "work 4"], "waking replays, it does not run tasks again"
        assert await hr.query(run.id, "items") == [2, 8, "a"], "also when it has ended"

    async def main() -> None:  # in virtual time: no timer comes due before the run has been looked at
        async with Environment("sqlite://") as env:
            await act(env.headrace)

    asyncio.run(main())


def test_an_ended_run_refuses_messages_and_answers_known_updates(tmp_path: Path) -> None:
    async def act(hr: Headrace) -> None:
        run = await hr.start(entity)
        await until(lambda: hr._node.live[run.id].run.seq >= 2)
        assert await hr.update(run.id, "add", 3, update_id="u1") == 2
        with pytest.raises(UpdateRejected, match="ValueError: negative"):
            await hr.update(run.id, "add", -1, update_id="u2")
        unanswered = asyncio.create_task(hr.update(run.id, "never"))
        await until(lambda: len(hr._node.updater._replies) == 1)
        await hr.signal(run.id, "item", "a", key="k")
        assert await run.result() == [2, 6, "a"]
        with pytest.raises(InvalidCommand, match="ended \\(succeeded\\) before it answered"):
            await unanswered
        assert await hr.update(run.id, "add", 3, update_id="u1") == 2
        with pytest.raises(UpdateRejected, match="ValueError: negative"):
            await hr.update(run.id, "add", -1, update_id="u2")
        with pytest.raises(InvalidCommand, match="takes no updates: it has ended"):
            await hr.update(run.id, "add", 3)
        with pytest.raises(InvalidCommand, match="takes no signals: it has ended"):
            await hr.signal(run.id, "item", "b")
        await hr.signal(run.id, "item", "a", key="k")

    play(tmp_path, act, workflows=[entity])


def test_a_query_that_breaks_the_rules_leaves_no_trace(tmp_path: Path) -> None:
    async def act(hr: Headrace) -> None:
        run = await hr.start(entity)
        await until(lambda: hr._node.live[run.id].run.seq >= 2)
        before = hr._node.live[run.id].run
        with pytest.raises(NotDeterministic, match="may only look"):
            await hr.query(run.id, "spoils")
        assert hr._node.live[run.id].run is not before
        assert await hr.update(run.id, "add", 3) == 2
        await hr.signal(run.id, "item", "a")
        assert await run.result() == [2, 6, "a"]

    play(tmp_path, act, workflows=[entity])


@workflow
async def slow_call() -> int:
    return await forever()


@task
async def forever() -> int:
    begun.append("forever")
    try:
        await asyncio.Event().wait()
    finally:
        begun.append("stopped")
    return 1


@workflow
async def parent_of_slow() -> int:
    return await slow_call()


@pytest.mark.parametrize("code", [slow_call, parent_of_slow])
def test_cancelling_stops_the_attempt_of_a_call(code: WorkflowFunction[[], int], tmp_path: Path) -> None:
    begun.clear()

    async def act(hr: Headrace) -> None:
        run = await hr.start(code)
        await until(lambda: begun == ["forever"])
        await run.cancel("enough")
        with pytest.raises(RunCancelled, match="enough"):
            await run.result()
        await until(lambda: begun == ["forever", "stopped"])
        await until(lambda: not hr._node.live)
        assert {row.state for row in await hr.runs()} == {"cancelled"}

    play(tmp_path, act, workflows=[slow_call, parent_of_slow])


def test_children_of_a_terminated_parent_are_closed_even_if_the_engine_dies_before_it_can(tmp_path: Path) -> None:
    begun.clear()

    async def first(hr: Headrace) -> None:
        run = await hr.start(parent_of_slow)
        await until(lambda: begun == ["forever"])
        child = next(row.run_id for row in await hr.runs() if row.run_id != run.id)
        hr._node.performer._try_command = lambda *_: asyncio.sleep(0)  # type: ignore[method-assign]
        await hr.terminate(run.id)
        await hr.settled(child)
        assert (await hr.row(child)).ended_at is None

    async def second(hr: Headrace) -> None:
        await until(lambda: not hr._node.live)
        assert {row.state for row in await hr.runs()} == {"terminated"}

    play(tmp_path, first, second, workflows=[slow_call, parent_of_slow])


@workflow
async def rounds(left: int) -> int:
    if left:
        await wait_for_signal("go")
        continue_as_new(left=left - 1)
    return left


def test_messages_for_a_run_that_continued_find_the_one_that_follows(tmp_path: Path) -> None:
    async def act(hr: Headrace) -> None:
        run = await hr.start(rounds, 3)
        for _ in range(3):
            await hr.signal(run.id, "go")
        assert await run.result() == 0
        run = await hr.start(rounds, 2)
        await hr.signal(run.id, "go")
        await hr.cancel(run.id, "by the first id")
        with pytest.raises(RunCancelled):
            await run.result()

    play(tmp_path, act, workflows=[rounds])


@workflow
async def holds() -> str:
    waiting = asyncio.create_task(asyncio.sleep(0.05))
    first = await wait_for_signal("first")
    await waiting
    return first


def test_a_paused_run_goes_on_where_it_was(tmp_path: Path) -> None:
    async def act(hr: Headrace) -> None:
        run = await hr.start(holds)
        await run.pause()
        await hr.signal(run.id, "first", "heard")
        live = hr._node.live[run.id]
        await until(lambda: ("timer", 1) not in live.timers)  # it came due and was not listened to
        assert (await run.show()).state == "paused"
        await run.resume()
        assert await run.result() == "heard"

    play(tmp_path, act, workflows=[holds])


def version(blocks: bool) -> WorkflowFunction[[], str]:
    """The same workflow before and after it was mended."""

    @workflow(name="mended_later")
    async def mended_later() -> str:
        found = await work(1)
        if blocks:
            open("/dev/null").close()  # noqa: PTH123
        await asyncio.sleep(0.01)
        return f"{found} {await wait_for_signal('item')}"

    return mended_later


def test_a_suspended_run_rests_until_its_code_is_mended(tmp_path: Path) -> None:
    begun.clear()
    broken, mended = version(True), version(False)
    assert broken.target == mended.target
    ids: list[str] = []

    async def suspends(hr: Headrace) -> None:
        run = await hr.start(broken)
        ids.append(run.id)
        await parked(hr, run.id)
        view = await run.show()
        assert view.state == "suspended"
        assert "used open at test_engine_code.py" in (view.reason or "")
        with pytest.raises(InvalidCommand, match="takes no updates: it is suspended"):
            await hr.update(run.id, "add", 1)
        await hr.signal(run.id, "item", "kept")
        await parked(hr, run.id)
        await hr.resume(run.id)
        await parked(hr, run.id)
        assert (await run.show()).state == "suspended", "resumed without being mended: suspended again, once"

    async def goes_on(hr: Headrace) -> None:
        run = await hr.get(ids[0])
        assert (await run.show()).state == "suspended"
        await run.resume()
        assert await run.result() == "2 kept"
        assert begun == ["work 1"]

    async def both() -> None:
        for code, act in ((broken, suspends), (mended, goes_on)):
            async with Headrace(f"sqlite:///{tmp_path}/headrace.db", workflows=[code]) as hr:
                await act(hr)

    asyncio.run(within(both(), LIFE_SECONDS_MAX))


@workflow
async def result_of_child() -> str:
    try:
        await start_child(raises)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


@workflow
async def raises() -> None:
    raise LookupError("nothing there")


def test_a_child_that_raises_tells_its_parent_why(tmp_path: Path) -> None:
    async def act(hr: Headrace) -> None:
        text = await (await hr.start(result_of_child)).result()
        assert text.startswith("ChildFailed: child raises (")
        assert text.endswith("failed: LookupError: nothing there")
        with pytest.raises(RunFailed, match="LookupError: nothing there"):
            await (await hr.start(raises)).result()

    play(tmp_path, act, workflows=[result_of_child, raises])


@workflow
async def waits_long(n: int) -> int:
    await wait_until(lambda: False)
    return n


@pytest.mark.timeout(LIFE_SECONDS_MAX + 30)
@pytest.mark.usefixtures("park_at_once")
def test_parked_runs_take_no_memory_and_little_room(tmp_path: Path) -> None:
    """2,000 here; 100,000 with ``HEADRACE_PARKED=100000`` (make soak): under 300 MiB in the database."""

    async def act(hr: Headrace) -> None:
        for first in range(0, PARKED_RUNS, 500):
            await asyncio.gather(*(hr.start(waits_long, n) for n in range(first, min(first + 500, PARKED_RUNS))))
        await until(lambda: not hr.runs_in_memory, LIFE_SECONDS_MAX)
        gc.collect()
        left = [found for found in gc.get_objects() if isinstance(found, CodeRun)]
        assert not [run.run_id for run in left if run.plan.spec is waits_long.spec]
        assert len(hr._node.parker._wakes) == 0

    play(tmp_path, act, workflows=[waits_long])
    size = sum(file.stat().st_size for file in tmp_path.glob("headrace.db*") if file.is_file())
    assert size / PARKED_RUNS < BYTES_PER_PARKED_RUN, f"{size / PARKED_RUNS:,.0f} bytes for each parked run"


SCRIPT = """
import asyncio
from headrace import start_child, wait_for_signal, workflow


@workflow
async def part(n: int) -> int:
    return n


@workflow
async def whole() -> int:
    first = await part(1)
    await wait_for_signal("go")
    return first + await part(2)
"""


def load(file: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__dict__["__headrace_script__"] = True
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_scripts_may_be_loaded_by_path_and_may_move(tmp_path: Path) -> None:
    old, new = tmp_path / "old" / "script.py", tmp_path / "new" / "script.py"
    for file in (old, new):
        file.parent.mkdir()
        file.write_text(SCRIPT)
    ids: list[str] = []

    async def begins(hr: Headrace) -> None:
        run = await hr.run(load(old, "as_main").whole)
        ids.append(run.id)
        await until(lambda: hr._node.live[run.id].run.children.get("part") and hr._node.live[run.id].run.seq == 3)
        ids.append((await hr.start(load(old, "as_main").whole)).id)

    async def goes_on_by_path(hr: Headrace) -> None:
        await hr.signal(ids[0], "go")
        assert await (await hr.get(ids[0])).result() == 3

    async def goes_on_elsewhere(hr: Headrace) -> None:
        await hr.signal(ids[1], "go")
        assert await (await hr.get(ids[1])).result() == 3

    play(tmp_path, begins)
    play(tmp_path, goes_on_by_path)
    old.unlink()
    sys.modules.pop(next(name for name in sys.modules if name.startswith("_headrace_") and name.endswith("_script")))
    moved = load(new, "moved")
    play(tmp_path, goes_on_elsewhere, workflows=[moved.whole, moved.part])
