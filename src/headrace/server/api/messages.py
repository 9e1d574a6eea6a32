"""Talking to runs of workflow code: signals, queries, updates."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from headrace.contracts.api import answers, requests
from headrace.contracts.api.answers import Mistake
from headrace.contracts.api.bounds import Role
from headrace.engine.minting import new_run_id
from headrace.server.api.endpoint import RUN, Call, Endpoint, Misasked, Reply
from headrace.server.api.runs_command import command
from headrace.server.api.service import Api, Late, seconds_of

NAME = "{name}"


async def send_signal(api: Api, call: Call) -> Any:
    """It waits in the run until the code asks for it."""
    asked: requests.Signal = call.body
    full = (await api.client.row(call.run)).run_id
    sending = api.client.signal(full, call.path["name"], asked.payload, key=asked.key)
    return await command(api, call, full, sending)


async def ask_query(api: Api, call: Call) -> Any:
    """Changes nothing; answered by a run that has ended, too."""
    asked: requests.Arguments = call.body
    return await _ask(api, call, asked.args, asked.kwargs)


async def read_query(api: Api, call: Call) -> Any:
    """A query without arguments."""
    return await _ask(api, call, [], {})


async def _ask(api: Api, call: Call, args: list[Any], kwargs: dict[str, Any]) -> Any:
    full = (await api.client.row(call.run)).run_id
    return {"value": await api.client.query(full, call.path["name"], *args, **_named(kwargs))}


def _named(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by name that can be passed on."""
    if "update_id" in kwargs:
        raise Misasked(
            [Mistake(where="kwargs", message="update_id cannot be an argument", hint="the field id is meant")]
        )
    return kwargs


async def request_update(api: Api, call: Call) -> Any:
    """Answered with 200 once the run has answered; with 202 if it has not in time: ask again with the ``id`` then, which
    does nothing twice."""
    asked: requests.Update = call.body
    full = (await api.client.row(call.run)).run_id
    number = asked.id or new_run_id()
    work = api.client.update(full, call.path["name"], *asked.args, update_id=number, **_named(asked.kwargs))
    try:
        value = await api.within(seconds_of(call.query.wait), work)
    except Late:
        return Reply({"id": number, "answered": False, "value": None}, HTTPStatus.ACCEPTED)
    finally:
        await api.let_be(full)
    return {"id": number, "answered": True, "value": value}


ENDPOINTS = (
    Endpoint(
        "POST", f"/runs/{RUN}/signals/{NAME}", Role.OPERATOR, "Send a signal", answers.Commanded, send_signal,
        query=requests.WaitHeard, body=requests.Signal, refusals=(404, 409),
    ),
    Endpoint(
        "GET", f"/runs/{RUN}/queries/{NAME}", Role.VIEWER, "Ask a query", answers.Value, read_query,
        refusals=(404, 409),
    ),
    Endpoint(
        "POST", f"/runs/{RUN}/queries/{NAME}", Role.VIEWER, "Ask a query with arguments", answers.Value, ask_query,
        body=requests.Arguments, refusals=(404, 409),
    ),
    Endpoint(
        "POST", f"/runs/{RUN}/updates/{NAME}", Role.OPERATOR, "Request an update", answers.Answered, request_update,
        query=requests.WaitUpdate, body=requests.Update, statuses=(200, 202), refusals=(404, 409),
    ),
)  # fmt: skip
