"""Commanding runs. A command is durable when it is answered; if another node has the run, it is on its way to it."""

from __future__ import annotations

from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any

from headrace.client.documents import row_document
from headrace.client.handle import RunHandle
from headrace.contracts.api import answers, requests
from headrace.contracts.api.answers import Mistake
from headrace.contracts.api.bounds import PATH, Role
from headrace.core.ids import RunId
from headrace.server.api.endpoint import RUN, Call, Endpoint, Misasked, Reply
from headrace.server.api.runs_read import run_of
from headrace.server.api.service import Api, seconds_of


async def command(api: Api, call: Call, full: RunId, given: Awaitable[Any]) -> Any:
    """Give a command and answer with the run as it is left."""
    client = api.client
    await given
    await client.settled(full)
    await api.let_be(full)
    heard = await client.heard(full, seconds=seconds_of(call.query.wait))
    return {"run": row_document(await client.row(full)), "heard": heard}


async def _full(api: Api, call: Call) -> RunId:
    return (await api.client.row(call.run)).run_id


async def cancel_run(api: Api, call: Call) -> Any:
    """Nothing new starts, attempts under way are stopped; the run's end follows."""
    full = await _full(api, call)
    return await command(api, call, full, api.client.cancel(full, call.body.reason))


async def terminate_run(api: Api, call: Call) -> Any:
    """End a run of workflow code at once: none of its code runs any more."""
    full = await _full(api, call)
    return await command(api, call, full, api.client.terminate(full, call.body.reason))


async def pause_run(api: Api, call: Call) -> Any:
    """Start nothing new until the run is resumed; attempts under way go on."""
    full = await _full(api, call)
    return await command(api, call, full, api.client.pause(full, call.body.reason))


async def resume_run(api: Api, call: Call) -> Any:
    """Go on with a run that was paused, or suspended, or whose node is lost."""
    full = await _full(api, call)
    return await command(api, call, full, api.client.resume(full))


async def retry_run(api: Api, call: Call) -> Any:
    """Run again what failed in a run that has ended, or the given tasks and what follows from them."""
    full = await _full(api, call)
    return await command(api, call, full, api.client.retry(full, call.body.tasks, call.body.reason))


async def reset_run(api: Api, call: Call) -> Any:
    """Do part of a run of workflow code again, with the code as it is now: a new run takes its place."""
    return await _again(api, call, api.client.reset, reapply=True)


async def fork_run(api: Api, call: Call) -> Any:
    """Like reset, but the old run is left alone."""
    return await _again(api, call, api.client.fork, reapply=False)


async def _again(api: Api, call: Call, do: Any, *, reapply: bool) -> Any:
    asked: requests.Reset = call.body
    if (asked.to_event is None) == (asked.to_task is None):
        raise Misasked([Mistake(where="to_event", message="give to_event or to_task, and not both", hint=None)])
    handle: RunHandle[Any] = await do(
        await _full(api, call),
        to_event=asked.to_event,
        to_task=asked.to_task,
        reapply_signals=reapply if asked.reapply_signals is None else asked.reapply_signals,
        reason=asked.reason,
    )
    await api.let_be(handle.id)
    return Reply(await run_of(api, handle.id), HTTPStatus.CREATED, {"Location": f"{PATH}/runs/{handle.id}"})


def _command(verb: str, summary: str, handle: Any, body: type[requests.Asked]) -> Endpoint:
    return Endpoint(
        "POST", f"/runs/{RUN}/{verb}", Role.OPERATOR, summary, answers.Commanded, handle, query=requests.WaitHeard,
        body=body, refusals=(404, 409),
    )  # fmt: skip


ENDPOINTS = (
    _command("cancel", "Cancel a run", cancel_run, requests.Reason),
    _command("terminate", "Terminate a run of workflow code", terminate_run, requests.Reason),
    _command("pause", "Pause a run", pause_run, requests.Reason),
    _command("resume", "Resume a run", resume_run, requests.Nothing),
    _command("retry", "Retry what failed in a run", retry_run, requests.Retry),
    *(
        Endpoint(
            "POST", f"/runs/{RUN}/{verb}", Role.OPERATOR, summary, answers.Run, handle, body=requests.Reset,
            statuses=(201,), refusals=(404, 409),
        )
        for verb, summary, handle in (
            ("reset", "Reset a run of workflow code", reset_run),
            ("fork", "Fork a run of workflow code", fork_run),
        )
    ),
)  # fmt: skip
