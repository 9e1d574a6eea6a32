"""Runs that a server carries out: started from here, shown while they go on, and left to it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, cast

from headrace.cli.engine import client_of
from headrace.cli.exits import ExitCode
from headrace.cli.options import Session
from headrace.cli.output import Format, write, write_document
from headrace.cli.progress import Progress
from headrace.cli.summary import exit_code, write_run
from headrace.cli.waiting import Start, progress_of
from headrace.client.documents import run_document
from headrace.client.http.handle import HttpRunHandle
from headrace.core.errors import HeadraceError
from headrace.core.states import RunState
from headrace.core.view import RunView

if TYPE_CHECKING:
    from headrace.assembly import Headrace

LOOK_SECONDS = 0.2
"""The shortest time between two looks at a run."""


async def start_there(session: Session, start: Start, form: Format, *, no_wait: bool) -> int:
    """Start a run at the server, or make one go on there, show it until it has ended, and say how; the exit code. Ctrl-C
    stops the showing alone."""
    assert session.server is not None
    async with client_of(session.server) as client:
        handle = cast("HttpRunHandle[Any]", await start(cast("Headrace", client)))
        if no_wait:
            if form is Format.TEXT:
                write(handle.id)
            else:
                write_document(run_document(await handle.show()), form)
            return ExitCode.SUCCEEDED
        progress = progress_of(session, await client.definition_of(handle.id))
        view = await _follow(handle, progress)
        if view is None:
            view = await handle.show()
            if form is not Format.TEXT:
                write_document(run_document(view), form)
            option = session.store_option
            sys.stderr.write(
                f"run {view.id} goes on at the server; to stop it: headrace runs cancel {view.id}{option}\n"
            )
            return ExitCode.INTERRUPTED
        write_run(view, form, session)
    return exit_code(view)


async def _follow(handle: HttpRunHandle[Any], progress: Progress) -> RunView | None:
    """Show a run until it has ended or is suspended; None if the user does not want to wait any longer."""
    view: RunView | None = None

    async def show() -> None:
        nonlocal view
        async with contextlib.aclosing(cast("Any", handle.watch(interval_seconds=LOOK_SECONDS))) as views:
            async for shown in views:
                view = shown
                progress.show(shown)
                if shown.state == RunState.SUSPENDED:
                    return  # nothing happens to it until somebody mends its code

    progress.start()
    showing = asyncio.create_task(show())
    try:
        with _told_to_stop(showing):
            await asyncio.wait({showing})
    finally:
        progress.stop()
    if showing.cancelled():
        return None
    try:
        showing.result()
    except HeadraceError as error:
        command = f"headrace runs show {handle.id}"
        error.hint = "; ".join(part for part in (error.hint, f"the run is not lost: {command}") if part)
        raise
    return view


@contextlib.contextmanager
def _told_to_stop(showing: asyncio.Task[None]) -> Generator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, showing.cancel)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
