"""Every error Headrace raises on purpose, in one tree.

A user reads: what happened, where, what was expected, what to do. ``exit_code`` is what the CLI ends with.
"""

from __future__ import annotations

from collections.abc import Sequence


class HeadraceError(Exception):
    """Root of the tree. ``hint`` tells the reader what to do next."""

    exit_code = 2
    retryable = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


# ---- bad input: the caller can mend it ------------------------------------------------------------------------


class Problem:
    """One thing wrong with a definition. ``where`` is ``file:line:column`` or a path such as ``tasks.load.needs``."""

    __slots__ = ("hint", "message", "path", "where")

    def __init__(self, message: str, *, path: tuple[str | int, ...] = (), where: str = "", hint: str = "") -> None:
        self.message = message
        self.path = path
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        place = self.where or ".".join(str(part) for part in self.path)
        text = f"{place}: {self.message}" if place else self.message
        return f"{text}\n    {self.hint}" if self.hint else text

    def __repr__(self) -> str:
        return f"Problem({str(self)!r})"


class InvalidDefinition(HeadraceError):
    """A workflow definition cannot be used. ``problems`` holds everything found, in the order of the source."""

    def __init__(self, problems: Sequence[Problem], *, source: str = "") -> None:
        self.problems = tuple(problems)
        self.source = source
        count = len(self.problems)
        head = f"{source or 'the workflow'} has {count} problem{'s' if count != 1 else ''}:"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]))


class InvalidParams(HeadraceError):
    """Run parameters are missing, unknown or of the wrong type."""

    def __init__(self, problems: Sequence[Problem], *, workflow: str = "") -> None:
        self.problems = tuple(problems)
        head = f"parameters of workflow {workflow!r} are not valid:" if workflow else "parameters are not valid:"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]))


class InvalidConfiguration(HeadraceError):
    """The configuration cannot be used. ``problems`` holds everything found; ``more`` were found beyond those."""

    def __init__(self, problems: Sequence[Problem], *, more: int = 0) -> None:
        self.problems = tuple(problems)
        count = len(self.problems) + max(more, 0)
        head = f"the configuration has {count} problem{'s' if count != 1 else ''}:"
        tail = [f"  and {more} more"] if more > 0 else []
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems), *tail]))


class InvalidSchedule(HeadraceError):
    """A schedule cannot be used: its times, its zone or its bounds make no sense. ``problems`` holds everything found."""

    def __init__(self, problems: Sequence[Problem], *, name: str = "") -> None:
        self.problems = tuple(problems)
        head = f"schedule {name!r} is not valid:" if name else "the schedule is not valid:"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]))


