"""From an exception or a value to what the history stores: :func:`failure_of`, :func:`encode_output`.

The one place that decides how a failure reads, whichever executor it came from.
"""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import Any

import msgspec

from headrace.contracts import unstored
from headrace.contracts.converters import to_plain
from headrace.contracts.execution import AttemptError, CompletesLater
from headrace.core.errors import PermanentError, RetryableError, StoreError, UserCodeError
from headrace.core.events import Failure

MESSAGE_CHARS_MAX = 8_192
"""A failure's message is cut to this length: it is stored in the history and shown in lists."""

TRACEBACK_CHARS_MAX = 32_768
"""A failure's traceback is cut in the middle to this length."""

_OUR_FOLDER = str(Path(__file__).parents[1]) + "/"
_TEST_KIT = _OUR_FOLDER + "testing/"  # its functions are called as a user's are
_NOT_THEIRS = (_OUR_FOLDER, str(Path(traceback.__file__).parent) + "/")
"""Ours, and the standard library's."""
_EXECUTORS = _OUR_FOLDER + "backends/executors/"
_RUNNER_ENDS = (
    "/asyncio/runners.py",
    "/asyncio/base_events.py",
    "/asyncio/events.py",
    "/threading.py",
    "/runpy.py",
    "/importlib/__init__.py",
)

_encoder = msgspec.json.Encoder(enc_hook=to_plain)
_SIMPLE = frozenset({str, int, float, bool, type(None)})


def failure_of(error: BaseException) -> Failure:
    """Describe an exception that ended an attempt. An exception from another process carries its description in
    ``__headrace_failure__``, which wins. Never raises, whatever the exception's ``__str__`` does."""
    carried = getattr(error, "__headrace_failure__", None)
    if isinstance(carried, Failure):
        return carried
    message = _shorten(message_of(error), MESSAGE_CHARS_MAX)
    if isinstance(error, AttemptError):
        return Failure(
            type=error.type,
            message=message,
            bases=error.bases,
            code=error.code,
            retryable=error.retryable,
            retry_after=error.retry_after,
        )
    retryable: bool | None = None
    retry_after: float | None = None
    if isinstance(error, PermanentError):
        retryable = False
    elif isinstance(error, RetryableError):
        retryable, retry_after = True, error.after
    text = user_traceback(error)
    if isinstance(error, UserCodeError) and error.traceback:
        text = error.traceback  # what went wrong in the user's module, not where it was noticed
    elif isinstance(error, StoreError) and not _has_their_frames(error):
        text = ""  # a full disk under an output: nothing of it lies in the user's code
        message = _shorten(": ".join(filter(None, (error.message, error.hint))), MESSAGE_CHARS_MAX)
    code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else None
    return Failure(
        type=type(error).__name__,
        message=message,
        bases=tuple(cls.__name__ for cls in type(error).__mro__[1:] if cls is not object),
        code=code,
        traceback=_shorten(text, TRACEBACK_CHARS_MAX),
        retryable=retryable,
        retry_after=retry_after,
    )


def _readable(text: str) -> str:
    """Text that UTF-8 can hold: parts of names of files may be none."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


GROUP_SHOWN_MAX = 3
"""Exceptions of a group that its message names; the traceback has them all."""


def message_of(error: BaseException) -> str:
    """``str(error)``, also when that raises. A group's own words say only how many there are: its members' follow."""
    try:
        text = _readable(str(error))
        if isinstance(error, BaseExceptionGroup):
            shown = error.exceptions[:GROUP_SHOWN_MAX]
            members = [f"{type(one).__name__}: {message_of(one)}".rstrip(": ") for one in shown]
            more = ["..."] if len(error.exceptions) > GROUP_SHOWN_MAX else []
            text = f"{text}: {'; '.join([*members, *more])}"
        return text
    except Exception as broken:  # noqa: BLE001, RUF100 - user code: anything may come
        return f"<{type(error).__name__} whose __str__ raised {type(broken).__name__}>"


def user_traceback(error: BaseException) -> str:
    """The traceback without the frames of Headrace, importlib and the asyncio runner that lie above the user's own.
    Causes, contexts, notes and exception groups are kept."""
    try:
        rendered = traceback.TracebackException.from_exception(error, compact=True)
        _trim(rendered, depth=0)
        return _readable("".join(rendered.format()).rstrip("\n"))
    except Exception:  # noqa: BLE001, RUF100 - a __str__ or __repr__ of user code that raises
        return f"{type(error).__name__}: {message_of(error)}"


def _has_their_frames(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return any(not frame.filename.startswith(_NOT_THEIRS) for frame in frames)


def _trim(rendered: traceback.TracebackException, depth: int) -> None:
    """Drop frames that tell the user nothing, in the exception and everything chained to it."""
    frames = [frame for frame in rendered.stack if not frame.filename.startswith("<frozen ")]
    # Who called the executor (a launcher, a test) is of no interest, wherever its file is.
    start = next((index for index, frame in enumerate(frames) if frame.filename.startswith(_EXECUTORS)), 0)
    while start < len(frames) and _is_machinery(frames[start].filename):
        start += 1
    # Where in Headrace a user's call was refused is of no interest either; what the user's own code called is.
    end = len(frames)
    own = [index for index in range(start, end) if not frames[index].filename.startswith(_NOT_THEIRS)]
    if own:
        end = next((index for index in range(own[-1] + 1, end) if _is_machinery(frames[index].filename)), end)
    rendered.stack = traceback.StackSummary.from_list(frames[start:end])
    if depth > 50:  # a longer chain is shown as it is
        return
    for chained in (rendered.__cause__, rendered.__context__, *(getattr(rendered, "exceptions", None) or ())):
        if chained is not None:
            _trim(chained, depth + 1)


def _is_machinery(filename: str) -> bool:
    ours = filename.startswith(_OUR_FOLDER) and not filename.startswith(_TEST_KIT)
    return ours or filename.endswith(_RUNNER_ENDS)


def tame(error: BaseException) -> Exception:
    """An exception that can pass through futures and tasks without stopping the event loop. What task code may raise
    but a future cannot carry (``SystemExit``, ``KeyboardInterrupt``, ``StopIteration``, a stray ``CancelledError``)
    becomes an :class:`AttemptError` that describes it."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    if isinstance(error, CompletesLater):
        return error  # type: ignore[return-value]  # no outcome at all: it goes to the launcher as it is
    failure = failure_of(error)
    message = failure.message or f"the task raised {failure.type}"
    tamed = AttemptError(failure.type, message, code=failure.code)
    tamed.__headrace_failure__ = msgspec.structs.replace(failure, message=message)  # type: ignore[attr-defined]
    return tamed


