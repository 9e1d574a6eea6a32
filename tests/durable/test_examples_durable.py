"""Every example of a code workflow: on virtual time, with a crash at every point of it, and as a user would run it."""

import asyncio
import hashlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headrace import Compression, Encryption, RunFailed, UpdateRejected
from headrace.testing import Environment, EnvironmentRun

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "durable"
EXAMPLES = sorted(file.stem for file in FOLDER.glob("*.py"))


def example(name: str) -> ModuleType:
    """The example as a fresh module: nothing of another test is in its books."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def play(scenario: Callable[[Environment], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with Environment(**options) as env:
            await scenario(env)

    asyncio.run(main())


# ---- as a user would run it ------------------------------------------------------------------------------------------------

SHOWN = {
    "approval": "manager: please decide on budget.pdf",
    "cluster_manager": "1 machines were asked for, 0 are free",
    "encryption": "Ada Lovelace: in good health\nsucceeded\nPayloadSealed",
    "expense": "paid 980, approved by Grace",
    "interpreter": "Good morning ADA",
    "order_saga": "{'stock': ['order-good'], 'payments': ['order-good'], 'parcels': ['order-good']}",
    "polling": "what is polled periodically is ready after 5 looks",
    "pool_of_children": "{'total': 40256, 'failed': 1}",
    "release": "release-1.0.zip: 3 files",
    "self_schedule": "[1, 2, 3, 4, 5]",
    "tracing": "attempt 2 of charge",
    "subscription": "'plan': 'basic', 'month': 3",
}


def test_every_example_is_run() -> None:
    assert set(EXAMPLES) == set(SHOWN)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_program_runs(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", f"sqlite:///{tmp_path}/headrace.db"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert SHOWN[name] in done.stdout, done.stdout
    assert not done.stderr


# ---- what they do ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", ["reserve", "charge", "ship"])
def test_an_order_of_which_any_step_fails_leaves_nothing_behind(broken: str) -> None:
    shop = example("order_saga")

    async def scenario(env: Environment) -> None:
        with pytest.raises(RunFailed, match=f"refused to {broken}"):
            await env.run(shop.place_order, "o-1", broken)
        assert not any(shop.BOOKS.values())

    play(scenario, always_replay=True)


def test_a_request_without_an_answer_is_undone_too() -> None:
    shop = example("order_saga")

    async def scenario(env: Environment) -> None:
        env.hang(shop.charge, times=3)
        shop.BOOKS["payments"].add("o-1")  # the service had done it; only its answer was lost
        with pytest.raises(RunFailed, match="timeout"):
            await env.run(shop.place_order, "o-1")
        assert shop.BOOKS["stock"] == set()

    play(scenario)


def test_an_approval_reminds_escalates_and_gives_up() -> None:
    office = example("approval")

    async def scenario(env: Environment) -> None:
        run = await env.start(office.approve, "plan")
        await env.advance("2d 1h")
        assert [text.partition(":")[0] for text in office.SENT] == ["owner"] * 3
        await env.advance("1d")
        assert await run.query("waiting_for") == ["owner", "manager"]
        assert (await run.show()).details == "waiting for the manager"
        assert await run.result() == "nobody answered"
        assert env.now == datetime(2030, 1, 7, tzinfo=UTC)

    play(scenario, always_replay=True)


@pytest.mark.parametrize(("way", "pause", "took"), [("often", 1, 99), ("rarely", 300, 29_700)])
def test_polling_takes_its_time(way: str, pause: int, took: int) -> None:
    service = example("polling")

    async def scenario(env: Environment) -> None:
        begin = env.time
        assert await env.run(getattr(service, way), "job", 100, pause) == "job is ready"
        assert env.time - begin == pytest.approx(took, abs=1)

    play(scenario)


def test_polling_for_ever_keeps_its_histories_short() -> None:
    service = example("polling")

    async def scenario(env: Environment) -> None:
        run = await env.start(service.periodically, "job", 120)
        assert await run.result() == "job is ready"
        assert service.LOOKS["job"] == 120
        runs = await env.runs()
        assert len(runs) == 3
        assert max([len(await part.history()) for part in runs]) < 210
        assert env.now == datetime(2030, 1, 5, 23, tzinfo=UTC)

    play(scenario)


def test_a_program_is_interpreted_and_its_mistakes_are_named() -> None:
    language = example("interpreter")

    async def scenario(env: Environment) -> None:
        program = [
            {"all": [[{"wait": 3_600}], [{"call": "upper", "with": {"text": "$$a"}, "as": "x"}]]},
            {
                "if": "$none",
                "then": [{"wait": 1}],
                "else": [{"call": "join", "with": {"parts": ["$x", "b"]}, "as": "y"}],
            },
        ]
        assert (await env.run(language.interpret, program, {"none": None}))["y"] == "$A b"
        assert env.now == datetime(2030, 1, 1, 1, tzinfo=UTC)
        for wrong, message in (
            ({"call": "rm"}, "there is no task 'rm'; there are: join, upper"),
            ({"call": "upper", "with": {"text": "$y"}}, r"there is no variable \$y"),
            ({"do": 1}, "not a statement"),
        ):
            with pytest.raises(RunFailed, match=message):
                await env.run(language.interpret, [wrong], {})

    play(scenario, always_replay=True)


def test_a_cluster_gives_no_machine_out_twice() -> None:
    cluster = example("cluster_manager")

    async def scenario(env: Environment) -> None:
        async def slowly(job: str, machines: list[str]) -> None:
            await asyncio.sleep(60)

        env.stub(cluster.assign, slowly)
        run = await env.start(cluster.manage_cluster, 4)
        given = await asyncio.gather(*(run.update("allocate", f"job {number}", 2) for number in range(2)))
        assert sorted(machine for part in given for machine in part) == ["m0", "m1", "m2", "m3"]
        with pytest.raises(UpdateRejected, match="1 machines were asked for, 0 are free"):
            await run.update("allocate", "more", 1)
        with pytest.raises(UpdateRejected, match="count is 1 to 4, not 5"):
            await run.update("allocate", "more", 5)
        assert await run.update("release", "job 0") == 2
        late = asyncio.ensure_future(run.update("allocate", "late", 1))
        await asyncio.sleep(1)
        await run.signal("shut down")
        assert len(await late) == 1  # a request that was accepted is answered before the end
        assert sorted((await run.result()).values()) == ["job 1", "job 1", "late"]

    play(scenario, always_replay=True)


def test_a_pool_runs_so_many_children_at_once_and_no_more() -> None:
    pool = example("pool_of_children")
    at_once = most = 0

    async def work(item: int) -> int:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(60)
        at_once -= 1
        return 1

    async def scenario(env: Environment) -> None:
        env.stub(pool.square, work)
        assert await env.run(pool.all_items, 50, 7) == {"total": 50, "failed": 0}
        assert most == 7
        assert len(await env.runs("one_item")) == 50
        assert len(await env.runs("all_items")) == 3

    play(scenario)


def test_a_schedule_of_itself_keeps_its_times_and_changes_its_pace() -> None:
    schedule = example("self_schedule")

    async def scenario(env: Environment) -> None:
        async def slowly(number: int) -> None:
            schedule.REPORTS.append(env.now.hour + 24 * (env.now.day - 1))
            await asyncio.sleep(1_800)

        env.stub(schedule.report, slowly)
        run = await env.start(schedule.keep_reporting, 3_600.0, 5)
        await env.advance("2h 45m")
        newest = (await env.runs())[-1]
        await newest.signal("pace", 10 * 3_600)
        await run.wait()
        assert schedule.REPORTS == [0, 1, 2, 3, 13]

    play(scenario, always_replay=True)


def test_a_sealed_payload_is_nowhere_in_the_clear(tmp_path: Path) -> None:
    clinic = example("encryption")

    async def scenario(env: Environment) -> None:
        run = await env.start(clinic.examine, "Ada Lovelace")
        await run.signal("finding", "in good health")
        assert await run.result() == "Ada Lovelace: in good health"
        await env.assert_history(run, ["signal.received finding", "task.succeeded diagnose"])

    database = tmp_path / "clinic.db"
    play(scenario, store=f"sqlite:///{database}", codec=Encryption({"k": Encryption.new_key()}))
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
    assert b"diagnose" in stored
    assert b"Lovelace" not in stored
    assert b"good health" not in stored


def test_an_expense_waits_for_a_verdict() -> None:
    office = example("expense")

    async def scenario(env: Environment) -> None:
        assert await env.run(office.expense, office.Claim("small", 50.0, "")) == "paid 50, approved by rule"
        run = await env.start(office.expense, office.Claim("large", 51.0, ""))
        await env.advance("13d")
        assert (await run.show()).attributes == {"amount": 51.0, "status": "open"}
        await run.signal("verdict", {"approved": False, "by": "Grace", "comment": "no receipt"})
        assert await run.result() == "refused by Grace: no receipt"
        late = await env.start(office.expense, office.Claim("late", 51.0, ""))
        assert await late.result() == "refused by rule: nobody decided in time"
        assert office.PAID == {"small": 50.0}

    play(scenario, always_replay=True)


def test_a_subscription_lives_for_a_year() -> None:
    service = example("subscription")

    async def scenario(env: Environment) -> None:
        run = await env.start(service.subscription, "Ada")
        await env.advance("100d")
        assert await run.query("status") == {"plan": "basic", "month": 3, "paid": 15, "cancelled": False}
        with pytest.raises(UpdateRejected, match="there is no plan 'gold'; there are: basic, pro"):
            await run.update("change_plan", "gold")
        assert await run.update("change_plan", "pro") == 20
        assert await run.result() == {"months": 12, "paid": 3 * 5 + 9 * 20}
        assert env.now == datetime(2031, 1, 26, tzinfo=UTC)

    play(scenario)


def test_a_subscription_ends_when_it_is_cancelled_or_not_paid() -> None:
    service = example("subscription")

    async def scenario(env: Environment) -> None:
        run = await env.start(service.subscription, "Ada")
        await env.advance("50d")
        await run.signal("cancel")
        assert await run.result() == {"months": 1, "paid": 5}
        env.fail(service.bill, times=None)
        begin = env.now
        assert await env.run(service.subscription, "Bob") == {"months": 1, "paid": 0}
        assert (env.now - begin).days == 30 + 3 + 7 + 14

    play(scenario)


# ---- a crash at every point ------------------------------------------------------------------------------------------------

Drive = Callable[[Environment, EnvironmentRun], Awaitable[None]]


async def nothing(env: Environment, run: EnvironmentRun) -> None:
    pass


async def decide(env: Environment, run: EnvironmentRun) -> None:
    await env.advance("30h")
    await run.signal("decision", "approved")


async def greet(env: Environment, run: EnvironmentRun) -> None:
    await run.signal("greeting", "Hello")


async def use_cluster(env: Environment, run: EnvironmentRun) -> None:
    await run.update("allocate", "index", 2)
    await run.update("release", "index")
    await run.signal("shut down")


async def find(env: Environment, run: EnvironmentRun) -> None:
    await run.signal("finding", "well")


async def approve(env: Environment, run: EnvironmentRun) -> None:
    await run.signal("verdict", {"approved": True, "by": "Grace"})


def release_files(folder: Path) -> dict[str, str]:
    """What the release is made of."""
    sources = folder / "sources"
    sources.mkdir(exist_ok=True)
    (sources / "one.txt").write_text("one")
    return {"folder": str(sources), "version": "2", "target": str(folder / "out")}


async def agree(env: Environment, run: EnvironmentRun) -> None:
    await env.advance("30h")
    [waiting] = await env.runs("approval")
    await waiting.signal("decision", {"approved": True, "by": "Ada"})


def test_a_release_waits_for_a_person_and_is_published_once_approved(tmp_path: Path) -> None:
    of = example("release")

    async def scenario(env: Environment) -> None:
        run = await env.start_graph(of.release, release_files(tmp_path))
        await agree(env, run)
        published = Path(await run.result())
        assert published == tmp_path / "out" / "release-2.zip"
        note = published.with_name("release-2.zip.sha256").read_text()
        assert note == f"{hashlib.sha256(published.read_bytes()).hexdigest()}  release-2.zip\n# approved by Ada\n"
        assert [message.partition(" release-2")[0] for message in of.SENT] == [
            "release manager: please decide on",
            "release manager: still waiting for you:",
        ]
        run = await env.start_graph(of.release, {**release_files(tmp_path), "target": str(tmp_path / "other")})
        await env.settle()
        waiting = [one for one in await env.runs("approval") if (await one.show()).state == "running"]
        await waiting[0].signal("decision", {"approved": False, "by": "Ada"})
        with pytest.raises(RunFailed, match="refused by Ada"):
            await run.result()
        assert not (tmp_path / "other").exists()

    play(scenario)


async def change_plan(env: Environment, run: EnvironmentRun) -> None:
    await env.advance("45d")
    await run.update("change_plan", "pro")


CRASHED: dict[str, tuple[Callable[[ModuleType, Environment], Awaitable[EnvironmentRun]], Drive]] = {
    "order": (lambda of, env: env.start(of.place_order, "o-1"), nothing),
    "order that fails": (lambda of, env: env.start(of.place_order, "o-1", "ship"), nothing),
    "approval": (lambda of, env: env.start(of.approve, "plan"), decide),
    "polling often": (lambda of, env: env.start(of.often, "job", 4), nothing),
    "polling rarely": (lambda of, env: env.start(of.rarely, "job", 4), nothing),
    "polling for ever": (lambda of, env: env.start(of.periodically, "job", 4), nothing),
    "interpreter": (lambda of, env: env.start(of.interpret, of.GREETING, {"name": "Ada"}), greet),
    "cluster": (lambda of, env: env.start(of.manage_cluster, 3), use_cluster),
    "pool": (lambda of, env: env.start(of.all_items, 5, 2), nothing),
    "schedule": (lambda of, env: env.start(of.keep_reporting, 60.0, 4), nothing),
    "encryption": (lambda of, env: env.start(of.examine, "Ada"), find),
    "expense": (lambda of, env: env.start(of.expense, of.Claim("e", 99.0, "")), approve),
    "release": (lambda of, env: env.start_graph(of.release, release_files(of.PLACE)), agree),
    "tracing": (lambda of, env: env.start(of.order, "a kettle", 35), None),
    "subscription": (lambda of, env: env.start(of.subscription, "Ada", months=1), change_plan),
}
FILES = {
    "order": "order_saga",
    "order that fails": "order_saga",
    "polling often": "polling",
    "polling rarely": "polling",
    "polling for ever": "polling",
    "cluster": "cluster_manager",
    "pool": "pool_of_children",
    "schedule": "self_schedule",
}

BOOKS = ("SENT", "LOOKS", "ASSIGNED", "REPORTS", "PAID", "LEDGER", "DONE", "SPANS")
"""Where examples keep what they did to the world."""


def test_every_example_is_crashed() -> None:
    assert {FILES.get(name, name) for name in CRASHED} == set(EXAMPLES)


@pytest.mark.parametrize("name", CRASHED)
def test_a_crash_at_any_point_changes_nothing(name: str, tmp_path: Path) -> None:
    """Same result, same ledger; a task's code runs again only if its outcome was lost with the engine."""
    start, drive = CRASHED[name]
    module = example(FILES.get(name, name))

    module.PLACE = tmp_path
    if name == "pool":
        module.ITEMS_PER_RUN = 3

    def reset() -> None:
        books = [getattr(module, book) for book in BOOKS if hasattr(module, book)]
        for book in [*books, *getattr(module, "BOOKS", {}).values()]:
            book.clear()

    async def scenario(env: Environment) -> None:
        report = await env.crash_everywhere(lambda env: start(module, env), drive, reset=reset)
        assert report.scenarios == 2 * report.flushes + 2
        assert report.crashes > report.flushes

    codec = [Compression(), Encryption({"k": Encryption.new_key()})] if name == "encryption" else None
    interceptors = [module.Tracing()] if name == "tracing" else []
    play(scenario, codec=codec, store="sqlite://", interceptors=interceptors)


