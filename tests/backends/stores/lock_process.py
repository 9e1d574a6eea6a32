"""A program that takes a lock and works under it: ``lock_process.py URL NODE LEASE_SECONDS FOLDER``.

It prints ``held TOKEN``, and when it has lost the lock: ``LockLost TOKEN``.
"""

import asyncio
import sys
from pathlib import Path

from headrace import Headrace, LockLost


async def main(url: str, name: str, lease_seconds: float, folder: str) -> None:
    async with Headrace(url, node=name, lease_seconds=lease_seconds, data_dir=Path(folder) / name) as headrace:
        try:
            async with headrace.lock("door") as held:
                print("held", held.token, flush=True)
                await asyncio.Event().wait()
        except LockLost as error:
            print("LockLost", error.token, flush=True)


asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]))
