"""What users of the HTTP API hear. Times are texts of ISO 8601 in UTC. Answers only grow: fields that are not known are
to be ignored.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from headrace.contracts.remote import Refusal


class Failure(msgspec.Struct, kw_only=True):
    """Why a run, task or item failed. ``traceback``: the frames of the user's own code."""

    type: str
    message: str
    code: int | UnsetType = UNSET
    traceback: str | UnsetType = UNSET


class Item(msgspec.Struct, kw_only=True):
    """One item of a mapped task."""

    index: int
    state: str
    attempts: int
    output: Any
    error: Failure | None
    reason: str | None
    started_at: str | None
    ended_at: str | None


class Task(msgspec.Struct, kw_only=True):
    """One task of a run. ``items`` counts those of a mapped task by state; ``item_list`` is there if asked for."""

    state: str
    attempts: int
    output: Any
    error: Failure | None
    reason: str | None
    started_at: str | None
    ended_at: str | None
    retry_at: str | UnsetType = UNSET
    items: dict[str, int] | UnsetType = UNSET
    item_list: list[Item] | UnsetType = UNSET


class Run(msgspec.Struct, kw_only=True):
    """One run with its tasks, as ``headrace runs show -o json`` prints it."""

    id: str
    workflow: str
    kind: str
    version: str
    state: str
    interrupted: bool
    created_at: str
    ended_at: str | None
    trigger: str
    params: dict[str, Any]
    tags: dict[str, str]
    key: str | None
    attributes: dict[str, Any]
    memo: dict[str, Any]
    details: str | None
    next_run: str | None
    output: Any
    error: Failure | None
    failed_task: str | None
    reason: str | None
    refused_by: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    """Nodes that cannot take the run over, with the reasons; left out if there are none."""
    tasks: dict[str, Task]


class ListedRun(msgspec.Struct, kw_only=True):
    """One run of a list, as ``headrace runs list -o json`` prints it. ``status``: the state as it is shown, which may be
    ``waiting`` or ``interrupted``."""

    id: str
    workflow: str
    version: str
    state: str
    status: str
    interrupted: bool
    created_at: str
    ended_at: str | None
    trigger: str
    params: dict[str, Any]
    tags: dict[str, str]
    error: str | None
    tasks_total: int
    tasks_done: int
    tasks_failed: int
    key: str | None
    attributes: dict[str, Any]
    wake_at: str | None


class Runs(msgspec.Struct, kw_only=True):
    """Runs, newest first. ``next``: the ``cursor`` of the page that follows; null at the end."""

    runs: list[ListedRun]
    next: str | None


class Commanded(msgspec.Struct, kw_only=True):
    """The run after a command, which is durable. ``heard``: its owner has taken it up; false if it is only on its way."""

    run: ListedRun
    heard: bool


class Numbered(msgspec.Struct, kw_only=True):
    """One event of a history: its number, and what it says."""

    seq: int
    event: dict[str, Any]


class History(msgspec.Struct, kw_only=True):
    """Part of a run's history. ``next``: the ``after`` of the part that follows; null at the end."""

    events: list[Numbered]
    next: int | None


class Log(msgspec.Struct, kw_only=True):
    """What one attempt wrote."""

    task: str
    item: int | None
    attempt: int
    text: str


class Logs(msgspec.Struct, kw_only=True):
    """Logs of attempts. ``next``: the ``after`` of those that follow; null at the end."""

    logs: list[Log]
    next: int | None


class Reason(msgspec.Struct, kw_only=True):
    """One thing that a run waits for. ``stuck``: nothing will happen until somebody does what ``hint`` says."""

    subject: str
    why: str
    stuck: bool
    until: str | None
    hint: str | None


class Reasons(msgspec.Struct, kw_only=True):
    """What keeps a run from its end; empty once it has ended."""

    state: str
    reasons: list[Reason]


class GraphTask(msgspec.Struct, kw_only=True):
    """One task of a graph. ``state`` is there for the graph of a run."""

    id: str
    kind: str
    needs: list[str]
    trigger: str
    when: str | None
    mapped: bool
    state: str | UnsetType | None = UNSET


class Graph(msgspec.Struct, kw_only=True):
    """A graph as data."""

    workflow: str
    tasks: list[GraphTask]


class Definition(msgspec.Struct, kw_only=True):
    """The definition that a run keeps."""

    version: str
    definition: dict[str, Any]


class ListedWorkflow(msgspec.Struct, kw_only=True):
    """A stored workflow. ``tasks`` is null for one that is code."""

    name: str
    version: str
    source: str
    created_at: str
    tasks: int | None


class Workflows(msgspec.Struct, kw_only=True):
    """The latest version of every stored workflow."""

    workflows: list[ListedWorkflow]


class Workflow(msgspec.Struct, kw_only=True):
    """A stored workflow. ``params`` is a JSON Schema of the object that a start takes; ``graph`` is null for code;
    ``definition`` is what is stored."""

    name: str
    version: str
    kind: str
    description: str
    tags: list[str]
    params: dict[str, Any]
    graph: Graph | None
    definition: dict[str, Any]


class Mistake(msgspec.Struct, kw_only=True):
    """One thing that is wrong. ``where``: ``workflow:LINE:COLUMN`` in a definition, else the name of a param."""

    where: str
    message: str
    hint: str | None


class Validation(msgspec.Struct, kw_only=True):
    """What was found in a definition."""

    ok: bool
    workflow: str | None
    tasks: int | None
    problems: list[Mistake]


class Node(msgspec.Struct, kw_only=True):
    """A node or worker of the store."""

    id: str
    live: bool
    leader: bool
    term: int | None
    role: str
    lease_expires_at: str
    epoch: int
    queues: list[str]
    labels: dict[str, str]
    slots: dict[str, int]


class Nodes(msgspec.Struct, kw_only=True):
    """The nodes and workers; lost ones for a day."""

    nodes: list[Node]


class Lock(msgspec.Struct, kw_only=True):
    """A lock that is held."""

    name: str
    node: str
    token: int
    taken_at: str
    expires_at: str
    waiting: int


class Locks(msgspec.Struct, kw_only=True):
    """The locks that are held."""

    locks: list[Lock]


class Value(msgspec.Struct, kw_only=True):
    """What a query answered."""

    value: Any


class Answered(msgspec.Struct, kw_only=True):
    """What became of an update. ``id`` names it; ``value`` is its answer, null while there is none."""

    id: str
    answered: bool
    value: Any


class Done(msgspec.Struct, kw_only=True):
    """It is durable."""


class Refused(Refusal, kw_only=True):
    """The body of every answer that is not 2xx (RFC 9457). ``hint``: what to do. ``problems``: everything that is wrong
    with a definition, or with params. ``run_id``, ``state``: the run that has the ``key`` of the ``workflow``."""

    hint: str | UnsetType = UNSET
    problems: list[Mistake] | UnsetType = UNSET
    workflow: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    run_id: str | UnsetType = UNSET
    state: str | UnsetType | None = UNSET
