"""Building graphs in Python: what calls become, how arrows join, and mistakes at the line where they are made."""

from __future__ import annotations

import asyncio
import datetime
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Literal

import pytest

from headrace.authoring import Dag, call_listener, chain, dag, each, task
from headrace.core.errors import InvalidDefinition
from headrace.core.spec import ParamSpec, RetryPolicy, Timeouts, TriggerRule


@task
def extract(year: int) -> list[int]:
    """Outside a workflow this is a plain function."""
    return [year]


@task(retries=3, timeout="5m", tags="slow", id="clean")
def transform(rows: list[int], *, unit: str = "h", **more: Any) -> list[int]:
    return rows


@task
async def load(rows: Any) -> int:
    return len(rows)


def test_a_decorated_function_stays_a_function() -> None:
    assert extract(2013) == [2013]
    assert asyncio.run(load([1, 2])) == 2
    assert extract.__doc__ and extract.__name__ == "extract"
    assert extract.target == f"{__name__}:extract"
    assert extract.__headrace_function__(1) == [1]
    assert transform.defaults == {"retries": 3, "timeout": "5m", "tags": "slow", "id": "clean"}
    with pytest.raises(TypeError, match="inside `with dag"):
        extract.map([1])


def test_calls_become_tasks_and_outputs_become_templates() -> None:
    with dag("w", params={"year": 2013}) as d:
        raw = extract(year=d.params.year)
        clean = transform(raw, unit=f"per {raw['a b'].x[0]}", day=datetime.date(2013, 1, 31))
        again = transform.options(id="again", retries=RetryPolicy(attempts=9))(rows=[raw["n"], {"k": clean.state}])
    assert extract(1) == [1], "the block is over"
    tasks = d.spec.tasks
    assert list(tasks) == ["extract", "clean", "again"] and again.id == "again"
    assert tasks["extract"].args == {"year": "{{ params.year }}"}
    assert tasks["clean"].args == {
        "rows": "{{ tasks.extract.output }}",
        "unit": "per {{ tasks.extract.output['a b'].x[0] }}",
        "day": "2013-01-31",
    }
    assert tasks["clean"].needs == ("extract",)
    assert (tasks["clean"].retries.attempts, tasks["clean"].timeouts, tasks["clean"].tags) == (
        3,
        Timeouts(attempt=300.0),
        ("slow",),
    )
    assert tasks["again"].args == {"rows": ["{{ tasks.extract.output.n }}", {"k": "{{ tasks.clean.state }}"}]}
    assert tasks["again"].needs == ("extract", "clean")
    assert tasks["again"].retries.attempts == 9
    assert d.functions[f"{__name__}:extract"] is extract.__headrace_function__


def test_ids_are_numbered() -> None:
    with dag("w") as d:
        for year in (1, 2, 3):
            extract(year)
    assert list(d.spec.tasks) == ["extract", "extract_2", "extract_3"]


def test_mapping_over_the_list_or_the_output() -> None:
    with dag("w", params={"years": [1], "unit": "h"}) as d:
        a = extract.map(year=d.params.years)
        b = transform.options(id="b", max_parallel=2).map(rows=a, unit=d.params.unit)
        c = transform.options(id="c").map([1, 2], unit=d.params.unit)
        e = transform.options(id="e").map(rows=each(b["x"]), unit=c)
    tasks = d.spec.tasks
    assert [tasks[id].map for id in ("extract", "b", "c", "e")] == [  # noqa: A001
        "{{ params.years }}", "{{ tasks.extract.output }}", [1, 2], "{{ tasks.b.output.x }}",
    ]  # fmt: skip
    assert tasks["b"].args == {"rows": "{{ item }}", "unit": "{{ params.unit }}"} and tasks["b"].max_parallel == 2
    assert tasks["e"].needs == ("b", "c") and e.id == "e"
    with pytest.raises(TypeError, match="each"), dag("w"):
        transform.map(rows=[1], unit=[2])
    with pytest.raises(TypeError, match="no argument to map over"), dag("v"):
        transform.map(rows=1)


def test_arrows() -> None:
    with dag("w") as d:
        a, b, c, e, f = (d.run(name, "x") for name in "abcef")
        a >> [b, c] >> e
        f << [b, e]
        chain(a, [b, c], f)
    needs = {id: set(each.needs) for id, each in d.spec.tasks.items()}  # noqa: A001
    assert needs == {"a": set(), "b": {"a"}, "c": {"a"}, "e": {"b", "c"}, "f": {"b", "c", "e"}}
    with dag("v") as other:
        stranger = other.run("s", "x")
    for wrong in (lambda: a >> stranger, lambda: a.after(stranger)):
        with pytest.raises(ValueError, match="belongs to workflow"):
            wrong()
    with pytest.raises(ValueError, match="belongs to workflow"), dag("u"):
        load(stranger)


