"""A slow model of graph runs, written without a look at how the core does it: no counters, no queues, no history.

It is given the final states of the tasks a task needs and says, from the meaning of the rules alone, what may have become
of the task. Nothing here imports the core's decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from headrace.core.spec import TaskSpec

Outcome = tuple[str, int]
"""("succeeded", length of the output list), ("failed", 1 if another attempt may help), ("skipped", 0)."""


class Outcomes:
    """What attempts come to: the same function of task, item and attempt for ever."""

    def __init__(self, seed: int, odds: tuple[int, int, int, int]) -> None:
        self._seed = seed
        self._odds = odds

    def of(self, task: str, item: int | None, attempt: int) -> Outcome:
        chance = Random(f"{self._seed}/{task}/{item}/{attempt}")
        kind = chance.choices(["succeeded", "fails", "gives up", "skipped"], self._odds)[0]
        if kind == "succeeded":
            return "succeeded", chance.randrange(4)
        return ("skipped", 0) if kind == "skipped" else ("failed", int(kind == "fails"))


def _failed(state: str) -> bool:
    return state in ("failed", "upstream_failed", "cancelled")


def answers(rule: str, ends: Sequence[str]) -> set[str]:
    """What may become of a task of that rule when everything it needs has ended. More than one only where it depends on
    which end came first."""
    failed = [end for end in ends if _failed(end)]
    skipped = [end for end in ends if end == "skipped"]
    won = [end for end in ends if end == "succeeded"]
    match rule:
        case _ if not ends:
            return {"run"}
        case "always" | "all_done":
            return {"run"}
        case "all_success":
            if failed and skipped:
                return {"upstream_failed", "skipped"}
            return {"upstream_failed"} if failed else {"skipped"} if skipped else {"run"}
        case "all_failed":
            return {"run"} if len(failed) == len(ends) else {"skipped"}
        case "all_skipped":
            return {"run"} if len(skipped) == len(ends) else {"skipped"}
        case "one_success":
            return {"run"} if won else {"upstream_failed"} if failed else {"skipped"}
        case "one_failed":
            return {"run"} if failed else {"skipped"}
        case "one_done":
            return {"run"} if won or any(end in ("failed", "cancelled") for end in ends) else {"skipped"}
        case "none_failed":
            return {"upstream_failed"} if failed else {"run"}
        case "none_failed_min_one_success":
            return {"upstream_failed"} if failed else {"run"} if won else {"skipped"}
        case "none_skipped":
            return {"skipped"} if skipped else {"run"}
    raise AssertionError(rule)


def tried(spec: TaskSpec, item: int | None, outcomes: Outcomes) -> tuple[str, int, int]:
    """How a unit that runs ends: its state, how many attempts that took, and the length of its output."""
    for attempt in range(1, spec.retries.attempts + 1):
        state, more = outcomes.of(spec.id, item, attempt)
        if state != "failed" or not more or attempt == spec.retries.attempts:
            return state, attempt, more
    raise AssertionError("a policy has at least one attempt")


def may_become(spec: TaskSpec, ends: dict[str, str], items: int | None, outcomes: Outcomes) -> set[str]:
    """The final states a task may have, given the ends of what it needs. ``items``: how many a mapped task has, -1 if its
    list is none."""
    found: set[str] = set()
    for answer in answers(str(spec.trigger), [ends[need] for need in spec.needs]):
        if answer != "run":
            found.add(answer)
        elif spec.when == "{{ false }}":
            found.add("skipped")
        elif items is None:
            found.add(tried(spec, None, outcomes)[0])
        elif items < 0 or items > spec.max_items:
            found.add("failed")
        else:
            each = {tried(spec, item, outcomes)[0] for item in range(items)}
            found.add("failed" if "failed" in each else "skipped" if each == {"skipped"} else "succeeded")
    return found
