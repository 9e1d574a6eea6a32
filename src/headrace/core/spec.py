"""What a user defines: the workflow specification, the same whether it came from YAML, Python or the API.

All durations are seconds as ``float``; authoring layers accept ``"5m"`` and convert. Specs are frozen values: a
workflow *version* is the hash of its spec, and a run keeps the version it started with.
"""

from __future__ import annotations

import enum
import hashlib
from typing import Any, Literal

import msgspec

MAP_ITEMS_MAX_DEFAULT = 100_000
"""Items a mapped task may have unless it sets ``max_items``; a larger list fails the task, it is never cut."""

QUEUE_DEFAULT = "default"
"""The queue of tasks that name none; every node serves it unless told otherwise."""

LABELS_RESERVED = "headrace."
"""Begins the names of labels that Headrace gives."""

NODE_LABEL = "headrace.node"
"""The label that every node and worker has, with its name."""

PREFER_SECONDS_DEFAULT = 5.0
PREFER_SECONDS_MAX = 3600.0
"""How long a task waits for a process that it prefers, unless it says otherwise and at most. The default is that of
Temporal's sticky queues."""

MAP_ITEMS_MAX_LIMIT = 10_000_000
"""The largest ``max_items`` that may be asked for."""


class TriggerRule(enum.StrEnum):
    """When a task runs, given the states of the tasks it needs. Semantics: Airflow's rules of the same names."""

    ALL_SUCCESS = "all_success"
    ALL_FAILED = "all_failed"
    ALL_DONE = "all_done"
    ONE_SUCCESS = "one_success"
    ONE_FAILED = "one_failed"
    ONE_DONE = "one_done"
    NONE_FAILED = "none_failed"
    NONE_FAILED_MIN_ONE_SUCCESS = "none_failed_min_one_success"
    NONE_SKIPPED = "none_skipped"
    ALL_SKIPPED = "all_skipped"
    ALWAYS = "always"


class Backoff(enum.StrEnum):
    """How the delay grows from one attempt to the next."""

    FIXED = "fixed"
    EXPONENTIAL = "exponential"
    FIBONACCI = "fibonacci"


class Jitter(enum.StrEnum):
    """How much of a delay is random. ``full``: 0..d, ``equal``: d/2..d, ``none``: d. Source: the AWS
    Architecture Blog, "Exponential Backoff And Jitter" (2015)."""

    NONE = "none"
    EQUAL = "equal"
    FULL = "full"


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """When and how often a failed attempt is tried again.

    ``attempts`` counts the first try: 1 means no retry. ``elapsed`` bounds the seconds from the first attempt's
    readiness to the start of the last one. ``retry_on`` and ``give_up_on`` hold exception class names (matched
    against the whole class hierarchy), ``exit:N`` / ``exit:N-M`` for exit codes and ``http:N`` / ``http:5xx`` for
    HTTP statuses; ``give_up_on`` wins; with ``retry_on`` set, only what it names is retried.
    """

    attempts: int = 1
    backoff: Backoff = Backoff.EXPONENTIAL
    initial: float = 1.0
    factor: float = 2.0
    max_delay: float = 3600.0
    jitter: Jitter = Jitter.FULL
    elapsed: float | None = None
    retry_on: tuple[str, ...] = ()
    give_up_on: tuple[str, ...] = ()


NO_RETRY = RetryPolicy()


class Timeouts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Bounds in seconds; None is unbounded.

    ``attempt`` starts when the attempt starts (never while it waits for a slot) and is retryable. ``heartbeat`` bounds
    the gap between two heartbeats of an attempt (and from its start to the first) and is retryable too. ``queue``
    bounds the wait from ready to start; ``task`` bounds the whole task from first ready to final, retries included;
    neither is retried.
    """

    attempt: float | None = None
    queue: float | None = None
    task: float | None = None
    heartbeat: float | None = None


NO_TIMEOUTS = Timeouts()

ParamType = Literal["str", "int", "float", "bool", "list", "dict", "any", "date", "datetime"]


class ParamSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One typed parameter of a workflow. Without ``default`` it is required; ``default: null`` makes it optional.

    Checks: ``choices``; ``min``/``max`` bound numbers and the length of strings and lists; ``pattern`` is a regular
    expression that a string must match whole. ``date`` and ``datetime`` are ISO 8601 strings.
    """

    type: ParamType = "any"
    default: Any = msgspec.UNSET
    description: str = ""
    choices: tuple[Any, ...] = ()
    min: float | None = None
    max: float | None = None
    pattern: str | None = None


class TaskSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One node of a graph.

    ``kind`` names a task kind (``python``, ``run``, ``http`` or a plug-in); ``config`` holds that kind's own settings,
    checked against the kind's type before a run starts; strings in ``config`` and ``args`` are templates. ``needs``
    lists every upstream task: those named by hand plus those referred to by a template. Attempts run on nodes and
    workers that serve ``queue`` and have all of ``needs_labels``. Of those, the ones preferred are first the process
    that carried out what came before (``sticky``), then those with all of ``prefer_labels``; the others are left out for
    ``prefer_for`` seconds (default :data:`PREFER_SECONDS_DEFAULT`), if one that is preferred is up.
    """

    id: str
    kind: str
    config: dict[str, Any] = {}
    args: dict[str, Any] = {}
    needs: tuple[str, ...] = ()
    trigger: TriggerRule = TriggerRule.ALL_SUCCESS
    when: str | None = None
    map: Any = msgspec.UNSET
    max_parallel: int | None = None
    max_items: int = MAP_ITEMS_MAX_DEFAULT
    retries: RetryPolicy = NO_RETRY
    timeouts: Timeouts = NO_TIMEOUTS
    executor: str | None = None
    priority: int = 0
    queue: str = QUEUE_DEFAULT
    needs_labels: dict[str, str] = {}
    sticky: bool = False
    prefer_labels: dict[str, str] = {}
    prefer_for: float | None = None
    at_most_once: bool = False
    allow_failure: bool = False
    tags: tuple[str, ...] = ()
    description: str = ""

    @property
    def is_mapped(self) -> bool:
        """True when the task fans out over a list."""
        return self.map is not msgspec.UNSET

    @property
    def prefers(self) -> bool:
        """True when it matters which of those who may run it does."""
        return self.sticky or bool(self.prefer_labels)


class WorkflowSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A graph workflow. ``max_parallel`` bounds the attempts of one run that are under way at once; ``timeout``
    bounds a run in seconds from its creation; ``output`` is a template for the run's result (default: the outputs of
    the tasks nobody needs, by id)."""

    name: str
    tasks: dict[str, TaskSpec]
    params: dict[str, ParamSpec] = {}
    description: str = ""
    tags: tuple[str, ...] = ()
    max_parallel: int | None = None
    timeout: float | None = None
    output: Any = msgspec.UNSET


class CodeSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A code workflow: which function, and which text of it.

    ``target`` is ``module:qualname`` or ``path/file.py:qualname``; ``source_hash`` the first 16 hex digits of the
    SHA-256 of the function's source, so that a run knows the code it started with. ``timeout`` bounds a run in seconds,
    ``execution_timeout`` it and all that follow from it by retries and continuation; ``retries`` starts a failed run
    again as a new one.
    """

    code: Literal["python"] = "python"
    name: str
    target: str
    source_hash: str
    params: dict[str, ParamSpec] = {}
    description: str = ""
    tags: tuple[str, ...] = ()
    timeout: float | None = None
    max_parallel: int | None = None
    retries: RetryPolicy = NO_RETRY
    execution_timeout: float | None = None


AnySpec = WorkflowSpec | CodeSpec

_canonical = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(WorkflowSpec)
_code_decoder = msgspec.json.Decoder(CodeSpec)


_ordered = msgspec.json.Encoder()


def encode_spec(spec: AnySpec) -> bytes:
    """The canonical JSON of a spec: same definition, same bytes, whatever the order of its keys. For hashing."""
    return _canonical.encode(_tagged(spec))


def encode_stored(spec: AnySpec) -> bytes:
    """The JSON of a spec as it is stored: tasks stay in the order of the definition, which lists and views show."""
    return _ordered.encode(_tagged(spec))


def _tagged(spec: AnySpec) -> Any:
    return {"code": "python", **msgspec.to_builtins(spec)} if isinstance(spec, CodeSpec) else spec


def decode_spec(data: bytes) -> WorkflowSpec:
    """The inverse of :func:`encode_spec` for graphs. Raises ``msgspec.ValidationError`` on anything else."""
    return _decoder.decode(data)


def decode_any_spec(data: bytes) -> AnySpec:
    """The inverse of :func:`encode_spec` for every kind of workflow."""
    return _code_decoder.decode(data) if data.startswith(b'{"code":') else _decoder.decode(data)


def version_of(encoded: bytes) -> str:
    """A workflow version: the first 16 hex digits of the SHA-256 of the canonical definition."""
    return hashlib.sha256(encoded).hexdigest()[:16]
