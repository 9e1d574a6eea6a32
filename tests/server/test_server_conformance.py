"""The worker protocol over real HTTP, in front of real stores."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace import Headrace, RunCancelled, RunFailed

pytest.register_assert_rewrite("headrace.testing.server_conformance", "headrace.testing.server_lock_conformance")

from postgres_server import PostgresServer  # noqa: E402

from headrace.server.listener import Listener  # noqa: E402
from headrace.testing.server_conformance import QUEUE, ServerConformance, Worker, result  # noqa: E402
from headrace.testing.server_lock_conformance import ServerLockConformance  # noqa: E402

TOKEN = "0123456789abcdef0123456789abcdef"


class HeadracePlace:
    """An engine and its server in the test's process."""

    def __init__(self, store: str, folder: Path) -> None:
        self.token = TOKEN
        self._store = store
        self._folder = folder
        self._listen = "127.0.0.1:0"
        self._runs = 0

    async def open(self) -> None:
        self.listener = Listener(self._listen, TOKEN, lease_seconds=60)
        self._listen = self.listener.address
        self.url = f"http://{self._listen}"
        self.hr = Headrace(self._store, data_dir=self._folder / "files")
        await self.hr.__aenter__()
        await self.listener.start(self.hr)

    async def close(self) -> None:
        await self.listener.stop()
        await self.hr.close()

    async def restart(self) -> None:
        await self.close()
        await self.open()

    async def start(self, tasks: Sequence[str], *, labels: dict[str, str] | None = None) -> str:
        self._runs += 1
        file = self._folder / f"far{self._runs}.yaml"
        needs = "".join(f"{name}: {value}, " for name, value in (labels or {}).items())
        lines = [f"  {name}: {{run: 'true', queue: {QUEUE}, needs_labels: {{{needs}}}}}" for name in tasks]
        file.write_text("\n".join([f"name: far{self._runs}", "tasks:", *lines, ""]))
        return (await self.hr.run(str(file))).id

    async def cancel(self, run_id: str) -> None:
        await (await self.hr.get(run_id)).cancel()

    async def ended(self, run_id: str) -> tuple[str, Any]:
        try:
            return "succeeded", await (await self.hr.get(run_id)).result()
        except RunFailed:
            return "failed", None
        except RunCancelled:
            return "cancelled", None


@asynccontextmanager
async def place(store: str, folder: Path) -> AsyncGenerator[HeadracePlace, None]:
    made = HeadracePlace(store, folder)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


def test_a_sticky_task_is_left_to_the_worker_that_carried_out_the_task_before_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with place(f"sqlite:///{tmp_path}/x.db", tmp_path) as there, httpx.AsyncClient(trust_env=False) as client:
            one, two = [await Worker(there, client).join(name) for name in ("one", "two")]
            file = tmp_path / "sticky.yaml"
            file.write_text(
                f"tasks:\n  a: {{run: 'true', queue: {QUEUE}}}\n"
                f"  b: {{run: 'true', queue: {QUEUE}, needs: a, sticky: true, prefer_for: 1h}}\n"
            )
            run = await there.hr.run(str(file))
            (claim,) = await one.claim()
            assert await one.complete(result(claim)) == ["recorded"]
            while [row.waiting for row in await there.hr.queues()] != [1]:
                await asyncio.sleep(0.01)
            assert await two.claim(wait=0) == []
            (claim,) = await one.claim(wait=0)
            assert await one.complete(result(claim)) == ["recorded"]
            await run.result()

    asyncio.run(asyncio.wait_for(test(), 60))


class TestOnSqlite(ServerConformance, ServerLockConformance):
    @pytest.fixture
    def open_place(self, tmp_path: Path) -> Callable[[], Any]:
        return lambda: place(f"sqlite:///{tmp_path}/x.db", tmp_path)


class TestOnPostgres(ServerConformance, ServerLockConformance):
    @pytest.fixture
    def open_place(self, tmp_path: Path, server_postgres: PostgresServer) -> Callable[[], Any]:
        url = server_postgres.url(more=f"?schema=t{uuid.uuid4().hex[:12]}")
        return lambda: place(url, tmp_path)
