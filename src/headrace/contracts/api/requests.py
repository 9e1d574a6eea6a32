"""What users of the HTTP API ask: parameters in the query of a request, and its body."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from headrace.contracts.api.bounds import PAGE_MAX, TEXT_CHARS_MAX
from headrace.contracts.locks import NAME_CHARS_MAX
from headrace.contracts.store import KEY_CHARS_MAX
from headrace.core.where import TEXT_CHARS_MAX as FILTER_CHARS_MAX

Duration = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,6}(\.[0-9]{1,3})?(ms|s|m|h|d)?$",
        description="A duration: `10s`, `1.5m`; without a unit in seconds.",
        examples=["10s"],
    ),
]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
Text = Annotated[str, Meta(max_length=10_000)]
Key = Annotated[str, Meta(min_length=1, max_length=KEY_CHARS_MAX, pattern=r"^[^\x00]+$")]
WorkflowName = Annotated[str, Meta(min_length=1, max_length=1_000, pattern=r"^[^\x00]+$")]
Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX, description="At most so many.")]
Number = Annotated[int, Meta(ge=0, le=2**53)]
RunName = Annotated[str, Meta(min_length=1, max_length=26, pattern="^[0-9a-zA-Z]+$")]


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every request is: a name that means nothing here is a mistake, not something to pass over."""


# ---- in the query --------------------------------------------------------------------------------------------------


class NoQuery(Asked, frozen=True):
    """Nothing."""


class ListRuns(Asked, frozen=True):
    """Which runs."""

    workflow: Annotated[WorkflowName, Meta(description="Only runs of this workflow.")] | None = None
    state: Annotated[
        tuple[Annotated[str, Meta(max_length=100)], ...],
        Meta(description="Only in this state, or shown as `waiting` or `interrupted`; again for more.", max_length=20),
    ] = ()
    tag: Annotated[
        tuple[Annotated[str, Meta(max_length=1_000)], ...],
        Meta(description="Only with this tag, as `name=value` or `name`; again for more.", max_length=50),
    ] = ()
    where: (
        Annotated[
            str,
            Meta(
                description="A filter, as for `headrace runs list --where`.",
                max_length=FILTER_CHARS_MAX,
                examples=["status = 'failed' and amount > 100"],
            ),
        ]
        | None
    ) = None
    since: (
        Annotated[
            str,
            Meta(
                description="Only created since then: a time of ISO 8601, or a duration before now, such as `2h`.",
                max_length=100,
                examples=["2h"],
            ),
        ]
        | None
    ) = None
    limit: Limit = 50
    cursor: (
        Annotated[RunName, Meta(description="The `next` of the page before. Runs created since then do not shift it.")]
        | None
    ) = None


class ShowRun(Asked, frozen=True):
    """How to show a run."""

    items: Annotated[bool, Meta(description="Also every item of mapped tasks.")] = False
    wait: Annotated[Duration, Meta(description="Wait so long for the run's end; at most 60s.")] = "0s"


class Wait(Asked, frozen=True):
    """How long to wait."""

    wait: Annotated[Duration, Meta(description="Wait so long for the run's end; at most 60s.")] = "0s"


class WaitHeard(Asked, frozen=True):
    """How long to wait for the run's owner."""

    wait: Annotated[
        Duration, Meta(description="Wait so long until the run's owner has taken the command up; at most 60s.")
    ] = "0s"


class Page(Asked, frozen=True):
    """Which part of a history."""

    after: Annotated[Number, Meta(description="Only events with a higher number.")] = 0
    limit: Limit = PAGE_MAX
    values: Annotated[
        bool,
        Meta(description="Put large values in place of the references to them, as far as an answer may hold them."),
    ] = False


class ReadLogs(Asked, frozen=True):
    """Which logs."""

    task: Annotated[str, Meta(description="Only this task's.", max_length=1_000)] | None = None
    after: Annotated[Number, Meta(description="Leave out so many at the beginning.")] = 0
    limit: Limit = PAGE_MAX


class Draw(Asked, frozen=True):
    """How to draw a graph."""

    form: Annotated[
        Literal["json", "mermaid"], Meta(description="Tasks and what they need as data, or a Mermaid flowchart.")
    ] = "json"


