"""Sagas: steps that can be undone, and are, when what follows fails.

::

    async with saga() as s:
        await s.step(reserve(o), undo=release(o))
        receipt = await s.step(charge(o), undo=lambda receipt: refund(receipt))

There is no transaction across services; a saga gives the next best: either every step is done, or every step that was
done has been undone, in reverse order, whatever crashes in between. Undo steps are tasks like others, so they are
recorded, retried and continued after a crash. What stands where is kept in a *ledger* in the run's memo, for people and
queries.

When is a step undone? When it is known to be done, and also when its outcome is unknown (it timed out, was lost, or was
cancelled under way), provided its undo does not need its result. An undo must therefore be idempotent, and content
if there is nothing to undo. A step whose task raised is taken not to have happened.

Source: Hector Garcia-Molina and Kenneth Salem, "Sagas" (1987).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeVar

import msgspec

from headrace.authoring.convert import to_retries
from headrace.authoring.tasks import TaskFunction
from headrace.core.errors import NotDeterministic, TaskFailed
from headrace.core.events import Failure
from headrace.core.spec import RetryPolicy
from headrace.durable.access import this_run
from headrace.durable.context import ChildHandle, set_details, set_memo, wait_for_signal
from headrace.durable.running import ContinueAsNew, call_again, default_retries
from headrace.durable.workflow import WorkflowFunction

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

UNDO_RETRIES = RetryPolicy(attempts=50)
"""How often an undo task is tried that has no retry policy of its own: with the default delays for about a day and a
half."""

LEDGER_STEPS_MAX = 100
"""Steps that the memo lists, the newest; it is written anew with every change."""

ERROR_CHARS_MAX = 300

StepState = Literal[
    "running", "done", "failed", "unknown", "undoing", "undone", "undo_failed", "awaits_person", "given_up"
]
"""``unknown``: it may have happened. ``undo_failed``: it happened, and could not be undone. ``awaits_person``: the same,
and a person was asked. ``given_up`` is entered by a person's answer "done": the undo was settled by hand."""

_UNKNOWN_OUTCOMES = frozenset({"timeout", "task_timeout", "heartbeat_timeout", "lost", "crashed"})
"""Failures that do not tell whether the work was done."""


class UndoTask(Protocol[T_contra]):
    """A task that takes a step's result, or nothing; its function may be plain."""

    @property
    def __headrace_function__(self) -> Callable[..., Any]: ...

    def __call__(self, result: T_contra, /) -> Any:
        """The undo, for the type checker: a saga calls it."""


class UndoTaskOfNothing(Protocol):
    """The same without a parameter."""

    @property
    def __headrace_function__(self) -> Callable[..., Any]: ...

    def __call__(self) -> Any:
        """As above."""


Undo = (
    Coroutine[Any, Any, Any]
    | Callable[[], Awaitable[Any]]
    | Callable[[T], Awaitable[Any]]
    | UndoTask[T]
    | UndoTaskOfNothing
)


class _Step(msgspec.Struct, eq=False):
    name: str
    state: StepState
    undo: Callable[..., Awaitable[Any]] | None
    needs_result: bool
    unused: Coroutine[Any, Any, Any] | None = None
    """The undo as the caller handed it in, as long as nothing has awaited it."""
    result: Any = None
    error: str | None = None

    @property
    def to_undo(self) -> bool:
        """Whether it has to be undone now."""
        if self.undo is None:
            return False
        return self.state == "done" or (self.state == "unknown" and not self.needs_result)

    def make_undo(self) -> Awaitable[Any]:
        """The undo, not yet awaited; the caller's own the first time."""
        unused, self.unused = self.unused, None
        if unused is not None:
            return unused
        assert self.undo is not None
        return self.undo(self.result) if self.needs_result else self.undo()


def saga(
    name: str | None = None,
    *,
    undo_retries: int | Mapping[str, Any] | RetryPolicy = UNDO_RETRIES,
    on_undo_failure: Literal["continue", "wait"] = "continue",
    parallel: bool = False,
) -> Saga:
    """Steps with compensation: ``async with saga() as s``.

    ``name`` tells several sagas of a run apart. ``undo_retries`` is for undo tasks without ``retries`` of their own.
    ``on_undo_failure``: what follows when an undo has failed for good: ``continue`` with the others, or ``wait`` for a
    person, who sends the signal ``saga:NAME:STEP`` (``saga:STEP`` without a name) with ``"retry"`` or, having settled it
    by hand, ``"done"``. ``parallel`` undoes all steps at once instead of one after another in reverse order.
    """
    if on_undo_failure not in ("continue", "wait"):
        raise TypeError(f"on_undo_failure is one of continue, wait, not {on_undo_failure!r}")
    return Saga(name, to_retries(undo_retries, UNDO_RETRIES), on_undo_failure, parallel)


