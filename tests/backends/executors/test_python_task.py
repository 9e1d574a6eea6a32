"""Finding functions, checking their arguments, converting values."""

import asyncio
import datetime
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace.backends.executors.arguments import misfits, plan_conversion
from headrace.backends.executors.binding import Binding
from headrace.backends.executors.python_task import BoundPython, PythonTask
from headrace.backends.executors.targets import resolve
from headrace.contracts.execution import AttemptError
from headrace.core.errors import InvalidDefinition, UserCodeError
from headrace.core.spec import TaskSpec
from headrace.testing.executor_conformance import make_attempt


@pytest.fixture(autouse=True)
def forget_imports():
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    sys.path[:] = path


def bind(binding: Binding, function: str, executor: str | None = None, **args: Any) -> BoundPython:
    return PythonTask().bind(
        TaskSpec(id="t", kind="python", config={"function": function}, args=args, executor=executor), binding
    )


def run(binding: Binding, function: str, executor: str | None = None, **args: Any) -> Any:
    async def once() -> Any:
        bound = bind(binding, function, executor, **args)
        attempt = make_attempt(args=args, source_dir=binding.source_dir)
        try:
            return await bound.run(attempt)
        finally:
            binding.finish(attempt)
            for one in binding.executors.values():
                await one.stop()

    return asyncio.run(once())


# ---- finding ----


def test_a_module_in_the_workflows_folder_is_found_and_may_import_its_neighbours(binding, source):
    (source / "near.py").write_text("WORD = 'near'\n")
    (source / "mine.py").write_text("import near\ndef f():\n    import nearer\n    return near.WORD + nearer.WORD\n")
    (source / "nearer.py").write_text("WORD = 'er'\n")
    assert run(binding, "mine:f") == "nearer"


def test_packages_files_and_methods_are_found(binding, source):
    (source / "pack" / "sub").mkdir(parents=True)
    (source / "pack" / "__init__.py").write_text("class Box:\n    @staticmethod\n    def f(): return 'method'\n")
    (source / "pack" / "sub" / "deep.py").write_text("def f(): return 'deep'\n")
    (source / "script.py").write_text("def f(): return __name__\nif __name__ == '__main__': raise SystemExit(9)\n")
    assert run(binding, "pack:Box.f") == "method"
    assert resolve("pack.sub.deep:f", str(source), {})() == "deep"
    assert resolve("script.py:f", str(source), {})().endswith("_script")
    assert resolve("pack/sub/deep.py:f", str(source), {})() == "deep"


def test_two_workflows_may_each_have_a_module_of_one_name(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "jobs_of_mine.py").write_text(f"def f(): return {name!r}\n")
    found = [resolve("jobs_of_mine:f", str(tmp_path / name), {}) for name in ("one", "two", "one")]
    assert [function() for function in found] == ["one", "two", "one"]


def test_a_module_named_like_one_of_pythons_is_found_and_does_not_shadow_it(source):
    import calendar

    (source / "calendar.py").write_text("def months(): return 12\n")
    (source / "queue.py").write_text("raise RuntimeError('not for the engine')\n")
    assert resolve("calendar:months", str(source), {})() == 12
    assert sys.modules["calendar"] is calendar
    sys.modules.pop("queue", None)
    import queue

    assert "SimpleQueue" in dir(queue)


def test_functions_given_by_a_program_come_first_and_are_unwrapped(source):
    class Decorated:
        @staticmethod
        def __headrace_function__() -> str:
            return "plain"

    assert resolve("nowhere:f", None, {"nowhere:f": Decorated()})() == "plain"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("flihgts:load", r"no module 'flihgts' \(searched .*flow and Python's path\)\n.*did you mean 'flights'"),
        ("flights:laod", r"no 'laod' in .*flights.py\n.*did you mean 'load'"),
        ("flights.py:laod", r"did you mean 'load'"),
        ("flihgts.py:load", r"no file .*flihgts.py\n.*did you mean 'flights.py'"),
        ("flights:TABLE", r"'flights:TABLE' is a dict, not a function"),
        ("flights", r"does not name a function\n.*module:function"),
        ("flights:", r"does not name a function"),
        ("fli ghts:load", r"'fli ghts' is not a module name"),
        ("flights:outer.<locals>.inner", r"defined inside another function"),
        ("needs_pandas:f", r"importing 'needs_pandas' failed: No module named 'pandas_of_mine'\n.*install it"),
        ("no.such.module:f", r"no module 'no.such.module'"),
    ],
)
def test_what_cannot_be_found_is_explained(source, target, message):
    (source / "flights.py").write_text("TABLE = {}\ndef load(): ...\n")
    (source / "needs_pandas.py").write_text("import pandas_of_mine\n")
    with pytest.raises(UserCodeError, match=message):
        resolve(target, str(source), {})


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def f(:\n", "SyntaxError"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
        ("def boom():\n    raise OSError('disk')\nboom()\n", "OSError: disk"),
    ],
)
def test_a_module_that_fails_shows_only_the_users_frames(source, code, message):
    (source / "broken.py").write_text(code)
    for target in ("broken:f", "broken.py:f"):
        with pytest.raises(UserCodeError, match=message) as caught:
            resolve(target, str(source), {})
        assert "broken.py" in caught.value.traceback
        assert "importlib" not in caught.value.traceback
        assert "targets.py" not in caught.value.traceback


