"""Values of types that JSON does not have: through arguments, results, parameters, signals, and a replay."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import msgspec
import numpy
import pydantic
import pytest

from headrace import (
    Headrace,
    RunFailed,
    dag,
    query,
    run_task,
    task,
    update,
    wait_for_signal,
    wait_until,
    workflow,
)
from headrace.contracts import converters
from headrace.contracts.execution import AttemptError
from headrace.contracts.outcome import encode_output

import converted_types as types  # isort: skip
from attempt_tasks import play  # isort: skip
from converted_types import Fractions, Order, samples  # isort: skip


@pytest.fixture(autouse=True)
def _only_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converters, "_given", [])


def same(a: Any, b: Any) -> bool:
    if isinstance(a, numpy.ndarray):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_a_task_is_given_its_types_and_code_its_results(executor: str, tmp_path: Path) -> None:
    seen: list[Any] = []

    @workflow
    async def code() -> int:
        for function, value in samples():
            seen.append((value, await run_task(function.options(executor=executor), value)))
        await wait_for_signal("end")
        return len(seen)

    async def test() -> None:
        url = f"sqlite:///{tmp_path}/x.db"
        async with Headrace(url, workflows=[code], converters=[Fractions()]) as hr:
            run = await hr.start(code)
            while len(seen) < len(samples()):
                view = await hr.show(run.id)
                assert view.state == "running", view.error
                await asyncio.sleep(0.01)
        async with Headrace(url, workflows=[code], converters=[Fractions()]) as hr:  # and again, from the history
            await hr.signal(run.id, "end")
            assert await (await hr.get(run.id)).result() == 2 * len(samples())
        for value, result in seen:
            assert same(value, result), (value, result)

    play(test)


def test_parameters_and_results_of_workflows(tmp_path: Path) -> None:
    @workflow
    async def child(order: Order, share: Fraction) -> Order:
        assert isinstance(order, Order)
        assert isinstance(share, Fraction)
        return order

    @workflow
    async def parent(order: Order, table: numpy.ndarray) -> Order:
        @query
        def total() -> Any:
            return table.sum()

        answer = await child(order, Fraction(1, 3))
        assert isinstance(answer, Order)
        return answer

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[parent, child], converters=[Fractions()]) as hr:
            order = Order(id=7, placed="2026-02-28")  # type: ignore[arg-type]
            run = await hr.start(parent, order, numpy.ones((2, 2)))
            result = await run.result()
            assert (type(result), result.id, str(result.placed)) == (Order, 7, "2026-02-28")
            again = await (await hr.get(run.id)).result()
            assert again == {"id": 7, "placed": "2026-02-28", "lines": []}, "by its id alone: plain values"
            assert await hr.query(run.id, "total") == 4.0

    play(test)


def test_graphs_hand_them_on(tmp_path: Path) -> None:
    with dag("graph") as graph:
        first = types.of_array(numpy.arange(3).tolist())
        types.of_array(first)

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[graph]) as hr:
            (result,) = (await (await hr.run(graph)).result()).values()
            assert same(converters.from_plain(numpy.ndarray, result), numpy.arange(3))

    play(test)


def test_a_value_that_a_model_refuses_names_the_argument(tmp_path: Path) -> None:
    @workflow
    async def code() -> None:
        await run_task(types.of_order, {"id": 0, "placed": "2026-02-28"})  # type: ignore[arg-type]

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[code]) as hr:
            with pytest.raises(RunFailed, match=r"(?s)argument 'value' of .*an order's id is positive"):
                await (await hr.start(code)).result()

    play(test)


def test_classes_that_cannot_be_told_apart_are_named(tmp_path: Path) -> None:
    @dataclass
    class Twin:
        sku: str
        count: int

    @task
    async def either() -> types.Line | Twin:
        return Twin("a", 2)

    @workflow
    async def code() -> None:
        await either()

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[code]) as hr:
            with pytest.raises(RunFailed, match=r"may be of Line and Twin: give each a field that tells them apart"):
                await (await hr.start(code)).result()

    either.__headrace_function__.__annotations__["return"] = types.Line | Twin  # it is no name of a module
    play(test)


def test_messages_and_parameters_take_unions_and_keys_that_are_no_texts(tmp_path: Path) -> None:
    @workflow
    async def code(pets: list[types.Cat | types.Dog], stock: dict[int, int]) -> dict[int, int]:
        @update
        async def adopt(pet: types.Cat | types.Dog) -> str:
            pets.append(pet)
            return type(pet).__name__

        await wait_until(lambda: len(pets) == 2)
        assert isinstance(pets[0], types.Dog)
        return stock

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[code]) as hr:
            run = await hr.start(code, [types.Dog(name="Rex")], {1: 2})
            assert await run.update("adopt", types.Cat(name="Tom")) == "Cat"
            assert await run.result() == {1: 2}

    play(test)


def test_a_secret_is_not_stored_as_asterisks(tmp_path: Path) -> None:
    class Login(pydantic.BaseModel):
        password: pydantic.SecretStr

    class Opened(Login):
        @pydantic.field_serializer("password", when_used="json")
        def open(self, value: pydantic.SecretStr) -> str:
            return value.get_secret_value()

    @task
    async def login(with_: Any) -> Any:
        return with_

    @workflow
    async def code(opened: bool) -> Any:
        return await login((Opened if opened else Login)(password=pydantic.SecretStr("x")))

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[code]) as hr:
            with pytest.raises(
                RunFailed, match="a secret of Login would be stored as asterisks: give the secret's name"
            ):
                await (await hr.start(code, opened=False)).result()
            assert await (await hr.start(code, opened=True)).result() == {"password": "x"}

    play(test)


def test_a_type_nobody_knows_is_named(tmp_path: Path) -> None:
    @task
    async def odd() -> Any:
        return {"deep": [1, 2j]}

    @task
    async def objects() -> Any:
        return numpy.array([object()])

    @workflow
    async def code(which: str) -> None:
        await (odd if which == "odd" else objects)()

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[code]) as hr:
            with pytest.raises(RunFailed, match=r"complex at \$\.deep\[1\]"):
                await (await hr.start(code, "odd")).result()
            with pytest.raises(RunFailed, match="an array of object cannot be stored"):
                await (await hr.start(code, "objects")).result()

    play(test)


def test_a_converter_is_added_once_and_the_last_one_is_asked_first() -> None:
    class Other(Fractions):
        def to_plain(self, value: Any) -> Any:
            return str(value)

        def __eq__(self, other: object) -> bool:
            return self is other

        def __hash__(self) -> int:
            return 2

    converters.register([Fractions()])
    converters.register([Fractions()])
    assert len(converters._given) == 1
    converters.register([Other()])
    assert converters.to_plain(Fraction(1, 3)) == "1/3"


def test_nothing_is_imported_that_the_program_has_not() -> None:
    script = (
        "import sys; import headrace.assembly; from headrace.contracts import converters\n"
        "class X: pass\n"
        "assert converters.converter_for(X) is None\n"
        "print([name for name in ('numpy', 'pydantic', 'attrs', 'attr') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


class Part(pydantic.BaseModel):
    amount: int = pydantic.Field(serialization_alias="amountOut", validation_alias="amountIn")


class Whole(pydantic.BaseModel):
    parts: list[Part]
    label: str = pydantic.Field(serialization_alias="name")
    kind: str = pydantic.Field(alias="Kind")


def test_a_model_that_is_written_by_other_names_than_it_is_read_by_comes_back() -> None:
    one = Part.model_validate({"amountIn": 3})
    whole = Whole(parts=[one], label="x", Kind="y")
    for value, given in ((one, {"amountIn": 3}), (whole, {"parts": [{"amountIn": 3}], "label": "x", "Kind": "y"})):
        stored = msgspec.json.decode(msgspec.json.encode(value, enc_hook=converters.to_plain))
        assert converters.from_plain(type(value), stored) == value
        assert converters.from_plain(type(value), given) == value, "what comes from outside is read as ever"


@attrs.define
class Private:
    _token: str
    seen: int = 0


@attrs.define
class Cached:
    size: int
    _cache: int = attrs.field(init=False, default=0)


@dataclass
class Around:
    inner: Any


@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: [one], lambda one: {"a": one}, Around], ids=str)
def test_an_attribute_that_would_not_be_stored_is_refused(wrap: Any) -> None:
    with pytest.raises(AttemptError, match=r"attribute _token of Private begins with _ .* rename it"):
        encode_output(wrap(Private("x")))
    assert b'"size":3' in encode_output(wrap(Cached(3)))
