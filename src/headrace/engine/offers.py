"""What is offered: an attempt with all that another process needs to carry it out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from headrace.contracts.converters import to_plain
from headrace.contracts.ready import Call, Offer
from headrace.core.errors import HeadraceError
from headrace.core.expressions import NeedValue
from headrace.core.plan import render_call
from headrace.core.spec import TaskSpec
from headrace.engine.away import executor_of, key_of
from headrace.engine.gates import Ticket
from headrace.engine.outcomes import load_value
from headrace.engine.preferences import prefer_seconds

if TYPE_CHECKING:
    from headrace.engine.node import Node

CALL_BYTES_MAX = 16 * 1024 * 1024
"""The largest call that is offered: its arguments travel through the store."""


async def offer_of(engine: Node, ticket: Ticket, prefer: dict[str, str] | None) -> Offer:
    """The attempt with its templates rendered. Raises what rendering and loading raise, and :class:`HeadraceError` if its
    arguments are too large."""
    live, unit = ticket.live, ticket.unit
    run, node = live.run, unit.node
    spec: TaskSpec = node.spec
    while True:
        try:
            config, args = (
                (spec.config, spec.args) if node.has_constant_call else render_call(node, run.scope_for(unit))
            )
            break
        except NeedValue as need:
            run.values[need.digest] = await asyncio.to_thread(load_value, engine.artifacts, need.digest)
    call = Call(
        run_id=run.run_id,
        workflow=run.plan.spec.name,
        version=run.plan.version,
        task=msgspec.structs.replace(spec, config=config, args=args, needs=(), when=None, map=msgspec.UNSET),
        attempt=ticket.attempt,
        item=unit.item,
        source_dir=run.source_dir,
        run_tags=dict(run.tags),
        headers=run.headers if node.headers is None else node.headers,
        place=engine.place(),
        details=unit.details,
    )
    data = msgspec.json.encode(call, enc_hook=to_plain)
    if len(data) > CALL_BYTES_MAX:
        raise HeadraceError(
            f"the arguments are {len(data):,} bytes; {CALL_BYTES_MAX:,} at most travel to another node",
            hint="pass the path or address of a file instead",
        )
    return Offer(
        key=key_of(ticket),
        queue=spec.queue,
        call=data,
        executor=executor_of(live.binding.bound[node.index]),
        labels=spec.needs_labels,
        priority=spec.priority,
        at_most_once=spec.at_most_once,
        prefer=prefer,
        prefer_seconds=prefer_seconds(spec),
    )
