"""What a cluster under test carries out: a graph and code. Each task notes in ``ledger`` when it begins, before it does
anything else; lines outlive the process, and their order is that of the file."""

import os
import time
from pathlib import Path

import mill_tasks
from mill_tasks import grind, sums, work

from headrace import dag, task

FOLDER = Path(os.environ.get("CLUSTER_FOLDER", "."))
NODE = os.environ.get("CLUSTER_NODE", "")


def note(file: str, line: str) -> None:
    handle = os.open(FOLDER / file, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


def take_over_mill() -> None:
    """In a process of a node: its tasks work as long, and note, as a cluster's do."""
    mill_tasks.WORK_SECONDS = float(os.environ["CLUSTER_WORK_SECONDS"])
    mill_tasks.TIMER_SECONDS = 0.1
    mill_tasks.note_begin = lambda key, attempt: note("ledger", f"{key} {attempt} {time.time():.6f} {NODE}")


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
