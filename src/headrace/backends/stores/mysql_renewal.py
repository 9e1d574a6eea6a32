"""Renewal of MySQL leases: see :mod:`headrace.backends.stores.database_renewal`."""

from __future__ import annotations

from headrace.backends.stores.database_renewal import LeaseLine
from headrace.backends.stores.mysql_connections import Connection, driver
from headrace.backends.stores.mysql_text import placed
from headrace.backends.stores.mysql_url import Place
from headrace.core.ids import Epoch, NodeId

_RENEW = """UPDATE leases SET expires_at = (SELECT seconds FROM clock) + ? WHERE node = ? AND epoch = ?;
SELECT EXISTS (SELECT 1 FROM leases WHERE node = ? AND epoch = ?)"""


class Renewal(LeaseLine[Connection]):
    """One connection for renewals; made when first needed. Callable from any thread."""

    def __init__(self, place: Place) -> None:
        super().__init__(driver(place))

    def renew(self, node: NodeId, epoch: Epoch, lease_seconds: float) -> bool:
        """Extend a lease; False if it is not held. Waits at most a third of the lease. Raises Headrace's errors."""

        async def work(connection: Connection) -> bool:
            # Found, not changed: two renewals within one tick of the clock change nothing the second time.
            text = placed(_RENEW, (lease_seconds, node, epoch, node, epoch))
            return (await connection.run(text))[-1].rows[0][0] == 1

        return self.call(work, lease_seconds / 3)
