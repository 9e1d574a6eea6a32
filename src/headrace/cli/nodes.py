"""``headrace nodes | locks``: who works on this store, who of them leads, and who holds which lock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from headrace.cli import options
from headrace.cli.options import session_of
from headrace.cli.output import Format, write, write_document

if TYPE_CHECKING:
    from headrace.contracts.locks import LockRow
    from headrace.contracts.store import NodeRow


def nodes(
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    verbose: options.Verbose = False,
) -> int:
    """The nodes and workers of the store, and which of them leads. Lost ones are shown for a day."""
    session = session_of(store, verbose=verbose)
    from headrace.cli.engine import reader
    from headrace.cli.runtime import run
    from headrace.client.documents import node_documents

    async def read() -> tuple[list[NodeRow], list[LockRow]]:
        async with reader(session) as headrace:
            return await headrace.nodes(), await headrace.locks()

    documents = node_documents(*run(read()))
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
    verbose: options.Verbose = False,
) -> int:
    """The locks that are held, the leader's among them, with their tokens and how many wait."""
    session = session_of(store, verbose=verbose)
    from headrace.cli.engine import reader
    from headrace.cli.runtime import run
    from headrace.client.documents import lock_document

    async def read() -> list[LockRow]:
        async with reader(session) as headrace:
            return await headrace.locks()

    rows = run(read())
    if output is not Format.TEXT:
        write_document([lock_document(row) for row in rows], output)
    elif not rows:
        write("no lock is held")
    else:
        from headrace.cli.table import aligned
        from headrace.cli.times import span

        now = time.time()
        cells = [[row.name, row.node, str(row.token), span(now - row.taken_at), f"{row.waiting:,}"] for row in rows]
        write(aligned(["LOCK", "NODE", "TOKEN", "HELD FOR", "WAITING"], cells))
    return 0
