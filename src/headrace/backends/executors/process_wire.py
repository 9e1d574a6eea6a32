"""What the engine and its child processes say to each other.

Frames over one socket: 4 bytes of length (little endian), one byte of kind, then the body. The engine sends pickles
(the child trusts it); the child sends JSON and MessagePack only, so that nothing a task does can run code in the
engine.
"""

from __future__ import annotations

import struct
from typing import Annotated, Literal

import msgspec

from headrace.contracts.locks import NAME_CHARS_MAX
from headrace.core.events import Failure

HEADER = struct.Struct("<IB")

FRAME_BYTES_MAX = 256 * 1024 * 1024
"""The largest frame either side accepts; a longer one means a defect or a rogue child, and ends the child."""

RESULT_BYTES_MAX_DEFAULT = 64 * 1024 * 1024
"""The largest JSON a task in a child process may return."""

CALL = 1
"""Engine to child: the pickle of a :class:`Call`'s fields."""
RESULT = 2
"""Child to engine: the JSON of the function's result; ends the call."""
FAILURE = 3
"""Child to engine: a :class:`RemoteFailure`; ends the call."""
LOG = 4
"""Child to engine: bytes for the attempt's log, any number of times within a call."""
HEARTBEAT = 5
"""Child to engine: the attempt lives; the body is its details as JSON, or empty. Any number of times within a call."""
LATER = 6
"""Child to engine: the function has left the outcome to somebody else; ends the call."""

LOCK = 7
"""Child to engine: a :class:`LockAsk`, any number of times within a call."""
LOCK_ANSWER = 8
"""Engine to child: a :class:`LockAnswer`."""

Call = tuple[str, str | None, dict[str, object], dict[str, object], bytes | None, bool]
"""``(target, source_dir, args, attempt fields, pickled converters of the program, whether there are locks)``."""


class RemoteFailure(msgspec.Struct, frozen=True):
    """An exception as it crosses the border. ``lineage`` is the class and its bases, ``module:qualname``, in method
    resolution order: the engine rebuilds a stand-in with the same name on the nearest class that it knows."""

    failure: Failure
    lineage: tuple[str, ...]
    after: float | None = None


class LockAsk(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a call wants of a lock: ``take`` it, ``release`` it or no longer wait for it, ``look`` until when it is held.
    ``call`` numbers the questions of a child; ``grip`` is the number of the question that took the lock."""

    call: int
    attempt: str
    verb: Literal["take", "release", "look"]
    grip: int = 0
    name: Annotated[str, msgspec.Meta(max_length=NAME_CHARS_MAX)] = ""
    timeout_seconds: float | None = None


class LockProblem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a lock is not given. ``kind`` is a class of :mod:`headrace.core.errors`."""

    kind: str
    message: str
    hint: str | None = None
    name: str = ""
    node: str = ""


class LockAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``token`` of a lock that was taken; ``until`` when it is held for certain, by the monotonic clock."""

    call: int
    token: int = 0
    until: float = 0.0
    problem: LockProblem | None = None


encode_lock = msgspec.msgpack.Encoder().encode
decode_lock_ask = msgspec.msgpack.Decoder(LockAsk).decode
decode_lock_answer = msgspec.msgpack.Decoder(LockAnswer).decode

_encode_failure = msgspec.msgpack.Encoder().encode
_decode_failure = msgspec.msgpack.Decoder(RemoteFailure).decode


def frame(kind: int, body: bytes) -> bytes:
    """One frame, header and all. Raises ValueError over :data:`FRAME_BYTES_MAX`."""
    if len(body) > FRAME_BYTES_MAX:
        raise ValueError(f"{len(body):,} bytes, at most {FRAME_BYTES_MAX:,} can be sent")
    return HEADER.pack(len(body), kind) + body


def encode_failure(failure: RemoteFailure) -> bytes:
    """The body of a :data:`FAILURE` frame."""
    return _encode_failure(failure)


def decode_failure(body: bytes) -> RemoteFailure:
    """The inverse of :func:`encode_failure`. Raises ``msgspec.DecodeError`` on anything else."""
    return _decode_failure(body)
