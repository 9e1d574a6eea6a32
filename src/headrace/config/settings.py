"""Every key of the configuration, declared once: type, bounds, default, meaning, and when a change takes effect.

The reference page, the JSON Schema, the messages about wrong values and ``headrace config show`` are made from this file.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from headrace.core.spec import QUEUE_DEFAULT

STORE_DEFAULT = "sqlite:///.headrace/headrace.db"
"""Where runs are kept unless told otherwise: a file in the working directory."""


KEEPER_DEFAULT = "store"
"""Who keeps the locks unless told otherwise: the store itself."""


class Change(enum.StrEnum):
    """When a changed key takes effect on a node that is up."""

    NOW = "at once"
    """From the reload on, for runs under way too."""
    NEW_RUNS = "new runs"
    """Runs that begin after the reload see it; those under way keep what they began with."""
    RESTART = "restart"
    """Not while the node is up: a reload reports it and leaves the old value in force."""


def _about(
    text: str, change: Change = Change.RESTART, *, duration: bool = False, path: bool = False, **more: Any
) -> Meta:
    """What is known of a key besides its type. ``more``: bounds as msgspec knows them, ``default_text`` for a default
    that is computed, ``secret`` for a value that is never shown, ``switch`` for
    the key of the section that turns it all on by being there: to turn it on or off takes a restart."""
    extra: dict[str, Any] = {"change": change, "duration": duration, "path": path}
    for name in ("default_text", "secret", "example", "bytes", "switch"):
        if name in more:
            extra[name] = more.pop(name)
    return Meta(description=text, extra=extra, **more)


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The engine process."""

    name: Annotated[
        str | None,
        _about(
            "The node's name. Two processes must not have the same one at the same time: the later one takes over the"
            " earlier one's runs. With `--nodes N` the processes are called NAME-1 to NAME-N.",
            default_text="with `headrace up` the variable `POD_NAME`; else a new one for each process",
            min_length=1,
            max_length=100,
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        ),
    ] = None
    role: Annotated[
        Literal["all", "engine", "worker", "watcher"],
        _about(
            "What the node does. `all`: owns runs and carries out attempts, its own and others'. `engine`: owns runs and"
            " offers all their attempts to others. `worker`: owns no runs, carries out attempts of others. `watcher`:"
            " neither; it only answers requests."
        ),
    ] = "all"
    queues: Annotated[
        tuple[str, ...],
        _about("Queues whose attempts the node carries out.", example=["default", "gpu"], min_length=1),
    ] = (QUEUE_DEFAULT,)
    labels: Annotated[
        dict[str, str],
        _about("What tasks may ask for of the node that carries them out (`needs_labels`)."),
    ] = {}
    lease: Annotated[
        float | None,
        _about(
            "How long the runs of a node that is lost wait at most until others take them over.",
            duration=True,
            default_text="60s on SQLite, where dead processes are noticed at once; 15s on a database server",
            ge=1,
            le=3600,
        ),
    ] = None
    patience: Annotated[
        float,
        _about(
            "How long a store that is full or out of reach is tried again before the node gives up.",
            Change.NOW,
            duration=True,
            ge=0,
        ),
    ] = 60.0
    drain: Annotated[
        float,
        _about(
            "How long attempts under way may take to end when `headrace up` is told to stop. What has not ended by then"
            " is stopped and tried again by whoever takes its run over.",
            Change.NOW,
            duration=True,
            ge=0,
        ),
    ] = 30.0


class SlotSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How many attempts may be under way at once on one node, by executor."""

    threads: Annotated[
        int | None,
        _about("Python functions in threads.", Change.NOW, default_text="four per core, at most 32", ge=1, le=10_000),
    ] = None
    processes: Annotated[
        int | None,
        _about("Python functions in processes.", Change.NOW, default_text="one per core", ge=1, le=10_000),
    ] = None
    shells: Annotated[
        int | None,
        _about("Shell commands.", Change.NOW, default_text="two per core, at least 4", ge=1, le=10_000),
    ] = None
    http: Annotated[int, _about("HTTP requests.", Change.NOW, ge=1, le=100_000)] = 100
    inline: Annotated[int, _about("Coroutines on the engine's event loop.", Change.NOW, ge=1, le=1_000_000)] = 1_000


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The log of the engine, on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        _about("The least level that is written.", Change.NOW, default_text="info for `headrace up`, else error"),
    ] = None
    format: Annotated[
        Literal["text", "json"],
        _about("`text` for people, `json` for one JSON object per line.", Change.NOW),
    ] = "text"


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds that protect the node."""

    live_runs: Annotated[
        int, _about("Runs in memory above which no more are taken over.", Change.NOW, ge=1, le=1_000_000)
    ] = 5_000
    abandoned_threads: Annotated[
        int,
        _about(
            "Threads that may still run code of attempts that were cancelled or timed out before new calls are refused.",
            ge=0,
            le=100_000,
        ),
    ] = 100
    process_calls: Annotated[
        int,
        _about("Calls after which a child process is replaced, so that leaks in tasks stay bounded.", ge=1, le=10**9),
    ] = 5_000
    process_memory: Annotated[
        int | None,
        _about(
            "Address space of a child process in bytes; Python itself needs about 200 MiB of it. What allocates more"
            " gets a `MemoryError`.",
            bytes=True,
            default_text="no bound",
            ge=64 * 1024 * 1024,
        ),
    ] = None


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `headrace up` serves over HTTP: runs and workflows for users, workers without database access, administrators,
    and whether the node is healthy."""

    listen: Annotated[
        str | None,
        _about(
            "Where to listen, as `host:port`. Without `tls_certificate` there is no TLS: off this host, give one, or put"
            " a proxy in front that has it.",
            default_text="nothing is served",
            min_length=1,
            example="127.0.0.1:7233",
        ),
    ] = None
    worker_tokens: Annotated[
        str | None,
        _about(
            "Tokens that let a worker in, separated by commas or white space, each of at least 16 characters. Whoever has"
            ' one gets whatever tasks are given and decides their outcomes. Best kept in a file: `{file = "tokens"}`.',
            Change.NOW,
            secret=True,
            default_text="none: no worker is served",
            min_length=1,
        ),
    ] = None
    admin_tokens: Annotated[
        str | None,
        _about(
            "Tokens that let an administrator in, written as `worker_tokens` are: whoever has one sees the configuration"
            " without its secrets and has it read again, and may do everything in the API, if that is served. None of"
            " them may be a worker's. One token of any sort is needed for anything to be served.",
            Change.NOW,
            secret=True,
            default_text="none: no administrator is served",
            min_length=1,
        ),
    ] = None
    api_tokens: Annotated[
        str | None,
        _about(
            "Tokens that let users in to runs and workflows, written as `worker_tokens` are, each with its role in front:"
            " `viewer:TOKEN` looks, `operator:TOKEN` also starts runs of stored workflows and commands runs,"
            " `author:TOKEN` also brings definitions along, and so runs any program on the nodes.",
            Change.NOW,
            secret=True,
            default_text="none: no user is served",
            min_length=1,
        ),
    ] = None
    api_open: Annotated[
        Literal["no", "viewer", "operator", "author"],
        _about(
            "Whether the API is open to requests without a token, and which role they have: for a server that listens at"
            " a loopback address, on a host whose users and programs you all trust. Web pages and proxies are refused.",
            Change.NOW,
        ),
    ] = "no"
    tls_certificate: Annotated[
        str | None,
        _about(
            "A PEM file with the server's certificate and those between it and its authority: the server then speaks TLS"
            " alone. Read again with every reload, and when it changes: a renewed one is served at once. To begin or end"
            " to speak TLS takes a restart.",
            Change.NOW,
            path=True,
            switch="tls_certificate",
            default_text="no TLS",
            min_length=1,
        ),
    ] = None
    tls_key: Annotated[
        str | None,
        _about(
            "A PEM file with the private key of the certificate, not encrypted.",
            Change.NOW,
            path=True,
            switch="tls_certificate",
            default_text="in the file of the certificate",
            min_length=1,
        ),
    ] = None
    worker_lease: Annotated[
        float,
        _about(
            "How long the attempts of a worker that is lost wait at most until they are offered to others.",
            Change.NOW,
            duration=True,
            ge=1,
            le=3600,
        ),
    ] = 15.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration, with its defaults."""

    store: Annotated[
        str,
        _about(
            "Where runs are kept: a store URL. A password in it is never shown; better, give the whole URL as a secret.",
            min_length=1,
            example="postgresql://headrace@db/jobs",
        ),
    ] = STORE_DEFAULT
    broker: Annotated[
        str | None,
        _about(
            "What wakes nodes on other hosts: the URL of a broker, or `none`. A password in it is never shown.",
            default_text="what the store offers: on PostgreSQL LISTEN and NOTIFY",
            min_length=1,
            example="nats://queue.example:4222",
        ),
    ] = None
    keeper: Annotated[
        str,
        _about(
            "Who keeps locks and elects the leader: `store`, or the URL of etcd. All nodes of a cluster need the same. A"
            " password in it is never shown.",
            min_length=1,
            example="etcd://a.example:2379,b.example:2379,c.example:2379",
        ),
    ] = KEEPER_DEFAULT
    data_dir: Annotated[
        str | None,
        _about(
            "Folder for logs, large values and work folders. Nodes on several hosts need one that they share.",
            path=True,
            default_text="beside the database file; without one `.headrace/files`",
            min_length=1,
        ),
    ] = None
    workflows: Annotated[
        tuple[str, ...],
        _about(
            "Workflow files that `headrace up` serves: files, folders, or patterns such as `flows/**/*.yaml`; of a Python"
            " file with several workflows, `jobs.py:name`. A file that changes gives its workflow a new version.",
            Change.NEW_RUNS,
            path=True,
            example=["flows", "jobs.py"],
        ),
    ] = ()
    env_allow: Annotated[
        tuple[str, ...],
        _about("Environment variables that shell tasks inherit beyond the usual few.", Change.NEW_RUNS),
    ] = ()
    retention: Annotated[
        float | None,
        _about(
            "Runs that ended longer ago are deleted, with their histories and logs.",
            Change.NOW,
            duration=True,
            default_text="runs are kept for ever",
            ge=0,
        ),
    ] = None
    codec: Annotated[
        tuple[str, ...],
        _about(
            "What seals payloads on their way to the store, in order: `compression`, `encryption`, or"
            " `module:attribute` for one of your own.",
            example=["compression", "encryption"],
        ),
    ] = ()
    encryption_keys: Annotated[
        str | None,
        _about(
            "Keys of the codec `encryption`: `id:base64`, separated by commas, the active one last.",
            secret=True,
            default_text="the variable `HEADRACE_KEYS`",
            min_length=1,
        ),
    ] = None
    interceptors: Annotated[
        tuple[str, ...],
        _about(
            "User code around starts, messages, workflow code and attempts, outermost first: `module:attribute`, an"
            " interceptor, a list of them, or what returns one of these.",
            example=["ourcompany.tracing:interceptors"],
        ),
    ] = ()
    node: NodeSettings = NodeSettings()
    slots: SlotSettings = SlotSettings()
    limits: LimitSettings = LimitSettings()
    log: LogSettings = LogSettings()
    server: ServerSettings = ServerSettings()