# ---- what the documentation shows ------------------------------------------------------------------------------------------

ROOT = FOLDER.parents[1]


def code_of(page: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), flags=re.M | re.S)


def test_the_code_in_the_readme_runs() -> None:
    [block] = [block for block in code_of("README.md") if "@workflow" in block]
    done: list[str] = []
    source = f"{block}\n@task\nasync def reserve(order: str) -> None: ...\n"
    source += (
        "\n@task\nasync def release(order: str) -> None: ...\n\n@task\nasync def refund(receipt: str) -> None: ...\n"
    )
    page: dict[str, Any] = {"asyncio": asyncio, "__name__": "readme"}
    exec(compile(source, "README.md", "exec"), page)

    async def scenario(env: Environment) -> None:
        env.stub(page["charge"], lambda order: f"receipt for {order}")
        for name in ("reserve", "release", "refund"):
            env.stub(page[name], lambda what, name=name: done.append(f"{name} {what}"))
        run = await env.start(page["place_order"], "A")
        await env.advance("13d")
        await run.signal("delivered")
        assert await run.result() == "receipt for A"
        assert done == ["reserve A"]
        with pytest.raises(RunFailed, match="TimeoutError"):
            await env.run(page["place_order"], "B")
        assert done[1:] == ["reserve B", "refund receipt for B", "release B"]

    play(scenario)


def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    first, changed, test = code_of("docs/tutorial/first-code-workflow.md")
    (tmp_path / "orders.py").write_text(first.replace("sleep(10)", "sleep(0.1)"))

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert run("orders.py", "A-1") == "charging A-1\nshipping A-1\nreceipt for A-1\n"
    head, _, rest = first.partition("@workflow")
    imports, _, body = changed.partition("\n\n\n")
    (tmp_path / "orders.py").write_text(
        f"{imports}\n{head}{body}\n\nasync def main{rest.partition('async def main')[2]}"
    )
    (tmp_path / "test_orders.py").write_text(test)
    assert "1 passed" in run("-m", "pytest", "-p", "no:cacheprovider", "test_orders.py")
