"""A node of a cluster under test, in a process of its own: ``cluster_node.py OPTIONS``, a JSON object.

It starts runs, graphs and code in turn, until there is a file ``enough``, and carries them out until SIGTERM. Each that
was acknowledged is a line in ``acknowledged``.
"""

import asyncio
import contextlib
import json
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any

from cluster_flows import FOLDER, NODE, mill, note, sums, take_over_mill

from headrace import Headrace, HeadraceError, StoreError

UNAVAILABLE = 69


async def load(headrace: Headrace, pause_seconds: float, open_max: int) -> None:
    turn = 0
    while not (FOLDER / "enough").exists():
        await asyncio.sleep(pause_seconds)
        if len(headrace._node.live) >= open_max:
            continue
        turn += 1
        with contextlib.suppress(HeadraceError):  # nothing was acknowledged then
            run = await (headrace.run(mill) if turn % 2 else headrace.start(sums))
            note("acknowledged", run.id)


async def burst(headrace: Headrace, count: int) -> None:
    """So many runs at once; says how long they took."""
    begun = time.monotonic()
    runs = [await (headrace.run(mill) if turn % 2 else headrace.start(sums)) for turn in range(count)]
    for run in runs:
        await run.wait(600)
    print("took", time.monotonic() - begun, flush=True)


async def main(given: dict[str, Any]) -> None:
    take_over_mill()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s %(args)s")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    shift = given.get("clock_seconds", 0.0)
    engine = Headrace(
        given["store"],
        broker=given.get("broker"),
        workflows=[mill, sums],
        node=NODE,
        queues=given.get("queues", ["default"]),
        lease_seconds=given.get("lease_seconds"),
        data_dir=Path(FOLDER, "data", NODE),
        now=lambda: time.time() + shift,
    )
    async with contextlib.AsyncExitStack() as stack:
        try:
            headrace = await stack.enter_async_context(engine)
        except StoreError as error:
            print("not started:", error, file=sys.stderr)
            sys.exit(UNAVAILABLE)
        note("up", NODE)
        work = None
        if given.get("pause_seconds"):
            work = asyncio.create_task(load(headrace, given["pause_seconds"], given.get("open_max", 30)))
        elif given.get("burst"):
            work = asyncio.create_task(burst(headrace, given["burst"]))
        await stop.wait()
        if work is not None:
            work.cancel()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
