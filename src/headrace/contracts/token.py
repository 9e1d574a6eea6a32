"""Tokens: names of attempts that may be handed to other systems, which report the outcome with them.

A token names, it does not authorise: whoever can reach the store can complete the attempt.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

import msgspec

from headrace.core.errors import InvalidCommand

_PREFIX = "hrt_"


class Token(NamedTuple):
    """The attempt that a token names."""

    run_id: str
    task: str
    item: int | None
    attempt: int


_decoder = msgspec.json.Decoder(Token)


def token_of(run_id: str, task: str, item: int | None, attempt: int) -> str:
    """The token of an attempt: letters, digits, ``-`` and ``_``; the same again if the attempt is launched again."""
    data = msgspec.json.encode(Token(run_id, task, item, attempt))
    return _PREFIX + base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def read_token(token: str) -> Token:
    """The inverse of :func:`token_of`. Raises :class:`InvalidCommand` for anything else."""
    try:
        if not token.startswith(_PREFIX):
            raise ValueError("prefix")
        text = token[len(_PREFIX) :].encode("ascii")
        return _decoder.decode(base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4)))
    except (ValueError, binascii.Error, msgspec.DecodeError):
        shown = token if len(token) <= 60 else token[:57] + "..."
        raise InvalidCommand(
            f"{shown!r} is not the token of an attempt", hint="tokens come from current_attempt().token inside a task"
        ) from None
