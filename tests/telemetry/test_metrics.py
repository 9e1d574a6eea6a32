"""What a node tells of itself, and that refused things are counted."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from headrace import Headrace, dag, task
from headrace.contracts.ready import Outcome, outcome_kind
from headrace.core.ids import RunId, attempt_key
from headrace.telemetry.metrics import Metric, counter, exposition, flat, gauge

go = asyncio.Event()


@task
async def quick() -> str:
    return "done"


@task
async def held(_before: str) -> None:
    await go.wait()


def shown(hr: Headrace) -> dict[str, float]:
    return flat(hr.metrics())


def test_what_prometheus_reads_is_what_was_measured():
    measured = [
        counter("fenced", "Times.", 2),
        gauge("runs_live", "Runs.", 7),
        Metric("slots", "gauge", "Slots.", (({"executor": "thread"}, 8), ({"executor": "shell"}, 4))),
    ]
    families = {family.name: family for family in text_string_to_metric_families(exposition(measured).decode())}
    read = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert read == {
        ("headrace_fenced_total", ()): 2,
        ("headrace_runs_live", ()): 7,
        ("headrace_slots", ("thread",)): 8,
        ("headrace_slots", ("shell",)): 4,
    }
    assert families["headrace_fenced"].documentation == "Times."
    assert flat(measured)['headrace_slots{executor="thread"}'] == 8


def test_an_outcome_that_is_delivered_again_is_refused_and_counted(tmp_path):
    with dag("two") as two:
        held(quick())

    async def test() -> None:
        async with asyncio.timeout(60), Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[two]) as hr:
            run = await hr.run(two)
            while 'headrace_attempts_live{executor="inline"}' not in shown(hr) or len(await ends(hr, run.id)) < 1:
                await asyncio.sleep(0.01)
            assert shown(hr)["headrace_late_outcomes_refused_total"] == 0
            again = Outcome(kind="succeeded", task="quick", attempt=1, output="from a zombie")
            kind = outcome_kind(attempt_key(run.id, "quick", None, 1))
            for _ in range(2):
                await hr.store.post(RunId(run.id), kind, msgspec.to_builtins(again))
            hr._node.rung()
            while shown(hr)["headrace_late_outcomes_refused_total"] < 2:
                await asyncio.sleep(0.01)
            assert await ends(hr, run.id) == ["quick"]
            assert shown(hr)["headrace_runs_live"] == 1
            go.set()
            await run.result()
            assert (await hr.show(run.id)).tasks["quick"].output == "done"

    asyncio.run(test())


async def ends(hr: Headrace, run_id: str) -> list[Any]:
    events = [msgspec.json.decode(data) for _, data in await hr.store.history(RunId(run_id))]
    return [event["task"] for event in events if event["type"] == "task.succeeded"]
