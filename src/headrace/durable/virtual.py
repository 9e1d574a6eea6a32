"""Clocks, chance and I/O inside workflow code.

``time.time()``, ``datetime.now()``, ``random``, ``uuid4`` and their kin give repeatable values while workflow code runs:
time is that of the event being applied, chance is seeded by the run's id. Sleeping, files, sockets, threads and processes
raise :class:`NotDeterministic` with the place and the remedy. Everywhere else the originals are called: the substitutes
look whether the running event loop is a workflow's, which costs some tens of nanoseconds.

Installed once per process, when the first code workflow runs. Names that a workflow's module imported directly
(``from datetime import datetime``) are replaced in that module.
"""

from __future__ import annotations

import asyncio
import builtins
import datetime as datetime_module
import io
import os
import random
import socket
import subprocess
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from headrace.core.errors import NotDeterministic
from headrace.durable.access import run_or_none
from headrace.durable.run import CodeRun, calling_place

_replaced: dict[int, tuple[Any, Any]] = {}
"""Original (by identity) and its substitute, for names that modules have imported directly."""

_modules_done: set[str] = set()

_RANDOM = (
    *("random", "randint", "randrange", "choice", "choices", "sample", "shuffle", "uniform", "triangular"),
    *("betavariate", "expovariate", "gammavariate", "gauss", "normalvariate", "lognormvariate", "vonmisesvariate"),
    *("paretovariate", "weibullvariate", "getrandbits", "randbytes"),
)


def install(function: Callable[..., Any]) -> None:
    """Put the substitutes in place, and into the module that ``function`` is from. Idempotent."""
    if not _replaced:
        _install_all()
    name = function.__module__
    if name not in _modules_done:
        _modules_done.add(name)
        names = getattr(sys.modules.get(name), "__dict__", None) or function.__globals__
        for key, value in list(names.items()):
            entry = _replaced.get(id(value))
            if entry is not None and entry[0] is value:
                names[key] = entry[1]


def _replace(owner: Any, name: str, substitute: Any) -> None:
    original = getattr(owner, name)
    _replaced[id(original)] = (original, substitute)
    setattr(owner, name, substitute)


def _install_all() -> None:
    _install_clocks()
    for name in _RANDOM:
        if hasattr(random, name):
            _replace(random, name, _random(name, getattr(random, name)))
    _replace(uuid, "uuid4", _uuid(uuid.uuid4))
    _replace(uuid, "uuid1", _uuid(uuid.uuid1))
    _replace(os, "urandom", _urandom(os.urandom))
    _install_notice()
    _replace(asyncio, "as_completed", _as_completed(asyncio.as_completed))
    _replace(time, "sleep", _refusing(time.sleep, "time.sleep", "use `await asyncio.sleep(...)`: it is durable"))
    work = "move it into a @task function and await that"
    refuse_open = _refusing(builtins.open, "open", work)
    _replace(builtins, "open", refuse_open)
    io.open = refuse_open  # the same function under the name that pathlib uses
    _refuse_method(socket.socket, "__init__", "a socket", work)
    _refuse_method(threading.Thread, "start", "a thread", work)
    _refuse_method(subprocess.Popen, "__init__", "a process", work)


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


def _refuse_method(owner: type, name: str, what: str, remedy: str) -> None:
    original = getattr(owner, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = run_or_none()
        if run is not None:
            raise _refusal(run, what, remedy)
        return original(self, *args, **kwargs)

    setattr(owner, name, method)
