"""Who works on the store, and which locks are held."""

from __future__ import annotations

from typing import Any

from headrace.client.documents import lock_document, node_documents
from headrace.contracts.api import answers
from headrace.contracts.api.bounds import Role
from headrace.server.api.endpoint import Call, Endpoint
from headrace.server.api.service import Api


async def list_nodes(api: Api, call: Call) -> Any:
    """And workers; lost ones for a day."""
    return {"nodes": node_documents(await api.client.nodes(), await api.client.locks())}


async def list_locks(api: Api, call: Call) -> Any:
    """The leader's among them."""
    return {"locks": [lock_document(row) for row in await api.client.locks()]}


ENDPOINTS = (
    Endpoint("GET", "/nodes", Role.VIEWER, "List nodes and workers", answers.Nodes, list_nodes),
    Endpoint("GET", "/locks", Role.VIEWER, "List locks that are held", answers.Locks, list_locks),
)
