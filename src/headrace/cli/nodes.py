"""``headrace nodes | locks``: who works on this store, who of them leads, and who holds which lock."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from headrace.cli import options
from headrace.cli.options import session_of
from headrace.cli.output import Format, write, write_document


def nodes(
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    server: options.Server = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    verbose: options.Verbose = False,
) -> int:
    """The nodes and workers of the store, and which of them leads. Lost ones are shown for a day."""
    session = session_of(store, server=server, token_file=token_file, ca=ca, asks_servers=True, verbose=verbose)
    from headrace.cli.engine import client_of, reader
    from headrace.cli.runtime import run
    from headrace.client.documents import node_documents

    async def read() -> list[dict[str, Any]]:
        if session.server is not None:
            async with client_of(session.server) as client:
                return msgspec.to_builtins(await client.nodes())
        async with reader(session) as headrace:
            return node_documents(await headrace.nodes(), await headrace.locks())

    documents = run(read())
    if output is not Format.TEXT:
        write_document(documents, output)
    elif not documents:
        write("no node has been here")
    else:
        from headrace.cli.table import aligned

        write(aligned(["NODE", "ROLE", "STATE", "LEADER", "QUEUES", "LABELS"], [_cells(one) for one in documents]))
    return 0


def _cells(document: dict[str, Any]) -> list[str]:
    labels = " ".join(f"{name}={value}" for name, value in document["labels"].items())
    return [
        document["id"],
        document["role"],
        "live" if document["live"] else "lost",
        f"term {document['term']}" if document["leader"] else "",
        ", ".join(document["queues"]),
        labels,
    ]


def locks(
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    server: options.Server = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    verbose: options.Verbose = False,
) -> int:
    """The locks that are held, the leader's among them, with their tokens and how many wait."""
    session = session_of(store, server=server, token_file=token_file, ca=ca, asks_servers=True, verbose=verbose)
    from headrace.cli.engine import client_of, reader
    from headrace.cli.runtime import run
    from headrace.client.documents import lock_document

    async def read() -> list[dict[str, Any]]:
        if session.server is not None:
            async with client_of(session.server) as client:
                return msgspec.to_builtins(await client.locks())
        async with reader(session) as headrace:
            return [lock_document(row) for row in await headrace.locks()]

    documents = run(read())
    if output is not Format.TEXT:
        write_document(documents, output)
    elif not documents:
        write("no lock is held")
    else:
        from headrace.cli.table import aligned
        from headrace.cli.times import span
        from headrace.core.times import seconds_of

        now = time.time()
        cells = [
            [
                one["name"],
                one["node"],
                str(one["token"]),
                span(now - (seconds_of(one["taken_at"]) or now)),
                f"{one['waiting']:,}",
            ]
            for one in documents
        ]
        write(aligned(["LOCK", "NODE", "TOKEN", "HELD FOR", "WAITING"], cells))
    return 0
