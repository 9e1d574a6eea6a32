"""Retry arithmetic: is a failure worth another attempt, and when?

Pure and repeatable: jitter comes from a hash of the attempt's name, so whoever computes a delay computes the same one,
yet the delays of many tasks are spread evenly.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from typing import cast

from headrace.core.errors import Problem
from headrace.core.events import Failure
from headrace.core.spec import Backoff, Jitter, RetryPolicy

_RANGE = re.compile(r"(exit|http):(\d+)(?:-(\d+))?\Z")
_CLASS = re.compile(r"http:([1-5])xx\Z")

HTTP_RETRYABLE = frozenset({408, 425, 429, *range(500, 600)} - {501, 505})
"""Statuses worth another attempt when the policy says nothing: what may pass. Servers and proxies use many of 5xx that no
RFC has (520 to 529); 501 and 505 say that the server will never do it. Source: RFC 9110, the habits of HTTP clients."""

ATTEMPTS_MAX = 1_000_000
"""The most attempts a retry policy may allow; with a delay of zero more would never end."""

DELAY_SECONDS_MAX = 100 * 365 * 86_400.0
"""Nothing is put off for longer than this, a hundred years: a delay may be computed, and JSON has no infinity."""

FIBONACCI_MAX = 90
"""Terms after which the Fibonacci delay stops growing (it passed any ``max_delay`` long before)."""


def policy_problems(policy: RetryPolicy, *, fewest: int = 1) -> Iterator[Problem]:
    """What is wrong with a policy, each with its field as path: values out of range, not finite, or of another type.

    ``fewest`` attempts must be allowed: 1 is the task itself. What the names of failures look like is not looked at.
    """
    attempts = policy.attempts
    if not _is_number(attempts) or attempts != int(attempts) or not fewest <= attempts <= ATTEMPTS_MAX:
        message = f"attempts must be a whole number between 1 and {ATTEMPTS_MAX:,}, not {attempts!r}"
        yield Problem(message, path=("attempts",), hint="attempts counts the first try: 1 means no retry")
    for field in ("initial", "max_delay"):
        seconds = getattr(policy, field)
        if not _is_number(seconds) or seconds < 0:
            message = f"{field} must be seconds, at least 0 and not infinite, not {seconds!r}"
            hint = f"the longest delay is a hundred years, {DELAY_SECONDS_MAX:.0f} s"
            yield Problem(message, path=(field,), hint=hint)
    if not _is_number(policy.factor) or not 1 <= policy.factor <= 1000:
        hint = "each delay is so many times the one before; 2 is the default"
        yield Problem(f"factor must be between 1 and 1000, not {policy.factor!r}", path=("factor",), hint=hint)
    if policy.elapsed is not None and not (_is_number(policy.elapsed) and policy.elapsed > 0):
        message = f"elapsed must be seconds, greater than 0 seconds and not infinite, not {policy.elapsed!r}"
        yield Problem(message, path=("elapsed",), hint="leave it out for no limit")
    for field in ("retry_on", "give_up_on"):
        rules: object = getattr(policy, field)
        if isinstance(rules, str):  # its letters would be the names
            message = f"{field} must be a tuple of names, not the text {rules!r}"
            yield Problem(message, path=(field,), hint=f"write ({rules!r},)")
            continue
        for position, rule in enumerate(cast("tuple[object, ...]", rules)):
            if not isinstance(rule, str):
                message = f"{rule!r} is no name of a failure"
                hint = f"write {getattr(rule, '__name__', str(rule))!r}, in quotes"
                yield Problem(message, path=(field, position), hint=hint)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def matches(rule: str, failure: Failure) -> bool:
    """Whether a ``retry_on`` / ``give_up_on`` rule names this failure."""
    if found := _CLASS.match(rule):
        return failure.type == "http" and failure.code is not None and failure.code // 100 == int(found[1])
    if found := _RANGE.match(rule):
        low = int(found[2])
        high = int(found[3] or low)
        return failure.type == found[1] and failure.code is not None and low <= failure.code <= high
    return rule == failure.type or rule in failure.bases


def is_retryable(policy: RetryPolicy, failure: Failure) -> bool:
    """Whether the failure's kind allows another attempt, bounds aside.

    Order: the policy's ``give_up_on``, the task's own word (``PermanentError``, ``RetryableError``), the policy's
    ``retry_on``, and by default everything that another attempt could change.
    """
    if any(matches(rule, failure) for rule in policy.give_up_on):
        return False
    if failure.retryable is not None:
        return failure.retryable
    if policy.retry_on:
        return any(matches(rule, failure) for rule in policy.retry_on)
    if failure.type == "http" and failure.code is not None:
        return failure.code in HTTP_RETRYABLE
    return failure.type not in {"queue_timeout", "task_timeout", "template", "map_too_large", "bad_argument"}


def base_delay(policy: RetryPolicy, attempt: int) -> float:
    """Seconds after failed attempt number ``attempt`` (1, 2, ...), before jitter."""
    if policy.backoff is Backoff.FIXED:
        delay = policy.initial
    elif policy.backoff is Backoff.FIBONACCI:
        current, following = 1, 1
        for _ in range(min(attempt, FIBONACCI_MAX) - 1):
            current, following = following, current + following
        delay = policy.initial * current
    else:
        try:
            delay = policy.initial * policy.factor ** (attempt - 1)
        except OverflowError:
            delay = policy.max_delay
    return min(delay, policy.max_delay)


def jittered(delay: float, jitter: Jitter, key: str) -> float:
    """Apply jitter, with ``key`` (the attempt's name) as the seed."""
    if jitter is Jitter.NONE or delay == 0:
        return delay
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    return delay * share if jitter is Jitter.FULL else delay * (0.5 + share / 2)


def next_attempt_at(
    policy: RetryPolicy, failure: Failure, *, attempt: int, key: str, first_ready_at: float, now: float
) -> float | None:
    """When the next attempt is due (seconds since the epoch), or None when the task fails for good."""
    if attempt >= policy.attempts or not is_retryable(policy, failure):
        return None
    if failure.retry_after is not None:
        delay = max(0.0, failure.retry_after)
    else:
        delay = jittered(base_delay(policy, attempt), policy.jitter, key)
    due = now + min(delay, DELAY_SECONDS_MAX)
    if policy.elapsed is not None and due - first_ready_at > policy.elapsed:
        return None
    return due
