"""Sums that can be added up: each month makes its own, the join merges them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass, field
from typing import Any

BANDS: dict[str, tuple[tuple[float, str], ...]] = {
    "visibility": ((1, "under 1 mi"), (3, "1-3 mi"), (6, "3-6 mi"), (10, "6-10 mi"), (99, "10 mi")),
    "precipitation": ((0.001, "dry"), (0.05, "light"), (0.15, "moderate"), (99, "heavy")),
    "wind": ((5, "under 5 mph"), (10, "5-10 mph"), (15, "10-15 mph"), (20, "15-20 mph"), (2000, "20 mph and more")),
}
"""What flights are grouped by: upper bounds (exclusive; miles, inches and miles per hour) and names of the bands."""


@dataclass(slots=True)
class Tally:
    """Counts of one group of flights. Delays are sums of minutes, early ones negative."""

    flights: int = 0
    departed: int = 0
    arrived: int = 0
    on_time: int = 0
    departure_delay: int = 0
    arrival_delay: int = 0

    @property
    def mean_departure_delay(self) -> float:
        """Minutes; 0 if nothing departed."""
        return self.departure_delay / self.departed if self.departed else 0.0

    @property
    def mean_arrival_delay(self) -> float:
        """Minutes; 0 if nothing arrived."""
        return self.arrival_delay / self.arrived if self.arrived else 0.0

    @property
    def on_time_rate(self) -> float:
        """Share of the arrived flights, 0 to 1; 0 if nothing arrived."""
        return self.on_time / self.arrived if self.arrived else 0.0


@dataclass(slots=True)
class Pairs:
    """What Pearson's coefficient needs to know about pairs (x, y)."""

    n: int = 0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    yy: float = 0.0
    xy: float = 0.0


@dataclass
class Tallies:
    """Tallies by group and key (``groups["carrier"]["UA"]``), and pairs of weather and departure delay by factor."""

    groups: dict[str, dict[str, Tally]] = field(default_factory=dict)
    pairs: dict[str, Pairs] = field(default_factory=dict)

    def add(self, keys: Iterable[tuple[str, str]], departure: int | None, arrival: int | None, on_time: bool) -> None:
        """Count one flight in every (group, key); a delay of None means it did not depart or arrive."""
        for group, key in keys:
            members = self.groups.setdefault(group, {})
            tally = members.get(key) or members.setdefault(key, Tally())
            tally.flights += 1
            if departure is not None:
                tally.departed += 1
                tally.departure_delay += departure
            if arrival is not None:
                tally.arrived += 1
                tally.arrival_delay += arrival
                tally.on_time += on_time

    def pair(self, factor: str, x: float, y: float) -> None:
        """Count one (weather value, departure delay)."""
        sums = self.pairs.get(factor) or self.pairs.setdefault(factor, Pairs())
        sums.n += 1
        sums.x += x
        sums.y += y
        sums.xx += x * x
        sums.yy += y * y
        sums.xy += x * y

    def merge(self, other: Tallies) -> None:
        """Add another's counts to these; the other is left as it is."""
        for group, members in other.groups.items():
            mine = self.groups.setdefault(group, {})
            for key, tally in members.items():
                mine[key] = Tally(*map(sum, zip(astuple(mine.get(key, Tally())), astuple(tally), strict=True)))
        for factor, sums in other.pairs.items():
            own = astuple(self.pairs.get(factor, Pairs()))
            self.pairs[factor] = Pairs(*map(sum, zip(own, astuple(sums), strict=True)))

    def to_json(self) -> dict[str, Any]:
        """Lists of numbers in the order of the fields."""
        return {
            "groups": {
                group: {key: astuple(tally) for key, tally in sorted(members.items())}
                for group, members in self.groups.items()
            },
            "pairs": {factor: astuple(sums) for factor, sums in self.pairs.items()},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Tallies:
        """The inverse of :meth:`to_json`."""
        return cls(
            {
                group: {key: Tally(*numbers) for key, numbers in members.items()}
                for group, members in value["groups"].items()
            },
            {factor: Pairs(*numbers) for factor, numbers in value["pairs"].items()},
        )


def correlation(sums: Pairs) -> float:
    """Pearson's coefficient, -1 to 1; 0 if either side never varies."""
    spread = (sums.n * sums.xx - sums.x**2) * (sums.n * sums.yy - sums.y**2)
    return (sums.n * sums.xy - sums.x * sums.y) / math.sqrt(spread) if spread > 0 else 0.0
