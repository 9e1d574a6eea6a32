"""The folded state of one run of workflow code, and the ledger between code and history.

Code asks by *commands*; history answers by events. A command that needs an event of its own (a timer, a child, the end
of the run) waits on ``commands`` until that event is folded; the two must agree, in order. A call of a task needs none:
its outcome names it. When code and history disagree, the run *diverges*: the code is stopped, the report says what was
expected and what came, and the engine suspends the run.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import linecache
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import msgspec

from headrace.core import events as ev
from headrace.core.effects import external_deadline, task_deadline
from headrace.core.plan import CONSTANT_CALL
from headrace.core.run import Run, TaskUnit
from headrace.core.spec import CodeSpec, RetryPolicy, TaskSpec, Timeouts
from headrace.core.states import RunState
from headrace.durable import effects
from headrace.durable.loop import WorkflowFuture, WorkflowLoop, WorkflowTimer

CALLS_WATCHED_MAX = 10_000
"""Calls remembered to find those that were never awaited."""


class CodePlan:
    """A version of a code workflow."""

    __slots__ = ("brain", "nodes", "spec", "version")

    def __init__(self, spec: CodeSpec, version: str, brain: Any) -> None:
        self.spec = spec
        self.version = version
        self.brain = brain
        self.nodes: list[CodeNode] = []

    def __len__(self) -> int:
        return 0


class CodeNode(msgspec.Struct, gc=False):
    """A call of a task, in the shape the engine launches. ``index`` is its function's place in the run's binding,
    ``options`` what all calls of the function share, ``timeouts`` its bounds among them, ``args`` those of the call. A
    replay makes one for every call of the history, so the specification is put together only when it is asked for."""

    id: str
    index: int
    options: TaskSpec
    timeouts: Timeouts
    args: dict[str, Any]
    place: object
    headers: dict[str, str] | None = None
    """Those of this call; None: the run's."""
    prefers: bool = False
    """True when it matters where the call is carried out."""
    _spec: TaskSpec | None = None

    call: ClassVar[Any] = CONSTANT_CALL
    has_constant_call: ClassVar[bool] = True

    @property
    def spec(self) -> TaskSpec:
        """The call as the engine launches it."""
        if self._spec is None:
            self._spec = msgspec.structs.replace(self.options, id=self.id, args=self.args)
        return self._spec

    @property
    def retries(self) -> RetryPolicy:
        """The call's policy."""
        return self.options.retries


class Command(msgspec.Struct, gc=False):
    """Something code asked for that needs an event. ``key`` is what must agree with history; ``make`` gives the event."""

    kind: type
    key: object
    make: Callable[[float], ev.Event]
    place: object
    wanted: Callable[[], bool] | None = None
    """Asked when its turn comes: a timer that was cancelled meanwhile is forgotten."""


class Update(msgspec.Struct):
    """A request being handled, or its answer."""

    name: str
    done: bool = False
    output: Any = None
    failure: ev.Failure | None = None


class Child(msgspec.Struct):
    """A child run."""

    run_id: str
    target: str
    params: dict[str, Any]
    policy: str
    key: str | None = None
    headers: dict[str, str] = {}
    state: str | None = None
    output: Any = None
    failure: ev.Failure | None = None


