"""What a task does to its arguments stays with the task."""

import asyncio

from headrace import Headrace, dag, task

CONSTANT = {"names": ["a"]}


@task
async def make() -> list:
    return [{"n": 1}]


@task
async def spoil(rows: list, options: dict) -> int:
    rows.append("spoilt")
    rows[0]["n"] = 99
    options["names"].append("b")
    return len(options["names"])


@task
def spoil_in_a_thread(rows: list) -> int:
    rows.clear()
    return 0


with dag("arguments") as graph:
    rows = make()
    first = spoil(rows, CONSTANT)
    other = spoil_in_a_thread(rows)
    with_both = spoil.options(id="again", needs=[first, other])(rows, CONSTANT)


def test_a_task_changes_only_its_own_copy(tmp_path):
    async def run():
        async with Headrace(f"sqlite:///{tmp_path}/x.db") as hr:
            return await (await hr.run(graph)).wait(60)

    view = asyncio.run(run())
    assert view.state == "succeeded", view.error
    assert view.tasks["make"].output == [{"n": 1}]
    assert view.tasks["spoil"].output == view.tasks["again"].output == 2