def encode_output(value: Any, what: str = "the task returned a value that") -> bytes:  # Any: whatever a task returned
    """The output of a task as JSON; ``what`` begins the message if it is something else.

    Raises :class:`AttemptError` of type ``bad_result``, never retryable, naming the type and place of what does not
    fit."""
    try:
        if type(value) not in _SIMPLE:
            unstored.check(value)
        data = _encoder.encode(value)
        if _has_number_for_key(data):
            _check_keys(value, what)
        return data
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        place = _find_unencodable(value)
        found = f"{place[1]} at {place[0]}" if place else type(value).__qualname__
        if isinstance(error, UnicodeEncodeError):
            raise AttemptError(
                "bad_result",
                f"{what} cannot be stored as JSON: {found} is no Unicode ({ascii(error.object)[:100]}), like the name of "
                "a file that is not UTF-8; store os.fsencode(name), which is bytes",
                retryable=False,
            ) from None
        raise AttemptError(
            "bad_result",
            f"{what} cannot be stored as JSON: {found} ({message_of(error)}); "
            "use plain values (str, int, float, bool, None, list, dict), dataclasses or dates",
            retryable=False,
        ) from None


_has_number_for_key = re.compile(rb'"-?[0-9][^"\\]{0,60}":').search
"""Whether JSON has keys that numbers and dates become: others need not be compared."""


def _check_keys(value: Any, what: str) -> None:
    """Refuse mappings in which two keys become one: 1 and "1"."""
    todo: list[tuple[str, Any]] = [("$", value)]
    while todo:
        path, current = todo.pop()
        if type(current) is dict:
            if not all(type(key) is str for key in current):
                seen: dict[bytes, Any] = {}
                for key in current:
                    name = _encoder.encode({key: None})
                    if name in seen:
                        raise AttemptError(
                            "bad_result",
                            f"{what} cannot be stored as JSON: the keys {seen[name]!r} and {key!r} at {path} become the "
                            "same text; use keys of one type",
                            retryable=False,
                        )
                    seen[name] = key
            todo += [(f"{path}[{key!r}]", part) for key, part in current.items() if type(part) in _CONTAINERS]
        elif type(current) in _CONTAINERS:
            todo += [(f"{path}[{index}]", part) for index, part in enumerate(current) if type(part) in _CONTAINERS]


_CONTAINERS = frozenset({dict, list, tuple})

_FIND_MAX = 10_000
"""Values looked at to name the one that cannot be encoded; the search is for a message only."""


def _find_unencodable(value: Any) -> tuple[str, str] | None:
    todo: list[tuple[str, Any]] = [("$", value)]
    seen = 0
    while todo and seen < _FIND_MAX:
        path, current = todo.pop()
        seen += 1
        if type(current) is dict:
            for key, child in current.items():
                if not isinstance(key, str | int | float):
                    try:
                        _encoder.encode({key: None})
                    except (TypeError, ValueError):
                        return path, f"a dict key of type {_type_name(key)}"
                todo.append((f"{path}.{key}", child))
        elif type(current) in (list, tuple):
            todo.extend((f"{path}[{index}]", child) for index, child in enumerate(current))
        else:
            try:
                _encoder.encode(current)
            except (TypeError, ValueError, OverflowError, RecursionError):
                return path, _type_name(current)
    return None


def _type_name(value: object) -> str:
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _shorten(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
