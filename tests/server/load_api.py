"""How many runs a second ``POST /runs`` starts: a sketch to read figures from, not a test.

    python tests/server/load_api.py [SECONDS] [CLIENTS]

A node and its server in one process on SQLite, the clients in another. Each client has one connection and posts one run of a
workflow of one task after the other; the runs are carried out meanwhile. Prints requests per second and the latencies.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parent))

from api_rig import TOKENS, rig

from headrace import task, workflow


@task
async def nothing() -> None:
    pass


@workflow
async def one_task() -> None:
    await nothing()


async def client(url: str, seconds: float, clients: int) -> None:
    body = {"workflow": "one_task"}
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def post() -> None:
        headers = {"Authorization": f"Bearer {TOKENS['operator']}"}
        async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=60) as http:
            while (begun := time.perf_counter()) < until:
                got = await http.post(f"{url}/api/v1/runs", json=body)
                assert got.status_code == 201, got.text
                took.append(time.perf_counter() - begun)

    await asyncio.gather(*(post() for _ in range(clients)))
    took.sort()
    print(
        f"{clients} clients: {len(took) / seconds:,.0f} requests/s,"
        f" p50 {took[len(took) // 2] * 1000:.1f} ms, p95 {took[len(took) * 95 // 100] * 1000:.1f} ms"
    )


async def serve(seconds: float, clients: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with rig(Path(folder)) as one:
            await one.hr.register(one_task)
            arguments = [sys.executable, __file__, "client", one.url, str(seconds), str(clients)]
            process = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE)
            said, _ = await process.communicate()
            print(
                said.decode().strip(), f"; {len(await one.hr.runs(limit=100_000, states=('succeeded',))):,} runs ended"
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["client"]:
        asyncio.run(client(sys.argv[2], float(sys.argv[3]), int(sys.argv[4])))
    else:
        asyncio.run(serve(float((sys.argv[1:] or ["5"])[0]), int((sys.argv[2:] or ["16"])[0])))
