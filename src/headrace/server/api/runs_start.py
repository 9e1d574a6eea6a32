"""Starting runs."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec

from headrace.client.definitions import StoredName, Workflow, WorkflowText
from headrace.client.handle import RunHandle
from headrace.contracts.api import answers, requests
from headrace.contracts.api.answers import Mistake
from headrace.contracts.api.bounds import (
    IDEMPOTENCY_CHARS_MAX,
    IDEMPOTENCY_HEADER,
    IDEMPOTENCY_PREFIX,
    PATH,
    Role,
)
from headrace.core.errors import AlreadyRunning, InvalidCommand
from headrace.engine.minting import new_run_id
from headrace.server.api.endpoint import Call, Endpoint, Misasked, Reply
from headrace.server.api.runs_read import run_of
from headrace.server.api.service import Api
from headrace.server.door import Forbidden

TRIGGER = "api"
"""What runs show that were started here."""


async def start_run(api: Api, call: Call) -> Any:
    """On the answer it is durable: it will reach a final state, on another node if need be. With ``Idempotency-Key`` a
    repeated request of the same workflow starts nothing and gives the run of the first one, as long as that is kept; it
    takes the place of a ``key``. A run of a ``definition`` takes the role ``author``."""
    asked: requests.StartRun = call.body
    workflow = definition_of(asked)
    if isinstance(workflow, WorkflowText) and not call.role.may(Role.AUTHOR):
        raise Forbidden("a definition of one's own takes the role author: it may run any program on the nodes")
    minted = new_run_id()
    try:
        handle = await _start(api, workflow, asked, call.headers.get(IDEMPOTENCY_HEADER.lower()), minted)
    except InvalidCommand as error:  # nothing is there yet whose state it could not fit
        raise Misasked([Mistake(where="", message=error.message, hint=error.hint)]) from error
    await api.let_be(handle.id)
    await api.until_ended(handle.id, call.query.wait)
    status = HTTPStatus.CREATED if handle.id == minted else HTTPStatus.OK
    return Reply(await run_of(api, handle.id), status, {"Location": f"{PATH}/runs/{handle.id}"})


async def _start(
    api: Api, workflow: Workflow, asked: requests.StartRun, request: str | None, minted: str
) -> RunHandle[Any]:
    options: dict[str, Any] = {
        "tags": asked.tags,
        "attributes": asked.attributes,
        "memo": asked.memo,
        "from_strings": frozenset(asked.texts) & asked.params.keys(),
        "trigger": TRIGGER,
        "run_id": minted,
    }
    if request is None:
        options |= {"key": asked.key, "on_conflict": asked.on_conflict, "on_reuse": asked.on_reuse}
        return await api.client.run(workflow, asked.params, **options)
    if not 0 < len(request) <= IDEMPOTENCY_CHARS_MAX:
        raise _misnamed(f"expected 1 to {IDEMPOTENCY_CHARS_MAX} characters")
    if asked.key is not None:
        raise _misnamed(
            "the request has a key, too: leave one of them out",
            "a key with on_conflict=use_existing and on_reuse=reject is as good: the second start is told of the first",
        )
    key = IDEMPOTENCY_PREFIX + request
    try:
        return await api.client.run(
            workflow, asked.params, key=key, on_conflict="use_existing", on_reuse="reject", **options
        )
    except AlreadyRunning as known:  # it has ended by now
        return await api.client.get(known.run_id)


def _misnamed(message: str, hint: str | None = None) -> Misasked:
    return Misasked([Mistake(where=IDEMPOTENCY_HEADER, message=message, hint=hint)])


def definition_of(asked: requests.StartRun) -> StoredName | WorkflowText:
    """What is to be run. Raises :class:`Misasked` unless exactly one thing is named."""
    if (asked.workflow is None) == (asked.definition is None):
        raise Misasked([Mistake(where="workflow", message="give a workflow or a definition, and not both", hint=None)])
    return StoredName(asked.workflow) if asked.workflow is not None else text_of(asked.definition)


def text_of(definition: str | dict[str, Any] | None) -> WorkflowText:
    """A definition that came along, as text."""
    if isinstance(definition, str):
        return WorkflowText(definition)
    return WorkflowText(msgspec.json.format(msgspec.json.encode(definition), indent=2).decode(), "workflow.json")


ENDPOINTS = (
    Endpoint(
        "POST", "/runs", Role.OPERATOR, "Start a run", answers.Run, start_run, query=requests.Wait,
        body=requests.StartRun, statuses=(201, 200), refusals=(404, 409),
        headers=((IDEMPOTENCY_HEADER, "Names the request: a repeated one starts nothing."),),
    ),
)  # fmt: skip