class Stream(Asked, frozen=True):
    """From where on."""

    after: Annotated[
        Number, Meta(description="Only events with a higher number; the header `Last-Event-ID` says the same and wins.")
    ] = 0
    tail: Annotated[bool, Meta(description="Only events from now on.")] = False


# ---- bodies ----------------------------------------------------------------------------------------------------------


class StartRun(Asked, frozen=True):
    """A run to start: of the stored ``workflow``, or of a ``definition`` that comes along."""

    workflow: Annotated[WorkflowName, Meta(description="The name of a stored workflow.")] | None = None
    definition: (
        Annotated[str, Meta(description="A graph as YAML or JSON text.", max_length=TEXT_CHARS_MAX)]
        | Annotated[dict[str, Any], Meta(description="A graph, as the YAML reference describes it.")]
        | None
    ) = None
    params: Annotated[dict[str, Any], Meta(description="By name.")] = {}
    texts: Annotated[
        tuple[str, ...],
        Meta(
            description="Params given as text that is to be read as their type, as on a command line.", max_length=1_000
        ),
    ] = ()
    tags: dict[str, str] = {}
    attributes: Annotated[dict[str, Any], Meta(description="Text, numbers, booleans or lists of these: searched.")] = {}
    memo: Annotated[dict[str, Any], Meta(description="Only shown.")] = {}
    key: Annotated[Key, Meta(description="What the run is about.")] | None = None
    on_conflict: Annotated[
        Literal["fail", "use_existing", "terminate"], Meta(description="If an unfinished run has the key.")
    ] = "fail"
    on_reuse: Annotated[
        Literal["allow", "allow_failed", "reject"], Meta(description="If a run that has ended has the key.")
    ] = "allow"


class Reason(Asked, frozen=True):
    """Why."""

    reason: Annotated[Text, Meta(description="Kept in the run's history.")] = ""


class Nothing(Asked, frozen=True):
    """No body, or an empty object."""


class Retry(Asked, frozen=True):
    """What to do again."""

    tasks: Annotated[
        tuple[str, ...], Meta(description="These tasks and what follows from them; by default all that failed.")
    ] = ()
    reason: Text = ""


class Reset(Asked, frozen=True):
    """From where on to do a run again: ``to_event`` or ``to_task``."""

    to_event: Annotated[int, Meta(ge=1, le=2**53, description="Keep the history up to this event.")] | None = None
    to_task: Annotated[str, Meta(max_length=1_000, description="Keep it up to where this task began.")] | None = None
    reapply_signals: (
        Annotated[bool, Meta(description="Apply signals that came later again; by default for reset, not for fork.")]
        | None
    ) = None
    reason: Text = ""


class Signal(Asked, frozen=True):
    """What a signal carries."""

    payload: Any = None
    key: Annotated[str, Meta(max_length=KEY_CHARS_MAX, description="A repeated one is dropped.")] | None = None


class Arguments(Asked, frozen=True):
    """Of a query."""

    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class Update(Asked, frozen=True):
    """A request to a run."""

    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    id: Annotated[str, Meta(min_length=1, max_length=200, description="A repeated one is not done twice.")] | None = (
        None
    )


class WaitUpdate(Asked, frozen=True):
    """How long to wait for an answer."""

    wait: Annotated[
        Duration,
        Meta(description="Wait so long for the answer; at most 60s. After that, ask again with the same `id`."),
    ] = "30s"


class Validate(Asked, frozen=True):
    """A definition to check."""

    definition: (
        Annotated[str, Meta(description="A graph as YAML or JSON text.", max_length=TEXT_CHARS_MAX)]
        | Annotated[dict[str, Any], Meta(description="A graph, as the YAML reference describes it.")]
    )


class Complete(Asked, frozen=True):
    """An attempt's outcome from outside: ``token`` is what its task had from ``current_attempt().token``."""

    token: Annotated[str, Meta(max_length=4_000)]
    output: Any = None


class Fail(Asked, frozen=True):
    """An attempt's failure from outside."""

    token: Annotated[str, Meta(max_length=4_000)]
    error: Annotated[str, Meta(min_length=1, max_length=100_000)]
    type: Annotated[str, Meta(min_length=1, max_length=200, description="A word for the sort of failure.")] = "failed"
    retryable: bool | None = None


class Heartbeat(Asked, frozen=True):
    """A sign of life of an attempt."""

    token: Annotated[str, Meta(max_length=4_000)]
    details: Any = None
