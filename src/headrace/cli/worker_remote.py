"""``headrace worker --server``: a worker that has a server's address and a token instead of a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.core.errors import HeadraceError

if TYPE_CHECKING:
    from headrace.cli.options import Session
    from headrace.worker.remote import RemoteWorker

TOKEN_VARIABLE = "HEADRACE_TOKEN"  # noqa: S105 - its name


def remote_worker(
    session: Session,
    servers: Sequence[str] | None,
    token_file: str | None,
    ca: str | None,
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
    from headrace.cli.token import read_token
    from headrace.cli.trust import trust
    from headrace.config.interceptors import interceptors_of
    from headrace.config.settings import Settings
    from headrace.contracts.database import DATABASE
    from headrace.worker.remote import RemoteWorker

    if not servers:
        raise HeadraceError(
            "--token-file and --ca are for --server", hint="for example: --server http://127.0.0.1:7233"
        )
    if session.store_given:
        raise HeadraceError("--server and --store exclude each other", hint="a worker of a server needs no store")
    settings = session.configuration.settings if session.configuration is not None else Settings()
    here = {executor: count for executor, count in slots_of(settings.slots).items() if executor != DATABASE}
    place = data_dir or settings.data_dir
    return RemoteWorker(
        servers,
        read_token(token_file, variable=TOKEN_VARIABLE, key="server.worker_tokens"),
        trust=trust(ca, servers),
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
