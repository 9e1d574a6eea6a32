"""``headrace worker --server``: a worker that has a server's address and a token instead of a store."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.core.errors import HeadraceError

if TYPE_CHECKING:
    from headrace.cli.options import Session
    from headrace.worker.remote import RemoteWorker

TOKEN_VARIABLE = "HEADRACE_TOKEN"  # noqa: S105 - its name
TOKEN_BYTES_MAX = 10_000


def remote_worker(
    session: Session,
    servers: Sequence[str] | None,
    token_file: str | None,
    *,
    queues: Sequence[str],
    labels: Mapping[str, str],
    slots: Mapping[str, int],
    name: str | None,
    data_dir: str | None,
    source_dir: Path | None,
) -> RemoteWorker:
    """The worker, not started yet. Raises :class:`HeadraceError` for options that cannot be meant."""
    from headrace.assembly import slots_of
    from headrace.config.interceptors import interceptors_of
    from headrace.config.settings import Settings
    from headrace.contracts.database import DATABASE
    from headrace.worker.remote import RemoteWorker

    if not servers:
        raise HeadraceError("--token-file is for --server", hint="for example: --server http://127.0.0.1:7233")
    if session.store_given:
        raise HeadraceError("--server and --store exclude each other", hint="a worker of a server needs no store")
    settings = session.configuration.settings if session.configuration is not None else Settings()
    here = {executor: count for executor, count in slots_of(settings.slots).items() if executor != DATABASE}
    place = data_dir or settings.data_dir
    return RemoteWorker(
        servers,
        _token(token_file),
        name=name,
        queues=tuple(queues),
        labels=labels,
        slots={**here, **slots},
        data_dir=Path(place) if place is not None else Path(".headrace") / "worker",
        source_dir=source_dir,
        env_allow=settings.env_allow,
        interceptors=interceptors_of(settings),
        abandoned_threads=settings.limits.abandoned_threads,
        process_calls=settings.limits.process_calls,
        process_memory=settings.limits.process_memory,
    )


def _token(file: str | None) -> str:
    if file is not None:
        try:
            with Path(file).open("rb") as stream:
                token = stream.read(TOKEN_BYTES_MAX).decode("ascii").strip()
        except OSError as error:
            raise HeadraceError(f"--token-file {file}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise HeadraceError(f"--token-file {file}: expected one token of ASCII characters") from None
        where = f"--token-file {file}"
    else:
        token, where = os.environ.get(TOKEN_VARIABLE, "").strip(), TOKEN_VARIABLE
        if not token:
            raise HeadraceError(
                "--server needs a token",
                hint=f"give --token-file FILE, or set {TOKEN_VARIABLE}; see server.worker_tokens",
            )
    if not token or not token.isascii() or any(one.isspace() or not one.isprintable() for one in token):
        raise HeadraceError(f"{where}: expected one token, without white space")
    return token
