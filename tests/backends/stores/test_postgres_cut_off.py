"""Nodes on hosts of their own, and a cable to PostgreSQL that is cut: two leaders never act, and a run goes on once."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from namespaces import Namespaces
from postgres_server import PostgresServer, postgres_folder

PROGRAM = Path(__file__).with_name("cut_off_process.py")
LEASE_SECONDS = 8.0
"""Long enough for a busy machine: whoever loses it otherwise than by the cut begins a term that nobody counted."""
WAIT_SECONDS_MAX = 90.0


class Node:
    """One process on a host."""

    def __init__(self, inside: tuple[str, ...], url: str, name: str, folder: Path, *more: str) -> None:
        self.log = folder / f"{name}.log"
        self._heard: list[tuple[str, str]] = []
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*inside, sys.executable, str(PROGRAM), url, name, str(LEASE_SECONDS), str(folder), *more],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def says(self, word: str) -> str:
        """Wait until it does; what follows the word. Each line counts once, whenever it was said."""
        assert self.process.stdout is not None
        for line in self._heard:
            if line[0] == word:
                self._heard.remove(line)
                return line[1]
        bound = threading.Timer(WAIT_SECONDS_MAX, self.process.kill)
        bound.start()
        try:
            for line in self.process.stdout:
                first, _, rest = line.strip().partition(" ")
                if first == word:
                    return rest
                self._heard.append((first, rest))
        finally:
            bound.cancel()
        raise AssertionError(f"the node did not say {word!r}: {self.log.read_text()[-2000:]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


@pytest.fixture
def far_postgres(hosts: Namespaces) -> Iterator[PostgresServer]:
    server = PostgresServer(postgres_folder(), hosts.FAR, hosts.inside(hosts.far))
    try:
        server.start()
        yield server
    finally:
        server.close()


def actors(folder: Path) -> list[str]:
    """Who acted, one after the other; nobody acts after one of a later term has."""
    lines = [line.split() for line in (folder / "acts").read_text().splitlines()]
    terms = [int(term) for term, _ in lines]
    assert terms == sorted(terms), "a former leader acted after a later one"
    assert len(set(terms)) == len({(term, node) for term, node in lines}), "two nodes acted in one term"
    return list(dict.fromkeys(node for _, node in lines))


@pytest.mark.timeout(300)
def test_a_node_that_is_cut_off_from_the_database_neither_leads_nor_writes(
    hosts: Namespaces, far_postgres: PostgresServer, tmp_path: Path
) -> None:
    """It stops by its own clock before the node on the database's side leads; its run goes on there; when the cable is
    mended, what it still has to say is refused, and it serves again under another epoch."""
    url = far_postgres.url()
    with Node(hosts.inside(hosts.near), url, "near", tmp_path, "start") as near:
        run_id = near.says("run")
        near.says("acted")
        with Node(hosts.inside(hosts.far), url, "far", tmp_path) as far:
            while not (tmp_path / "began").exists():
                far_postgres.sql("postgres", "SELECT pg_sleep(0.05)")
            hosts.cut()
            near.says("stopped")
            far.says("acted")
            while (tmp_path / "began").read_text().split() != ["near", "far"]:
                far_postgres.sql("postgres", "SELECT pg_sleep(0.05)")
            (tmp_path / "gate").touch()  # both attempts end, the lost one too
            ended = f"SELECT count(*) FROM headrace.runs WHERE run_id = '{run_id}' AND ended_at IS NOT NULL"
            while far_postgres.sql("postgres", ended) != "1":
                far_postgres.sql("postgres", "SELECT pg_sleep(0.05)")
            hosts.mend()
            far.process.kill()
            near.says("acted")
        assert actors(tmp_path) == ["near", "far"]
        history = far_postgres.sql(
            "postgres", f"SELECT data FROM headrace.events WHERE run_id = '{run_id}' ORDER BY seq"
        )
        events = [json.loads(line) for line in history.splitlines()]
        assert [event.get("output") for event in events if event["type"] == "task.succeeded"] == ["far"], events
        assert len([event for event in events if event["type"] == "run.finished"]) == 1
        terms = [int(line.split()[0]) for line in (tmp_path / "acts").read_text().splitlines()]
        assert len(set(terms)) == 3
