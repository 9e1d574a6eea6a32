"""Clocks, chance and I/O inside workflow code.

``time.time()``, ``datetime.now()``, ``random``, ``uuid4`` and their kin give repeatable values while workflow code runs:
time is that of the event being applied, chance is seeded by the run's id. Sleeping, files, sockets, threads and processes
raise :class:`NotDeterministic` with the place and the remedy (the table: :mod:`headrace.durable.refused`). Everywhere
else the originals are called: the substitutes look whether the running event loop is a workflow's, which costs some tens
of nanoseconds.

Installed once per process, when the first code workflow runs. Names that a workflow's module imported directly
(``from datetime import datetime``) are replaced in that module and in those beside it.
"""

from __future__ import annotations

import asyncio
import builtins
import datetime as datetime_module
import inspect
import io
import os
import random
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

from headrace.core.errors import NotDeterministic
from headrace.durable.access import run_or_none
from headrace.durable.refused import CARRIERS, ERRANDS, FUNCTIONS, LOOKS, METHODS, WORK, late_methods
from headrace.durable.run import CodeRun, calling_place, is_between, is_ours

_replaced: dict[int, tuple[Any, Any]] = {}
"""Original (by identity) and its substitute, for names that modules have imported directly."""

_modules_done: set[str] = set()
_families: set[tuple[str, str | None]] = set()
"""Of the modules of workflows: the package at the top, the folder."""

_modules_seen = [0]
"""How many modules there were when they were looked through."""

_late_done: set[type] = set()

_RANDOM = (
    *("random", "randint", "randrange", "choice", "choices", "sample", "shuffle", "uniform", "triangular"),
    *("betavariate", "expovariate", "gammavariate", "gauss", "normalvariate", "lognormvariate", "vonmisesvariate"),
    *("paretovariate", "weibullvariate", "getrandbits", "randbytes"),
)


def install(function: Callable[..., Any]) -> None:
    """Put the substitutes in place, and into the module that ``function`` is from and those beside it: of the same
    package or from the same folder. Idempotent, and quick when nothing was imported meanwhile."""
    if not _replaced:
        _install_all()
    name = function.__module__
    is_new = name not in _modules_done
    if is_new:
        _modules_done.add(name)
        _substitute(getattr(sys.modules.get(name), "__dict__", None) or function.__globals__)
        file = getattr(inspect.unwrap(function), "__globals__", {}).get("__file__")
        package = name.partition(".")[0]
        own = package == __name__.partition(".")[0]  # the engine is no helper of a workflow that comes with it
        _families.add(("" if own else package, f"{Path(file).parent}{os.sep}" if file else None))
    if is_new or _modules_seen[0] != len(sys.modules):
        _modules_seen[0] = len(sys.modules)
        _look_beside()


def _look_beside() -> None:
    """Helpers of workflows look at clocks too. What is installed as a package, or part of Python, is left alone."""
    for owner, method, what, remedy in late_methods():
        if owner not in _late_done:
            _late_done.add(owner)
            _refuse_method(owner, method, what, remedy)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name in _modules_done or not isinstance(file, str) or is_between(file):
            continue
        if any(
            name.partition(".")[0] == package or (folder and file.startswith(folder)) for package, folder in _families
        ):
            _modules_done.add(name)
            _substitute(module.__dict__)


def _substitute(names: dict[str, Any]) -> None:
    for key, value in list(names.items()):
        entry = _replaced.get(id(value))
        if entry is not None and entry[0] is value:
            names[key] = entry[1]


def _replace(owner: Any, name: str, substitute: Any) -> None:
    original = getattr(owner, name)
    _replaced[id(original)] = (original, substitute)
    setattr(owner, name, substitute)
    if owner is os:  # where libraries look up what a function can do
        for able in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks, os.supports_effective_ids):
            if original in able:
                able.add(substitute)


def _install_all() -> None:
    _install_clocks()
    for name in _RANDOM:
        if hasattr(random, name):
            _replace(random, name, _random(name, getattr(random, name)))
    _replace(uuid, "uuid4", _uuid(uuid.uuid4))
    _replace(uuid, "uuid1", _uuid(uuid.uuid1))
    _replace(os, "urandom", _urandom(os.urandom))
    random._urandom = os.urandom  # type: ignore[attr-defined] # SystemRandom, and with it the module secrets
    random.Random.seed = _seed(random.Random.seed)  # type: ignore[method-assign]
    _install_notice()
    _replace(asyncio, "as_completed", _as_completed(asyncio.as_completed))
    for owner, name, what, remedy in FUNCTIONS:
        _replace(owner, name, _refusing(getattr(owner, name), what, remedy))
    for owner, name, what, remedy in LOOKS:
        _replace(owner, name, _refusing_users(getattr(owner, name), what, remedy))
    refuse_open = _refusing(builtins.open, "open", WORK)
    _replace(builtins, "open", refuse_open)
    io.open = refuse_open  # the same function under the name that pathlib uses
    for owner, name, what, remedy in METHODS:
        _refuse_method(owner, name, what, remedy)


