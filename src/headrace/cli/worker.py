"""``headrace worker | queues``: carrying out attempts of runs that other processes own, and looking at what waits."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli import options
from headrace.cli.options import Session, pairs, session_of
from headrace.cli.output import Format, write, write_document

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from headrace.assembly import Headrace
    from headrace.contracts.ready import QueueRow
    from headrace.worker.remote import RemoteWorker

EXECUTORS = ("thread", "process", "shell")
"""Whose slots can be set."""

TERM_SECONDS = 30.0
"""How long attempts may take to end after SIGTERM."""


def worker(
    queue: Annotated[
        list[str] | None,
        typer.Option("--queue", metavar="NAME", help="A queue to serve; again for more. [default: node.queues]"),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME=VALUE", help="A label that tasks may need; again for more."),
    ] = None,
    slots: Annotated[
        list[str] | None,
        typer.Option("--slots", metavar="EXECUTOR=N", help="Attempts at once: thread=8; again for more."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Its name, unique in the store; default: made up.")
    ] = None,
    source_dir: Annotated[
        str | None,
        typer.Option(
            "--source-dir",
            metavar="DIR",
            help="Where modules and scripts are, if the folder of the workflow's file does not exist here.",
        ),
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option("--data-dir", metavar="DIR", help="Folder for logs, large values and work folders.")
    ] = None,
    server: Annotated[
        list[str] | None,
        typer.Option(
            "--server", metavar="URL", help="A server to work for, instead of a store; again for more, one at a time."
        ),
    ] = None,
    token_file: Annotated[
        str | None,
        typer.Option("--token-file", metavar="FILE", help="Holds the server's token. [env: HEADRACE_TOKEN]"),
    ] = None,
    ca: Annotated[
        str | None,
        typer.Option(
            "--ca", metavar="FILE", help="Authorities (PEM) the server's certificate may be from. [env: HEADRACE_CA]"
        ),
    ] = None,
    store: options.Store = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Carry out attempts of the queues it serves, for runs that other processes own, until told to stop.

    With --server it needs no access to the store: a token is all it has.

    Ctrl-C once, or SIGTERM, takes nothing new and lets attempts under way end; twice interrupts them. What had not ended
    is offered to others.
    """
    session = session_of(store, quiet=quiet, verbose=verbose)
    from headrace.cli.runtime import run
    from headrace.config.load import load

    node = (session.configuration or load()).settings.node
    labels = pairs(label, "--label") or dict(node.labels)
    queues = tuple(queue or node.queues)

    counts = _slots(slots)
    folder = _folder(source_dir)

    if server or token_file or ca:
        from headrace.cli.worker_remote import remote_worker

        made = remote_worker(
            session, server, token_file, ca, queues=queues, labels=labels, slots=counts, name=name, data_dir=data_dir,
            source_dir=folder,
        )  # fmt: skip

        async def work_there() -> int:
            return await _work_there(session, made, _served(queues, labels))

        return run(work_there())

    async def work() -> int:
        return await _work(session, queues, labels, counts, name, folder, data_dir)

    return run(work())


async def _work(
    session: Session,
    queues: tuple[str, ...],
    labels: dict[str, str],
    counts: dict[str, int],
    name: str | None,
    source_dir: Path | None,
    data_dir: str | None,
) -> int:
    import asyncio

    from headrace.assembly import Headrace

    given = {
        "node": name,
        "threads": counts.get("thread"),
        "processes": counts.get("process"),
        "shells": counts.get("shell"),
        "data_dir": data_dir,
    }
    headrace = Headrace.configured(
        session.configuration.settings if session.configuration is not None else None,
        store=session.store,
        adopt=False,
        execute=True,
        pull=True,
        queues=queues,
        labels=labels,
        source_dir=source_dir,
        **{key: value for key, value in given.items() if value is not None},
    )
    async with headrace:
        _say(session, f"worker {headrace.node_id} serves {_served(queues, labels)}")
        broken = asyncio.create_task(_until_broken(headrace))
        await _until_told(session, headrace, broken)
    return 0


