"""A program without an event loop can ask a code workflow everything that others can."""

from pathlib import Path

import pytest

from headrace import AlreadyRunning, RunFailed, UpdateRejected, query, update, wait_for_signal, workflow
from headrace.sync import Headrace


@workflow
async def cart(owner: str) -> list[str]:
    items: list[str] = []

    @query
    def state() -> list[str]:
        return [owner, *items]

    @update
    async def add(item: str) -> int:
        items.append(item)
        return len(items)

    @add.validator
    def _(item: str) -> None:
        if item in items:
            raise ValueError("it is there already")

    items.append(await wait_for_signal("last"))
    return items


def test_messages_and_keys(tmp_path: Path) -> None:
    with Headrace(f"sqlite:///{tmp_path}/headrace.db") as hr:
        assert hr.find("cart", "ada") is None
        run = hr.run(cart, {"owner": "Ada"}, key="ada", tags={"shop": "1"}, attributes={"level": 3}, memo={"note": "n"})
        with pytest.raises(AlreadyRunning):
            hr.run(cart, {"owner": "Ada"}, key="ada")
        assert hr.run(cart, {"owner": "Ada"}, key="ada", on_conflict="use_existing").id == run.id
        assert [row.run_id for row in hr.runs(where="level = 3 and tag.shop = '1'")] == [run.id]
        assert run.update("add", "pear", update_id="1") == 1
        assert hr.update_with_start(cart, {"owner": "Ada"}, "add", "pear", key="ada", update_id="1") == 1
        with pytest.raises(UpdateRejected, match="it is there already"):
            run.update("add", item="pear")
        assert run.query("state") == ["Ada", "pear"]
        run.signal("last", "plum")
        assert run.result() == ["pear", "plum"]
        found = hr.find("cart", "ada")
        assert found is not None
        assert found.id == run.id
        with pytest.raises(AlreadyRunning):
            hr.signal_with_start(cart, {"owner": "Ada"}, key="ada", name="last", on_reuse="reject")
        assert hr.signal_with_start(cart, {"owner": "Bo"}, key="bo", name="last", payload="fig").result() == ["fig"]
        other = hr.start(cart, "Cy")
        other.terminate("enough")
        with pytest.raises(RunFailed, match="terminated: enough"):
            other.result()