def test_a_script_that_runs_when_it_is_imported_is_told_how_not_to(source):
    (source / "script.py").write_text("import asyncio\n\nasync def main(): ...\n\nasyncio.run(main())\n")

    async def imported_by_an_engine() -> None:
        resolve("script.py:f", str(source), {})

    with pytest.raises(UserCodeError, match="cannot be called from a running event loop") as caught:
        asyncio.run(imported_by_an_engine())
    assert '`if __name__ == "__main__":`' in (caught.value.hint or "")


def test_a_module_can_be_mended_and_tried_again(source):
    (source / "mended.py").write_text("1 / 0\n")
    with pytest.raises(UserCodeError):
        resolve("mended:f", str(source), {})
    (source / "mended.py").write_text("def f(): return 'well'\n")
    assert resolve("mended:f", str(source), {})() == "well"


# ---- arguments ----


def takes(a: int, b: int = 2, *, colour: str) -> None: ...
def takes_any(a: int, **rest: int) -> None: ...
def positional(x: int, /) -> None: ...


@pytest.mark.parametrize(
    ("function", "given", "expected"),
    [
        (takes, ["a", "colour"], []),
        (takes, ["a", "color"], ["color", "colour"]),
        (takes, [], ["a", "colour"]),
        (takes_any, ["a", "z"], []),
        (takes_any, ["z"], ["a"]),
        (positional, ["x"], ["x", "x"]),
        (dict, ["anything"], []),
    ],
)
def test_argument_names_are_checked(function, given, expected):
    assert [name for name, _, _ in misfits(function, given)] == expected


def test_wrong_arguments_are_problems_with_a_place(binding, source):
    (source / "shop.py").write_text("def f(colour, size): ...\n")
    with pytest.raises(InvalidDefinition) as caught:
        bind(binding, "shop:f", color="red")
    assert [problem.path for problem in caught.value.problems] == [
        ("tasks", "t", "with", "color"),
        ("tasks", "t", "with", "colour"),
        ("tasks", "t", "with", "size"),
    ]
    assert caught.value.problems[0].hint == "did you mean 'colour'?"


def test_values_become_what_the_annotation_says(binding, source):
    (source / "typed.py").write_text(
        """
import dataclasses, datetime, enum, pathlib, uuid, decimal
from typing import Annotated, Any, Literal

class Colour(enum.Enum):
    RED = "red"

@dataclasses.dataclass
class Order:
    id: int
    when: datetime.datetime
    lines: "list[tuple[str, int]]"

class Unknown: ...

def f(order: Order, colour: Colour, day: datetime.date, where: pathlib.Path, names: set[str], pair: tuple[int, str],
      wait: datetime.timedelta | None, by_id: dict[int, pathlib.Path], price: decimal.Decimal,
      raw: Unknown, missing: "NotImportedName", plain: int, text: Literal["a"], default: set[int] = frozenset()):
    return [order.when.year, order.lines[0], colour.name, day.month, where.suffix, len(names), pair, wait.total_seconds(),
            by_id[5].name, str(price + 1), raw, missing, plain, type(default).__name__]
"""
    )
    args: dict[str, Any] = {
        "order": {"id": 1, "when": "2024-05-06T07:08:09Z", "lines": [["x", 2]]},
        "colour": "red",
        "day": "2024-02-29",
        "where": "/a/b.csv",
        "names": ["x", "x", "y"],
        "pair": [1, "z"],
        "wait": "PT90S",
        "by_id": {"5": "c/d.txt"},
        "price": "1.10",
        "raw": {"left": "alone"},
        "missing": [1],
        "plain": "not converted",
        "text": "a",
    }
    expected = [2024, ("x", 2), "RED", 2, ".csv", 2, (1, "z"), 90.0, "d.txt", "2.10"]
    expected += [{"left": "alone"}, [1], "not converted", "frozenset"]
    assert run(binding, "typed:f", **args) == expected


