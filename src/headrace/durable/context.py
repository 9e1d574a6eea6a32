"""What workflow code can ask for, beyond calling tasks and using ``asyncio``.

Time passes by ``asyncio.sleep`` and its kin; ``time.time()``, ``datetime.now()``, ``random`` and ``uuid4`` give values
that every replay repeats. Everything below works only inside the code of a ``@workflow`` function.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, Protocol, TypeVar, get_args, overload

import msgspec

from headrace.contracts.interceptor import ChildCall, MessageCall, chained, checked_headers
from headrace.core import events as ev
from headrace.core.errors import NotDeterministic
from headrace.durable.access import this_run
from headrace.durable.expected import expect_workflow
from headrace.durable.intercepted import intercepts
from headrace.durable.loop import WorkflowFuture
from headrace.durable.run import CodeRun, Place, calling_place
from headrace.durable.running import ContinueAsNew, child_error, derived_run_id, give_signal, plain
from headrace.durable.start import check_attributes

if TYPE_CHECKING:
    from headrace.durable.workflow import WorkflowFunction

R = TypeVar("R")

EVENTS_BEFORE_CONTINUE = 10_000
"""History length from which :func:`continue_suggested` says yes. Nothing happens to runs that go on."""

ParentClosePolicy = Literal["terminate", "cancel", "abandon"]


class RunInfo(msgspec.Struct, frozen=True):
    """What code may know about its own run. ``events`` is the length of the history so far."""

    run_id: str
    workflow: str
    version: str
    created_at: float
    tags: dict[str, str]
    parent: str | None
    events: int
    first_run: str
    key: str | None
    attempt: int
    headers: dict[str, str]


def _writable(what: str) -> CodeRun:
    run = this_run()
    if run.read_only:
        raise NotDeterministic(f"a query or validator tried to {what}: it may only look")
    return run


def info() -> RunInfo:
    """About this run."""
    run = this_run()
    parent = run.parent.partition("/")[0] if run.parent else None
    name, version = run.plan.spec.name, run.plan.version
    return RunInfo(
        run.run_id,
        name,
        version,
        run.created_at,
        run.tags,
        parent,
        run.seq,
        run.chain or run.run_id,
        run.key,
        run.attempt,
        dict(run.headers),
    )


# ---- signals ---------------------------------------------------------------------------------------------------------


async def wait_for_signal(name: str) -> Any:
    """The payload of the next signal of that name: one that waits already, or the next to come. Signals are kept in the
    order in which they were acknowledged, for as long as the run and what it continues as live."""
    run = _writable("wait for a signal")
    buffered = run.signals.get(name)
    if buffered:
        return buffered.popleft()
    future: WorkflowFuture[Any] = WorkflowFuture(loop=run.loop)
    run.waiters.setdefault(name, deque()).append(future)
    try:
        return await future
    except asyncio.CancelledError:
        if future.done() and not future.cancelled():  # it came while we were being cancelled: the next in line has it
            give_signal(run, name, future.result(), first=True)
        raise


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until ``condition()`` is true; it is asked again whenever the code has come to rest."""
    run = _writable("wait for a condition")
    if not condition():
        waiter: WorkflowFuture[None] = WorkflowFuture(loop=run.loop)
        run.conditions.append((condition, waiter))
        await waiter


def handlers_finished() -> bool:
    """Whether no handler of a signal or update is under way; for ``await wait_until(handlers_finished)`` before the
    workflow returns or continues as new: what a handler has not done by then it does not do. Not for handlers themselves,
    which would wait for each other."""
    return this_run().handling == 0


async def signal_run(run_id: str, name: str, payload: Any = None) -> None:
    """Send a signal to another run; on return it is durable there. Raises :class:`InvalidCommand` if there is no such
    run or it has ended."""
    run, place = this_run(), calling_place()
    if not intercepts(run, "signal_run"):
        await _send(run_id, "signal", name, plain(payload), place, run.passed)
        return

    async def send(call: MessageCall) -> None:
        value = plain(call.args[0] if call.args else None)
        await _send(call.run_id, "signal", call.name, value, place, checked_headers(call.headers))

    call = MessageCall(
        kind="signal", run_id=run_id, name=name, args=[plain(payload)], kwargs={}, headers=dict(run.passed)
    )
    await chained(run.code.interceptors.signal_run, send)(call)


