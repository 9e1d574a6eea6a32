"""Attempts whose outcome comes from outside, by the token that their task had."""

from __future__ import annotations

from typing import Any

from headrace.contracts.api import answers, requests
from headrace.contracts.api.bounds import Role
from headrace.core.events import Failure
from headrace.server.api.endpoint import Call, Endpoint
from headrace.server.api.service import Api


async def complete_attempt(api: Api, call: Call) -> Any:
    """Report its output. Refused with 409 if it is over: completed before, timed out, cancelled."""
    await api.client.complete(call.body.token, call.body.output)
    return {}


async def fail_attempt(api: Api, call: Call) -> Any:
    """Report that it failed: it is tried again as the task's retries say, which ``retryable`` overrules."""
    asked: requests.Fail = call.body
    await api.client.fail(asked.token, Failure(asked.type, asked.error), retryable=asked.retryable)
    return {}


async def heartbeat_attempt(api: Api, call: Call) -> Any:
    """Say that it lives, and how far it is. Refused with 409 if nobody waits for it any more."""
    await api.client.heartbeat(call.body.token, call.body.details)
    return {}


ENDPOINTS = tuple(
    Endpoint("POST", f"/attempts/{verb}", Role.OPERATOR, summary, answers.Done, handle, body=body, refusals=(404, 409))
    for verb, summary, handle, body in (
        ("complete", "Complete an attempt", complete_attempt, requests.Complete),
        ("fail", "Fail an attempt", fail_attempt, requests.Fail),
        ("heartbeat", "Say that an attempt lives", heartbeat_attempt, requests.Heartbeat),
    )
)