def test_a_value_that_does_not_fit_is_not_retried(binding, source):
    (source / "when.py").write_text("import datetime\ndef f(day: datetime.date): ...\n")
    with pytest.raises(AttemptError, match=r"argument 'day' of when:f: Invalid RFC3339 encoded date") as caught:
        run(binding, "when:f", day="soon")
    assert (caught.value.type, caught.value.retryable) == ("bad_argument", False)


def test_arguments_are_not_changed_in_place_and_converted_values_are_left_alone():
    def f(day: datetime.date, names: set[str]) -> None: ...

    convert = plan_conversion(f, "x:f")
    assert convert is not None
    args: dict[str, Any] = {"day": datetime.date(2024, 1, 1), "names": ["a"]}
    assert convert(args) == {"day": datetime.date(2024, 1, 1), "names": {"a"}}
    assert args["names"] == ["a"]


def test_functions_that_take_plain_values_cost_no_conversion():
    def f(
        a: int, b: str | None, c: list[dict[str, Any]], d: dict, e=3, *args: set, **rest: datetime.date
    ) -> set[str]: ...  # type: ignore[type-arg, empty-body]

    assert plan_conversion(f, "x:f") is None


# ---- executors ----


def test_coroutine_functions_run_inline_and_plain_ones_in_threads(binding, source):
    (source / "kinds_of.py").write_text(
        """
import threading
async def soft(): return threading.current_thread() is threading.main_thread()
def hard(): return threading.current_thread() is threading.main_thread()
class Caller:
    async def __call__(self): return "called"
caller = Caller()
"""
    )
    assert bind(binding, "kinds_of:soft").executor == "inline"
    assert bind(binding, "kinds_of:caller").executor == "inline"
    assert bind(binding, "kinds_of:hard").executor == "thread"
    assert run(binding, "kinds_of:soft") is True
    assert run(binding, "kinds_of:caller") == "called"


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
@pytest.mark.parametrize("name", ["soft", "hard"])
def test_any_function_runs_on_any_executor(binding, source, executor, name):
    (source / "either.py").write_text(
        "import headrace.contracts.current as c\nasync def soft(x): return x + 1\n"
        "def hard(x):\n    c.current_attempt().log('at work')\n    return x + 1\n"
    )
    assert run(binding, f"either:{name}", executor, x=1) == 2


def test_unknown_and_unfit_executors_are_refused(binding, source):
    (source / "easy.py").write_text("def f(): ...\nf2 = (lambda: lambda: 1)()\n")
    with pytest.raises(InvalidDefinition, match="did you mean 'process'") as caught:
        bind(binding, "easy:f", "proces")
    assert caught.value.problems[0].path == ("tasks", "t", "executor")
    with pytest.raises(InvalidDefinition, match="cannot be imported by another process"):
        bind(binding, "easy:f2", "process")


def test_bad_settings_are_refused(binding):
    for config, message in (
        ({"function": "{{ params.f }}"}, "cannot be a template"),
        ({"function": 5}, "Expected `str`, got `int`"),
        ({"functoin": "a:b"}, "did you mean 'function'"),
        ({}, "needs the setting 'function'"),
    ):
        with pytest.raises(InvalidDefinition, match=message):
            PythonTask().bind(TaskSpec(id="t", kind="python", config=config), binding)


def test_what_a_function_logs_is_kept(binding, source, logs):
    (source / "chatty.py").write_text(
        "import headrace.contracts.current as c\ndef f():\n    c.current_attempt().log('half %s', 'way')\n"
    )
    run(binding, "chatty:f")
    [entry] = logs.read_logs("R")
    assert (entry.task, entry.item, entry.attempt, entry.text) == ("t", None, 1, "half way\n")
    assert not Path(binding.source_dir or "", "work").exists()
