"""Tasks that take locks, for processes of their own."""

import asyncio
import contextlib
import contextvars
import os
import threading
import time
from pathlib import Path

from headrace import LockLost, LockMisused, LockNotFree, lock


def enter(folder: str, token: int) -> None:
    """Fails if somebody else is inside; the tokens are noted in their order."""
    inside = Path(folder, "inside")
    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
    with Path(folder, "tokens").open("a") as notes:
        notes.write(f"{token}\n")
    inside.unlink()


def in_a_process(folder: str) -> int:
    with lock("door") as held:
        held.check()
        enter(folder, held.token)
        return os.getpid()


async def coroutine_in_a_process(folder: str) -> int:
    async with lock("door") as held:
        held.check()
        enter(folder, held.token)
        return os.getpid()


def many_threads(folder: str) -> int:
    def work() -> None:
        with lock("door") as held:
            enter(folder, held.token)

    def apart() -> None:
        with lock(threading.current_thread().name):
            pass

    threads = [threading.Thread(target=contextvars.copy_context().run, args=[apart], name=f"t{n}") for n in range(5)]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    return len(threads)


def only_asks() -> list[str]:
    try:
        with lock("door", timeout=0):
            return []
    except LockNotFree as error:
        return [error.name, error.node, str(error)]


async def gives_up(folder: str) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05), lock("door"):
            raise AssertionError
    Path(folder, "gave up").touch()
    lasts_until(folder, "go")


def lasts_until(folder: str, name: str) -> None:
    while not Path(folder, name).exists():
        time.sleep(0.01)


def twice() -> None:
    with lock("door"), lock("door"):
        raise AssertionError


def crashes(folder: str) -> None:
    with lock("door"):
        Path(folder, "begun").write_text(str(os.getpid()))
        os._exit(3)


def never_ends(folder: str) -> None:
    with lock("door"):
        Path(folder, "begun").write_text(str(os.getpid()))
        time.sleep(1000)


def waits_for_ever(folder: str) -> None:
    Path(folder, "begun").write_text(str(os.getpid()))
    with lock("door"):
        raise AssertionError


def looks() -> list[object]:
    with lock("door") as held:
        found: list[object] = [held.token, held.is_held, held.is_held]
        try:
            held.check()
        except LockLost as error:
            found.append(error.token)
        return found


def leaves_a_thread(folder: str, takes_one: bool) -> None:
    """The thread asks for a lock when its call is over."""
    if takes_one:
        with lock("other"):
            pass

    def late() -> None:
        lasts_until(folder, "next")
        try:
            with lock("door"):
                said = "held"
        except LockMisused as error:
            said = str(error)
        Path(folder, "draft").write_text(said)
        Path(folder, "draft").rename(Path(folder, "said"))

    threading.Thread(target=contextvars.copy_context().run, args=[late], daemon=True).start()


def another(folder: str) -> None:
    """Lasts until the thread of the call before has been answered."""
    Path(folder, "next").touch()
    lasts_until(folder, "said")