async def _work_there(session: Session, worker: RemoteWorker, served: str) -> int:
    import asyncio

    def waiting(error: Exception) -> None:
        _say(session, f"{error}; it is tried again until one answers")

    started = asyncio.create_task(worker.start(waiting))

    async def until_broken() -> None:
        await started
        _say(session, f"worker {worker.name} serves {served} for {worker.server}")
        await asyncio.Event().wait()

    try:
        await _until_told(session, worker, asyncio.create_task(until_broken()))
    finally:
        started.cancel()
        await asyncio.gather(started, return_exceptions=True)
        await worker.close()
    return 0


async def _until_told(session: Session, worker: Headrace | RemoteWorker, broken: asyncio.Task[None]) -> None:
    """Wait for a signal and close the worker as it asks for. Raises what ``broken`` does."""
    import asyncio
    import signal

    stop, hurry = asyncio.Event(), asyncio.Event()
    drain = [float("inf")]

    def interrupted() -> None:
        if stop.is_set():
            hurry.set()
        stop.set()

    def terminated() -> None:
        drain[0] = TERM_SECONDS
        stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupted)
    loop.add_signal_handler(signal.SIGTERM, terminated)
    await asyncio.wait([asyncio.create_task(stop.wait()), broken], return_when=asyncio.FIRST_COMPLETED)
    if broken.done():
        broken.result()  # raises
    broken.cancel()
    if worker.guests:
        _say(session, f"waiting for {worker.guests:,} attempts under way to end; Ctrl-C stops them")
    closing = asyncio.create_task(worker.close(drain_seconds=drain[0]))
    await asyncio.wait([closing, asyncio.create_task(hurry.wait())], return_when=asyncio.FIRST_COMPLETED)
    if not closing.done():
        await worker.interrupt()
    await closing


async def _until_broken(headrace: Headrace) -> None:
    """Never returns; raises what keeps the engine from working."""
    import asyncio

    while True:
        await asyncio.sleep(1.0)
        headrace.check_working()


def _served(queues: tuple[str, ...], labels: dict[str, str]) -> str:
    shown = ", ".join(queues)
    return f"{shown} with {', '.join(f'{name}={value}' for name, value in labels.items())}" if labels else shown


def _say(session: Session, text: str) -> None:
    if not session.quiet:
        print(text, file=sys.stderr, flush=True)  # noqa: T201


def _slots(given: list[str] | None) -> dict[str, int]:
    from headrace.core.errors import HeadraceError

    counts: dict[str, int] = {}
    for executor, text in pairs(given, "--slots").items():
        if executor not in EXECUTORS:
            raise HeadraceError(
                f"--slots: there is no executor {executor!r} whose slots can be set",
                hint=f"one of {', '.join(EXECUTORS)}",
            )
        if not text.isdecimal() or not 1 <= int(text) <= 10_000:
            raise HeadraceError(f"--slots {executor}={text}: expected a whole number from 1 to 10,000")
        counts[executor] = int(text)
    return counts


def _folder(given: str | None) -> Path | None:
    from pathlib import Path

    from headrace.core.errors import NotFound

    if given is None:
        return None
    folder = Path(given).resolve()
    if not folder.is_dir():
        raise NotFound(f"--source-dir: there is no folder {folder}")
    return folder


def queues(
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    verbose: options.Verbose = False,
) -> int:
    """What waits and what is claimed in each queue, and how long the oldest has waited."""
    session = session_of(store, verbose=verbose)
    from headrace.cli.engine import reader
    from headrace.cli.runtime import run

    async def read() -> list[QueueRow]:
        async with reader(session) as headrace:
            return await headrace.queues()

    rows = run(read())
    if output is not Format.TEXT:
        import msgspec

        write_document([msgspec.to_builtins(row) for row in rows], output)
        return 0
    if not rows:
        write("nothing waits in any queue")
        return 0
    from headrace.cli.table import aligned

    cells = [[row.queue, f"{row.waiting:,}", f"{row.claimed:,}", f"{row.waited_seconds:.0f}s"] for row in rows]
    write(aligned(["QUEUE", "WAITING", "CLAIMED", "OLDEST"], cells))
    return 0
