"""Where the API is, who may use it, and how much of everything there may be."""

from __future__ import annotations

import enum

PATH = "/api/v1"

BODY_BYTES_MAX = 8 * 1024 * 1024
"""The largest body of a request."""

TEXT_CHARS_MAX = 4 * 1024 * 1024
"""The longest definition that a request may bring along."""

PAGE_MAX = 1_000
"""Runs, events or logs in one answer at most."""

VALUES_BYTES_MAX = 16 * 1024 * 1024
"""Large values in one answer, as JSON; those beyond stay references."""

WAIT_SECONDS_MAX = 60.0
"""How long a request may wait for a run's end, or for an update's answer."""

WAITS_MAX = 1_000
"""Requests that wait at one node at once."""

STREAMS_MAX = 500
"""Streams of events from one node at once."""

REQUESTS_MAX = 200
"""Requests that one node works on at once, besides those that wait and the streams."""

RETRY_SECONDS = 1
"""After how long one who is sent away may come again."""

HEARTBEAT_SECONDS = 15.0
"""How often a stream in which nothing happens says that it is there."""

IDEMPOTENCY_HEADER = "Idempotency-Key"
IDEMPOTENCY_CHARS_MAX = 200
IDEMPOTENCY_PREFIX = "request:"
"""Begins the key of a run that was started with an idempotency id and without a key."""


class Role(enum.StrEnum):
    """What a user may do; each may do what those before it may."""

    VIEWER = "viewer"
    """Look at runs, workflows, nodes and locks."""
    OPERATOR = "operator"
    """Start runs of stored workflows and command runs."""
    AUTHOR = "author"
    """Bring workflow definitions along, and so run any program on the nodes."""

    def may(self, needed: Role) -> bool:
        """Whether this role is enough."""
        return list(Role).index(self) >= list(Role).index(needed)
