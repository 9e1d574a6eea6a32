"""Exceptions that crossed a process border: described on one side, rebuilt on the other.

The child never pickles an exception: classes with strange constructors, or from modules that the engine has not
imported, would not survive. It sends names and texts; the engine raises a *stand-in*: a class of the same name, derived
from the nearest built-in or Headrace class in the original's lineage, so ``except ValueError`` and ``except SkipTask``
work as they would have at home.
"""

from __future__ import annotations

import builtins
from typing import Any

from headrace.backends.executors.process_wire import RemoteFailure
from headrace.contracts.execution import AttemptError
from headrace.contracts.outcome import failure_of
from headrace.core import errors

STAND_INS_MAX = 1_000
"""Stand-in classes kept; past it the cache starts anew."""

_stand_ins: dict[tuple[str, ...], type[Exception]] = {}


def describe(error: BaseException) -> RemoteFailure:
    """In the child: everything the engine needs to know."""
    lineage = tuple(f"{cls.__module__}:{cls.__qualname__}" for cls in type(error).__mro__ if cls is not object)
    after = error.after if isinstance(error, errors.RetryableError) else None
    return RemoteFailure(failure_of(error), lineage, after)


def rebuild(remote: RemoteFailure) -> Exception:
    """In the engine: an exception to raise. Carries ``__headrace_failure__`` and ``__headrace_traceback__``."""
    failure = remote.failure
    error: Exception
    if remote.lineage[0] == f"{AttemptError.__module__}:{AttemptError.__qualname__}":
        error = AttemptError(
            failure.type,
            failure.message,
            code=failure.code,
            retryable=failure.retryable,
            retry_after=failure.retry_after,
        )
    else:
        cls = _stand_in(remote.lineage)
        error = cls.__new__(cls)
        error.args = (failure.message,)
        if isinstance(error, errors.RetryableError):
            error.after = remote.after
    carrier: Any = error
    carrier.__headrace_failure__ = failure
    carrier.__headrace_traceback__ = failure.traceback
    return error


def _stand_in(lineage: tuple[str, ...]) -> type[Exception]:
    known = _stand_ins.get(lineage)
    if known is None:
        if len(_stand_ins) >= STAND_INS_MAX:
            _stand_ins.clear()
        known = _stand_ins[lineage] = _make_stand_in(lineage)
    return known


def _make_stand_in(lineage: tuple[str, ...]) -> type[Exception]:
    """User classes become a chain of same-named classes above the first class that exists on both sides."""
    unknown: list[str] = []
    base: type[Exception] = RuntimeError
    for entry in lineage:
        found = _known_here(entry)
        if found is not None:
            base = found
            break
        unknown.append(entry)
    for entry in reversed(unknown or lineage[:1]):
        module, _, qualname = entry.partition(":")
        name = qualname.rpartition(".")[2]
        made: Any = type(name, (base,), {"__module__": module, "__qualname__": qualname, "__str__": _message})
        base = made
    return base


def _known_here(entry: str) -> type[Exception] | None:
    module, _, name = entry.partition(":")
    holder = {"builtins": builtins, errors.__name__: errors}.get(module)
    found = getattr(holder, name, None)
    if not (isinstance(found, type) and issubclass(found, Exception)):
        return None
    # A future refuses StopIteration; groups cannot exist without members.
    return None if issubclass(found, StopIteration | BaseExceptionGroup) else found


def _message(self: Exception) -> str:
    return str(self.args[0]) if self.args else ""