async def cancel_run(run_id: str, reason: str = "") -> None:
    """Ask another run to cancel; on return the request is durable there."""
    await _send(run_id, "cancel", reason, None, calling_place(), {})


async def _send(run_id: str, kind: str, name: str, payload: Any, place: Place, headers: dict[str, str]) -> None:
    run = _writable(f"send a {kind}")
    run.message_count += 1
    number = run.message_count
    run.command(
        ev.MessageRequested,
        (number, kind),
        lambda now: ev.MessageRequested(now, number, run_id, kind, name, payload, headers),
        place=place,
    )
    future = run.futures[f"message:{number}"] = WorkflowFuture(loop=run.loop)
    await future


# ---- children --------------------------------------------------------------------------------------------------------


class HasSpec(Protocol):
    """A workflow that can be a child: a graph, say."""

    @property
    def spec(self) -> Any:
        """Its specification."""
        ...


class ChildHandle(Generic[R]):
    """A child run that was started. Await it for its result."""

    def __init__(self, run: CodeRun, name: str, run_id: str, convert: Callable[[Any], R] | None) -> None:
        self._run = run
        self._name = name
        self._convert = convert
        self._run_id = run_id

    @property
    def run_id(self) -> str:
        """The child's id."""
        child = self._run.children.get(self._name)  # the history's word counts: a fork has other children
        return self._run_id if child is None else child.run_id

    @property
    def workflow(self) -> str:
        """The name of the child's workflow."""
        return self._name.partition("#")[0]

    def __await__(self) -> Generator[Any, None, R]:
        return self._wait().__await__()

    async def _wait(self) -> R:
        child = self._run.children.get(self._name)
        if child is not None and child.state is not None:
            if child.state != "succeeded":
                raise child_error(self._name, child)
            output = child.output
        else:
            future = self._run.futures[f"child:{self._name}"]
            try:
                output = await asyncio.shield(future)
            except asyncio.CancelledError:
                if not future.done():
                    _ask_to_cancel(self._run, self.run_id)
                raise
        return output if self._convert is None else self._convert(output)

    async def signal(self, name: str, payload: Any = None) -> None:
        """Send the child a signal."""
        await signal_run(self.run_id, name, payload)

    async def cancel(self, reason: str = "") -> None:
        """Ask the child to cancel."""
        await cancel_run(self.run_id, reason)


def _ask_to_cancel(run: CodeRun, run_id: str) -> None:
    """Awaiting a child was cancelled: the child is asked to cancel too; nobody waits for the answer."""
    run.message_count += 1
    number = run.message_count
    run.command(
        ev.MessageRequested,
        (number, "cancel"),
        lambda now: ev.MessageRequested(now, number, run_id, "cancel", "its parent stopped waiting for it", None),
    )


@overload
def start_child(
    workflow: WorkflowFunction[..., R],
    params: dict[str, Any] | None = None,
    *,
    parent_close: ParentClosePolicy = "terminate",
    key: str | None = None,
) -> ChildHandle[R]: ...
@overload
def start_child(
    workflow: HasSpec,
    params: dict[str, Any] | None = None,
    *,
    parent_close: ParentClosePolicy = "terminate",
    key: str | None = None,
) -> ChildHandle[Any]: ...
def start_child(
    workflow: Any,
    params: dict[str, Any] | None = None,
    *,
    parent_close: ParentClosePolicy = "terminate",
    key: str | None = None,
) -> ChildHandle[Any]:
    """Start a child run of a code workflow or a graph; await the handle for its result.

    ``parent_close``: what becomes of the child when this run ends first. ``key``: its business key; if another run has
    it, the child fails with ``AlreadyRunning``. Its id is the same in every replay. Raises :class:`ChildFailed` when
    awaited, if the child does not succeed.
    """
    run, place = _writable("start a child"), calling_place()
    if not intercepts(run, "start_child"):
        return _start_child(run, workflow, params or {}, parent_close, key, run.passed, place)

    def start(call: ChildCall) -> ChildHandle[Any]:
        headers = checked_headers(call.headers)
        return _start_child(run, call.workflow, call.params, call.parent_close, call.key, headers, place)

    call = ChildCall(
        workflow=workflow, params=dict(params or {}), headers=dict(run.passed), parent_close=parent_close, key=key
    )
    return chained(run.code.interceptors.start_child, start)(call)


