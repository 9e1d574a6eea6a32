"""All paths of the API."""

from __future__ import annotations

from headrace.server.api import attempts, cluster, events, messages, runs_command, runs_read, runs_start, workflows
from headrace.server.api.endpoint import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = (
    *runs_start.ENDPOINTS,
    *runs_read.ENDPOINTS,
    *events.ENDPOINTS,
    *runs_command.ENDPOINTS,
    *messages.ENDPOINTS,
    *attempts.ENDPOINTS,
    *workflows.ENDPOINTS,
    *cluster.ENDPOINTS,
)
