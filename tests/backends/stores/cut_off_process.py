"""A node that acts for as long as it believes that it leads: ``cut_off_process.py URL NODE LEASE_SECONDS FOLDER [start]``.

Acts are lines in ``FOLDER/acts``, which all nodes share: ``TERM NODE``; nobody refuses them. What the node is about goes to
standard output: ``acted`` (for the first time in a term), ``stopped`` (it believes in its term no more). With ``start`` it
begins a run and says ``run ID`` and, when it has heard, ``finished OUTPUT``. An attempt notes in ``FOLDER/began`` where it
is carried out, and ends when there is ``FOLDER/gate``. The end of standard input ends the process.
"""

import asyncio
import os
import sys
import threading
from pathlib import Path

from headrace import Headrace, dag, task

URL, NAME, LEASE_SECONDS, FOLDER = sys.argv[1], sys.argv[2], float(sys.argv[3]), Path(sys.argv[4])
PAUSE_SECONDS = 0.02


def note(file: str, line: str) -> None:
    handle = os.open(FOLDER / file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


def say(*words: object) -> None:
    print(*words, flush=True)


@task
async def slow() -> str:
    note("began", NAME)
    while not (FOLDER / "gate").exists():
        await asyncio.sleep(PAUSE_SECONDS)
    return NAME


with dag("slow") as work:
    slow()


async def act(headrace: Headrace) -> None:
    leader = headrace._node.leader
    acting = 0
    while True:
        term = leader.term()
        if term is not None:
            note("acts", f"{term.number} {NAME}")
            if term.number != acting:
                acting = term.number
                say("acted")
        elif acting:
            acting = 0
            say("stopped")
        await asyncio.sleep(PAUSE_SECONDS)


async def main() -> None:
    async with Headrace(
        URL, workflows=[work], node=NAME, lease_seconds=LEASE_SECONDS, data_dir=FOLDER / "data", patience_seconds=3600
    ) as headrace:
        acting = asyncio.create_task(act(headrace))
        if "start" in sys.argv:
            run = await headrace.run(work)
            say("run", run.id)
            say("finished", (await run.result())["slow"])
        await acting


def end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_stdin, daemon=True).start()
    asyncio.run(main())
