"""The attempt that the calling code belongs to: :func:`current_attempt`.

Works wherever task code runs: in coroutines on the engine's loop, in threads, in child processes. It rides in a
:class:`contextvars.ContextVar`, so it follows ``asyncio`` tasks; a thread that task code starts by hand sees it only
if it copies the context.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import msgspec

from headrace.contracts.execution import Attempt, AttemptLog
from headrace.contracts.outcome import encode_output
from headrace.contracts.token import token_of

HEARTBEAT_BYTES_MAX = 16 * 1024
"""The largest heartbeat details, as JSON: they are stored in the run's history every few seconds."""


class AttemptInfo(msgspec.Struct, eq=False, gc=False):
    """What task code may know about its own attempt. Read-only; valid while the attempt runs."""

    _attempt: Attempt
    _log: AttemptLog
    _cancelled: bool = False

    @property
    def run_id(self) -> str:
        """The run."""
        return self._attempt.run_id

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self._attempt.workflow

    @property
    def task(self) -> str:
        """The task's id."""
        return self._attempt.task

    @property
    def item(self) -> int | None:
        """The index in a mapped task, None in a plain one."""
        return self._attempt.item

    @property
    def attempt(self) -> int:
        """1 for the first try."""
        return self._attempt.attempt

    @property
    def key(self) -> str:
        """The name of this attempt, unique for ever; a repeat after a crash has the same key."""
        return self._attempt.key

    @property
    def idempotency_key(self) -> str:
        """``run/task`` or ``run/task[item]``: the same for every attempt, so that an outside system can recognise a
        retry."""
        return idempotency_key(self._attempt)

    @property
    def headers(self) -> dict[str, str]:
        """What has travelled with the run beside its parameters: see :mod:`headrace.contracts.interceptor`."""
        return dict(self._attempt.headers)

    @property
    def cancelled(self) -> bool:
        """True once the attempt was cancelled or timed out. A thread cannot be interrupted from outside: code that
        runs long in one should look here from time to time and return."""
        return self._cancelled

    @property
    def heartbeat_details(self) -> Any:
        """The details of the last heartbeat before this attempt began, of an earlier attempt or of this one before a
        crash; None if there was none."""
        return self._attempt.heartbeat_details

    @property
    def token(self) -> str:
        """What somebody else needs to complete this attempt: see :func:`headrace.complete_later`."""
        attempt = self._attempt
        return token_of(attempt.run_id, attempt.task, attempt.item, attempt.attempt)

    def heartbeat(self, details: Any = None) -> None:
        """Say that the attempt lives, which starts the clock of ``timeout: {heartbeat: ...}`` anew.

        ``details`` are plain values that say how far it is; the next attempt finds the latest in
        :attr:`heartbeat_details`, also after a crash of the engine as far as they were recorded by then (every two
        seconds). Without details the last ones stay. Costs microseconds: call it as often as there is news. Safe from any
        thread. Raises :class:`ValueError` for details over 16 KiB, and what JSON cannot hold like a task's result."""
        pulse = self._attempt.pulse
        data = None
        if details is not None:
            data = encode_output(details)
            if len(data) > HEARTBEAT_BYTES_MAX:
                raise ValueError(
                    f"heartbeat details are {len(data):,} bytes of JSON, at most {HEARTBEAT_BYTES_MAX:,} are kept; "
                    "write what is large to a file and give its path"
                )
        if pulse is not None:
            pulse(data)

    def log(self, message: object, *args: object) -> None:
        """Append a line to the attempt's log; with ``args``, ``message % args``. Never fails the attempt."""
        text = str(message)
        if args:
            try:
                text = text % args
            except (TypeError, ValueError):
                text = f"{text} {args!r}"
        self._log.write("log", text.encode("utf-8", "replace") + b"\n")

    def mark_cancelled(self) -> None:
        """For executors: the attempt is no longer wanted."""
        self._cancelled = True

    def __repr__(self) -> str:
        return f"<attempt {self._attempt.key}>"


def idempotency_key(attempt: Attempt) -> str:
    """The name of the work an attempt does, whichever try it is: ``run/task`` or ``run/task[item]``."""
    if attempt.item is None:
        return f"{attempt.run_id}/{attempt.task}"
    return f"{attempt.run_id}/{attempt.task}[{attempt.item}]"


attempt_var: ContextVar[AttemptInfo | None] = ContextVar("headrace_attempt", default=None)
"""Set by executors around task code; read it through :func:`current_attempt`."""


def current_attempt() -> AttemptInfo:
    """The attempt the caller runs in. Raises :class:`RuntimeError` outside of one; a test that calls a task function
    by hand can set :data:`attempt_var`."""
    info = attempt_var.get()
    if info is None:
        raise RuntimeError("current_attempt() was called outside a task: it works only while Headrace runs an attempt")
    return info
