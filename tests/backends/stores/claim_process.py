"""A node that claims whatever there is: ``claim_process.py URL NODE BATCH``. Waits for a line on stdin, then claims until
nothing is left, and prints what it got."""

import asyncio
import sys

from headrace.backends.stores import open_store
from headrace.core.ids import NodeId


async def main(url: str, name: str, batch: int) -> None:
    store = open_store(url)
    await store.open()
    node = NodeId(name)
    epoch = await store.join(node, 3600.0, "", {})
    print("joined", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    taken: list[str] = []
    while found := await store.claim(node, epoch, batch):
        taken += found
    print(*taken, flush=True)
    await store.close()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
