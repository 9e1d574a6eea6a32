"""``--no-wait``: the run is made durable here and carried out by a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from headrace.assembly import Headrace
from headrace.cli.documents import run_document
from headrace.cli.engine import engine
from headrace.cli.options import Session
from headrace.cli.output import Format, write, write_document
from headrace.cli.waiting import Start
from headrace.core.errors import HeadraceError, StoreError


async def start_detached(session: Session, start: Start, form: Format, *, must_exist: bool = False) -> int:
    """Start a run without carrying out any of it, and leave it to a background process. The run is durable before that
    process exists: should it not come up, ``headrace runs resume`` goes on with the run."""
    if not session.store.startswith("sqlite:///"):
        raise StoreError(
            f"--no-wait needs a store that other processes can open; {session.store} ends with this one",
            hint="give --store sqlite:///name.db",
        )
    async with engine(session, execute=False, must_exist=must_exist) as headrace:
        handle = await start(headrace)
        view = await handle.show()
        log = _log_file(headrace, handle.id)
    # Only now is the run without an owner, so that the other process can take it up at once.
    _spawn(session, handle.id, log)
    if form is Format.TEXT:
        write(handle.id)
        if not session.quiet:
            sys.stderr.write(f"goes on in the background; its log is {log}\n")
    else:
        write_document(run_document(view), form)
    return 0


def _log_file(headrace: Headrace, run_id: str) -> Path:
    return headrace.data_dir / "background" / f"{run_id}.log"


def _spawn(session: Session, run_id: str, log: Path) -> None:
    """A process in a session of its own: it outlives this one and its terminal, and Ctrl-C does not reach it."""
    command = [sys.executable, "-m", "headrace.cli", "runs", "resume", run_id, "--store", session.store]
    if session.verbose:
        command.append("--verbose")
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            subprocess.Popen(  # noqa: S603 - this program itself
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, "NO_COLOR": "1"},
            )
    except OSError as error:
        raise HeadraceError(
            f"run {run_id} is stored, but no background process could be started: {error}",
            hint=f"headrace runs resume {run_id}{session.store_option}",
        ) from error
