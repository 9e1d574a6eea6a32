"""Extract, transform, load as a Python graph: what hello.yaml is in YAML, for people who prefer to stay in Python.

headrace run examples/etl.py
headrace run examples/etl.py -p cities='["Oslo", "Lima", "Kyoto"]' -p minimum=20

Calling a ``@task`` function inside ``with dag(...)`` adds a task; outside it just calls the function.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from headrace import dag, task

CLIMATE = {"Oslo": [-4, -4, 0, 5, 11, 15], "Lima": [23, 24, 24, 22, 20, 18], "Kyoto": [5, 5, 9, 15, 20, 23]}
"""Mean temperature of the first six months, degrees Celsius, rounded."""


@task
def extract(cities: list[str]) -> list[dict[str, object]]:
    """One row per city. Raises KeyError for a city that nobody measured."""
    return [{"city": city, "months": CLIMATE[city]} for city in cities]


@task(retries=2)
def transform(row: dict[str, object], minimum: float) -> dict[str, object]:
    """Count the months that are warm enough. Mapped: runs once per row, in parallel."""
    months = row["months"]
    assert isinstance(months, list)
    return {"city": row["city"], "warm": sum(value >= minimum for value in months)}


@task
def load(rows: list[dict[str, object]], database: str) -> int:
    """Replace the table in one transaction, so that running it twice leaves the same result."""
    Path(database).parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS warm (city TEXT PRIMARY KEY, months INTEGER)")
        connection.execute("DELETE FROM warm")
        connection.executemany("INSERT INTO warm VALUES (:city, :warm)", rows)
    return len(rows)


@task
def report(database: str) -> str:
    """The warmest city, from the table."""
    with closing(sqlite3.connect(database)) as connection:
        city, months = connection.execute("SELECT city, months FROM warm ORDER BY months DESC, city").fetchone()
    return f"{city}: {months} warm months"


with dag("etl", params={"cities": ["Oslo", "Lima", "Kyoto"], "minimum": 10.0, "database": "build/etl.db"}) as etl:
    rows = extract(etl.params.cities)
    loaded = load(transform.map(row=rows, minimum=etl.params.minimum), etl.params.database)
    loaded >> report(etl.params.database)
