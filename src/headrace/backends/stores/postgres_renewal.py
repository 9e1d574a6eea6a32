"""Renewal of PostgreSQL leases: see :mod:`headrace.backends.stores.database_renewal`."""

from __future__ import annotations

from headrace.backends.stores.database_renewal import LeaseLine
from headrace.backends.stores.postgres_connections import Connection, driver, rows_affected
from headrace.backends.stores.postgres_url import Place
from headrace.core.ids import Epoch, NodeId


class Renewal(LeaseLine[Connection]):
    """One connection for renewals; made when first needed. Callable from any thread."""

    def __init__(self, place: Place) -> None:
        super().__init__(driver(place))
        self._statement = (
            f"UPDATE {place.schema}.nodes SET expires_at = {place.schema}.clock_seconds() + $3"
            " WHERE node = $1 AND epoch = $2 AND lost_at IS NULL"
        )

    def renew(self, node: NodeId, epoch: Epoch, lease_seconds: float) -> bool:
        """Extend a lease; False if it is not held. Waits at most a third of the lease. Raises Headrace's errors."""

        async def work(connection: Connection) -> bool:
            return rows_affected(await connection.execute(self._statement, node, epoch, lease_seconds)) == 1

        return self.call(work, lease_seconds / 3)