class Saga:
    """One saga. Leaving its block by an exception or a cancellation undoes what was done, then lets it pass on.

    Undoing cannot be interrupted by another cancellation; only ``terminate`` and the run's own timeout end it."""

    def __init__(
        self, name: str | None, retries: RetryPolicy, on_undo_failure: Literal["continue", "wait"], parallel: bool
    ) -> None:
        self._name = name
        self._retries = retries
        self._wait_for_person = on_undo_failure == "wait"
        self._parallel = parallel
        self._steps: list[_Step] = []
        self._under_way: set[asyncio.Future[None]] = set()
        self._names: dict[str, int] = {}
        self._open = False
        self._state = "open"
        self._key = ""

    async def __aenter__(self) -> Self:
        self._key = this_run().next_name("saga" if self._name is None else f"saga:{self._name}")
        self._open = True
        return self

    async def step(self, call: Awaitable[T], *, undo: Undo[T] | None = None, name: str | None = None) -> T:
        """Await ``call`` (a task, a child, any coroutine) and remember how to undo it.

        ``undo`` is a call that is not awaited, ``undo=release(order)``, or a callable that makes one and is given the
        step's result if it cannot be called without, ``undo=lambda receipt: refund(receipt)``, or is a task or workflow
        that takes anything. What has a default is left: ``undo=lambda item=item: release(item)``. ``name`` is the step's
        name in the ledger; by default that of the task or child. Steps may run at the same time. Raises what the call
        raises.
        """
        if not self._open:
            _discard(call, undo)
            raise RuntimeError("this saga is over: call step() inside its `async with` block")
        step = self._begin(call, undo, name)
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way.add(ended)
        try:
            step.result = result = await call
        except asyncio.CancelledError:
            self._mark(step, "unknown", "cancelled while it was under way")
            raise
        except NotDeterministic:
            raise
        except Exception as error:
            self._mark(step, "unknown" if _outcome_is_unknown(error) else "failed", str(error))
            raise
        finally:
            self._under_way.discard(ended)
            if not ended.done():
                ended.set_result(None)
        self._mark(step, "done")
        return result

    def _begin(self, call: Awaitable[Any], undo: Undo[Any] | None, name: str | None) -> _Step:
        name = name or _name_of(call)
        count = self._names[name] = self._names.get(name, 0) + 1
        step = _Step(name if count == 1 else f"{name}#{count}", "running", None, needs_result=False)
        if inspect.iscoroutine(undo):
            again = call_again(undo)
            if again is None and self._wait_for_person:
                _discard(call, undo)
                raise TypeError(
                    f"step {step.name}: this undo can be awaited only once, but on_undo_failure='wait' may have to try "
                    "it again: give a callable, `undo=lambda: clean_up(order)`"
                )
            step.unused, step.undo = undo, again or (lambda: undo)
        elif callable(undo):
            step.undo, step.needs_result = undo, _takes_result(undo)
        elif undo is not None:
            _discard(call, None)
            raise TypeError(
                f"step {step.name}: undo is a {type(undo).__name__}; "
                "it has to be a call that nobody has awaited, or a function that makes one"
            )
        self._steps.append(step)
        return step

    # ---- leaving -----------------------------------------------------------------------------------------------------

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        if isinstance(error, GeneratorExit | NotDeterministic):
            return  # the run leaves the memory, or is suspended: nothing has been decided
        if error is None:
            self._close_unused()
            if self._steps:
                self._state = "completed"
                self._publish()
            return
        await self._shielded(self._compensate(error))
        self._close_unused()
        if isinstance(error, ContinueAsNew):
            raise RuntimeError(
                "continue_as_new inside a saga would forget how to undo its steps, so they have been undone: "
                "leave the `async with saga()` block first"
            )

    async def _shielded(self, work: Coroutine[Any, Any, None]) -> None:
        """Await work to its end, whoever cancels meanwhile; the cancellation is passed on afterwards."""
        task = asyncio.ensure_future(work)
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError as interruption:
                if task.cancelled():
                    raise
                cancelled = interruption
        task.result()
        if cancelled is not None:
            raise cancelled

    async def _compensate(self, error: BaseException) -> None:
        while self._under_way:  # of steps that ran at the same time: their outcome must be known
            await asyncio.wait(list(self._under_way))
        todo = [step for step in reversed(self._steps) if step.to_undo]
        if not self._steps:
            return
        self._state = "compensating"
        default_retries.set(self._retries)
        if self._parallel:
            for step in todo:
                self._mark(step, "undoing", publish=False)
            self._publish()
            await asyncio.gather(*(self._undo(step) for step in todo))
        else:
            if not todo:
                self._publish()
            for step in todo:
                self._mark(step, "undoing")
                await self._undo(step)
        failed = [step for step in self._steps if step.state == "undo_failed"]
        for step in failed:
            error.add_note(f"saga step {step.name} could not be undone: {step.error}")
        self._state = "undo_failed" if failed else "compensated"
        self._publish()

    async def _undo(self, step: _Step) -> None:
        """Undo one step; never raises what the undo raises."""
        while True:
            try:
                await step.make_undo()
            except NotDeterministic:
                raise
            except (Exception, asyncio.CancelledError) as error:
                if not self._wait_for_person:
                    self._mark(step, "undo_failed", str(error) or type(error).__name__)
                    return
                self._mark(step, "awaits_person", str(error) or type(error).__name__)
                if not await self._ask(step):
                    self._mark(step, "given_up", step.error)
                    return
                self._mark(step, "undoing")
            else:
                self._mark(step, "undone")
                return

    async def _ask(self, step: _Step) -> bool:
        """Wait for a person's word on a failed undo: True is to try again, False that it is settled."""
        signal = f"{self._key}:{step.name}"
        before = this_run().details
        set_details(f"undoing {step.name} failed: {step.error}; send signal {signal} with 'retry' or 'done'")
        while True:
            answer = await wait_for_signal(signal)
            if answer in ("retry", "done"):
                set_details(before or "")
                return answer == "retry"
            self._mark(step, "awaits_person", f"{step.error} (answered {str(answer)[:50]!r}: not 'retry' or 'done')")

    def _close_unused(self) -> None:
        """Undo calls that nobody needs: not forgotten, not wanted."""
        for step in self._steps:
            if step.unused is not None:
                step.unused.close()
                step.unused = None

    # ---- the ledger --------------------------------------------------------------------------------------------------

    def _mark(self, step: _Step, state: StepState, error: str | None = None, *, publish: bool = True) -> None:
        step.state = state
        step.error = None if error is None else error[:ERROR_CHARS_MAX]
        if publish:
            self._publish()

    def _publish(self) -> None:
        shown = [step for step in self._steps if step.state != "running"][-LEDGER_STEPS_MAX:]
        entries = [
            {"step": step.name, "state": step.state} | ({"error": step.error} if step.error is not None else {})
            for step in shown
        ]
        book = this_run().ledgers[self._key] = {"state": self._state, "steps": entries}
        set_memo(**{self._key: book})


