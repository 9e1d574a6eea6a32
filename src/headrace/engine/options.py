"""What a node is told when it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from headrace.contracts.ready import Outcome
from headrace.core.spec import QUEUE_DEFAULT
from headrace.engine.puller import BindCall, ReadLog


class NodeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a node may be told.

    ``lease_seconds``: how long a lost node's runs stay unclaimed at most. On SQLite a dead process is noticed at once
    by its lock file, so only one that is suspended is waited for, and a disk that stalls costs a healthy node nothing.
    ``adopt``: take over unowned runs, and lead if no other node does. ``slots``: attempts under way at once, by
    executor. ``patience_seconds``: how long an unreachable or full store is retried before the node gives up.
    ``retention_seconds``: finished runs older than this are deleted; None keeps them. ``child_check_seconds``: how often
    a parked run with open children looks after them, should word of an end have been lost. ``live_runs_max``: runs in
    memory above which no more are taken over. ``queues``: whose attempts are carried out here, own and others';
    ``labels``: what tasks may ask for of the node that runs them. ``pull``: carry out attempts of runs that other nodes
    own. ``database_clock``: correct the clock by the store's, which other machines share.
    """

    node: str | None = None
    lease_seconds: float = 60.0
    adopt: bool = True
    slots: Mapping[str, int] = {}
    patience_seconds: float = 60.0
    stop_seconds: float = 10.0
    poll_seconds: float = 2.0
    retention_seconds: float | None = None
    child_check_seconds: float = 60.0
    live_runs_max: int = 5_000
    queues: tuple[str, ...] = (QUEUE_DEFAULT,)
    labels: Mapping[str, str] = {}
    pull: bool = False
    database_clock: bool = False

    def serves(self, queue: str, labels: Mapping[str, str]) -> bool:
        """Whether this node carries out such attempts."""
        return queue in self.queues and labels.items() <= self.labels.items()


class GuestSupport(msgspec.Struct, frozen=True):
    """What a node needs for attempts of other nodes' runs, and to send its own away: how a call is bound, how the log
    of an attempt is read and kept, and the name of its data folder."""

    bind: BindCall
    read_log: ReadLog
    keep_log: Callable[[str, Outcome], None]
    place: Callable[[], str]
