"""A node that says when it leads: ``leader_process.py URL NODE LEASE_SECONDS FOLDER``.

It prints ``leads TERM``. After that every line on stdin makes it do what the leader of that term does, whatever it believes by
then, and say how that went and whether it believes that it leads.
"""

import asyncio
import sys
from pathlib import Path

from headrace import Headrace
from headrace.core.errors import HeadraceError


async def main(url: str, name: str, lease_seconds: float, folder: str) -> None:
    async with Headrace(url, node=name, lease_seconds=lease_seconds, data_dir=Path(folder) / name) as headrace:
        node = headrace._node
        while (term := node.leader.term()) is None:
            await asyncio.sleep(0.01)
        print("leads", term.number, flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            try:
                await node.store.delete_runs(1e12, 1, term)
                said = "done"
            except HeadraceError as error:
                said = type(error).__name__
            print(said, "leads" if node.leader.term() == term else "follows", flush=True)


asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]))
