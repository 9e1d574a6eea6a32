"""Keepers of locks other than the store: implementations of :class:`headrace.contracts.locks.Locks`.

- :mod:`~headrace.backends.keepers.etcd`: locks in etcd; :mod:`~headrace.backends.keepers.etcd_gateway` talks to it,
  :mod:`~headrace.backends.keepers.etcd_url` reads where it is.

:func:`open_locks` chooses by URL.
"""

from __future__ import annotations

from headrace.contracts.locks import Locks
from headrace.contracts.store import Store
from headrace.core.errors import KeeperError
from headrace.core.ids import NodeId

KEEPER_DEFAULT = "store"

SUPPORTED = (
    (KEEPER_DEFAULT, "the store itself (default)"),
    (
        "etcd://host:2379",
        "etcd 3.4 or newer; several members separated by commas; ?prefix=, ?ca=, ?cert=, ?key=, ?tls=",
    ),
)
"""URL forms and what they mean, for messages and documentation."""


def open_locks(url: str | None, store: Store) -> Locks:
    """Whoever keeps the locks and elects the leader, by URL; None and ``store`` mean the store itself, which is returned
    as it is. Nothing is connected yet: one that is out of reach is noticed by the first claim.

    Raises :class:`KeeperError` for a URL that means nothing, or that names files which cannot be used.
    """
    if url is None or url == KEEPER_DEFAULT:
        return store
    scheme, separator, _ = url.partition("://")
    if scheme != "etcd" or not separator:
        forms = "\n".join(f"    {form:<20} {meaning}" for form, meaning in SUPPORTED)
        what = f"there is no keeper for {scheme}://" if separator else f"{scheme!r} is not a keeper's URL"
        raise KeeperError(what, hint=f"supported are:\n{forms}")
    from headrace.backends.keepers.etcd import EtcdLocks  # noqa: PLC0415 - loaded when needed
    from headrace.backends.keepers.etcd_url import address_of_url  # noqa: PLC0415

    async def bell_of(node: NodeId) -> str:
        return next((row.bell for row in await store.nodes() if row.live and row.node == node), "")

    return EtcdLocks(address_of_url(url), bell_of=bell_of)


__all__ = ["KEEPER_DEFAULT", "SUPPORTED", "open_locks"]