def ledger(name: str | None = None) -> dict[str, Any]:
    """What stands where in a saga of this run: ``{"state": ..., "steps": [{"step": ..., "state": ...}, ...]}``. For
    queries and for code after the saga; empty before its first step has ended. ``name`` is the saga's."""
    books = this_run().ledgers
    return books.get("saga" if name is None else f"saga:{name}", {"state": "open", "steps": []})


def _outcome_is_unknown(error: Exception) -> bool:
    failure = getattr(error, "failure", None) if isinstance(error, TaskFailed) else None
    return isinstance(failure, Failure) and failure.type in _UNKNOWN_OUTCOMES


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _takes_result(undo: Callable[..., Any]) -> bool:
    parameters = inspect.signature(undo).parameters.values()
    if isinstance(undo, TaskFunction | WorkflowFunction):
        return bool(parameters)
    return any(
        parameter.kind is inspect.Parameter.VAR_POSITIONAL
        or (parameter.kind in _POSITIONAL and parameter.default is inspect.Parameter.empty)
        for parameter in parameters
    )


def _name_of(call: Any) -> str:
    again = call_again(call)
    if again is not None:
        return str(again.task.defaults.get("id") or again.task.name)
    if isinstance(call, ChildHandle):
        return call.workflow
    return str(getattr(call, "__name__", type(call).__name__)).lstrip("_")


def _discard(*calls: object) -> None:
    """Close calls that will never be awaited because the program was wrong, so that it hears of that and nothing else."""
    for call in calls:
        if inspect.iscoroutine(call):
            call.close()
