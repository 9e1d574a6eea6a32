"""A node in a process of its own, to be killed at any time. Usage: ``kill_node.py STORE NAME FOLDER``.

Says ``up`` when it works, ``leads`` when it begins to lead, and ends when its standard input does.
"""

import asyncio
import os
import sys

from headrace import Headrace

STORE, NAME, FOLDER = sys.argv[1:]


def say(word: str) -> None:
    os.write(1, f"{word}\n".encode())


async def main() -> None:
    options = {"node": NAME, "data_dir": FOLDER, "lease_seconds": 2.0}
    async with Headrace(STORE, **options) as hr:
        say("up")
        leader = hr._node.leader
        tell = leader._on_change

        def told() -> None:
            tell()
            if leader.term() is not None:
                say("leads")

        leader._on_change = told
        if leader.term() is not None:
            say("leads")
        await asyncio.to_thread(sys.stdin.read)


asyncio.run(main())
