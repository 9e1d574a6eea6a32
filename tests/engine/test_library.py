"""What the library keeps of a definition."""

import asyncio

from headrace import Headrace
from headrace.core.spec import TaskSpec, WorkflowSpec


def test_a_stored_run_shows_its_tasks_in_the_order_of_the_definition(tmp_path):
    url = f"sqlite:///{tmp_path}/order.db"
    names = ["wash", "chop", "boil", "eat"]
    tasks = {name: TaskSpec(id=name, kind="run", config={"command": "true"}) for name in names}
    spec = WorkflowSpec(name="meal", tasks=tasks)

    async def begin():
        async with Headrace(url) as hr:
            run = await hr.run(spec)
            await run.result(60)
            return run.id

    async def look(run_id):
        async with Headrace(url) as hr:
            return list((await hr.show(run_id)).tasks)

    assert asyncio.run(look(asyncio.run(begin()))) == names
