"""What the tests of outages share."""

import asyncio

from headrace.core.errors import HeadraceError
from headrace.engine.journal import Journal
from headrace.testing.store_conformance.stage import Node, event, run_id, update

R1 = run_id(1)
CUTS = ("answer", "sent", "half", "before")
"""How a request may end; see :class:`network.Network`."""


class Writer:
    """Hands events of one run to a real journal and remembers which were acknowledged."""

    def __init__(self, node: Node) -> None:
        self.journal = Journal(node.store, node.name, node.epoch)
        self.last = 1
        self.acked: list[int] = []
        self.errors: list[HeadraceError] = []

    def write(self, count: int) -> asyncio.Future[None]:
        """Hand in some events; done when they are durable."""
        seqs = range(self.last + 1, self.last + 1 + count)
        self.last += count
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def release(error: HeadraceError | None) -> None:
            if error is None:
                self.acked.extend(seqs)
            else:
                self.errors.append(error)
            done.set_result(None)

        self.journal.append([event(R1, seq, "x" * 100) for seq in seqs], release, update=update(R1, seqs[-1]))
        return done
