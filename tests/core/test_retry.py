"""When the next attempt is due: a time that can be stored, whatever is asked for."""

import math

import pytest

from headrace.core import events as ev
from headrace.core.codec import decode_event, encode_event
from headrace.core.retry import DELAY_SECONDS_MAX, next_attempt_at
from headrace.core.spec import Jitter, RetryPolicy

ENDLESS = RetryPolicy(attempts=2, initial=math.inf, max_delay=math.inf, jitter=Jitter.NONE)
PLAIN = RetryPolicy(attempts=2)


@pytest.mark.parametrize(
    ("policy", "after", "delay"),
    [
        (PLAIN, math.inf, DELAY_SECONDS_MAX),
        (PLAIN, 1e300, DELAY_SECONDS_MAX),
        (PLAIN, math.nan, 0),
        (PLAIN, -5, 0),
        (PLAIN, 60, 60),
        (ENDLESS, None, DELAY_SECONDS_MAX),
    ],
)
def test_a_delay_is_a_number_that_an_event_keeps(policy: RetryPolicy, after: float | None, delay: float) -> None:
    failure = ev.Failure("no", "no", retryable=True, retry_after=after)
    due = next_attempt_at(policy, failure, attempt=1, key="k", first_ready_at=1000.0, now=1000.0)
    assert due == 1000.0 + delay
    event = ev.AttemptFailed(1000.0, "task", 1, failure, due)
    read = decode_event(encode_event(event))
    assert isinstance(read, ev.AttemptFailed)
    assert read.retry_at == due
