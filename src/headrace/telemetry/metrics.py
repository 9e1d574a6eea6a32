"""Metrics as plain values, and their form for Prometheus.

Names begin with ``headrace_`` and end in their unit; counters end in ``_total`` and begin at 0 with the process. Labels
are few and bounded: executors, queues, never a run. Source of the naming: the Prometheus documentation, "Metric and label
naming".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

PREFIX = "headrace_"

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of what :func:`exposition` gives."""


class Metric(msgspec.Struct, frozen=True):
    """One measured thing. ``name`` is without :data:`PREFIX`, and a counter's without ``_total``. ``values`` are
    ``(labels, value)``, one for each combination of labels."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    values: tuple[tuple[Mapping[str, str], float], ...]


def counter(name: str, help: str, value: float) -> Metric:  # noqa: A002 - the field's word
    """A counter without labels."""
    return Metric(name, "counter", help, (({}, value),))


def gauge(name: str, help: str, value: float) -> Metric:  # noqa: A002 - as above
    """A gauge without labels."""
    return Metric(name, "gauge", help, (({}, value),))


def flat(metrics: Iterable[Metric]) -> dict[str, float]:
    """Name to value, for people and JSON: ``headrace_slots{executor="thread"}``."""
    found: dict[str, float] = {}
    for metric in metrics:
        name = f"{PREFIX}{metric.name}{'_total' if metric.kind == 'counter' else ''}"
        for labels, value in metric.values:
            inside = ",".join(f'{key}="{text}"' for key, text in labels.items())
            found[f"{name}{{{inside}}}" if inside else name] = value
    return found


def exposition(metrics: Iterable[Metric]) -> bytes:
    """The text that Prometheus scrapes. Needs the extra ``metrics``; raises ``ImportError`` without."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - an extra
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415
    from prometheus_client.registry import Collector  # noqa: PLC0415

    class Once(Collector):
        def collect(self) -> Iterable[Any]:
            for metric in metrics:
                family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                names = sorted({name for labels, _ in metric.values for name in labels})
                shown = family(PREFIX + metric.name, metric.help, labels=names)
                for labels, value in metric.values:
                    shown.add_metric([labels.get(name, "") for name in names], value)
                yield shown

    registry = CollectorRegistry()
    registry.register(Once())
    return generate_latest(registry)
