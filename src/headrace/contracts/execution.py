"""How an attempt is carried out: task kinds, bound tasks, executors and attempt logs.

A *task kind* (``python``, ``run``, ``http``, a plug-in) understands one sort of task. Before a run starts it *binds*
every task of the workflow once: checks the typed config, finds the function, chooses the executor. The launcher then
runs the bound task once per attempt. Cancellation and attempt timeouts reach ``BoundTask.run`` as
``asyncio.CancelledError``; it must stop what it began (kill the process group) before it lets the error pass.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol

import msgspec

from headrace.core.ids import attempt_key
from headrace.core.spec import TaskSpec

if TYPE_CHECKING:
    from headrace.contracts.locking import Locker

Pulse = Callable[[bytes | None], None]
"""Takes an attempt's heartbeat: its details as JSON, or None for a bare sign of life. Cheap; safe from any thread."""


class Attempt(msgspec.Struct, kw_only=True, gc=False):
    """One try at a task, everything rendered. ``item`` is the index in a mapped task. ``heartbeat_details`` are those of
    the last heartbeat before this attempt, ``heartbeat_seconds`` the bound of the gap between heartbeats; whoever carries
    the attempt out gives signs of life to ``pulse``. ``headers`` have travelled with the run, see
    :mod:`headrace.contracts.interceptor`. ``locker`` gives locks, see :mod:`headrace.contracts.locking`."""

    run_id: str
    workflow: str
    task: str
    attempt: int
    config: dict[str, Any]
    args: dict[str, Any]
    item: int | None = None
    timeout_seconds: float | None = None
    source_dir: str | None = None
    run_tags: Mapping[str, str] = {}
    heartbeat_seconds: float | None = None
    heartbeat_details: Any = None
    pulse: Pulse | None = None
    headers: dict[str, str] = {}
    locker: Locker | None = None
    intercepted: bool = False
    """``config`` may have been changed since the task was bound."""
    log: LateLog | None = None
    """Kept here by the :class:`BindContext` that gave it; whoever launched the attempt closes it."""
    folder: str | None = None
    """Likewise: its work folder, which the context removes."""

    @property
    def key(self) -> str:
        """Unique for ever, and the same if the attempt is launched again after a crash: an idempotency key."""
        return attempt_key(self.run_id, self.task, self.item, self.attempt)


class AttemptLog(Protocol):
    """The text output of one attempt. Writing never blocks for long and never fails the attempt; past the size bound
    the middle is dropped and a line says so."""

    def write(self, stream: str, data: bytes) -> None:
        """Append raw output of ``stream`` ("stdout", "stderr" or "log"). Safe from any thread."""
        ...

    def close(self) -> None:
        """No more output. Idempotent."""
        ...


class LateLog(msgspec.Struct, eq=False, gc=False):
    """An attempt's log that costs nothing before something is written: most attempts write nothing."""

    _logs: LogStore
    _run_id: str
    _task: str
    _item: int | None
    _number: int
    opened: AttemptLog | None = None
    """What is written to, from the first line on."""
    closed: bool = False

    def write(self, stream: str, data: bytes) -> None:
        """Append; ignored once closed."""
        log = self.opened
        if log is None:
            with _opening:
                if self.closed:
                    return
                log = self.opened
                if log is None:
                    log = self._logs.open_log(self._run_id, self._task, self._item, self._number)
                    self.opened = log
                    if self.closed:  # meanwhile
                        log.close()
                        return
        log.write(stream, data)

    def close(self) -> None:
        """No more output. A thread that goes on after its time may be writing just now: either it sees that this is
        closed, or what it opened is seen here."""
        self.closed = True
        if self.opened is not None:
            self.opened.close()


_opening = threading.Lock()
"""Held while a log is opened for its first line."""


class LogStore(Protocol):
    """Where attempt logs live."""

    def open_log(self, run_id: str, task: str, item: int | None, attempt: int) -> AttemptLog:
        """A log for one attempt; nothing is created until something is written. A second open of the same attempt
        (after a crash) appends."""
        ...

    def read_logs(self, run_id: str, task: str | None = None) -> list[LogEntry]:
        """What was written for a run (or one of its tasks), in the order of task, item and attempt."""
        ...

    def delete_logs(self, run_id: str) -> None:
        """Forget a run's logs (retention). Idempotent."""
        ...


