"""A worker's source of attempts, behind a proxy that loses answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

from headrace import Headrace
from headrace.contracts import remote as wire
from headrace.contracts.ready import Beat, Result
from headrace.core.errors import ServerUnavailable
from headrace.engine.holding import Holding
from headrace.server.listener import Listener
from headrace.worker.link import Link
from headrace.worker.locks import ServerLocks
from headrace.worker.source import ServerSource

TOKEN = "0123456789abcdef0123456789abcdef"
FLOW = "name: far\ntasks:\n  a: {run: 'true', queue: far}\n"


class LosingProxy:
    """Passes requests on; of those whose path ends in ``loses`` the answer is read and thrown away."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self.loses = ""
        self.lost = 0

    async def __aenter__(self) -> LosingProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(next(line.split(b":")[1] for line in head.lower().splitlines() if b"content-length" in line))
        body = await reader.readexactly(length)
        there, back = await asyncio.open_connection(self._host, self._port)
        lines = [line for line in head.split(b"\r\n")[:-2] if not line.lower().startswith(b"connection")]
        back.write(b"\r\n".join([*lines, b"Connection: close", b"", b""]) + body)
        answer = await there.read()
        back.close()
        if self.loses and head.split(b" ")[1].decode().endswith(self.loses):
            self.lost += 1
        else:
            writer.write(answer)
        writer.close()


def source_of(link: Link) -> ServerSource:
    holding = Holding(ServerLocks(link), 15.0)
    return ServerSource(link, wire.Join(queues=("far",)), holding, woken=lambda: None, lost=lambda: None)


def test_what_was_claimed_with_an_answer_that_was_lost_is_found(tmp_path: Path) -> None:
    async def test() -> None:
        file = tmp_path / "far.yaml"
        file.write_text(FLOW)
        listener = Listener("127.0.0.1:0", TOKEN, lease_seconds=60)
        async with Headrace(f"sqlite:///{tmp_path}/x.db") as hr, LosingProxy(listener.address) as proxy:
            await listener.start(hr)
            link = Link([proxy.url], TOKEN)
            source = source_of(link)
            await source.join()
            run = await hr.run(str(file))
            proxy.loses = "/claim"
            for _ in range(2):  # the second asks what it has first, and that is where the attempt is
                try:
                    claims = await source.claim({"shell": 1})
                except ServerUnavailable:
                    proxy.loses = ""
            (one,) = claims
            assert proxy.lost == 1
            assert (one.key, one.delivery) == (f"{run.id}/a/1", 1)

            outcome = {"kind": "succeeded", "task": "a", "attempt": 1, "output": 7}
            proxy.loses = "/complete"
            try:
                await source.complete([Result(one.key, one.delivery, outcome)])
            except ServerUnavailable:
                proxy.loses = ""
            assert await source.complete([Result(one.key, one.delivery, outcome)]) == 1  # it was recorded before
            assert await run.result() == {"a": 7}
            await source.leave()
            await link.close()
            await listener.stop()

    asyncio.run(asyncio.wait_for(test(), 100))


def test_a_worker_that_stops_gives_back_what_a_lost_answer_brought(tmp_path: Path) -> None:
    async def test() -> None:
        file = tmp_path / "far.yaml"
        file.write_text(FLOW)
        listener = Listener("127.0.0.1:0", TOKEN, lease_seconds=60)
        async with Headrace(f"sqlite:///{tmp_path}/x.db") as hr, LosingProxy(listener.address) as proxy:
            await listener.start(hr)
            link = Link([proxy.url], TOKEN)
            source = source_of(link)
            await source.join()
            await hr.run(str(file))
            proxy.loses = "/claim"
            try:
                await source.claim({"shell": 1})
            except ServerUnavailable:
                proxy.loses = ""
            (row,) = await hr.queues()
            assert (row.waiting, row.claimed) == (0, 1)
            await source.stop_claiming()
            (row,) = await hr.queues()
            assert (row.waiting, row.claimed) == (1, 0)
            assert await source.claim({"shell": 1}) == []
            await source.give_back([Beat("nothing", 1)])
            await source.leave()
            await link.close()
            await listener.stop()

    asyncio.run(asyncio.wait_for(test(), 100))
