"""Three nodes in processes of their own, on one PostgreSQL: started, killed, stopped and started again."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from postgres_server import PostgresServer

from headrace.backends.stores.postgres import PostgresStore

PROGRAM = Path(__file__).with_name("cluster_node.py")
UP_SECONDS_MAX = 90.0
SETTLE_SECONDS_MAX = 90.0
LEASE_SECONDS = 2.0
PLACES = 3
UNAVAILABLE = 69
"""How a node's process ends that cannot reach the database when it starts."""

WITNESS = """
CREATE TABLE {schema}.witness (run_id text, seq integer, node text, owner text, at double precision);
CREATE FUNCTION {schema}.bear_witness() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {schema}.witness
        SELECT run_id, seq, current_setting('soak.node', true), owner, extract(epoch FROM clock_timestamp())
        FROM written LEFT JOIN {schema}.runs USING (run_id);
    RETURN NULL;
END $$;
CREATE TRIGGER witness AFTER INSERT ON {schema}.events REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.bear_witness();
"""
"""The database itself notes who writes each event, and who owns the run at that moment: what the engine's own fence says
is not asked."""


class Place:
    """Where one node after the other lives. Each has a name of its own: a restart is not to end its own lease early."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.lives = 0
        self.name = ""
        self.process: subprocess.Popen[bytes] | None = None
        self.suspended = False
        self.busy = False
        """Something is being done to it."""


class Cluster:
    """``port``: where the nodes find the database; it may be something that breaks. ``options`` are the nodes'."""

    def __init__(self, server: PostgresServer, folder: Path, *, port: int | None = None, **options: Any) -> None:
        self.server = server
        self.folder = folder
        self.schema = f"c_{uuid.uuid4().hex[:12]}"
        self.port = port or server.port
        self.options = {"lease_seconds": LEASE_SECONDS, "pause_seconds": 0.1, **options}
        self.places = [Place(number) for number in range(PLACES)]
        self.killed: list[tuple[str, float]] = []
        """Nodes that died, and when."""
        self.disturbed: list[float] = []
        """When nodes died or were suspended, when the database was back, and when a node came up that was alone: from then
        on everything has its time again."""
        self._at_work: set[str] = set()
        self.clocks = [0.0] * PLACES
        """By how many seconds each place's clock is wrong."""
        self.work_seconds = 0.02

    @property
    def url(self) -> str:
        return self.server.url(more=f"?schema={self.schema}")

    def sql(self, text: str) -> str:
        return self.server.sql("postgres", text.replace("{schema}", self.schema))

    def lines(self, file: str) -> list[str]:
        path = self.folder / file
        return path.read_text().splitlines() if path.exists() else []

    async def prepare(self) -> None:
        """The tables, and the witness."""
        store = PostgresStore(self.url)
        await store.open()
        await store.close()
        await asyncio.to_thread(self.sql, WITNESS)

    def spawn(self, place: Place, **more: Any) -> None:
        place.lives += 1
        place.name = f"n{place.number}-{place.lives}"
        options = {
            "store": self.server.url(port=self.port, more=f"?schema={self.schema}&soak.node={place.name}"),
            "queues": ["default"] if place.number == 0 else ["default", "far"],
            "clock_seconds": self.clocks[place.number],
            **self.options,
            **more,
        }
        surroundings = {**os.environ, "CLUSTER_FOLDER": str(self.folder), "CLUSTER_NODE": place.name}
        surroundings["CLUSTER_WORK_SECONDS"] = str(self.work_seconds)
        surroundings["PYTHONPATH"] = str(PROGRAM.parents[1] / "engine")  # of mill_tasks
        with (self.folder / "log").open("ab") as log:
            place.process = subprocess.Popen(
                [sys.executable, str(PROGRAM), json.dumps(options)],
                stdout=subprocess.PIPE,
                stderr=log,
                env=surroundings,
            )

    async def until_up(self, place: Place) -> None:
        """One that does not find the database as it starts ends, with a clear error; it is started again, as a service
        manager does."""
        deadline = time.monotonic() + UP_SECONDS_MAX
        while place.name not in self.lines("up"):
            if place.process is not None and place.process.poll() is not None:
                code = place.process.returncode
                assert code == UNAVAILABLE, f"{place.name} ended with {code} as it started: {self.log()}"
                self.spawn(place)
            assert time.monotonic() < deadline, f"{place.name} does not come up: {self.log()}"
            await asyncio.sleep(0.05)
        self._works(place)

    def _works(self, place: Place) -> None:
        if not self._at_work:  # until now there was nobody to take anything over
            self.disturbed.append(time.time())
        self._at_work.add(place.name)

    def _works_no_more(self, place: Place) -> None:
        self.disturbed.append(time.time())
        self._at_work.discard(place.name)

    def check_alive(self, place: Place) -> None:
        """Nothing that is done to its surroundings makes a node end."""
        assert place.process is None or place.process.poll() is None, f"{place.name} ended: {self.log()}"

    def log(self) -> str:
        return "\n".join(self.lines("log")[-40:])

    def kill(self, place: Place) -> None:
        if place.process is not None:
            if place.process.poll() is None:
                self.killed.append((place.name, time.time()))
            self._works_no_more(place)
            place.process.kill()
            place.process.wait(30)
            if place.process.stdout is not None:
                place.process.stdout.close()
            place.process = None

    def suspend(self, place: Place) -> None:
        assert place.process is not None
        place.suspended = True
        self._works_no_more(place)
        place.process.send_signal(signal.SIGSTOP)

    def wake(self, place: Place) -> None:
        if place.process is not None and place.suspended:
            place.suspended = False
            place.process.send_signal(signal.SIGCONT)
            self._works(place)

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncIterator["Cluster"]:
        await self.prepare()
        try:
            for place in self.places:
                self.spawn(place)
            for place in self.places:
                await self.until_up(place)
            yield self
        finally:
            for place in self.places:
                self.wake(place)
                self.kill(place)

    async def settle(self) -> None:
        """No new runs; wait until the last has ended. All places are up from here on."""
        (self.folder / "enough").touch()
        for place in self.places:
            self.wake(place)
            if place.process is None:
                self.spawn(place)
        for place in self.places:
            await self.until_up(place)
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        unfinished = "SELECT count(*) FROM {schema}.runs WHERE ended_at IS NULL"
        while (left := await asyncio.to_thread(self.sql, unfinished)) != "0":
            for place in self.places:
                self.check_alive(place)
            if time.monotonic() >= deadline:
                raise AssertionError(f"{left} runs do not end: {await asyncio.to_thread(self.left)}\n{self.log()}")
            await asyncio.sleep(0.2)

    def left(self) -> str:
        """What is stored of the first run that does not end."""
        run_id = self.sql("SELECT run_id FROM {schema}.runs WHERE ended_at IS NULL LIMIT 1")
        asked = {
            "run": "SELECT row_to_json(r) FROM {schema}.runs r WHERE run_id = '%s'",
            "nodes": "SELECT json_agg(n) FROM {schema}.nodes n",
            "inbox": "SELECT json_agg(i) FROM {schema}.inbox i WHERE run_id = '%s'",
            "ready": "SELECT json_agg(r) FROM {schema}.ready r WHERE key LIKE '%s%%'",
            "events": "SELECT json_agg(e ORDER BY seq) FROM {schema}.events e WHERE run_id = '%s'",
        }
        return "\n".join(
            f"{what}: {self.sql(query % run_id if '%s' in query else query)}" for what, query in asked.items()
        )

    async def stop(self) -> None:
        """In good order."""
        for place in self.places:
            if place.process is not None:
                place.process.terminate()
        for place in self.places:
            if place.process is not None:
                code = await asyncio.to_thread(place.process.wait, 60)
                assert code == 0, f"{place.name} ended with {code}: {self.log()}"