def test_a_function_as_a_workflow() -> None:
    @dag(max_parallel=2)
    def nightly(
        year: int = 2013,
        mode: Literal["fast", "full"] = "fast",
        limit: int | None = None,
        ratio: float = 1,
        *,
        city: str,
    ) -> Any:
        """Load a year.

        Not the description.
        """
        return {"rows": load(extract(year)), "city": city}

    assert isinstance(nightly, Dag)
    spec = nightly.spec
    assert (spec.name, spec.description, spec.max_parallel) == ("nightly", "Load a year.", 2)
    assert spec.params == {
        "year": ParamSpec(type="int", default=2013),
        "mode": ParamSpec(type="str", default="fast", choices=("fast", "full")),
        "limit": ParamSpec(type="int", default=None),
        "ratio": ParamSpec(type="float", default=1.0),
        "city": ParamSpec(type="str"),
    }
    assert spec.output == {"rows": "{{ tasks.load.output }}", "city": "{{ params.city }}"}


def test_defaults_of_the_workflow() -> None:
    with dag("w", defaults={"retries": 3, "timeout": "1h", "executor": "process", "max_parallel": 4}) as d:
        extract.map([1])
        d.run("r", "x", at_most_once=True, timeout={"queue": "1m"}, trigger="all_done")
    mapped, shell = d.spec.tasks.values()
    assert (mapped.retries.attempts, mapped.executor, mapped.max_parallel) == (3, "process", 4)
    assert shell.retries == RetryPolicy() and shell.executor is None
    assert shell.timeouts == Timeouts(attempt=3600.0, queue=60.0) and shell.trigger is TriggerRule.ALL_DONE


with dag("mistakes", params={"year": 2013}) as mistakes:
    node = mistakes.run("node", "x")


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda: bool(node["ok"]), "use when="),
        (lambda: list(node), "use .map"),
        (lambda: 1 in node["rows"], "use when="),
        (lambda: f"{node['n']:03d}", "cannot be formatted"),
        (lambda: node["rows"][1.5], "indexed"),
        (lambda: mistakes.params.yeer, "did you mean 'year'"),
        (lambda: task(retrys=3), "did you mean 'retries'"),
        (lambda: task(5), "decorates a function"),
        (lambda: dag("x", defaults={"retry": 1}), "did you mean 'retries'"),
        (lambda: dag("x", params={"s": set}), "cannot be of type set"),
        (lambda: dag("x", timeout="soon"), "expected a duration"),
        (lambda: mistakes.run("m1", "x", retries="a"), "expected a number of attempts"),
        (lambda: mistakes.run("m2", "x", trigger="all_succes"), "did you mean 'all_success'"),
        (lambda: mistakes.run("m3", "x", needs=5), "needs takes tasks"),
        (lambda: mistakes.run("m4", "x", args={"f": open}), "cannot be stored in a definition"),
        (lambda: mistakes.run("node", "x"), "there is a task 'node' already"),
        (lambda: mistakes["nod"], "did you mean 'node'"),
        (lambda: node >> 5, ">> joins tasks"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_where_it_is_made(mistake: Callable[[], Any], words: str) -> None:
    with pytest.raises((TypeError, AttributeError, KeyError, InvalidDefinition)) as caught:
        mistake()
    assert words in str(caught.value)


def test_a_call_that_python_would_refuse_is_refused() -> None:
    with pytest.raises(TypeError, match=r"extract\(year.*'year'"), dag("w"):
        extract(yaer=1)  # type: ignore[call-arg]

    @task
    def variadic(*rows: int) -> None: ...

    with pytest.raises(TypeError, match="passed by name"), dag("v"):
        variadic(1, 2)


def test_all_problems_come_at_the_end_of_the_block_and_the_listener_is_gone() -> None:
    with pytest.raises(InvalidDefinition) as caught, dag("w") as d:
        d.run("a", "{{ tasks.c.output }} {{ params.x }}")
        d.run("b", "x", needs=["nobody"])
    assert len(caught.value.problems) == 3
    assert call_listener.get() is None
    with pytest.raises(ZeroDivisionError), dag("w"):
        _ = 1 / 0
    assert call_listener.get() is None


def test_two_functions_of_one_name_are_not_mixed_up() -> None:
    def make(number: int) -> Any:
        @task
        def same() -> int:
            return number

        return same

    first, second = make(1), make(2)
    with dag("w"):
        first()
        first()
        with pytest.raises(InvalidDefinition, match="two different functions"):
            second()


def test_a_script_names_its_functions_by_file(tmp_path: Any) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from headrace.authoring import dag, task\n"
        "@task\ndef hello(): ...\n"
        "with dag('w') as d:\n    hello()\n"
        "print(d.spec.tasks['hello'].config['function'], d.source_dir)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["script.py:hello", str(tmp_path)]
