"""One holder of a lock, as a process: waits for it, acts as long as it may, and stops itself when it can no longer be sure.

``python holder_process.py URL NODE TTL_SECONDS FILE``. Acts are lines in FILE, which all holders share: ``TOKEN NODE``. What
it is about goes to standard output: ``held``, ``acted`` (for the first time), ``unsure`` (could not renew), ``stopped`` (its
time is over by its own clock). The end of standard input ends it.
"""

import asyncio
import os
import sys
import threading
import time

from headrace.backends.keepers.etcd import EtcdLocks
from headrace.backends.keepers.etcd_url import address_of_url
from headrace.contracts.locks import LockClaim, LockRenewal
from headrace.core.errors import StoreUnavailable
from headrace.core.ids import Epoch, NodeId

MARGIN = 0.25  # of the lock's time
PAUSE_SECONDS = 0.02


async def hold(url: str, node: NodeId, ttl: float, file: int) -> None:
    locks = EtcdLocks(address_of_url(url))
    claim = LockClaim(name="door", holder=f"{node}-1", node=node, epoch=Epoch(1), ttl_seconds=ttl)
    token = 0
    while not token:
        began = time.monotonic()
        try:
            token = (await locks.take_lock(claim)).token
        except StoreUnavailable:
            say("waiting")
        await asyncio.sleep(PAUSE_SECONDS)
    good_until = began + ttl * (1 - MARGIN)
    say("held")

    def renew() -> None:
        nonlocal good_until
        while time.monotonic() < good_until:
            began = time.monotonic()
            try:
                kept = locks.renew_locks(node, Epoch(1), [LockRenewal("door", claim.holder, token, ttl)])[0]
            except StoreUnavailable:
                say("unsure")
            else:
                if not kept:
                    good_until = 0.0
                    return
                if time.monotonic() < good_until:  # who has stopped does not begin again
                    good_until = began + ttl * (1 - MARGIN)
            time.sleep(ttl / 8)

    threading.Thread(target=renew, daemon=True).start()
    acted = False
    while time.monotonic() < good_until:
        os.write(file, f"{token} {node}\n".encode())
        if not acted:
            say("acted")
        acted = True
        await asyncio.sleep(PAUSE_SECONDS)
    say("stopped")


def say(word: str) -> None:
    print(word, flush=True)


def end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_stdin, daemon=True).start()
    opened = os.open(sys.argv[4], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    asyncio.run(hold(sys.argv[1], NodeId(sys.argv[2]), float(sys.argv[3]), opened))
    threading.Event().wait()
