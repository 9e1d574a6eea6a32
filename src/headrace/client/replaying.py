"""Running today's code against a history, for looking only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.core.errors import InvalidCommand
from headrace.core.events import Event, RunCreated
from headrace.durable.run import CodePlan
from headrace.durable.workflow import WorkflowFunction
from headrace.engine.replayer import Replayed, replay_events, replay_stored

if TYPE_CHECKING:
    from headrace.client.client import Client


async def replay(
    client: Client, history: str | Sequence[Event], workflow: WorkflowFunction[..., Any] | str | Path | None
) -> Replayed:
    """See :meth:`headrace.client.client.Client.replay`."""
    node = client._node
    if isinstance(history, str):
        run_id = await client._full_id(history)
        if workflow is None:
            replayed = await replay_stored(node, run_id)
            if replayed is None:
                await client.row(run_id)
                raise InvalidCommand(f"run {run_id} is a graph: it has no code to replay")
            return replayed
        history = await client.history(run_id)
    events = list(history)
    created = events[0] if events else None
    if workflow is None:
        if not isinstance(created, RunCreated):
            raise InvalidCommand("a history begins with the event run.created")
        plan = await node.library.fetch(created.version)
        source_dir = created.source_dir
    else:
        found = await client._definitions.find(workflow)
        plan, source_dir = node.library.unsaved(found.spec), found.source_dir
    if not isinstance(plan, CodePlan):
        raise InvalidCommand(f"workflow {plan.spec.name!r} is a graph: it has no code to replay")
    return await replay_events(node, events, plan, node.library.bind(plan, source_dir))
