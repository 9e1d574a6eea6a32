"""A real process is killed (SIGKILL) at random times, again and again, until its work is done.

The times are random but the seed is printed; ``make soak`` runs it for longer and with a new seed each time
(``HEADRACE_KILLS``, ``HEADRACE_SEED``).
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from headrace.backends.stores.sqlite import SqliteStore
from headrace.contracts.execution import Attempt
from headrace.contracts.store import RunFilter
from headrace.core import events as ev
from headrace.core.ids import RunId

from mortal import name_of  # isort: skip
from rig import Clock, Rig, Work, events_of, final, folded, play, states, until  # isort: skip
from test_crash_points import check_once  # isort: skip

PROCESS = Path(__file__).with_name("kill_process.py")
RUNS_PER_LIFE = 12
UP_SECONDS_MAX = 90.0
EXPECTED = {
    "numbers": "succeeded",
    "square": "succeeded",
    **{f"square[{item}]": "succeeded" for item in range(4)},
    "shaky": "succeeded",
    "breaks": "failed",
    "alarm": "succeeded",
}


class Lives:
    """A folder and the processes that come and go in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recorded: set[str] = set()
        """Units whose outcome was durable when the last process had died."""
        self.seen = 0

    def lines(self, file: str) -> list[str]:
        path = self.folder / file
        return path.read_text().splitlines() if path.exists() else []

    def spawn(self, runs: int) -> subprocess.Popen[bytes]:
        """A process that has started its engine."""
        ups = self.lines("ledger").count("up")
        log = (self.folder / "log").open("ab")
        process = subprocess.Popen([sys.executable, str(PROCESS), str(self.folder), str(runs)], stdout=log, stderr=log)
        deadline = time.monotonic() + UP_SECONDS_MAX
        while self.lines("ledger").count("up") == ups:
            assert time.monotonic() < deadline, "the process does not come up"
            assert process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.005)
        return process

    def check_ledger(self) -> None:
        """Nothing was begun in the last life that had been recorded before it."""
        fresh = self.lines("ledger")[self.seen :]
        begun = Counter(line.removeprefix("begun ") for line in fresh if line.startswith("begun"))
        again = self.recorded & set(begun)
        assert not again, f"completed tasks ran again: {again}"
        twice = [unit for unit, count in begun.items() if count > 1]
        assert not twice, f"one process ran them twice: {twice}"
        self.seen += len(fresh)

    async def look(self, *, ended: bool) -> None:
        """Read the truth: every acknowledged run is there; in the end each is as it must be."""
        store = SqliteStore(f"sqlite:///{self.folder}/headrace.db")
        await store.open()
        try:
            rows = await store.runs(RunFilter(limit=10_000))
            missing = set(self.lines("acknowledged")) - {row.run_id for row in rows}
            assert not missing, f"acknowledged runs are gone: {missing}"
            for row in rows:
                await self._look_at(store, row.run_id, ended=ended)
        finally:
            await store.close()

    async def _look_at(self, store: SqliteStore, run_id: RunId, *, ended: bool) -> None:
        events = await events_of(store, run_id)
        self.recorded |= {f"{run_id}/{name_of(event)}" for event in events if isinstance(event, ev.TaskSucceeded)}
        run = await folded(store, run_id)
        if ended:
            assert states(run) == EXPECTED
            assert str(run.state) == "failed"
            assert run.tasks[run.plan.by_id["shaky"].index].output == 30
            check_once(run_id, events, "in the end")


def kill_again_and_again(folder: Path, seed: int, kills: int) -> None:
    print(f"seed {seed}")
    chance = Random(seed)
    lives = Lives(folder)
    runs = 0
    for _ in range(kills):
        runs += RUNS_PER_LIFE
        process = lives.spawn(runs)
        try:
            process.wait(chance.uniform(0.0, 0.25))
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        lives.check_ledger()
        asyncio.run(lives.look(ended=False))
    last = lives.spawn(runs)
    try:
        assert last.wait(60) == 0, (folder / "log").read_text()[-3000:]
    finally:
        last.kill()
        last.wait()
    lives.check_ledger()
    assert len(lives.lines("acknowledged")) > 0
    asyncio.run(lives.look(ended=True))


@pytest.mark.timeout(600)  # eleven processes, one after the other
def test_killed_at_random_times(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, seed=20131107, kills=10)


def test_a_living_node_takes_over_from_a_killed_process(tmp_path: Path) -> None:
    """Two processes on one file; one is killed, the other goes on with its runs. How soon: ``test_outage.py``."""
    lives = Lives(tmp_path)

    async def numbers(attempt: Attempt) -> list[int]:
        return [1, 2, 3, 4]

    async def breaks(attempt: Attempt) -> None:
        raise RuntimeError("not right")

    async def test() -> None:
        clock = Clock()
        rig = Rig(tmp_path, lambda: SqliteStore(f"sqlite:///{tmp_path}/headrace.db"), clock)
        work = Work(numbers=numbers, breaks=breaks)
        try:
            process = await asyncio.to_thread(lives.spawn, 200)
            try:
                heir = await rig.node(work)
                await until(lambda: len(lives.lines("acknowledged")) >= 20)
            finally:
                process.kill()
            process.wait()
            acknowledged = lives.lines("acknowledged")
            await until(lambda: heir.live)
            for run_id in acknowledged:
                assert (await final(heir, RunId(run_id))).failed_task == "breaks"
        finally:
            await rig.close()

    play(test())
    assert [line for line in lives.lines("ledger") if line == "up"] == ["up"]


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.skipif("HEADRACE_KILLS" not in os.environ, reason="`make soak` runs this")
def test_killed_for_a_long_time(tmp_path: Path) -> None:
    seed = int(os.environ.get("HEADRACE_SEED") or time.time())
    kill_again_and_again(tmp_path, seed, int(os.environ["HEADRACE_KILLS"]))
