"""What an engine goes by where nothing else was said: by the machine, the store and the node's role."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from headrace.backends.executors.workflow_task import EXECUTOR as WORKFLOW
from headrace.config.settings import NodeSettings, SlotSettings
from headrace.contracts.database import DATABASE
from headrace.contracts.store import Store

RUNS_AWAITED_MAX = 10_000
"""Runs that are tasks of graphs, under way at once in one process: waiting for them costs a little memory each."""


def slots_of(settings: SlotSettings) -> dict[str, int]:
    """Attempts under way at once, by executor."""
    cores = os.cpu_count() or 1
    return {
        DATABASE: 1,
        "inline": settings.inline,
        "thread": settings.threads or min(32, 4 * cores),
        "process": settings.processes or cores,
        "shell": settings.shells or max(4, 2 * cores),
        "http": settings.http,
        WORKFLOW: RUNS_AWAITED_MAX,
    }


def part_of(node: NodeSettings) -> dict[str, Any]:
    """What a node's role means to its engine."""
    match node.role:
        case "all":
            return {"queues": node.queues}
        case "engine":
            return {"queues": (), "pull": False}
        case "worker":
            return {"queues": node.queues, "adopt": False, "pull": True}
        case "watcher":
            return {"queues": (), "adopt": False, "execute": False, "pull": False}


def is_shared(store: Store) -> bool:
    """Whether other processes can reach it."""
    url = str(getattr(store, "url", ""))
    return url != "sqlite://" and not url.startswith("memory:")


def lease_seconds_of(store: Store) -> float:
    """On one host dead processes are known at once and only suspended ones are waited for; elsewhere the lease is how
    long a dead node's runs wait."""
    return 15.0 if has_clock(store) else 60.0


def has_clock(store: Store) -> bool:
    """Whether it is a server, whose clock all nodes share; a file is only ever opened on one machine."""
    return str(getattr(store, "url", "")).startswith(("postgres", "mysql", "mariadb"))


def data_dir_of(store: Store) -> Path:
    """The folder for files: beside an SQLite database, else in the working directory."""
    path = getattr(store, "_path", None)
    if isinstance(path, Path):
        return path.with_name(path.name + ".files")
    return Path(".headrace") / "files"
