"""Messages to a run of a code workflow, by way of the interceptors: signals, queries, updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headrace.client.handle import RunHandle
from headrace.client.plain import plain
from headrace.contracts.interceptor import MessageCall, chained, checked_headers
from headrace.core import inputs as inp
from headrace.core.errors import InvalidCommand
from headrace.core.ids import RunId
from headrace.durable.looking import ask
from headrace.durable.looking import close as close_code
from headrace.durable.run import CodeRun
from headrace.engine.asker import following_run
from headrace.engine.node import Node
from headrace.engine.payloads import quoted

if TYPE_CHECKING:
    from headrace.client.client import Client


async def signal(client: Client, run_id: RunId, name: str, payload: Any, key: str | None) -> RunHandle:
    """See :meth:`headrace.client.client.Client.signal`."""

    async def send(call: MessageCall) -> RunHandle:
        value = await quoted(plain(call.args[0] if call.args else None), client._node.artifacts)
        message = {"name": call.name, "payload": value, "key": key, "headers": checked_headers(call.headers)}
        return await client._command(call.run_id, "signal", message)

    call = MessageCall(kind="signal", run_id=run_id, name=name, args=[plain(payload)], kwargs={}, headers={})
    return await chained(client.interceptors.send, send)(call)


async def query(client: Client, run_id: RunId, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """See :meth:`headrace.client.client.Client.query`."""

    async def send(call: MessageCall) -> Any:
        return await _answer(client._node, call)

    call = MessageCall(kind="query", run_id=run_id, name=name, args=list(args), kwargs=dict(kwargs), headers={})
    return await chained(client.interceptors.send, send)(call)


async def _answer(node: Node, call: MessageCall) -> Any:
    """The answer of the run, or of the one that follows it, in this node's memory or read for the occasion."""
    run_id = RunId(call.run_id)
    while (live := node.live.get(run_id)) is None:
        following = await following_run(node, run_id)
        if following is None:
            break
        run_id = following
    run = live.run if live is not None else await node.adopter.replay(run_id)
    if not isinstance(run, CodeRun):
        raise InvalidCommand(f"run {run_id} is a graph: it has no queries", hint=f"headrace runs show {run_id}")
    try:
        return ask(run, call.name, {"args": call.args, "kwargs": call.kwargs}, checked_headers(call.headers))
    finally:
        if live is None:
            close_code(run)
        elif run.spoiled:
            await node.adopter.refresh(live)


async def update(
    client: Client, run_id: RunId, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], update_id: str
) -> Any:
    """See :meth:`headrace.client.client.Client.update`."""

    async def send(call: MessageCall) -> Any:
        payload = {
            "args": [plain(value) for value in call.args],
            "kwargs": {key: plain(value) for key, value in call.kwargs.items()},
        }
        given = inp.Update(update_id, call.name, payload, checked_headers(call.headers))
        return await client._node.updater.update(RunId(call.run_id), given)

    call = MessageCall(
        kind="update", run_id=run_id, name=name, args=list(args), kwargs=dict(kwargs), headers={}, update_id=update_id
    )
    return await chained(client.interceptors.send, send)(call)
