"""Random graphs with random outcomes in random order, against the slow model, and with a crash anywhere."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.core import inputs as inp
from headrace.core.effects import Launch, pending
from headrace.core.events import Failure
from headrace.core.spec import TriggerRule, WorkflowSpec

from checked import CheckedRun  # isort: skip
from graphs import graph_of  # isort: skip
from model import Outcomes, may_become, tried  # isort: skip

TASKS_MAX = 12
STEPS_MAX = 2_000
WAITS_FOR_ALL = (TriggerRule.ALL_SUCCESS, TriggerRule.ALL_DONE)
FINAL = {"succeeded", "failed", "skipped", "upstream_failed", "cancelled"}

seeds = st.integers(0, 2**32)
odds = st.sampled_from([(8, 1, 1, 1), (3, 2, 1, 1), (1, 1, 1, 1), (1, 0, 0, 0), (0, 1, 1, 0), (2, 1, 0, 2)])
some = settings(
    max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


def random_graph(chance: Random) -> WorkflowSpec:
    """A graph of up to a dozen tasks with everything in it."""
    tasks: dict[str, Any] = {}
    names = [f"t{number}" for number in range(chance.randint(1, TASKS_MAX))]
    plain: list[str] = []
    for name in names:
        earlier = list(tasks)
        needs = chance.sample(earlier, min(len(earlier), chance.choice([0, 1, 1, 2, 2, 3])))
        rule = chance.choice([TriggerRule.ALL_SUCCESS, *TriggerRule])
        task: dict[str, Any] = {"needs": needs, "trigger": rule}
        if chance.random() < 0.15:
            task["when"] = chance.random() < 0.5
        if chance.random() < 0.3:
            lists = [need for need in needs if need in plain]
            if lists and rule in WAITS_FOR_ALL:
                task["map"] = "{{ tasks." + chance.choice(lists) + ".output }}"
                task["max_items"] = chance.choice([2, 100])
            else:
                task["map"] = list(range(chance.randint(0, 3)))
        else:
            plain.append(name)
        if chance.random() < 0.4:
            task["retries"] = {"attempts": chance.randint(2, 3), "initial": 1.0}
        if chance.random() < 0.2:
            task["allow_failure"] = True
        tasks[name] = task
    return graph_of(tasks)


def input_of(launch: Launch, outcomes: Outcomes) -> inp.Input:
    """What comes of a launch."""
    item = None if launch.item < 0 else launch.item
    state, more = outcomes.of(launch.task, item, launch.attempt)
    if state == "succeeded":
        return inp.Succeeded(launch.task, item, launch.attempt, 0.0, list(range(more)))
    if state == "skipped":
        return inp.Skipped(launch.task, item, launch.attempt, 0.0, "wanted so")
    return inp.Failed(launch.task, item, launch.attempt, 0.0, Failure("ValueError", "no", retryable=bool(more)))


def launches(run: CheckedRun) -> list[Launch]:
    return [effect for effect in pending(run.run) if isinstance(effect, Launch)]


def step(run: CheckedRun, chance: Random, outcomes: Outcomes) -> bool:
    """Carry out something that is owed; False when nothing is."""
    owed = launches(run)
    if not owed:
        return False
    launch = chance.choice(owed)
    run.now += chance.choice([0.0, 1.0, 100.0])
    if chance.random() < 0.2:
        item = None if launch.item < 0 else launch.item
        run.give(inp.Started(launch.task, item, launch.attempt, run.now, "node"))
    run.give(input_of(launch, outcomes))
    return True


def finish(run: CheckedRun, chance: Random, outcomes: Outcomes) -> None:
    for _ in range(STEPS_MAX):
        if not step(run, chance, outcomes):
            return
    raise AssertionError("the run does not end")


def ends_of(run: CheckedRun) -> dict[str, str]:
    return {unit.node.id: str(unit.state) for unit in run.run.tasks}


def check_against_model(run: CheckedRun, outcomes: Outcomes) -> None:
    """Every task ended as the model says, and so did the run."""
    spec = run.plan.spec
    ends = ends_of(run)
    lengths: dict[str, int] = {}
    for name, task in spec.tasks.items():
        items: int | None = None
        if task.is_mapped:
            source = next(
                (need for need in task.needs if isinstance(task.map, str) and f"tasks.{need}." in task.map), None
            )
            items = len(task.map) if source is None else lengths.get(source, -1)
        assert ends[name] in may_become(task, ends, items, outcomes), (name, ends)
        unit = run.run.tasks[run.plan.by_id[name].index]
        if unit.state == "succeeded" and items is None:
            state, attempts, lengths[name] = tried(task, None, outcomes)
            assert (state, attempts) == ("succeeded", unit.attempt)
        for item in unit.items or ():
            assert (str(item.state), item.attempt) == tried(task, item.item, outcomes)[:2]
    failed = any(ends[name] == "failed" and not task.allow_failure for name, task in spec.tasks.items())
    assert str(run.run.state) == ("failed" if failed else "succeeded")


@some
@given(st.randoms(use_true_random=False), seeds, odds)
def test_any_graph_ends_as_the_model_says(chance: Random, seed: int, weights: tuple[int, int, int, int]) -> None:
    outcomes = Outcomes(seed, weights)
    run = CheckedRun(random_graph(chance))
    finish(run, chance, outcomes)
    check_against_model(run, outcomes)


@some
@given(st.randoms(use_true_random=False), seeds, odds)
def test_a_crash_anywhere_changes_nothing(chance: Random, seed: int, weights: tuple[int, int, int, int]) -> None:
    """Whatever a process had made durable when it died, the next one comes to an end the model allows; and to the same
    one, unless the order of ends matters (``all_success`` with a failure and a skip above it)."""
    outcomes = Outcomes(seed, weights)
    spec = random_graph(chance)
    run = CheckedRun(spec)
    finish(run, chance, outcomes)
    for border in sorted(set(chance.choices(run.borders, k=3))):
        again = CheckedRun(spec)
        again.stored, again.events = run.stored[:border], run.events[:border]
        again = again.recovered()
        if again.run.done:
            continue
        again.give(inp.Recovered())
        finish(again, chance, outcomes)
        check_against_model(again, outcomes)
        if not order_matters(ends_of(run), spec):
            assert ends_of(again) == ends_of(run)


def order_matters(ends: dict[str, str], spec: WorkflowSpec) -> bool:
    for task in spec.tasks.values():
        above = {ends[need] for need in task.needs}
        if task.trigger is TriggerRule.ALL_SUCCESS and "skipped" in above and above & {"failed", "upstream_failed"}:
            return True
    return False


@some
@given(st.randoms(use_true_random=False), seeds, odds)
def test_commands_at_any_time(chance: Random, seed: int, weights: tuple[int, int, int, int]) -> None:
    """Pause, resume, cancel, crash and retry come at any time: every run still ends, nothing starts while it must not,
    and after a cancel nothing counts as succeeded that did not."""
    outcomes = Outcomes(seed, weights)
    run = CheckedRun(random_graph(chance))
    cancelled = retried = False
    for _ in range(STEPS_MAX):
        command = chance.random()
        if run.run.done:
            assert not launches(run)
            if retried or run.run.state == "succeeded" or command < 0.3:
                break
            run.give(inp.Retry(tuple(chance.sample(list(run.plan.by_id), 1)) if command < 0.6 else ()))
            retried, cancelled = True, False
        elif run.run.state == "paused":
            assert not launches(run)
            run.give(inp.Cancel() if command < 0.1 else inp.Resume())
            cancelled = cancelled or command < 0.1
        elif command < 0.05:
            run.give(inp.Pause())
        elif command < 0.08:
            run.give(inp.Cancel())
            cancelled = True
        elif command < 0.15:
            run = run.recovered()
            run.give(inp.Recovered())
        else:
            step(run, chance, outcomes)
    assert run.run.done
    ends = ends_of(run)
    assert set(ends.values()) <= FINAL
    if cancelled:
        assert run.run.state == "cancelled"
    elif not retried:
        check_against_model(run, outcomes)
    else:
        hard = [n for n, task in run.plan.spec.tasks.items() if ends[n] == "failed" and not task.allow_failure]
        expected = "failed" if hard else "cancelled" if "cancelled" in ends.values() else "succeeded"
        assert run.run.state == expected


@some
@given(st.randoms(use_true_random=False), seeds)
def test_late_and_repeated_outcomes_change_nothing(chance: Random, seed: int) -> None:
    """An outcome that is told twice, or after its attempt was given up, is refused without a trace."""
    outcomes = Outcomes(seed, (3, 2, 1, 1))
    run = CheckedRun(random_graph(chance))
    told: list[inp.Input] = []
    for _ in range(STEPS_MAX):
        owed = launches(run)
        if not owed:
            break
        given_now = input_of(chance.choice(owed), outcomes)
        run.give(given_now)
        told.append(given_now)
        assert run.give(chance.choice(told)) == []
    assert run.run.done
