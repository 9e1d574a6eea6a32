"""A process that works on a store and reports on stdout; the tests kill, suspend and watch it.

Usage: ``sqlite_process.py URL ROLE NODE LEASE_SECONDS``. Every line it prints is flushed: what was printed was acknowledged.
"""

import asyncio
import sys
from itertools import count

from headrace.backends.stores import open_store
from headrace.core.errors import HeadraceError
from headrace.testing.store_conformance.stage import Stage, event, new_run, run_id, update


def say(*words: object) -> None:
    print(*words, flush=True)


async def main(url: str, role: str, name: str, lease_seconds: float) -> None:
    store = open_store(url)
    await store.open()
    if role == "open":
        say("opened")
        await store.close()
        return
    stage = Stage(None)  # type: ignore[arg-type] - only its builders are used
    node = await stage.node(name, lease_seconds=lease_seconds, store=store)
    await node.start(new_run(1))
    say("joined", node.epoch)
    if role == "write":
        # Batches of growing and falling size; "acked N" means: events up to N are durable.
        last = 1
        for turn in count():
            seqs = range(last + 1, last + 2 + turn % 40)
            await node.commit([event(run_id(1), seq, "x" * 200) for seq in seqs], updates=[update(run_id(1), seqs[-1])])
            last = seqs[-1]
            say("acked", last)
    elif role == "zombie":
        # Suspended after this line; writes again when it is continued.
        while sys.stdin.readline():
            try:
                await node.go_on(run_id(1), 2)
                say("wrote")
            except HeadraceError as error:
                say(type(error).__name__, store.renew(node.name, node.epoch, 60.0))
    else:
        await asyncio.Event().wait()


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])))