class CodeRun(Run):
    """One run. ``code`` is the workflow function with its task binding; None when the history is only read."""

    keeps_references = False
    __slots__ = (
        "attempt",
        "call_count",
        "cancelled",
        "chain",
        "chain_at",
        "chance",
        "child_code",
        "children",
        "code",
        "commands",
        "conditions",
        "context",
        "counts",
        "details",
        "diverged",
        "diverged_at",
        "early",
        "finished",
        "forgotten",
        "futures",
        "handler_error",
        "handlers",
        "handling",
        "last_stimulus",
        "ledgers",
        "loop",
        "main",
        "message_count",
        "messages",
        "next_run",
        "passed",
        "patches",
        "read_only",
        "recorded_patches",
        "replay_until",
        "retry_at",
        "searched",
        "seed",
        "seen_keys",
        "signals",
        "spoiled",
        "stops",
        "timers",
        "units",
        "updates",
        "waiters",
        "watched",
    )

    def __init__(self, plan: CodePlan, code: Any = None) -> None:  # noqa: PLR0915 - one line for each field
        super().__init__(plan)
        self.code = code
        self.loop = WorkflowLoop(0.0)
        self.loop.owner = self
        self.loop.timer_dropped = self._timer_dropped
        self.loop.place = calling_place
        self.main: Any = None
        self.units: dict[str, TaskUnit] = {}
        self.futures: dict[str, asyncio.Future[Any]] = {}
        """What code waits for, by step, child (``child:..``) or message (``message:..``)."""
        self.counts: dict[str, int] = {}
        self.commands: deque[Command] = deque()
        self.timers: dict[int, tuple[WorkflowTimer | None, float]] = {}
        self.signals: dict[str, deque[Any]] = {}
        self.early: list[ev.SignalReceived] = []
        """Signals that came before the code began and have yet to pass its interceptors."""
        self.passed: dict[str, str] = {}
        """Headers that the run's calls inherit."""
        self.waiters: dict[str, deque[WorkflowFuture[Any]]] = {}
        """Who waits for signals, by name, in order."""
        self.seen_keys: set[str] = set()
        self.handlers: dict[tuple[str, str], Any] = {}
        self.handling = 0
        """Handlers of signals and updates that have begun and not ended."""
        self.updates: dict[str, Update] = {}
        self.stops: set[str] = set()
        """Calls that are to be stopped and whose attempts have not ended yet."""
        self.children: dict[str, Child] = {}
        self.child_code: dict[str, Any] = {}
        """Memory: the workflows that the code started as children, by the child's name."""
        self.messages: dict[int, ev.MessageRequested] = {}
        self.patches: dict[str, bool] = {}
        self.details: str | None = None
        self.cancelled = False
        self.chain: str | None = None
        self.chain_at = 0.0
        self.attempt = 1
        self.seed = ""
        """The run whose chance and derived ids this one has: itself, unless it is a fork that replays."""
        self.next_run: str | None = None
        self.retry_at: float | None = None
        self.searched = False
        """It has or had attributes, which its row in the catalog shows."""
        self.chance: Random | None = None
        self.read_only = False
        self.finished = False
        """The code has returned or raised."""
        self.handler_error: BaseException | None = None
        self.conditions: list[tuple[Callable[[], bool], WorkflowFuture[None]]] = []
        self.message_count = 0
        self.context = contextvars.Context()
        """The code's own, not the caller's: a replay has another caller."""
        self.replay_until = 0
        """Number of the last event that was stored before this node took the run up."""
        self.recorded_patches: set[str] = set()
        self.diverged: str | None = None
        self.diverged_at: Place | None = None
        self.last_stimulus: ev.Event | None = None
        self.watched: dict[int, tuple[Any, Any, Place]] = {}
        """Calls that nobody has awaited yet, by number."""
        self.call_count = 0
        self.forgotten: tuple[str, Place] | None = None
        """The first coroutine that the code has dropped without awaiting it."""
        self.ledgers: dict[str, dict[str, Any]] = {}
        """What stands where in the run's sagas, as of now; the memo has it once the event is folded."""
        self.spoiled = False
        """A query or validator was refused half-way: what is in memory may not be what the history tells."""

    @property
    def random(self) -> Random:
        """The run's own chance, from its seed: the same in every replay. Made when it is first asked for: it is large,
        and most runs take none."""
        if self.chance is None:
            digest = hashlib.blake2b(self.seed.encode(), digest_size=16).digest()
            self.chance = Random(int.from_bytes(digest, "big"))  # noqa: S311 - repeatable on purpose
        return self.chance

    @property
    def launching(self) -> bool:
        """Also while it is being cancelled: clean-up may run tasks."""
        return self.state in (RunState.RUNNING, RunState.CANCELLING) and self.diverged is None

    @property
    def blind(self) -> bool:
        """No code to run: the history is only read, or the code has diverged."""
        return self.code is None or self.diverged is not None

    def scope_for(self, unit: Any) -> dict[str, Any]:
        """Nothing: arguments are values already."""
        return {}

    def unit(self, task: str, item: int | None) -> TaskUnit | None:
        """The call of that name."""
        return self.units.get(task) if item is None else None

    def add_unit(self, node: CodeNode) -> TaskUnit:
        """A new call of a task."""
        unit = TaskUnit(node)  # type: ignore[arg-type]
        self.units[node.id] = unit
        self.tasks.append(unit)
        self.unfinished += 1
        return unit

    def watch(self, coroutine: Coroutine[Any, Any, Any], called: Any, place: Place) -> Coroutine[Any, Any, Any]:
        """Remember a call until it begins; it takes itself off, by its number: ``call_count`` plus one. ``called`` is a
        name, or has one."""
        self.call_count += 1
        if len(self.watched) < CALLS_WATCHED_MAX:
            self.watched[self.call_count] = (coroutine, called, place)
        return coroutine

    def next_name(self, name: str) -> str:
        """``name`` the first time, then ``name#2``, ..."""
        count = self.counts.get(name, 0) + 1
        self.counts[name] = count
        return name if count == 1 else f"{name}#{count}"

    def command(
        self,
        kind: type,
        key: object,
        make: Callable[[float], ev.Event],
        *,
        wanted: Callable[[], bool] | None = None,
        place: object = None,
    ) -> None:
        """Ask for an event."""
        self.commands.append(Command(kind, key, make, calling_place() if place is None else place, wanted))

    def finish_with(
        self,
        state: RunState,
        *,
        output: Any = None,
        failure: ev.Failure | None = None,
        failed_task: str | None = None,
        next_run: str | None = None,
    ) -> None:
        """The code is over: ask for the run's end."""
        self.finished = True
        self.command(
            ev.RunFinished,
            str(state),
            lambda now: ev.RunFinished(now, str(state), output, failure, failed_task, next_run),
            place=_end_of_code(failure),
        )

    @property
    def replaying(self) -> bool:
        """Whether the code is being run for events that were stored before."""
        return self.seq < self.replay_until

    def patch_ahead(self, patch: str) -> bool:
        """Whether the history says that this patch was taken."""
        return patch in self.recorded_patches

    def prepare(self, last_seq: int, patches: set[str]) -> None:
        """Before a history is folded: how long it is, and which patches it holds."""
        self.replay_until = last_seq
        self.recorded_patches = patches

    def diverge(self, report: str, place: object = None) -> None:
        """Stop running code; the first difference wins. ``place`` is the line of the code where it shows."""
        if self.diverged is None:
            self.diverged = report
            self.diverged_at = place if isinstance(place, Place) else None
            self.commands.clear()
            self.fresh.clear()

    def next_due(self) -> float | None:
        """When something is due that nobody outside tells the run of: a durable timer that is still wanted, another
        attempt, a bound of a task or of the run."""
        dues = [due for timer, due in self.timers.values() if timer is None or not timer.cancelled()]
        end = self.plan.brain.deadline(self)
        if end is not None:
            dues.append(end)
        left = self.unfinished
        for unit in reversed(self.tasks):  # those that are open are nearly always among the last
            if not left:
                break
            if not unit.done:
                left -= 1
                external, bound = external_deadline(unit), task_deadline(unit)
                dues += [] if external is None else [external[0]]
                dues += [due for due in (unit.retry_at, bound) if due is not None]
        return min(dues) if dues else None

    @property
    def cut_off_at(self) -> Place | None:
        """Where the code waits, if nothing but its cancellation can ever wake it: it has no task, timer, child or message
        under way, waits for no signal, and handles none, nor any update."""
        if self.main is None or self.finished or self.blind or self.futures or self.timers or self.commands:
            return None
        if any(kind != "query" for kind, _ in self.handlers):
            return None
        if any(not future.done() for waiting in self.waiters.values() for future in waiting):
            return None
        return _place_of(self.main)

    def _timer_dropped(self, number: int) -> None:
        if self.timers.pop(number, None) is not None:
            self.effects.append(effects.DropTimer(number))


