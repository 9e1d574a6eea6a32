"""What a cluster under test carries out: a graph and code. Each task notes in ``ledger`` that it begins, before it does
anything else; lines outlive the process, and their order is that of the file.

The time in a line is that of the engine's last look at its lease before it began. A process that is suspended after that
look and before the task's first line cannot be held back by anybody, and in ten minutes of suspensions one is.
"""

import os
import time
from pathlib import Path

import mill_tasks
from mill_tasks import grind, sums, work

from headrace import dag, task
from headrace.engine import launcher

FOLDER = Path(os.environ.get("CLUSTER_FOLDER", "."))
NODE = os.environ.get("CLUSTER_NODE", "")


def note(file: str, line: str) -> None:
    handle = os.open(FOLDER / file, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


class Looks:
    """Stands for the clock of the launcher: knows when it was last looked at."""

    def __init__(self) -> None:
        self._at: float | None = None

    def monotonic(self) -> float:
        self._at = time.time()  # first: who is suspended from here on reads a later time below
        return time.monotonic()

    def take(self) -> float:
        """When the attempt that begins now was looked at; now, if nobody has."""
        at, self._at = self._at, None
        return time.time() if at is None else at


def take_over_mill() -> None:
    """In a process of a node: its tasks work as long, and note, as a cluster's do."""
    mill_tasks.WORK_SECONDS = float(os.environ["CLUSTER_WORK_SECONDS"])
    mill_tasks.TIMER_SECONDS = 0.1
    looks = Looks()
    launcher.monotonic = looks.monotonic
    mill_tasks.note_begin = lambda key, attempt: note("ledger", f"{key} {attempt} {looks.take():.6f} {NODE}")


@task
async def breaks(total: int) -> int:
    await work(total)
    raise RuntimeError(f"{total} is not right")


@task
async def alarm() -> str:
    return await work("rung")


with dag("mill") as mill:
    broken = breaks(grind())
    alarm.options(trigger="one_failed")().after(broken)

__all__ = ["mill", "sums"]

EXPECTED = {
    "mill": (
        "failed",
        {
            "numbers": "succeeded",
            **{f"square[{item}]": "succeeded" for item in range(3)},
            "shaky": "succeeded",
            "breaks": "failed",
            "alarm": "succeeded",
        },
    ),
    "sums": ("succeeded", None),
}
"""By workflow: the state of its run, and of each unit (None: all five succeeded)."""
