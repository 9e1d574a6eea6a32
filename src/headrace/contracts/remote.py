"""What a worker without database access and a server say to each other: the bodies of the worker protocol, as types.

``docs/reference/worker-protocol.md`` describes the same for other languages. Every request is a POST of one of these as
JSON to :data:`PATH` and a verb; it names the worker and the epoch of its lease, so any server of a store can answer it.
Fields that are not known are ignored, so that either side may be newer.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headrace.contracts.locks import NAME_CHARS_MAX, TTL_SECONDS_MAX, TTL_SECONDS_MIN
from headrace.contracts.ready import Claim, Outcome
from headrace.core.ids import Epoch

PROTOCOL = 1
PATH = "/api/v1/workers/"

WORKER_PREFIX = "remote:"
"""Begins the name of every remote worker: a token can never take the lease of a node, whose name has no colon."""

REQUEST_BYTES_MAX = 24 * 1024 * 1024
"""The largest request: one outcome of :data:`headrace.engine.puller.OUTPUT_BYTES_MAX` fits."""

ANSWER_BYTES_MAX = 24 * 1024 * 1024
"""Claims beyond this stay on offer; the first one always comes."""

CLAIMS_MAX = 100
"""Attempts of one executor that one claim takes at most."""

WAIT_SECONDS_MAX = 20.0
"""How long a claim waits for something to come."""

LOCK_WAIT_SECONDS_MAX = 3.0
"""How long a claim of a lock waits for its turn."""

PROBLEM = "urn:headrace:problem:"
"""Begins the ``type`` of a refusal."""

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Names = Annotated[tuple[Name, ...], Meta(max_length=100)]
Labels = Annotated[dict[Name, Annotated[str, Meta(max_length=200)]], Meta(max_length=100)]
ExecutorName = Annotated[str, Meta(max_length=100)]
Slots = Annotated[dict[ExecutorName, Annotated[int, Meta(ge=0, le=1_000_000)]], Meta(max_length=100)]
Key = Annotated[str, Meta(min_length=1, max_length=1_000)]
Delivery = Annotated[int, Meta(ge=1)]


class Join(msgspec.Struct, kw_only=True):
    """``join``: take a lease. Under a name that is in use, the former holder is fenced."""

    name: Annotated[str, Meta(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    queues: Annotated[Names, Meta(min_length=1)]
    labels: Labels = {}
    slots: Slots = {}


class Joined(msgspec.Struct, kw_only=True):
    """The answer: who the worker is from now on, and for how long unless it renews."""

    worker: str
    epoch: Epoch
    lease_seconds: float
    wait_seconds_max: float = WAIT_SECONDS_MAX
    request_bytes_max: int = REQUEST_BYTES_MAX
    protocol: int = PROTOCOL


class Asked(msgspec.Struct, kw_only=True):
    """What every later request has; the whole of ``renew``, ``held`` and ``leave``."""

    worker: Annotated[str, Meta(max_length=200, pattern=f"^{WORKER_PREFIX}.")]
    epoch: Epoch


class Renewed(msgspec.Struct, kw_only=True):
    """The answer to ``renew``: the lease lasts for so long from the moment in which it was asked."""

    lease_seconds: float


class AskClaim(Asked, kw_only=True):
    """``claim``: at most ``room[executor]`` attempts of each executor, '' for those whose owner does not know it."""

    queues: Annotated[Names, Meta(min_length=1)]
    labels: Labels = {}
    room: Slots
    wait_seconds: Annotated[float, Meta(ge=0, le=3600)] = 0.0


class WireClaim(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A :class:`~headrace.contracts.ready.Claim`; ``call`` is a :class:`~headrace.contracts.ready.Call`."""

    key: str
    delivery: int
    queue: str
    executor: str = ""
    call: msgspec.Raw
    details: msgspec.Raw | UnsetType = UNSET


