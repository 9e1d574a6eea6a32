"""Opening the store for a command: as an engine that carries runs out, or only to read."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from headrace.assembly import Headrace
from headrace.cli.options import Session
from headrace.config.load import load
from headrace.core.errors import NotFound, StoreError
from headrace.core.ids import RunId

LATEST = frozenset({"-", "last", "@last"})
"""Words for the latest run."""

PATIENCE_SECONDS = 15.0
"""How long a store that is full or out of reach is tried again. Somebody is waiting, and can resume the run once the
store is mended; an engine that nobody watches tries for longer."""


@asynccontextmanager
async def engine(session: Session, *, execute: bool = True, must_exist: bool = False) -> AsyncGenerator[Headrace]:
    """An engine for as long as the command runs. It takes over no runs but those it is told to; without ``execute`` it
    starts no tasks either. ``must_exist``: do not make a new store."""
    headrace = guest(session, execute=execute)
    if must_exist:
        require_store(headrace)
    async with headrace:
        yield headrace


@asynccontextmanager
async def reader(session: Session) -> AsyncGenerator[Headrace]:
    """Only the store, without an engine: nothing is written, no store is made."""
    headrace = guest(session)
    require_store(headrace)
    await headrace.store.open()
    try:
        yield headrace
    finally:
        await headrace.close_keeper()
        await headrace.store.close()


def guest(session: Session, *, execute: bool = True) -> Headrace:
    """What a command works with: the configuration's, but a passing guest among the nodes. It has a name of its own,
    deletes nothing, and carries its own runs out whatever the role of the node here."""
    settings = (session.configuration or load()).settings
    return Headrace.configured(
        settings,
        queues=settings.node.queues,
        store=session.store,
        adopt=False,
        execute=execute,
        pull=False,
        node=None,
        patience_seconds=PATIENCE_SECONDS,
        retention_seconds=None,
        drain_seconds=0.0,
    )


def require_store(headrace: Headrace) -> None:
    """Raise :class:`StoreError` if the store's file does not exist."""
    url = headrace.store.url
    path = getattr(headrace.store, "path", None) if url.startswith("sqlite:///") else None
    if isinstance(path, Path) and not path.exists():
        raise StoreError(
            f"there is no database at {path}", hint="run a workflow first, or say where it is with --store URL"
        )


async def full_id(headrace: Headrace, given: str) -> RunId:
    """The id of the run a user means. Raises :class:`NotFound`."""
    if given in LATEST:
        latest = await headrace.runs(limit=1)
        if not latest:
            raise NotFound("there are no runs yet", hint="headrace run FILE")
        return latest[0].run_id
    return (await headrace.row(given)).run_id