def describe(event: ev.Event | None) -> str:
    """An event in a few words, for reports."""
    tag = str(type(event).__struct_config__.tag)  # type: ignore[union-attr]
    for field in ("task", "timer", "child", "name", "update", "patch", "message", "state"):
        value = getattr(event, field, None)
        if value is not None:
            return f"{tag} {value}"
    return tag


def _end_of_code(failure: ev.Failure | None) -> str:
    """Where the last command comes from. Code that raised is told with what it raised: in a replay nothing else shows
    a missing import."""
    if failure is None:
        return "the end of the code"
    lines = failure.traceback.splitlines()
    places = [found for line in lines if (found := _FRAME.match(line)) is not None]
    where = f" at {places[-1][1].rpartition('/')[2]}:{places[-1][2]}" if places else ""
    return f"the end of the code, which raised {failure.text}{where}"


_FRAME = re.compile(r'\s*File "(.+)", line (\d+)')


class Place(msgspec.Struct, gc=False):
    """``file.py:line`` of workflow code, as text only when somebody reads it: every call of a task has one."""

    _file: str
    _line: int

    def __str__(self) -> str:
        return f"{self._file.rpartition('/')[2]}:{self._line}" if self._file else ""

    @property
    def source(self) -> str:
        """The text of the line, '' where it cannot be read."""
        return linecache.getline(self._file, self._line).strip()


