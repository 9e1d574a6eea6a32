"""Opening the store for a command, as an engine that carries runs out or only to read; or a server instead of it."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from headrace.assembly import Headrace
from headrace.cli.options import TOKEN_VARIABLE, ServerOptions, Session
from headrace.config.load import load
from headrace.core.errors import NotFound, StoreError
from headrace.core.ids import RunId

if TYPE_CHECKING:
    from headrace.client.http.client import HttpClient

LATEST = frozenset({"-", "last", "@last"})
"""Words for the latest run."""

PATIENCE_SECONDS = 15.0
"""How long a store that is full or out of reach is tried again. Somebody is waiting, and can resume the run once the
store is mended; an engine that nobody watches tries for longer."""

HEAR_SECONDS = 5.0
"""How long a command that goes through a server waits until the run's owner has taken it up."""


@asynccontextmanager
async def engine(session: Session, *, execute: bool = True, must_exist: bool = False) -> AsyncGenerator[Headrace]:
    """An engine for as long as the command runs. It takes over no runs but those it is told to; without ``execute`` it
    starts no tasks either. ``must_exist``: do not make a new store. If the user named a server, the client that asks it:
    as long as no run is carried out here, it does the same."""
    if session.server is not None:
        async with client_of(session.server) as client:
            yield cast("Headrace", client)
        return
    headrace = guest(session, execute=execute)
    if must_exist:
        require_store(headrace)
    async with headrace:
        yield headrace


@asynccontextmanager
async def reader(session: Session) -> AsyncGenerator[Headrace]:
    """Only the store, without an engine: nothing is written, no store is made. Or the server that the user named."""
    if session.server is not None:
        async with client_of(session.server) as client:
            yield cast("Headrace", client)
        return
    headrace = guest(session)
    require_store(headrace)
    await headrace.store.open()
    try:
        yield headrace
    finally:
        await headrace.close_keeper()
        await headrace.store.close()


def client_of(server: ServerOptions) -> HttpClient:
    """The client of the server that the user named. Raises :class:`HeadraceError` for an address, a token or a
    certificate that cannot be used."""
    from headrace.cli.token import read_token
    from headrace.cli.trust import trust
    from headrace.client.http.client import HttpClient

    token = None  # a server may be open to this host
    if server.token_file is not None or os.environ.get(TOKEN_VARIABLE):
        token = read_token(server.token_file, variable=TOKEN_VARIABLE, key="server.api_tokens")
    tls = trust(server.ca, [server.url])
    return HttpClient(server.url, token, tls=tls, patience_seconds=PATIENCE_SECONDS, hear_seconds=HEAR_SECONDS)


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