def _start_child(
    run: CodeRun,
    workflow: Any,
    params: Any,
    parent_close: ParentClosePolicy,
    key: str | None,
    headers: dict[str, str],
    place: Place,
) -> ChildHandle[Any]:
    if parent_close not in get_args(ParentClosePolicy):
        raise TypeError(f"parent_close is one of {', '.join(get_args(ParentClosePolicy))}, not {parent_close!r}")
    expect_workflow(workflow, "start_child")
    if not isinstance(params, dict):
        raise TypeError(f"start_child() takes parameters by name, {{'order': ...}}, not a {type(params).__name__}")
    spec = workflow.spec
    name = run.next_name(spec.name)
    at = run.loop.now
    run_id = derived_run_id(run, f"child/{name}", at)
    target = getattr(workflow, "target", None) or f"graph:{spec.name}"
    run.child_code[name] = workflow
    values = {param: plain(value) for param, value in params.items()}
    run.command(
        ev.ChildStarted,
        name,
        # Derived again: in a fork the event is of another run than the call.
        lambda now: ev.ChildStarted(
            now, name, derived_run_id(run, f"child/{name}", at), target, values, parent_close, key, headers
        ),
        place=place,
    )
    run.futures[f"child:{name}"] = WorkflowFuture(loop=run.loop)
    return ChildHandle(run, name, run_id, getattr(workflow, "convert_result", None))


# ---- versions, attributes, beginning anew ------------------------------------------------------------------------------


def patched(patch: str) -> bool:
    """Whether this run takes the new side of a change in the code: True for runs that reach this point after the change,
    False for those that passed it before. Idea and name: Temporal's ``workflow.patched``."""
    run = _writable("decide on a patch")
    known = run.patches.get(patch)
    if known is None:
        known = run.patches[patch] = not run.replaying or run.patch_ahead(patch)
        if known:
            run.command(ev.Patched, patch, lambda now: ev.Patched(now, patch))
    return known


def deprecate_patch(patch: str) -> None:
    """The old side of a patch is gone from the code; runs that recorded it still replay."""
    run = _writable("deprecate a patch")
    if run.patch_ahead(patch):
        patched(patch)


def set_attributes(**values: Any) -> None:
    """Set what lists and searches show of this run; None removes one. Values are text, numbers, booleans or lists."""
    _set(values=values)


def set_memo(**values: Any) -> None:
    """Keep notes with the run that are shown but not searched."""
    _set(memo=values)


def set_details(text: str) -> None:
    """A few words for people: what the run is doing now."""
    _set(details=plain(text))


def _set(values: dict[str, Any] | None = None, memo: dict[str, Any] | None = None, details: str | None = None) -> None:
    run = _writable("set attributes")
    shown: dict[str, Any] = plain(values or {})
    check_attributes(shown)
    noted: dict[str, Any] = plain(memo or {})
    run.command(ev.AttributesSet, None, lambda now: ev.AttributesSet(now, shown, noted, details))


def continue_as_new(**params: Any) -> NoReturn:
    """End this run and begin a new one of the same workflow with other parameters; signals nobody has read go along."""
    run = _writable("continue as new")
    known = run.params.keys() if run.code is None else run.code.workflow.spec.params.keys()
    if unknown := params.keys() - known:
        takes = ", ".join(known) or "none"
        raise TypeError(f"continue_as_new({min(unknown)}=...): the workflow has no such parameter; it has: {takes}")
    raise ContinueAsNew({**run.params, **{key: plain(value) for key, value in params.items()}})


def continue_suggested() -> bool:
    """Whether the history is long enough that beginning anew would make replay quicker. Only a suggestion."""
    return this_run().seq >= EVENTS_BEFORE_CONTINUE
