"""Options that no task or workflow can have are refused where they are written, not when a run meets them."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from headrace import RetryPolicy, dag, task, workflow
from headrace.core.errors import InvalidDefinition
from headrace.core.spec import Timeouts

RETRIES: list[tuple[Any, str]] = [
    (-1, "retries.attempts: .*between 1 and 1,000,000, not -1; .*1 means no retry"),
    (2_000_000, "retries.attempts: "),
    (True, "retries: expected a number of attempts or a mapping"),
    ("three", "retries: expected a number of attempts or a mapping"),
    ({"atempts": 3}, "did you mean 'attempts'"),
    ({"attempts": 3, "initial": "-1s"}, "retries.initial: expected a duration"),
    ({"attempts": 3, "factor": math.nan}, "retries.factor: "),
    (RetryPolicy(attempts=-1), "retries.attempts: "),
    (RetryPolicy(attempts=2.5), "retries.attempts: .*whole number"),  # type: ignore[arg-type]
    (RetryPolicy(attempts=math.nan), "retries.attempts: "),  # type: ignore[arg-type]
    (RetryPolicy(attempts=3, initial=-1), "retries.initial: .*not -1"),
    (RetryPolicy(attempts=3, initial=math.nan), "retries.initial: .*not nan; "),
    (RetryPolicy(attempts=3, initial=math.inf), "retries.initial: .*not inf; .*3153600000 s"),
    (RetryPolicy(attempts=3, initial="1s"), "retries.initial: .*not '1s'"),  # type: ignore[arg-type]
    (RetryPolicy(attempts=3, max_delay=math.inf), "retries.max_delay: "),
    (RetryPolicy(attempts=3, max_delay=math.nan), "retries.max_delay: "),
    (RetryPolicy(attempts=3, factor=math.inf), "retries.factor: "),
    (RetryPolicy(attempts=3, factor=0.5), "retries.factor: .*between 1 and 1000"),
    (RetryPolicy(attempts=3, elapsed=math.nan), "retries.elapsed: "),
    (RetryPolicy(attempts=3, elapsed=math.inf), "retries.elapsed: .*leave it out for no limit"),
    (RetryPolicy(attempts=3, retry_on="OSError"), r"retries.retry_on: .*write \('OSError',\)"),  # type: ignore[arg-type]
    (RetryPolicy(attempts=3, give_up_on=(OSError,)), r"retries.give_up_on.0: .*write 'OSError', in quotes"),  # type: ignore[arg-type]
]

TIMEOUTS: list[tuple[Any, str]] = [
    (-1, "cannot be negative: -1"),
    (math.nan, "expected a duration such as 30s, .*not nan"),
    (math.inf, "expected a duration such as 30s"),
    ("soon", "expected a duration such as 30s"),
    (timedelta(seconds=-1), "cannot be negative"),
]

OF_TASKS: list[tuple[Any, str]] = [
    *((given, f"timeout: .*{words}") for given, words in TIMEOUTS),
    ({"heartbeat": -1}, "timeout.heartbeat: .*cannot be negative"),
    ({"hartbeat": 1}, "did you mean 'heartbeat'"),
    (Timeouts(attempt=-1), "timeout.attempt: .*not -1; leave it out"),
    (Timeouts(queue=math.nan), "timeout.queue: .*not nan"),
    (Timeouts(task="5m"), "timeout.task: .*not '5m'"),  # type: ignore[arg-type]
]


def refused(write: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}"):
        write()


@task
def load() -> None: ...


@pytest.mark.parametrize(("given", "words"), RETRIES)
def test_retries(given: Any, words: str) -> None:
    for write in (task, load.options, workflow):
        refused(lambda write=write: write(retries=given), words if words.startswith("retries") else f".*{words}")


@pytest.mark.parametrize(("given", "words"), OF_TASKS)
def test_timeouts_of_tasks(given: Any, words: str) -> None:
    for write in (task, load.options):
        refused(lambda write=write: write(timeout=given), words if words.startswith("timeout") else f".*{words}")


@pytest.mark.parametrize(("given", "words"), TIMEOUTS)
@pytest.mark.parametrize("bound", ["timeout", "execution_timeout"])
def test_timeouts_of_workflows(bound: Any, given: Any, words: str) -> None:
    refused(lambda: workflow(**{bound: given}), f"{bound}: .*{words}.*; leave it out for no limit")


def test_what_was_meant_passes() -> None:
    for retries in (
        0,
        1,
        3,
        None,
        {"attempts": 3, "initial": "1s", "elapsed": None},
        RetryPolicy(attempts=3, initial=0),
    ):
        task(retries=retries)
        workflow(retries=retries)  # type: ignore[arg-type]
    for timeout in (0, 5.5, "1h30m", timedelta(minutes=1), None, {"queue": 60, "task": None}, Timeouts(attempt=5)):
        task(timeout=timeout)


def test_a_graph_refuses_what_could_not_be_stored() -> None:
    with pytest.raises(InvalidDefinition, match="max_delay must be seconds"), dag("w") as graph:
        graph.run("a", "true", retries=RetryPolicy(attempts=2, max_delay=math.inf))


def test_an_executor_without_effect() -> None:
    words = "executor: 'run' tasks run on executor 'shell', not on 'thread'; leave it out"
    with pytest.raises(TypeError, match=words), dag("w") as graph:
        graph.run("a", "true", executor="thread")
    with dag("v", defaults={"executor": "thread"}) as graph:  # of the Python tasks
        graph.run("a", "true", executor="shell")
    assert graph.spec.tasks["a"].executor == "shell"


async def positional(n: int, /) -> None: ...
async def several(*rows: int) -> None: ...
async def any_name(**rows: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (positional, "workflow positional: parameter 'n' is positional-only, .*; remove the `/`"),
        (several, r"workflow several: .*as \*rows, but parameters are stored by name; take one list"),
        (any_name, r"workflow any_name: .*as \*\*rows, but parameters are stored by name; take one dict"),
    ],
)
def test_a_parameter_without_a_name(function: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        workflow(function)
