"""Records a history of every feature of workflow code, for later versions to replay.

``python tests/durable/record_code_histories.py v0.1`` writes ``histories/v0.1-<feature>.jsonl`` for the features that have no
recording of that version yet, as ``headrace runs history RUN -o jsonl`` would: one file for each run of workflow code.
What they refer to in the artifact store is in ``<file>.blobs.json``. A recording is never written anew.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sys
import tempfile
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import recorded_workflows as of

from headrace import Headrace, UpdateRejected
from headrace.core.ids import RunId
from headrace.testing import Environment

FOLDER = Path(__file__).parent / "histories"
HERE = f"{Path(__file__).resolve().parents[2]}/".encode()
"""Where the recorder ran is of no interest."""
DIGEST = re.compile(rb'"[0-9a-f]{64}"')

Scenario = Callable[[Environment], Awaitable[Any]]
SCENARIOS: dict[str, Scenario] = {}


def records(scenario: Scenario) -> Scenario:
    """A feature, named like its function."""
    SCENARIOS[scenario.__name__.replace("_", "-")] = scenario
    return scenario


def runs(name: str, workflow: Any, *args: Any) -> None:
    """A feature that needs nothing but its workflow."""

    async def scenario(env: Environment) -> None:
        await env.run(workflow, *args)

    SCENARIOS[name] = scenario


runs("tasks-and-retries", of.tasks_and_retries)
runs("timers", of.timers)
runs("clocks-and-chance", of.clocks_and_chance)
runs("asyncio-constructs", of.asyncio_constructs)
runs("database", of.database)
runs("attributes", of.attributes)
runs("cancels-a-child", of.cancels_a_child)
runs("tried-again", of.tried_again)
runs("compensated", of.compensated)
runs("patched-before", of.before_the_patch)
runs("patched-after", of.patched_later)
runs("patch-deprecated", of.still_patched)


@records
async def large_value(env: Environment) -> None:
    run = await env.start(of.large_value, 20_000)
    await env.settle()
    await run.signal("large", "x" * 70_000)
    await run.result()


@records
async def completed_from_outside(env: Environment) -> None:
    run = await env.start(of.completed_from_outside)
    await env.settle()
    await env.ask(lambda hr: hr.heartbeat(of.TOKENS["yes or no"], "asked her"))
    await env.ask(lambda hr: hr.complete(of.TOKENS["yes or no"], "yes"))
    await env.settle()
    await env.ask(lambda hr: hr.fail(of.TOKENS["why"], "nobody knows", retryable=False))
    await run.result()


@records
async def messages(env: Environment) -> None:
    options = {"key": "talk-1", "tags": {"team": "data"}, "attributes": {"size": 1}, "memo": {"why": "recording"}}
    run = await env.start(of.messages.options(**options))
    await env.settle()
    await env.run(of.sends, run.id)
    await env.settle()
    await run.signal("tell", "hello")
    await run.signal("ring")
    assert await run.update("add", "one") == 3
    for wrong in (("add", ""), ("refuse",)):
        try:
            await run.update(*wrong)
        except UpdateRejected:
            continue
        raise AssertionError(wrong)
    assert await run.query("heard_so_far") == [10, "ring", "one"]
    await run.signal("last", [1, 2])
    await run.update("add", "two")
    await run.result()


@records
async def started_by_a_signal(env: Environment) -> None:
    run = await env.ask(lambda hr: hr.signal_with_start(of.messages, key="talk-2", name="early", payload=1))
    await env.settle()
    await env.ask(lambda hr: hr.terminate(run.id, "recorded"))


@records
async def children(env: Environment) -> None:
    await env.run(of.children)
    await env.settle()


@records
async def begins_anew(env: Environment) -> None:
    run = await env.start(of.begins_anew)
    await run.signal("kept", "for the last one")
    await run.wait()


@records
async def cancelled(env: Environment) -> None:
    run = await env.start(of.cleans_up)
    await env.settle()
    await run.cancel("enough")
    await run.wait()


@records
async def done_again(env: Environment) -> None:
    run = await env.start(of.done_again.options(key="again"))
    await env.settle()
    await run.signal("note", "kept")
    await run.wait()
    reset = await env.ask(lambda hr: hr.reset(run.id, to_event=3, reason="better this time"))
    await env.until_ended(reset.id)
    fork = await env.ask(lambda hr: hr.fork(run.id, to_task="double"))
    await env.settle()
    await env.ask(lambda hr: hr.signal(fork.id, "note", "other"))
    await env.until_ended(fork.id)


@records
async def suspended(env: Environment) -> None:
    of.SWITCH["blocks"] = True
    run = await env.start(of.suspended)
    await env.settle()
    of.SWITCH["blocks"] = False
    await run.resume()
    await run.result()


@records
async def paused(env: Environment) -> None:
    run = await env.start(of.paused)
    await env.ask(lambda hr: hr.pause(run.id, "lunch"))
    await env.advance("2h")
    await run.resume()
    await run.result()


@records
async def intercepted(env: Environment) -> None:
    run = await env.start(of.intercepted)
    await env.advance("1m")
    await run.update("add", "x")
    await run.signal("go", 1)
    await run.result()


@records
async def task_of_a_graph(env: Environment) -> None:
    run = await env.start_graph(of.around, {"x": 4})
    await env.advance("1h 1m")
    await env.advance("1h 1m")
    [waiting] = [one for one in await env.runs("task_of_a_graph") if (await one.show()).state == "running"]
    await waiting.signal("go", "now")
    assert (await run.result())[3] == "now"


async def interrupted(folder: Path) -> dict[str, list[bytes]]:
    """On real time: an engine that stops in an orderly way while an attempt is under way."""
    url = f"sqlite:///{folder}/x.db"
    of.SWITCH["hangs"] = True
    async with Headrace(url, workflows=[of.interrupted], node="recorder") as hr:
        run = await hr.start(of.interrupted, 5)
        while len(await hr.history(run.id)) < 2:
            await asyncio.sleep(0.05)
    of.SWITCH["hangs"] = False
    async with Headrace(url, workflows=[of.interrupted], node="recorder") as hr:
        await (await hr.get(run.id)).wait()
        return {"": [data for _, data in await hr.store.history(RunId(run.id))]}


async def elsewhere(folder: Path) -> dict[str, list[bytes]]:
    """On real time: an attempt that another engine carries out."""
    url = f"sqlite:///{folder}/x.db"
    of.SWITCH["hangs"] = True
    async with (
        Headrace(url, workflows=[of.elsewhere], node="recorder") as hr,
        Headrace(url, node="far", adopt=False, pull=True, queues=("far",)),
    ):
        run = await hr.start(of.elsewhere, 5)
        while len(await hr.history(run.id)) < 2:
            await asyncio.sleep(0.05)
        of.SWITCH["hangs"] = False
        assert await run.result() == 15
        return {"": [data for _, data in await hr.store.history(RunId(run.id))]}


REAL = {"interrupted": interrupted, "elsewhere": elsewhere}
"""Features that need real time."""


async def play(feature: str, scenario: Scenario) -> tuple[dict[str, list[bytes]], dict[str, str]]:
    """The histories of a scenario's runs of workflow code by the end of their names, and the blobs they refer to."""
    store = "sqlite://" if feature == "database" else "memory://"
    interceptors = of.INTERCEPTORS.get(feature, [])
    histories: dict[str, list[bytes]] = {}
    blobs: dict[str, str] = {}
    async with Environment(store, interceptors=interceptors, always_replay=True) as env:
        await scenario(env)
        await env.settle()
        for run in await env.runs():
            stored = [data for _, data in await env.headrace.store.history(RunId(run.id))]
            if json.loads(stored[0])["workflow"] not in of.WORKFLOWS:
                continue
            histories[f".{len(histories) + 1}" if histories else ""] = stored
            for digest in (found.decode().strip('"') for data in stored for found in DIGEST.findall(data)):
                blob = env.headrace._node.artifacts.get(digest)
                blobs[digest] = base64.b64encode(zlib.compress(blob, 9)).decode()
    return histories, blobs


async def main(version: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    for feature in [*SCENARIOS, *REAL]:
        if (FOLDER / f"{version}-{feature}.jsonl").exists():
            continue
        if feature in REAL:
            with tempfile.TemporaryDirectory() as folder:
                histories, blobs = await REAL[feature](Path(folder)), dict[str, str]()
        else:
            histories, blobs = await play(feature, SCENARIOS[feature])
        for end, stored in histories.items():
            (FOLDER / f"{version}-{feature}{end}.jsonl").write_bytes(b"\n".join(stored).replace(HERE, b"") + b"\n")
        if blobs:
            (FOLDER / f"{version}-{feature}.blobs.json").write_text(json.dumps(blobs, indent=1) + "\n")
        print(f"{version}-{feature}: {len(histories)} histories")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