def _install_notice() -> None:
    """A coroutine that is dropped without having been awaited is a mistake: in workflow code nobody reads warnings."""
    warn: Callable[[Any], None] | None = getattr(warnings, "_warn_unawaited_coroutine", None)
    if warn is None:
        return

    def notice(coroutine: Any) -> None:
        run = run_or_none()
        if run is None or run.read_only:
            warn(coroutine)
        elif run.forgotten is None:
            run.forgotten = (coroutine.__name__, calling_place())

    warnings._warn_unawaited_coroutine = notice  # type: ignore[attr-defined]


def _install_clocks() -> None:
    original_time, original_ns = time.time, time.time_ns
    original_monotonic, original_counter = time.monotonic, time.perf_counter

    def virtual_time() -> float:
        run = run_or_none()
        return original_time() if run is None else run.loop.now

    def virtual_time_ns() -> int:
        run = run_or_none()
        return original_ns() if run is None else int(run.loop.now * 1e9)

    def virtual_monotonic() -> float:
        run = run_or_none()
        return original_monotonic() if run is None else run.loop.now

    def virtual_counter() -> float:
        run = run_or_none()
        return original_counter() if run is None else run.loop.now

    _replace(time, "time", virtual_time)
    _replace(time, "time_ns", virtual_time_ns)
    _replace(time, "monotonic", virtual_monotonic)
    _replace(time, "perf_counter", virtual_counter)
    for name in ("monotonic_ns", "perf_counter_ns"):
        _replace(time, name, _nanoseconds(getattr(time, name)))
    for name, position in (("localtime", 0), ("gmtime", 0), ("ctime", 0), ("strftime", 1), ("asctime", 0)):
        _replace(time, name, _of_now(getattr(time, name), position))
    real_datetime, real_date = datetime_module.datetime, datetime_module.date

    class _DatetimeType(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real_datetime)

        def __subclasscheck__(cls, subclass: type) -> bool:
            return issubclass(subclass, real_datetime)

    class datetime(real_datetime, metaclass=_DatetimeType):  # noqa: N801 - stands in for the class of that name
        """``datetime.datetime`` whose idea of now is the workflow's."""

        __headrace_genuine__ = real_datetime

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return real_datetime(*args, **kwargs)

        @classmethod
        def now(cls, tz: datetime_module.tzinfo | None = None) -> Any:
            run = run_or_none()
            return real_datetime.now(tz) if run is None else real_datetime.fromtimestamp(run.loop.now, tz)

        @classmethod
        def utcnow(cls) -> Any:
            run = run_or_none()
            if run is None:
                return real_datetime.now(datetime_module.UTC).replace(tzinfo=None)
            return real_datetime.fromtimestamp(run.loop.now, datetime_module.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> Any:
            return cls.now()

        @classmethod
        def fromtimestamp(cls, timestamp: float, tz: datetime_module.tzinfo | None = None) -> Any:
            return real_datetime.fromtimestamp(timestamp, tz)

    class _DateType(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real_date)

        def __subclasscheck__(cls, subclass: type) -> bool:
            return issubclass(subclass, real_date)

    class date(real_date, metaclass=_DateType):  # noqa: N801
        """``datetime.date`` whose idea of today is the workflow's."""

        __headrace_genuine__ = real_date

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return real_date(*args, **kwargs)

        @classmethod
        def today(cls) -> Any:
            run = run_or_none()
            return real_date.today() if run is None else real_date.fromtimestamp(run.loop.now)

    # The classes stay as they are in the datetime module itself: libraries test types by identity. Only workflow
    # modules see the stand-ins, and, through this proxy, those that say `datetime.datetime.now()`.
    _replaced[id(real_datetime)] = (real_datetime, datetime)
    _replaced[id(real_date)] = (real_date, date)
    proxy = type(sys)("datetime")
    proxy.__dict__.update(datetime_module.__dict__)
    proxy.datetime = datetime  # type: ignore[attr-defined]
    proxy.date = date  # type: ignore[attr-defined]
    _replaced[id(datetime_module)] = (datetime_module, proxy)


def _nanoseconds(original: Callable[[], int]) -> Callable[[], int]:
    def virtual() -> int:
        run = run_or_none()
        return original() if run is None else int(run.loop.now * 1e9)

    return virtual


def _of_now(original: Callable[..., Any], position: int) -> Callable[..., Any]:
    """Functions of :mod:`time` that mean now if they are not told a time, which would be their argument at ``position``:
    seconds for some, a ``struct_time`` for those that write one."""
    seconds = original.__name__ in ("localtime", "gmtime", "ctime")

    def virtual(*args: Any) -> Any:
        if len(args) == position or (seconds and args == (None,)):
            run = run_or_none()
            if run is not None:
                now: Any = run.loop.now
                args = (*args[:position], now if seconds else time.localtime(now))
        return original(*args)

    virtual.__name__ = original.__name__
    return virtual


def _seed(original: Callable[..., None]) -> Callable[..., None]:
    """``random.Random()`` without a seed takes one from the operating system, in C."""

    def virtual(self: Any, a: Any = None, *args: Any, **kwargs: Any) -> None:
        if a is None:
            run = run_or_none()
            if run is not None:
                a = run.random.getrandbits(128)
        original(self, a, *args, **kwargs)

    return virtual


def _random(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def virtual(*args: Any, **kwargs: Any) -> Any:
        run = run_or_none()
        if run is None:
            return original(*args, **kwargs)
        return getattr(run.random, name)(*args, **kwargs)

    virtual.__name__ = name
    return virtual


def _uuid(original: Callable[..., uuid.UUID]) -> Callable[..., uuid.UUID]:
    def virtual(*args: Any, **kwargs: Any) -> uuid.UUID:
        run = run_or_none()
        if run is None:
            return original(*args, **kwargs)
        return uuid.UUID(int=run.random.getrandbits(128), version=4)

    return virtual


def _urandom(original: Callable[[int], bytes]) -> Callable[[int], bytes]:
    def virtual(size: int) -> bytes:
        run = run_or_none()
        return original(size) if run is None else run.random.randbytes(size)

    return virtual


def _refusal(run: CodeRun, what: str, remedy: str) -> NotDeterministic:
    return run.loop.refused(
        NotDeterministic(f"workflow code used {what} at {calling_place()}: a replay could not repeat it", hint=remedy)
    )


def _as_completed(original: Callable[..., Any]) -> Callable[..., Any]:
    """asyncio puts the awaitables into a set, whose order is that of addresses if they are coroutines."""

    def virtual(fs: Iterable[Any], *, timeout: float | None = None) -> Any:
        if run_or_none() is None:
            return original(fs, timeout=timeout)
        return original([asyncio.ensure_future(one) for one in dict.fromkeys(fs)], timeout=timeout)

    virtual.__name__ = "as_completed"
    return virtual


def _refusing(original: Callable[..., Any], what: str, remedy: str) -> Callable[..., Any]:
    def virtual(*args: Any, **kwargs: Any) -> Any:
        run = run_or_none()
        if run is not None:
            raise _refusal(run, what, remedy)
        return original(*args, **kwargs)

    virtual.__name__ = getattr(original, "__name__", what)
    return virtual


def _refusing_users(original: Callable[..., Any], what: str, remedy: str) -> Callable[..., Any]:
    def virtual(*args: Any, **kwargs: Any) -> Any:
        run = run_or_none()
        if run is not None and _asked_by_user(sys._getframe(1)):
            raise _refusal(run, what, remedy)
        return original(*args, **kwargs)

    virtual.__name__ = original.__name__
    return virtual


def _asked_by_user(frame: FrameType | None) -> bool:
    """Whether a call comes from the user's own code, and not from what that code sets going on the way."""
    while frame is not None and frame.f_globals.get("__name__") in CARRIERS:
        frame = frame.f_back
    if frame is None or is_between(frame.f_code.co_filename) or is_ours(frame.f_code.co_filename):
        return False
    while frame is not None:
        if frame.f_globals.get("__name__") in ERRANDS:
            return False
        frame = frame.f_back
    return True


def _refuse_method(owner: type, name: str, what: str, remedy: str) -> None:
    original = getattr(owner, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = run_or_none()
        if run is not None:
            raise _refusal(run, what, remedy)
        return original(self, *args, **kwargs)

    setattr(owner, name, method)
