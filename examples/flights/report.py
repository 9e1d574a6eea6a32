"""The report of the flights example: one HTML file that needs nothing else, in light and dark."""

from __future__ import annotations

import csv
import json
from html import escape
from pathlib import Path
from typing import Any

from charts import bars, heat, lines
from tallies import BANDS, Tallies, Tally, correlation

HERE = Path(__file__).resolve().parent
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
ROUTE_FLIGHTS_MIN = 100
"""Routes with fewer arrivals are left out of the ranking: a handful of bad days would top it."""


def write(totals: str, checks: list[dict[str, Any]], data: str, out: str) -> dict[str, Any]:
    """Draw ``totals`` (the file that the join wrote) into ``report.html``. Returns its path and its size in bytes.

    ``data`` holds airlines.csv and airports.csv, for the names.
    """
    tallies = Tallies.from_json(json.loads(Path(totals).read_text(encoding="utf-8")))
    airlines = _names(Path(data) / "airlines.csv", "carrier")
    airports = _names(Path(data) / "airports.csv", "faa")
    sections = [
        _section("Delay through the year", "Mean departure delay in minutes, by month and airport.", _trend(tallies)),
        _section("Every day", "Mean arrival delay in minutes; the darker, the later.", _calendar(tallies)),
        _section("When to fly", "Mean departure delay in minutes, by weekday and scheduled hour.", _hours(tallies)),
        _section("Carriers", "Share of arrivals on time, best first.", _carriers(tallies, airlines)),
        _section(
            "Worst routes",
            f"Mean arrival delay of routes with at least {ROUTE_FLIGHTS_MIN} arrivals.",
            _routes(tallies, airports),
        ),
        *_weather(tallies),
        _section("Quality gate", "What was checked before this report was published.", _gate(checks)),
    ]
    names = sorted(tallies.groups["month"])
    page = (HERE / "report.template.html").read_text(encoding="utf-8")
    for mark, text in {
        "{period}": escape(names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"),
        "{tiles}": _tiles(tallies),
        "{sections}": "\n".join(sections),
    }.items():
        page = page.replace(mark, text)
    part, file = Path(out) / "report.html.part", Path(out) / "report.html"
    part.write_text(page, encoding="utf-8")
    part.replace(file)
    return {"file": str(file), "bytes": file.stat().st_size}


def _tiles(tallies: Tallies) -> str:
    """The main figures at the top."""
    months = tallies.groups["month"].values()
    flights, departed = sum(tally.flights for tally in months), sum(tally.departed for tally in months)
    arrived, on_time = sum(tally.arrived for tally in months), sum(tally.on_time for tally in months)
    delay = sum(tally.arrival_delay for tally in months)
    tiles = [
        (f"{flights:,}", "flights"),
        (f"{on_time / max(arrived, 1):.1%}", "arrived on time"),
        (f"{delay / max(arrived, 1):.1f} min", "mean arrival delay"),
        (f"{(flights - departed) / max(flights, 1):.1%}", "cancelled"),
        (f"{departed - arrived:,}", "diverted or lost on the way"),
    ]
    return "\n".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in tiles)


def _trend(tallies: Tallies) -> str:
    months = sorted(tallies.groups["month"])
    series = {
        origin: [
            tallies.groups["month origin"].get(f"{month} {origin}", Tally()).mean_departure_delay for month in months
        ]
        for origin in sorted(tallies.groups["origin"])
    }
    return lines([MONTHS[int(month[-2:]) - 1] for month in months], series, "minutes")


def _calendar(tallies: Tallies) -> str:
    cells = {
        (MONTHS[int(day[5:7]) - 1], str(int(day[8:]))): tally.mean_arrival_delay
        for day, tally in tallies.groups["day"].items()
    }
    rows = [MONTHS[int(month[-2:]) - 1] for month in sorted(tallies.groups["month"])]
    return heat(rows, [str(day) for day in range(1, 32)], cells, "minutes", square=True)


def _hours(tallies: Tallies) -> str:
    cells: dict[tuple[str, str], float] = {}
    for key, tally in tallies.groups["hour"].items():
        weekday, hour = key.split()
        if tally.departed:
            cells[WEEKDAYS[int(weekday)], hour] = tally.mean_departure_delay
    return heat(WEEKDAYS, sorted({hour for _, hour in cells}), cells, "minutes")


def _carriers(tallies: Tallies, names: dict[str, str]) -> str:
    ranked = sorted(tallies.groups["carrier"].items(), key=lambda item: -item[1].on_time_rate)
    return bars(
        [
            (names.get(code, code), tally.on_time_rate, f"{tally.on_time_rate:.1%} of {tally.arrived:,}")
            for code, tally in ranked
        ],
        top_value=1.0,
    )


def _routes(tallies: Tallies, names: dict[str, str]) -> str:
    busy = [item for item in tallies.groups["route"].items() if item[1].arrived >= ROUTE_FLIGHTS_MIN]
    ranked = sorted(busy, key=lambda item: -item[1].mean_arrival_delay)[:12]
    rows: list[tuple[str, float, str]] = []
    for route, tally in ranked:
        origin, destination = route.split("-")
        name = _shorten(names.get(destination, destination), 24)
        delay = tally.mean_arrival_delay
        rows.append((f"{origin} to {name}", delay, f"{delay:.1f} min, {tally.arrived:,} flights"))
    return bars(rows, label_width=230) if rows else "<p>No route has that many arrivals.</p>"


def _weather(tallies: Tallies) -> list[str]:
    """One chart per factor, bands in their own order; the note says how little a straight line explains."""
    sections: list[str] = []
    for factor, bands in BANDS.items():
        found = tallies.groups.get(factor, {})
        rows = [
            (name, found[name].mean_departure_delay, f"{found[name].mean_departure_delay:.1f} min")
            for _, name in bands
            if name in found
        ]
        if rows:
            note = f"Mean departure delay in minutes; correlation {correlation(tallies.pairs[factor]):+.2f}."
            sections.append(_section(f"Weather: {factor}", note, bars(rows, label_width=150)))
    return sections


def _gate(checks: list[dict[str, Any]]) -> str:
    rows = "\n".join(
        f"<tr><td>{'✓' if check['passed'] else '✗'}</td><td>{escape(check['name'])}</td>"
        f"<td>{check['value']:,}</td><td>{escape(check['expected'])}</td></tr>"
        for check in checks
    )
    head = "<tr><th></th><th>check</th><th>found</th><th>expected</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _section(title: str, note: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2><p>{escape(note)}</p>{body}</section>"


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def _names(file: Path, key: str) -> dict[str, str]:
    with file.open(newline="", encoding="utf-8") as stream:
        return {row[key]: row["name"] for row in csv.DictReader(stream)}
