"""Aligned columns of text."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def aligned(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, paint: Callable[[int, str, str], str] | None = None
) -> str:
    """Rows under a head line, columns two spaces apart. ``paint(column, value, padded)`` may colour a padded cell."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(head, widths, strict=True)).rstrip()]
    for row in rows:
        cells: list[str] = []
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            padded = f"{cell:<{width}}" if column < len(row) - 1 else cell
            cells.append(paint(column, cell, padded) if paint else padded)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