class Claimed(msgspec.Struct, kw_only=True):
    """The answer to ``claim`` and ``held``."""

    claims: list[WireClaim]


class WireBeat(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A :class:`~headrace.contracts.ready.Beat`. ``details`` is absent if there is nothing new."""

    key: Key
    delivery: Delivery
    details: msgspec.Raw | UnsetType = UNSET


class AskReport(Asked, kw_only=True):
    """``report``: these claims are alive, and how far they are."""

    beats: Annotated[list[WireBeat], Meta(max_length=10_000)]


class Reported(msgspec.Struct, kw_only=True):
    """The answer: claims to stop because nobody wants them any more, and claims that were lost."""

    verdicts: dict[str, Literal["stop", "lost"]]


class WireResult(msgspec.Struct, kw_only=True):
    """An outcome."""

    key: Key
    delivery: Delivery
    outcome: Outcome


class AskComplete(Asked, kw_only=True):
    """``complete``: bring outcomes home. May be repeated."""

    results: Annotated[list[WireResult], Meta(max_length=1_000)]


class Completed(msgspec.Struct, kw_only=True):
    """The answer, in the order of the results; durable. ``refused``: the claim was lost, its run has ended, or the
    outcome was recorded before."""

    answers: list[Literal["recorded", "refused"]]


class AskGiveBack(Asked, kw_only=True):
    """``give-back``: claims that were not begun, or were interrupted and may be tried again. May be repeated."""

    claims: Annotated[list[WireBeat], Meta(max_length=10_000)]


LockName = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX, pattern=r"^[^\x00]*$")]
Holder = Annotated[str, Meta(min_length=1, max_length=100)]
Ttl = Annotated[float, Meta(ge=TTL_SECONDS_MIN, le=TTL_SECONDS_MAX)]


class AskTakeLock(Asked, kw_only=True):
    """``take-lock``: a :class:`~headrace.contracts.locks.LockClaim`; ``holder`` is new for every acquisition."""

    name: LockName
    holder: Holder
    ttl_seconds: Ttl
    queue: bool = True
    wait_seconds: Annotated[float, Meta(ge=0, le=3600)] = 0.0


class LockTaken(msgspec.Struct, kw_only=True):
    """The answer: a :class:`~headrace.contracts.locks.LockTurn`; ``token`` is 0 if it is not ours yet."""

    token: int
    node: str = ""
    ahead: int = 0
    frees_in_seconds: float = 0.0


class WireLock(msgspec.Struct, kw_only=True):
    """A lock that is held."""

    name: LockName
    holder: Holder
    token: int


class AskRenewLocks(Asked, kw_only=True):
    """``renew-locks``: begin their time anew."""

    locks: Annotated[list[WireLock], Meta(max_length=10_000)]
    ttl_seconds: Ttl


class LocksRenewed(msgspec.Struct, kw_only=True):
    """The answer, in the order of the locks; False for one that is lost."""

    kept: list[bool]


class AskReleaseLock(Asked, kw_only=True):
    """``release-lock``: give a lock or a place in the line up. May be repeated."""

    name: LockName
    holder: Holder


class Nothing(msgspec.Struct):
    """The answer of ``give-back``, ``release-lock`` and ``leave``."""


class Refusal(msgspec.Struct, kw_only=True):
    """The body of every answer that is not 2xx: ``application/problem+json`` (RFC 9457)."""

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str = ""


def to_wire(claim: Claim) -> WireClaim:
    """A claim as it travels."""
    return WireClaim(
        key=claim.key,
        delivery=claim.delivery,
        queue=claim.queue,
        executor=claim.executor,
        call=msgspec.Raw(claim.call),
        details=UNSET if claim.details is None else msgspec.Raw(claim.details),
    )


def from_wire(claim: WireClaim) -> Claim:
    """A claim as it came."""
    details = None if claim.details is UNSET else bytes(claim.details)
    return Claim(claim.key, claim.delivery, claim.queue, claim.executor, bytes(claim.call), details)
