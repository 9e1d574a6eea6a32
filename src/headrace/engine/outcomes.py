"""Outputs as the history will give them back: short ones as plain JSON values, long ones by reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from headrace.contracts.artifacts import ArtifactStore
from headrace.contracts.outcome import encode_output
from headrace.core.errors import ValueTooLarge
from headrace.core.run import REFERENCE_KEY, has_reference

INLINE_BYTES_MAX = 64 * 1024
"""Outputs longer than this as JSON go to the artifact store; the history holds a reference."""

OUTPUT_BYTES_MAX = 1 << 30
"""The largest output; beyond it, tasks should write files."""

MARK = b'"%s"' % REFERENCE_KEY.encode()
"""Bytes of JSON without this hold no reference: most need not be looked through."""

_INT_MAX = 1 << 63


def is_plain(output: Any) -> bool:
    """Whether JSON gives the value back as it is, without looking inside anything: the common case, kept cheap."""
    kind = type(output)
    if kind is str:
        return output.isascii() and len(output) <= INLINE_BYTES_MAX  # others may be no Unicode: see encode_output
    return output is None or kind is bool or (kind is int and -_INT_MAX <= output < _INT_MAX)


def goes_elsewhere(data: bytes) -> bool:
    """Whether an output, as JSON, goes to the artifact store: when it is long, or when it holds something that a reader
    of the history would take for a reference, however short. What a reference stands for is never looked into again."""
    return len(data) > INLINE_BYTES_MAX or (MARK in data and has_reference(msgspec.json.decode(data)))


def normalise(output: Any, spill: Callable[[bytes], str]) -> Any:
    """The output as the history will give it back: plain JSON values, or a reference (:func:`goes_elsewhere`).

    ``spill`` stores bytes and returns their digest. Raises ``AttemptError`` of type ``bad_result`` for what JSON cannot
    hold and :class:`ValueTooLarge` past :data:`OUTPUT_BYTES_MAX`.
    """
    if is_plain(output):
        return output
    data = encode_output(output)
    if not goes_elsewhere(data):
        return msgspec.json.decode(data)
    if len(data) > OUTPUT_BYTES_MAX:
        raise ValueTooLarge(
            f"the output is {len(data):,} bytes, more than the bound of {OUTPUT_BYTES_MAX:,}",
            hint="write a file and return its path",
        )
    return {REFERENCE_KEY: spill(data), "bytes": len(data)}


def load_value(artifacts: ArtifactStore, digest: str) -> Any:
    """The value that a reference stands for. Raises what the artifact store raises."""
    return msgspec.json.decode(artifacts.get(digest))