class UserCodeError(HeadraceError):
    """User code could not be imported or found. ``traceback`` holds the user's own frames, when there are any; ``path``
    the place in the definition that names the code, if known."""

    def __init__(self, message: str, *, traceback: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.traceback = traceback
        self.path: tuple[str | int, ...] = ()


class TemplateError(HeadraceError):
    """A template or expression cannot be parsed or evaluated."""


class NotFound(HeadraceError):
    """No run, workflow or task of that name or id."""


class AlreadyRunning(HeadraceError):
    """There is a run of that workflow and key already. ``run_id`` is that run, ``state`` its state, None while it is
    being created."""

    def __init__(self, workflow: str, key: str, run_id: str, state: str | None) -> None:
        what = "which is being started" if state is None else f"which is {state}"
        super().__init__(
            f"workflow {workflow!r} has run {run_id} with the key {key!r}, {what}",
            hint="on_conflict (--on-conflict) says what to do about a run that goes on, on_reuse (--on-reuse) about one "
            "that has ended",
        )
        self.workflow = workflow
        self.key = key
        self.run_id = run_id
        self.state = state


class InvalidCommand(HeadraceError):
    """The command does not fit the run's state, for example cancelling a run that has ended."""


# ---- operating errors -------------------------------------------------------------------------------------------


class StoreError(HeadraceError):
    """The store could not do what was asked."""


class BrokerError(HeadraceError):
    """A broker cannot be used: its URL means nothing, or its client is not installed. One that is merely out of reach
    raises nothing: wake-ups then come later."""


class KeeperError(HeadraceError):
    """A keeper of locks cannot be used: its URL means nothing, or names files that cannot be read. One that is out of
    reach raises :class:`StoreUnavailable`."""


class StoreUnavailable(StoreError):
    """The store cannot be reached or is locked by another process; trying again later may help."""

    retryable = True


class StoreFull(StoreError):
    """The disk or database is full. Nothing that was acknowledged is lost; free some space and resume."""


class StoreReadOnly(StoreError):
    """The database file or its directory cannot be written."""


class StoreCorrupt(StoreError):
    """The database file is damaged or is not a Headrace database."""


class SchemaTooNew(StoreError):
    """The database was written by a newer Headrace; upgrade this one."""


class Fenced(StoreError):
    """This node no longer owns its runs: its lease ended and its epoch was raised. It must drop them."""


class NotLeader(StoreError):
    """This node does not lead any more: another one was given a higher term. What it wanted to do was not done."""


class HistoryConflict(StoreError):
    """An event with that (run, seq) exists already with other content: two writers; the later one is wrong."""


class PayloadSealed(StoreError):
    """A payload was sealed by a codec (encryption, compression) that is not there, or with a key that is not."""


class ServerError(HeadraceError):
    """A server refused what it was asked, or answered something that is not understood."""


class ServerUnavailable(ServerError):
    """No server can be reached, or it cannot answer now; trying again later, or at another one, may help."""

    retryable = True


class NotAuthorized(ServerError):
    """The server does not know the token."""


class ValueTooLarge(HeadraceError):
    """A value is over its bound and no file store is configured to hold it."""


class EngineStopped(HeadraceError):
    """The engine is stopping and takes no new work."""

    exit_code = 130


class RunFailed(HeadraceError):
    """Raised by ``await run.result()`` when the run failed. ``error`` is the failure of the deciding task."""

    exit_code = 1

    def __init__(self, message: str, *, run_id: str = "", error: object = None) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.error = error


class RunCancelled(HeadraceError):
    """Raised by ``await run.result()`` when the run was cancelled."""

    exit_code = 3

    def __init__(self, message: str, *, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class InvalidTransition(HeadraceError):
    """A defect in Headrace or a damaged history: an event does not fit the state it meets. Carries the story."""


# ---- locks -------------------------------------------------------------------------------------------------------


class LockNotFree(HeadraceError):
    """Somebody else had the lock for longer than the caller wanted to wait. ``name`` is the lock, ``node`` who has it."""

    retryable = True

    def __init__(self, message: str, *, name: str, node: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.name = name
        self.node = node


class LockLost(HeadraceError):
    """A lock was lost while it was held: it could not be renewed in time, or the node lost its lease. Another holder may
    be at work. ``name`` and ``token`` are those of the lock."""

    retryable = True

    def __init__(self, message: str, *, name: str, token: int) -> None:
        super().__init__(message, hint="stop what the lock protects; writes that carry the token can be refused by it")
        self.name = name
        self.token = token


class LockMisused(HeadraceError):
    """A lock was asked for in a way that cannot work: one that is held already, from workflow code, with a bad name."""


# ---- code workflows ------------------------------------------------------------------------------------------------


class NotDeterministic(HeadraceError):
    """Workflow code did something that a replay could not repeat. The run is suspended; mend the code and resume it."""


class Diverged(HeadraceError):
    """Workflow code no longer does what its history says. The run is suspended; nothing was changed."""


class TaskFailed(HeadraceError):
    """Raised in workflow code when a task it awaits has failed for good. ``failure`` says why."""

    exit_code = 1

    def __init__(self, message: str, *, task: str = "", failure: object = None) -> None:
        super().__init__(message)
        self.task = task
        self.failure = failure


class ChildFailed(HeadraceError):
    """Raised in workflow code when a child run it awaits has failed, was cancelled or terminated."""

    exit_code = 1

    def __init__(self, message: str, *, run_id: str = "", state: str = "", failure: object = None) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.state = state
        self.failure = failure


class UpdateRejected(HeadraceError):
    """A workflow's validator refused an update, or its handler raised. Nothing of a refused update is recorded."""

    exit_code = 1


# ---- raised by user code to tell the engine something -------------------------------------------------------------


class TaskSignal(Exception):
    """Base of the exceptions a task raises to steer its own outcome."""


class PermanentError(TaskSignal):
    """Raised by a task: fail now, whatever retries are left."""


class RetryableError(TaskSignal):
    """Raised by a task: retry if attempts are left, even if the policy would give up on this type.

    ``after`` overrides the next delay, in seconds."""

    def __init__(self, message: str = "", *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class SkipTask(TaskSignal):
    """Raised by a task: end as ``skipped``."""