class LogEntry(msgspec.Struct, frozen=True):
    """The log of one attempt. ``text`` is decoded as UTF-8 with replacement."""

    task: str
    item: int | None
    attempt: int
    text: str


class Executor(Protocol):
    """Carries out Python calls: ``inline`` (coroutines on the engine's loop), ``thread``, ``process``."""

    name: ClassVar[str]

    async def start(self) -> None:
        """Idempotent. Cheap: pools grow on first use."""
        ...

    async def stop(self) -> None:
        """End everything under way. Idempotent."""
        ...

    async def call(
        self, target: str, function: Callable[..., Any], args: dict[str, Any], attempt: Attempt, log: AttemptLog
    ) -> Any:
        """Call ``function(**args)`` and return its result or raise its exception (an exception that came from another
        process carries the user's traceback text in ``__headrace_traceback__``). ``target`` is the importable name
        (``module:qualname``) for executors that cross a process border."""
        ...


class BindContext(Protocol):
    """What a task kind may use while binding and running."""

    source_dir: str | None
    """Folder of the workflow file: Python modules, scripts and the working directory are looked up from here."""
    executors: Mapping[str, Executor]
    functions: Mapping[str, Callable[..., Any]]
    """Functions given by an embedding program, by target name; looked up before importing."""
    env_allow: tuple[str, ...]
    """Names (or prefixes ending in ``*``) of environment variables that shell tasks inherit."""
    memo: dict[object, Any]
    """What kinds worked out while binding this workflow, by keys of their own: a graph may name one function a hundred
    thousand times. Forgotten with the workflow, so that mended code is seen."""

    def work_dir(self, attempt: Attempt) -> str:
        """A fresh folder for the attempt, made on first call, removed when the attempt ends."""
        ...

    def log(self, attempt: Attempt) -> AttemptLog:
        """The attempt's log, opened on first use."""
        ...


class BoundTask(Protocol):
    """A task ready to run."""

    executor: str
    """Name of the executor, for display and limits."""

    async def run(self, attempt: Attempt) -> Any:
        """Carry the attempt out and return its output: any value msgspec can turn into JSON. Raises what the task
        raises; see :class:`AttemptError` for failures that are not exceptions."""
        ...


class TaskKind(Protocol):
    """A plug-in for a sort of task, found through the ``headrace.tasks`` entry points; ``name`` is its key in YAML."""

    name: ClassVar[str]
    Config: ClassVar[type[msgspec.Struct]]
    """Typed settings. Unknown keys and wrong types are refused before a run starts."""
    shorthand: ClassVar[str | None]
    """The config field that a bare value sets: ``run: "make"`` is ``run: {command: "make"}``."""

    def bind(self, task: TaskSpec, context: BindContext) -> BoundTask:
        """Check everything that can be checked before a run starts. ``task.config`` may still hold templates. Raises
        :class:`headrace.core.errors.UserCodeError` or :class:`headrace.core.errors.InvalidDefinition`."""
        ...


class AttemptError(Exception):
    """A failure that is not a Python exception of the task: an exit code, an HTTP status, a lost process.

    ``type``, ``code``, ``bases``, ``retryable`` and ``retry_after`` (seconds) become those of
    :class:`headrace.core.events.Failure`. ``retryable`` is a last word, before the policy's ``retry_on``; leave it None
    where the policy should decide. ``bases`` are further names by which a policy may mean this failure.
    """

    def __init__(
        self,
        type: str,  # noqa: A002
        message: str,
        *,
        code: int | None = None,
        bases: tuple[str, ...] = (),
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.type = type
        self.code = code
        self.bases = bases
        self.retryable = retryable
        self.retry_after = retry_after


class CompletesLater(BaseException):
    """Leaves a task whose outcome somebody else will report; see :func:`complete_later`. Not an ``Exception``, so that
    a task's own ``except Exception`` lets it pass."""


def complete_later() -> NoReturn:
    """End the task's function, but not its attempt: whoever was given ``current_attempt().token`` reports the outcome
    with ``Headrace.complete`` or ``Headrace.fail``, from any process. Meanwhile the attempt holds no slot; its timeouts
    still count."""
    raise CompletesLater
