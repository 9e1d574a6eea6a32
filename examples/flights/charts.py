"""Small SVG charts as text. Colours are CSS variables of the page (``--c1`` ... ``--c3``, ``--ink``, ``--grid``,
``--heat``), so that one drawing serves light and dark; hovering shows the exact value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH = 720
"""Units of the view box; the drawing scales to the width of its place."""


def lines(labels: Sequence[str], series: Mapping[str, Sequence[float]], unit: str) -> str:
    """One line per series over the same labels, each named at its end. At most three series have a colour."""
    height, left, right, top, bottom = 280, 44, 64, 14, 28
    values = [value for points in series.values() for value in points]
    ticks = _ticks(min(0.0, *values), max(values))
    low, high = ticks[0], ticks[-1]

    def x(index: int) -> float:
        return left + index * (WIDTH - left - right) / max(len(labels) - 1, 1)

    def y(value: float) -> float:
        return top + (high - value) * (height - top - bottom) / ((high - low) or 1)

    parts = [
        f'<line class="grid" x1="{left}" x2="{WIDTH - right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text class="tick" x="{left - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in ticks
    ]
    parts += [_text(x(index), height - 8, label, "tick", "middle") for index, label in enumerate(labels)]
    ends = _spread([y(points[-1]) for points in series.values()], gap=15)
    for colour, ((name, points), end) in enumerate(zip(series.items(), ends, strict=True), start=1):
        path = " ".join(f"{x(index):.1f},{y(value):.1f}" for index, value in enumerate(points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="var(--c{colour})" stroke-width="2.5"/>')
        parts += [
            f'<circle cx="{x(index):.1f}" cy="{y(value):.1f}" r="4" fill="var(--c{colour})">'
            f"<title>{escape(f'{name}, {labels[index]}: {value:.1f} {unit}')}</title></circle>"
            for index, value in enumerate(points)
        ]
        parts.append(
            f'<text class="name" style="fill: var(--c{colour})" x="{WIDTH - right + 10}" y="{end + 4:.1f}">'
            f"{escape(name)}</text>"
        )
    return _svg(height, f"lines: {', '.join(series)} in {unit}", parts)


def bars(rows: Sequence[tuple[str, float, str]], *, label_width: int = 190, top_value: float | None = None) -> str:
    """Horizontal bars of ``(label, value, text at the end)``; negative values go left of the zero line."""
    step, end_width = 27, 150
    low, high = min(0.0, *(row[1] for row in rows)), max(0.0, top_value or 0.0, *(row[1] for row in rows))
    # A negative bar needs room for itself only: its text stands right of the zero line.
    scale = (WIDTH - label_width - end_width) / ((high - low) or 1)
    zero = label_width - low * scale
    parts: list[str] = []
    for index, (label, value, text) in enumerate(rows):
        y = index * step
        start, width = (zero, value * scale) if value >= 0 else (zero + value * scale, -value * scale)
        parts.append(_text(label_width - 10, y + 17, label, "label", "end"))
        parts.append(
            f'<rect x="{start:.1f}" y="{y + 4}" width="{max(width, 1):.1f}" height="{step - 9}" rx="3" '
            f'fill="var(--c{1 if value >= 0 else 2})"><title>{escape(f"{label}: {text}")}</title></rect>'
        )
        parts.append(_text(max(start + width, zero) + 8, y + 17, text, "tick", "start"))
    return _svg(len(rows) * step + 4, "bars: " + "; ".join(f"{label} {text}" for label, _, text in rows), parts)


def heat(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Mapping[tuple[str, str], float],
    unit: str,
    *,
    square: bool = False,
) -> str:
    """A grid of cells, the darker the higher; a cell that is not in ``cells`` stays empty."""
    left, top, gap = 48, 4, 2
    size = (WIDTH - left) / max(len(columns), 1)
    tall = size if square else 30.0
    low, high = min(cells.values()), max(cells.values())
    parts: list[str] = []
    for line, row in enumerate(rows):
        parts.append(_text(left - 8, top + line * tall + tall / 2 + 4, row, "tick", "end"))
        for place, column in enumerate(columns):
            if (value := cells.get((row, column))) is not None:
                strength = 0.06 + 0.94 * (value - low) / ((high - low) or 1)
                parts.append(
                    f'<rect x="{left + place * size:.1f}" y="{top + line * tall:.1f}" width="{size - gap:.1f}" '
                    f'height="{tall - gap:.1f}" rx="2" fill="var(--heat)" fill-opacity="{strength:.2f}">'
                    f"<title>{escape(f'{row} {column}: {value:.1f} {unit}')}</title></rect>"
                )
    bottom = top + len(rows) * tall
    every = 1 if len(columns) <= 24 else 5
    parts += [
        _text(left + place * size + size / 2 - gap / 2, bottom + 16, column, "tick", "middle")
        for place, column in enumerate(columns)
        if place % every == 0
    ]
    return _svg(bottom + 24, f"heat map from {low:.0f} to {high:.0f} {unit}", parts)


def _svg(height: float, label: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label, quote=True)}">'
    return "\n".join([head, *parts, "</svg>"])


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _ticks(low: float, high: float) -> list[float]:
    """Five or so round numbers that enclose low and high."""
    raw = (high - low) / 4 or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [index * step for index in range(first, last + 1)]


def _spread(places: Sequence[float], gap: float) -> list[float]:
    """The same places, moved down where two are closer than ``gap``: names at the ends of lines do not overlap."""
    moved = list(places)
    previous = -math.inf
    for index in sorted(range(len(moved)), key=moved.__getitem__):
        previous = moved[index] = max(moved[index], previous + gap)
    return moved