_PACKAGE = str(Path(__file__).parents[1])
_OWN = ("durable/", "authoring/", "client/", "engine/", "backends/", "contracts/", "core/", "assembly/")
_BETWEEN = (*(f"{_PACKAGE}/{part}" for part in _OWN), str(Path(os.__file__).parent), "<frozen ")
_LOOP_FILE = f"{_PACKAGE}/durable/loop.py"
_are_between: dict[str, bool] = {}


def is_between(file: str) -> bool:
    """Whether a file is between the user's code and the run: ours, the standard library's, an installed package's."""
    between = _are_between.get(file)
    if between is None:
        between = _are_between[file] = file.startswith(_BETWEEN) or "/site-packages/" in file
    return between


def is_ours(file: str) -> bool:
    """Whether a file is part of Headrace."""
    return file.startswith(f"{_PACKAGE}/")


def code_place_of_thread(thread: int) -> str:
    """``at file.py:line`` of the innermost workflow code that runs in a thread; for messages."""
    frame = sys._current_frames().get(thread)
    while frame is not None:
        if not is_between(frame.f_code.co_filename):
            return f"at {Place(frame.f_code.co_filename, frame.f_lineno)}"
        frame = frame.f_back
    return "outside of its own code"


def calling_place(depth: int = 1) -> Place:
    """The workflow code that is asking. Where all of it is installed as a package: whatever part of that asks. ``depth``:
    how many frames up it is at least."""
    frame = sys._getframe(depth)
    package: Place | None = None
    while frame is not None:
        name = frame.f_code.co_filename
        if not (_are_between[name] if name in _are_between else is_between(name)):  # a call less for every frame
            return Place(name, frame.f_lineno)
        if name == _LOOP_FILE and frame.f_code.co_name == "drain":
            break
        if package is None and not name.startswith(_BETWEEN):
            package = Place(name, frame.f_lineno)
        frame = frame.f_back
    return _standing_place() or package or Place("", 0)


def _standing_place() -> Place | None:
    """Where the main code stands: a library that it awaits may be asking, in a task of its own."""
    loop: Any = asyncio.events._get_running_loop()
    main = getattr(getattr(loop, "owner", None), "main", None)
    return None if main is None else _place_of(main)


def waiting_place(run: CodeRun) -> Place | None:
    """Where the main code waits; None if it does not."""
    return None if run.main is None or run.main.done() else _place_of(run.main)


def _place_of(main: asyncio.Task[Any]) -> Place | None:
    at: Any = main.get_coro()
    found: Place | None = None
    while at is not None:
        frame = getattr(at, "cr_frame", None)
        if frame is not None and not is_between(frame.f_code.co_filename):
            found = Place(frame.f_code.co_filename, frame.f_lineno)
        at = getattr(at, "cr_await", None)
    return found
