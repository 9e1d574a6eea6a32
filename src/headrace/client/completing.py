"""Attempts whose outcome comes from outside: a message to their run's owner, under the name that their token holds."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from headrace.client.plain import plain
from headrace.contracts.outcome import failure_of
from headrace.contracts.token import read_token
from headrace.core.events import Failure
from headrace.core.ids import RunId
from headrace.engine.node import Node
from headrace.engine.outcomes import is_plain, normalise


async def complete(node: Node, token: str, output: Any) -> None:
    """See :meth:`headrace.client.client.Client.complete`."""
    data = output if is_plain(output) else await asyncio.to_thread(normalise, output, node.artifacts.put)
    await _report(node, token, "outcome", {"output": data})


async def fail(node: Node, token: str, error: BaseException | str | Failure, retryable: bool | None) -> None:
    """See :meth:`headrace.client.client.Client.fail`."""
    if isinstance(error, Failure):
        failure = error
    else:
        failure = failure_of(error) if isinstance(error, BaseException) else Failure("failed", error)
    if retryable is not None:
        failure = msgspec.structs.replace(failure, retryable=retryable)
    await _report(node, token, "outcome", {"failure": msgspec.to_builtins(failure)})


async def heartbeat(node: Node, token: str, details: Any) -> None:
    """See :meth:`headrace.client.client.Client.heartbeat`."""
    await _report(node, token, "heartbeat", {"details": plain(details), "strict": True})


async def _report(node: Node, token: str, kind: str, said: dict[str, Any]) -> None:
    named = read_token(token)
    about = {"task": named.task, "item": named.item, "attempt": named.attempt}
    await node.command(RunId(named.run_id), kind, {**about, **said})
