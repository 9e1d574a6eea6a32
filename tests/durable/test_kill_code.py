"""A real process that runs workflows of code is killed (SIGKILL) again and again until its work is done.

The times are random, the seed is printed; ``HEADRACE_KILLS`` and ``HEADRACE_SEED`` make longer and other runs of it.
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

from headrace.backends.stores.sqlite import SqliteStore
from headrace.contracts.store import RunFilter
from headrace.core import events as ev
from headrace.core.codec import decode_event

PROCESS = Path(__file__).with_name("kill_code.py")
KILLS = int(os.environ.get("HEADRACE_KILLS", "8"))
ORDERS = 4 * KILLS
SECONDS_MAX = 60.0


def ledger(folder: Path) -> list[str]:
    path = folder / "ledger"
    return path.read_text().splitlines() if path.exists() else []


def spawn(folder: Path) -> subprocess.Popen[bytes]:
    """A process that has started its engine."""
    ups = ledger(folder).count("up")
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([sys.executable, str(PROCESS), str(folder), str(ORDERS)], stdout=log, stderr=log)
    deadline = time.monotonic() + SECONDS_MAX
    while ledger(folder).count("up") == ups:
        assert time.monotonic() < deadline, "the process does not come up"
        assert process.poll() is None, (folder / "log").read_text()
        time.sleep(0.005)
    return process


async def histories(folder: Path) -> dict[str, list[ev.Event]]:
    """Everything stored."""
    store = SqliteStore(f"sqlite:///{folder}/headrace.db")
    await store.open()
    try:
        rows = await store.runs(RunFilter(limit=1000))
        return {row.run_id: [decode_event(data) for _, data in await store.history(row.run_id)] for row in rows}
    finally:
        await store.close()


def keys_of(found: dict[str, list[ev.Event]]) -> set[str]:
    """Attempts whose outcome is recorded, as the ledger names them."""
    ends = (ev.TaskSucceeded, ev.TaskFailed)
    return {f"{run_id}/{event.task}" for run_id, events in found.items() for event in events if isinstance(event, ends)}


def test_orders_survive_kills(tmp_path: Path) -> None:
    seed = int(os.environ.get("HEADRACE_SEED", "1"))
    print(f"HEADRACE_SEED={seed}")
    chance = Random(seed)
    recorded: set[str] = set()
    seen = 0
    for life in range(KILLS + 1):
        process = spawn(tmp_path)
        try:
            if life < KILLS:
                time.sleep(chance.uniform(0.0, 0.3))
                process.kill()
            process.wait(SECONDS_MAX)
        finally:
            process.kill()
            process.wait()
        fresh = [line.removeprefix("begun ") for line in ledger(tmp_path)[seen:] if line.startswith("begun ")]
        again = {name for name in fresh if any(name.startswith(done) for done in recorded if name_of(name) == done)}
        assert not again, f"completed tasks ran again in life {life}: {again}"
        assert not [name for name, count in Counter(fresh).items() if count > 1], "one process ran a task twice"
        seen = len(ledger(tmp_path))
        recorded = keys_of(asyncio.run(histories(tmp_path)))
    assert ledger(tmp_path)[-1] == "finished", (tmp_path / "log").read_text()[-3000:]
    check(asyncio.run(histories(tmp_path)))


def name_of(key: str) -> str:
    """``run/step`` of an idempotency key."""
    return "/".join(key.split("/")[:2])


def check(found: dict[str, list[ev.Event]]) -> None:
    """Each order ended as it must, and nothing was recorded twice."""
    for n in range(ORDERS):
        end = found[f"{n:026d}"][-1]
        assert isinstance(end, ev.RunFinished)
        expected = [f"reserved {n}", f"charged {n}", f"parcel {n}", f"parcel {n}", f"paid {n}"]
        if n % 3 == 0:
            expected = [f"reserved {n}", f"released reserved {n}"]
        assert (end.state, end.output) == ("succeeded", expected), n
    for run_id, events in found.items():
        counts = Counter(event.task for event in events if isinstance(event, ev.TaskSucceeded | ev.TaskFailed))
        assert not [step for step, count in counts.items() if count > 1], run_id
        assert isinstance(events[-1], ev.RunFinished), run_id
    children = sum(events[0].parent is not None for events in found.values() if isinstance(events[0], ev.RunCreated))
    paid = sum(n % 3 != 0 for n in range(ORDERS))
    assert children == 3 * paid, "each order has two parcels, one of which continued once"
