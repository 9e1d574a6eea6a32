"""Large payloads of code runs: values for the code, references in the history, also after a replay."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from headrace import (
    Headrace,
    continue_as_new,
    dag,
    query,
    signal_run,
    start_child,
    task,
    update,
    wait_for_signal,
    workflow,
)
from headrace.core import events as ev
from headrace.engine.outcomes import INLINE_BYTES_MAX

from attempt_tasks import history, play  # isort: skip

LARGE = 150_000


def text(letter: str) -> str:
    return letter * LARGE


@task
async def make(letter: str) -> dict[str, str]:
    return {"made": text(letter)}


@task
async def size(value: dict[str, str]) -> int:
    return len(value["made"])


async def assert_small(hr: Headrace, run_id: str) -> None:
    stored = [data for _, data in await hr.store.history(run_id)]  # type: ignore[arg-type]
    assert all(len(data) < INLINE_BYTES_MAX for data in stored), [len(data) for data in stored]
    assert any(b'"$ref"' in data for data in stored)
    row = await hr.row(run_id)
    assert len(str(row.params)) < INLINE_BYTES_MAX


@workflow
async def everything(document: str) -> dict[str, Any]:
    seen: list[int] = [len(document)]

    @query
    def sizes() -> list[int]:
        return seen

    @update
    async def add(more: str) -> str:
        seen.append(len(more))
        return more + more

    made = await make("t")
    seen.append(await size(made))
    letter = await wait_for_signal("letter")
    seen.append(len(letter))
    await wait_for_signal("end")
    return {"document": document, "letter": letter, "made": made["made"], "sizes": seen}


def test_code_sees_values_and_the_history_references(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"

    async def test() -> None:
        async with Headrace(url, workflows=[everything]) as hr:
            run = await hr.start(everything, text("d"))
            await hr.signal(run.id, "letter", text("s"))
            assert await hr.update(run.id, "add", text("u")) == text("uu")
            assert sorted(await hr.query(run.id, "sizes")) == [LARGE] * 4
        async with Headrace(url, workflows=[everything]) as hr:  # replayed from the references
            handle = await hr.get(run.id)
            assert sorted(await hr.query(run.id, "sizes")) == [LARGE] * 4
            await hr.signal(run.id, "end")
            result = await handle.result()
            assert result["document"] == text("d")
            assert result["letter"] == text("s")
            assert result["made"] == text("t")
            await assert_small(hr, run.id)
        async with Headrace(url, workflows=[everything]) as hr:  # closed runs answer queries too
            assert sorted(await hr.query(run.id, "sizes")) == [LARGE] * 4
            assert (await (await hr.get(run.id)).result())["made"] == text("t")

    play(test)


def test_large_messages_from_another_engine_keep_their_order(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"

    @workflow
    async def reader(count: int) -> list[Any]:
        return [await wait_for_signal("word") for _ in range(count)]

    async def test() -> None:
        async with Headrace(url, workflows=[reader]) as hr, Headrace(url, adopt=False) as other:
            run = await hr.start(reader, 6)
            words = ["a", text("b"), "c", text("d"), text("e"), "f"]
            for word in words:
                await other.signal(run.id, "word", word)
            assert await run.result() == words
            await assert_small(hr, run.id)

    play(test)


def test_results_of_children_code_and_graph(tmp_path: Path) -> None:
    with dag("graph") as graph:
        make("g")

    @workflow
    async def child(given: str) -> str:
        return given + given

    @workflow
    async def parent() -> list[Any]:
        from_code = await child(text("c"))
        from_graph = await start_child(graph)
        return [from_code, from_graph]

    async def test() -> None:
        url = f"sqlite:///{tmp_path}/x.db"
        async with Headrace(url, workflows=[parent, child, graph]) as hr:
            run = await hr.start(parent)
            assert await run.result() == [text("cc"), {"make": {"made": text("g")}}]
            await assert_small(hr, run.id)
            children = await hr.runs(workflow="child")
            await assert_small(hr, children[0].run_id)

    play(test)


def test_parameters_and_unread_signals_go_with_a_continued_run(tmp_path: Path) -> None:
    @workflow
    async def again(turn: int, bag: str) -> list[int]:
        if turn == 0:
            await wait_for_signal("go")
            continue_as_new(turn=1, bag=bag + bag)
        return [len(bag), len(await wait_for_signal("kept"))]

    async def test() -> None:
        url = f"sqlite:///{tmp_path}/x.db"
        async with Headrace(url, workflows=[again]) as hr:
            run = await hr.start(again, 0, text("b"))
            await hr.signal(run.id, "kept", text("k"))
            await hr.signal(run.id, "go")
            assert await run.result() == [2 * LARGE, LARGE]
            for row in await hr.runs(workflow="again"):
                await assert_small(hr, row.run_id)

    play(test)


def test_one_run_sends_another_a_large_signal(tmp_path: Path) -> None:
    @workflow
    async def receiver() -> int:
        return len(await wait_for_signal("news"))

    @workflow
    async def sender(run_id: str) -> None:
        await signal_run(run_id, "news", text("n"))

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[receiver, sender]) as hr:
            to = await hr.start(receiver)
            run = await hr.start(sender, to.id)
            await run.result()
            assert await to.result() == LARGE
            await assert_small(hr, run.id)
            await assert_small(hr, to.id)

    play(test)


def test_a_value_that_is_lost_suspends_the_run_until_it_is_back(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    artifacts = tmp_path / "x.db.files" / "artifacts"

    @workflow
    async def waiting() -> int:
        made = await make("t")
        await wait_for_signal("go")
        return len(made["made"])

    async def test() -> None:
        async with Headrace(url, workflows=[waiting]) as hr:
            run = await hr.start(waiting)
            while len(await history(hr, run.id)) < 2:
                await asyncio.sleep(0.005)
        assert artifacts.is_dir()
        shutil.move(artifacts, tmp_path / "away")
        async with Headrace(url, workflows=[waiting]) as hr:
            view = await hr.show(run.id)
            assert view.state == "suspended"
            assert "a large value cannot be read" in (view.reason or "")
        shutil.move(tmp_path / "away", artifacts)
        async with Headrace(url, workflows=[waiting]) as hr:
            await hr.resume(run.id)
            await hr.signal(run.id, "go")
            assert await (await hr.get(run.id)).result() == LARGE

    play(test)


@pytest.mark.parametrize(
    "value", [{"$ref": "#/definitions/x"}, {"$ref": "a", "bytes": "b"}, {"$ref": "a", "b": 1, "bytes": 2}]
)
def test_a_mapping_that_only_looks_like_a_reference_is_a_value(value: dict[str, Any], tmp_path: Path) -> None:
    @task
    async def schema() -> dict[str, Any]:
        return value

    @workflow
    async def code(given: Any) -> Any:
        return [given, await schema(), await wait_for_signal("s")]

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[code]) as hr:
            run = await hr.start(code, value)
            await hr.signal(run.id, "s", value)
            assert await run.result() == [value] * 3

    play(test)


def test_what_is_short_stays_in_the_history(tmp_path: Path) -> None:
    @workflow
    async def code(a: str, b: str) -> int:
        return len(a) + len(b)

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[code]) as hr:
            run = await hr.start(code, text("a"), "short")
            await run.result()
            created = (await history(hr, run.id))[0]
            assert isinstance(created, ev.RunCreated)
            assert created.params["b"] == "short"
            assert set(created.params["a"]) == {"$ref", "bytes"}

    play(test)


LOOKS_LIKE_ONE: list[Any] = [
    {"$ref": "sha256:abc", "bytes": 3},  # a manifest's entry
    {"$ref": "ab" * 32, "bytes": 3},  # copied from a stored history
    {"files": [{"$ref": "cd" * 32, "bytes": 5}]},
]


@task
async def entry(number: int) -> Any:
    return LOOKS_LIKE_ONE[number]


@task
async def same(value: Any) -> bool:
    return value in LOOKS_LIKE_ONE


def test_outputs_that_look_like_references_are_values(tmp_path: Path) -> None:
    """A reader of the history would look for what they name, find nothing, and never get past it."""
    url = f"sqlite:///{tmp_path}/x.db"

    with dag("graph") as graph:
        for number in range(len(LOOKS_LIKE_ONE)):
            same(entry.options(id=f"entry{number}")(number))
        entry.options(id="last")(1)

    @workflow
    async def code(given: Any) -> list[Any]:
        seen = [given, await entry(0), await entry(1), await entry(2)]
        return [*seen, await wait_for_signal("end")]

    async def test() -> None:
        async with Headrace(url, workflows=[graph, code]) as hr:
            run = await hr.start(code, LOOKS_LIKE_ONE[1])
            assert await hr.run(graph) is not None
        async with Headrace(url, workflows=[graph, code]) as hr:
            await hr.signal(run.id, "end")
            first, second, third = LOOKS_LIKE_ONE
            assert await (await hr.get(run.id)).result() == [second, first, second, third, None]
            (done,) = await hr.runs(workflow="graph")
            output = await (await hr.get(done.run_id)).result()
            assert output == {"same": True, "same_2": True, "same_3": True, "last": second}
            view = await hr.show(done.run_id)
            outputs = [await hr.value(view.tasks[f"entry{number}"].output) for number in range(3)]
            assert outputs == LOOKS_LIKE_ONE

    play(test)


@workflow
async def listening() -> list[Any]:
    @update
    def put(value: Any) -> Any:
        return [value in LOOKS_LIKE_ONE, value]

    return [await wait_for_signal("one"), await wait_for_signal("two"), await wait_for_signal("three")]


@workflow
async def telling(run_id: str) -> Any:
    await signal_run(run_id, "three", LOOKS_LIKE_ONE[1])


def test_signals_updates_and_results_that_look_like_references_are_values(tmp_path: Path) -> None:
    """Here and through the inbox of another node."""
    url = f"sqlite:///{tmp_path}/x.db"
    made = dag("made", params={"entry": LOOKS_LIKE_ONE[1]})
    made.run("a", "echo 1")
    made.output = {"given": "{{ params.entry }}", "many": ["{{ params.entry }}"]}
    none = dag("none", params={"entry": LOOKS_LIKE_ONE[1]})
    none.run("a", "echo 1", when=False)
    none.output = "{{ params.entry }}"

    @workflow
    async def parent() -> Any:
        return await start_child(made)

    async def test() -> None:
        definitions = [made, none, listening, telling, parent]
        second = LOOKS_LIKE_ONE[1]
        async with Headrace(url, workflows=definitions) as hr, Headrace(url, workflows=definitions) as other:
            result = {"given": second, "many": [second]}
            for graph, expected in ((made, result), (none, second)):
                run = await hr.run(graph)
                assert await run.result() == expected
                assert await (await other.get(run.id)).result() == expected
                assert await other.value((await other.show(run.id)).output) == expected
            assert await (await hr.start(parent)).result() == result
            run = await hr.start(listening)
            for client in (hr, other):
                assert await client.update(run.id, "put", second) == [True, second]
            await hr.signal(run.id, "one", second)
            await other.signal(run.id, "two", second)
            await other.start(telling, run.id)
            assert await run.result() == [second, second, second]

    play(test)
