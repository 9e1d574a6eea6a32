"""A node that serves the API over real HTTP on loopback, in the test's own process, and clients of several roles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from headrace import Headrace
from headrace.server.listener import Listener

TOKENS = {role: f"{role}-" + "t" * 32 for role in ("viewer", "operator", "author")}
WORKER, ADMIN = "w" * 32, "a" * 32
API_TOKENS = ", ".join(f"{role}:{token}" for role, token in TOKENS.items())

GREET = """\
name: greet
description: Says hello.
params:
  who: {type: str, default: world, description: To whom, min: 1, max: 20}
  times: {type: int, default: 1, min: 1, max: 5}
tasks:
  hello: {run: 'echo "hello {{ params.who }}"'}
  bye: {run: echo bye, needs: hello}
"""
HELD = """\
name: held
params: {gate: {type: str}}
tasks:
  wait: {run: 'while ! test -e "{{ params.gate }}"; do sleep 0.02; done; echo through'}
"""
FAILING = """\
name: failing
tasks:
  no: {run: exit 3}
"""


class Rig:
    """One node and its server. ``as_``: a client with the token of a role, or without one."""

    def __init__(self, hr: Headrace, listener: Listener, folder: Path) -> None:
        self.hr = hr
        self.listener = listener
        self.folder = folder
        self.url = f"http://{listener.address}"
        self._clients: dict[str | None, httpx.AsyncClient] = {}

    def as_(self, role: str | None) -> httpx.AsyncClient:
        if role not in self._clients:
            token = {**TOKENS, "worker": WORKER, "admin": ADMIN, "stranger": "x" * 32}.get(role or "")
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            self._clients[role] = httpx.AsyncClient(
                base_url=self.url + "/api/v1", headers=headers, timeout=60, trust_env=False
            )
        return self._clients[role]

    @property
    def viewer(self) -> httpx.AsyncClient:
        return self.as_("viewer")

    @property
    def operator(self) -> httpx.AsyncClient:
        return self.as_("operator")

    @property
    def author(self) -> httpx.AsyncClient:
        return self.as_("author")

    async def store(self, text: str) -> None:
        file = self.folder / "stored.yaml"
        file.write_text(text)
        await self.hr.register(str(file))

    async def start(self, workflow: str = "greet", wait: str = "20s", **body: Any) -> dict[str, Any]:
        got = await self.operator.post("/runs", params={"wait": wait}, json={"workflow": workflow, **body})
        assert got.status_code in (200, 201), got.text
        return got.json()

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()


@asynccontextmanager
async def rig(folder: Path, *, store: str | None = None, **options: Any) -> AsyncIterator[Rig]:
    listening = {"admin_tokens": ADMIN, "api_tokens": API_TOKENS} | options.pop("listening", {})
    listener = Listener("127.0.0.1:0", WORKER, lease_seconds=60, **listening)
    async with Headrace(store or f"sqlite:///{folder}/x.db", **options) as hr:
        await listener.start(hr)
        made = Rig(hr, listener, folder)
        try:
            yield made
        finally:
            await made.close()
            await listener.stop()


def serve(folder: Path, test: Callable[[Rig], Awaitable[None]], **options: Any) -> None:
    """Run a test against a server of its own."""

    async def served() -> None:
        async with rig(folder, **options) as made:
            for text in (GREET, HELD, FAILING):
                await made.store(text)
            await test(made)

    asyncio.run(asyncio.wait_for(served(), 90))
