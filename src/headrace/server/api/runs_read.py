"""Looking at runs."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from headrace.client.documents import (
    graph_document,
    is_interrupted,
    reason_document,
    row_document,
    run_document,
)
from headrace.contracts.api import answers, requests
from headrace.contracts.api.answers import Mistake
from headrace.contracts.api.bounds import Role
from headrace.core.durations import parse_duration
from headrace.core.errors import InvalidCommand, NotFound
from headrace.core.ids import RunId
from headrace.core.spec import WorkflowSpec, encode_stored
from headrace.core.states import FINAL_RUN_STATES
from headrace.core.suggest import did_you_mean
from headrace.core.times import seconds_of as seconds_of_time
from headrace.core.where import STATUSES
from headrace.server.api.endpoint import RUN, Call, Endpoint, Misasked, Reply
from headrace.server.api.service import Api, Values


async def list_runs(api: Api, call: Call) -> Any:
    """Newest first. The cursor is a run's id: pages stay what they are while runs come and go."""
    query: requests.ListRuns = call.query
    for state in query.state:
        if state not in STATUSES:
            hint = did_you_mean(state, STATUSES, what="states")
            raise Misasked([Mistake(where="state", message=f"there is no state {state!r}", hint=hint)])
    tags = {name: value for name, _, value in (one.partition("=") for one in query.tag)}
    rows = await api.client.runs(
        workflow=query.workflow,
        states=query.state,
        tags=tags,
        before=None if query.cursor is None else query.cursor.lower(),
        limit=query.limit + 1,
        where=query.where,
        since=None if query.since is None else _since(query.since),
    )
    page = rows[: query.limit]
    following = page[-1].run_id if len(rows) > len(page) else None
    return {"runs": [row_document(row) for row in page], "next": following}


def _since(text: str) -> float:
    try:
        return time.time() - parse_duration(text)
    except ValueError:
        pass
    try:
        found = seconds_of_time(text)
        assert found is not None
        return found
    except (ValueError, OverflowError):
        message = f"expected a time such as 2013-01-31T06:00:00Z, or a duration such as 2h, not {text!r}"
        raise Misasked([Mistake(where="since", message=message, hint=None)]) from None


async def show_run(api: Api, call: Call) -> Any:
    """With ``wait`` as it is at its end, or after that time."""
    full = (await api.client.row(call.run)).run_id
    await api.until_ended(full, call.query.wait)
    return await run_of(api, full, items=call.query.items)


async def run_of(api: Api, full: RunId, *, items: bool = False) -> dict[str, Any]:
    """A run's document. Of one that is in this node's memory, or has ended, the store is not asked who has it."""
    view = await api.loaded(await api.client.show(full, items=items))
    live = api.node.live.get(full)
    is_here = live is not None and not live.closed
    lost = not is_here and view.state not in FINAL_RUN_STATES and is_interrupted(await api.client.row(full))
    refused_by = await api.client.refused_by(full) if lost else {}
    return run_document(view, interrupted=lost, refused_by=refused_by)


async def show_history(api: Api, call: Call) -> Any:
    """In their order; an event that is shown never changes."""
    query: requests.Page = call.query
    full = (await api.client.row(call.run)).run_id
    stored = await api.node.store.history(full, query.after, query.limit + 1)
    page = stored[: query.limit]
    events: list[dict[str, Any]] = [{"seq": seq, "event": msgspec.json.decode(data)} for seq, data in page]
    if query.values:
        values = Values(api.client)
        for one in events:
            one["event"] = {name: await values.load(value) for name, value in one["event"].items()}
    return {"events": events, "next": page[-1][0] if len(stored) > len(page) else None}


async def show_logs(api: Api, call: Call) -> Any:
    """Of attempts that have ended and of those under way."""
    query: requests.ReadLogs = call.query
    full = (await api.client.row(call.run)).run_id
    if query.task is not None:
        tasks = (await api.client.show(full)).tasks
        if query.task not in tasks:
            hint = did_you_mean(query.task, tasks, what="tasks")
            raise NotFound(f"run {full} has no task {query.task!r}", hint=hint)
    entries = (await api.client.logs(full, query.task))[query.after :]
    page = entries[: query.limit]
    return {"logs": page, "next": query.after + len(page) if len(entries) > len(page) else None}


async def explain_run(api: Api, call: Call) -> Any:
    """Which tasks wait for what, and what is stuck."""
    row = await api.client.row(call.run)
    found = await api.client.why(row.run_id)
    return {"state": row.state, "reasons": [reason_document(one) for one in found]}


async def define_run(api: Api, call: Call) -> Any:
    """As it is stored: of the version that the run began with."""
    row = await api.client.row(call.run)
    spec = await api.client.definition_of(row.run_id)
    return {"version": row.version, "definition": msgspec.json.decode(encode_stored(spec))}


async def draw_run(api: Api, call: Call) -> Any:
    """The graph of the version that the run keeps, with the states of its tasks."""
    view = await api.client.show(call.run)
    spec = await api.client.definition_of(view.id)
    return drawn(spec, {name: task.state for name, task in view.tasks.items()}, call.query.form)


def drawn(spec: Any, states: dict[str, str] | None, form: str) -> Any:
    """A graph as data or as a flowchart. Raises :class:`InvalidCommand` for code."""
    if not isinstance(spec, WorkflowSpec):
        raise InvalidCommand(f"workflow {spec.name!r} is code: it has no graph to draw")
    if form == "json":
        return graph_document(spec, states)
    from headrace.authoring.drawing import draw_mermaid  # noqa: PLC0415 - only for whoever draws

    return Reply(draw_mermaid(spec, states).encode(), media_type="text/plain")


ENDPOINTS = (
    Endpoint("GET", "/runs", Role.VIEWER, "List runs", answers.Runs, list_runs, query=requests.ListRuns),
    Endpoint(
        "GET", f"/runs/{RUN}", Role.VIEWER, "Show a run with its tasks", answers.Run, show_run, query=requests.ShowRun,
        refusals=(404,),
    ),
    Endpoint(
        "GET", f"/runs/{RUN}/history", Role.VIEWER, "Read a run's events", answers.History, show_history,
        query=requests.Page, refusals=(404,),
    ),
    Endpoint(
        "GET", f"/runs/{RUN}/logs", Role.VIEWER, "Read what a run's attempts wrote", answers.Logs, show_logs,
        query=requests.ReadLogs, refusals=(404,),
    ),
    Endpoint(
        "GET", f"/runs/{RUN}/why", Role.VIEWER, "Say what a run waits for", answers.Reasons, explain_run,
        refusals=(404,),
    ),
    Endpoint(
        "GET", f"/runs/{RUN}/definition", Role.VIEWER, "Read a run's definition", answers.Definition, define_run,
        refusals=(404,),
    ),
    Endpoint(
        "GET", f"/runs/{RUN}/graph", Role.VIEWER, "Draw a run's graph", answers.Graph, draw_run, query=requests.Draw,
        refusals=(404, 409), media_types=("application/json", "text/plain"),
    ),
)  # fmt: skip
