"""Headrace: a durable workflow engine for Python.

Write a workflow with :func:`dag` and :func:`task`, or in YAML, and run it with :class:`Headrace`. Names are loaded when
first used, so that ``import headrace`` costs little.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from headrace.assembly import Headrace
    from headrace.authoring import Dag, Ref, TaskFunction, chain, dag, each, task
    from headrace.backends.codecs import Compression, Encryption
    from headrace.client.definitions import WorkflowText
    from headrace.client.handle import RunHandle
    from headrace.client.http.connecting import connect
    from headrace.contracts.codec import PayloadCodec
    from headrace.contracts.current import current_attempt
    from headrace.contracts.execution import complete_later
    from headrace.contracts.interceptor import Interceptor
    from headrace.contracts.locking import HeldLock, lock
    from headrace.core.errors import (
        AlreadyRunning,
        ChildFailed,
        Diverged,
        HeadraceError,
        InvalidCommand,
        InvalidDefinition,
        InvalidParams,
        LockLost,
        LockMisused,
        LockNotFree,
        NotDeterministic,
        NotFound,
        PermanentError,
        RetryableError,
        RunCancelled,
        RunFailed,
        SkipTask,
        StoreError,
        TaskFailed,
        UpdateRejected,
        UserCodeError,
    )
    from headrace.core.spec import Backoff, Jitter, RetryPolicy, TaskSpec, Timeouts, TriggerRule, WorkflowSpec
    from headrace.durable.calls import add_task, run_task
    from headrace.durable.context import (
        cancel_run,
        continue_as_new,
        continue_suggested,
        deprecate_patch,
        handlers_finished,
        info,
        patched,
        set_attributes,
        set_details,
        set_memo,
        signal_run,
        start_child,
        wait_for_signal,
        wait_until,
    )
    from headrace.durable.database import database_task
    from headrace.durable.handlers import query, signal, update
    from headrace.durable.intercepted import observe
    from headrace.durable.saga import Saga, ledger, saga
    from headrace.durable.workflow import WorkflowFunction, workflow

_HOMES = {
    "Headrace": "headrace.assembly",
    "RunHandle": "headrace.client.handle",
    "WorkflowText": "headrace.client.definitions",
    "connect": "headrace.client.http.connecting",
    "PayloadCodec": "headrace.contracts.codec",
    **dict.fromkeys(("Compression", "Encryption"), "headrace.backends.codecs"),
    "current_attempt": "headrace.contracts.current",
    "complete_later": "headrace.contracts.execution",
    **dict.fromkeys(("Dag", "Ref", "TaskFunction", "chain", "dag", "each", "task"), "headrace.authoring"),
    **dict.fromkeys(
        (
            "AlreadyRunning",
            "HeadraceError",
            "InvalidCommand",
            "InvalidDefinition",
            "InvalidParams",
            "LockLost",
            "LockMisused",
            "LockNotFree",
            "NotFound",
            "PermanentError",
            "RetryableError",
            "RunCancelled",
            "RunFailed",
            "SkipTask",
            "StoreError",
            "UserCodeError",
            "ChildFailed",
            "Diverged",
            "NotDeterministic",
            "TaskFailed",
            "UpdateRejected",
        ),
        "headrace.core.errors",
    ),
    **dict.fromkeys(
        (
            "cancel_run",
            "continue_as_new",
            "continue_suggested",
            "deprecate_patch",
            "handlers_finished",
            "info",
            "patched",
            "set_attributes",
            "set_details",
            "set_memo",
            "signal_run",
            "start_child",
            "wait_for_signal",
            "wait_until",
        ),
        "headrace.durable.context",
    ),
    "Interceptor": "headrace.contracts.interceptor",
    **dict.fromkeys(("HeldLock", "lock"), "headrace.contracts.locking"),
    "observe": "headrace.durable.intercepted",
    "add_task": "headrace.durable.calls",
    "run_task": "headrace.durable.calls",
    "database_task": "headrace.durable.database",
    **dict.fromkeys(("query", "signal", "update"), "headrace.durable.handlers"),
    **dict.fromkeys(("Saga", "ledger", "saga"), "headrace.durable.saga"),
    **dict.fromkeys(("WorkflowFunction", "workflow"), "headrace.durable.workflow"),
    **dict.fromkeys(
        ("Backoff", "Jitter", "RetryPolicy", "TaskSpec", "Timeouts", "TriggerRule", "WorkflowSpec"),
        "headrace.core.spec",
    ),
}

__all__ = [
    "AlreadyRunning",
    "Backoff",
    "ChildFailed",
    "Compression",
    "Dag",
    "Diverged",
    "Encryption",
    "Headrace",
    "HeadraceError",
    "HeldLock",
    "Interceptor",
    "InvalidCommand",
    "InvalidDefinition",
    "InvalidParams",
    "Jitter",
    "LockLost",
    "LockMisused",
    "LockNotFree",
    "NotDeterministic",
    "NotFound",
    "PayloadCodec",
    "PermanentError",
    "Ref",
    "RetryPolicy",
    "RetryableError",
    "RunCancelled",
    "RunFailed",
    "RunHandle",
    "Saga",
    "SkipTask",
    "StoreError",
    "TaskFailed",
    "TaskFunction",
    "TaskSpec",
    "Timeouts",
    "TriggerRule",
    "UpdateRejected",
    "UserCodeError",
    "WorkflowFunction",
    "WorkflowSpec",
    "WorkflowText",
    "__version__",
    "add_task",
    "cancel_run",
    "chain",
    "complete_later",
    "connect",
    "continue_as_new",
    "continue_suggested",
    "current_attempt",
    "dag",
    "database_task",
    "deprecate_patch",
    "each",
    "handlers_finished",
    "info",
    "ledger",
    "lock",
    "observe",
    "patched",
    "query",
    "run_task",
    "saga",
    "set_attributes",
    "set_details",
    "set_memo",
    "signal",
    "signal_run",
    "start_child",
    "task",
    "update",
    "wait_for_signal",
    "wait_until",
    "workflow",
]


if not TYPE_CHECKING:  # a type checker would take every name for one of ours

    def __getattr__(name: str) -> Any:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
