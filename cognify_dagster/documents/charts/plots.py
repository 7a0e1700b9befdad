"""Predicted against observed, and metrics against their limits. See `drawing` for the invariants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cognify_dagster.documents.charts.drawing import (
    GRID,
    INK,
    LIMIT,
    SOFT,
    WIDTH,
    Canvas,
    finite,
    left_out,
    nothing,
    round_ticks,
    tick_text,
)
from cognify_dagster.documents.view.cleaning import Cleaner, clean_text

#: Metrics that fit on one page of a document.
MAX_LIMITS = 24


@dataclass(frozen=True)
class Measured:
    """A metric and its limit.

    Attributes:
        label: what is measured.
        value, low, high: the value with its interval; None where it was not measured.
        op: `>=`, `<=`, `>` or `<`: on which side of the limit the value should lie.
        word: the verdict in words.
    """

    label: str
    value: float | None
    low: float | None
    high: float | None
    op: str
    limit: float
    word: str


def limits(title: str, items: Sequence[Measured], *, clean: Cleaner = clean_text) -> str:
    """Draw each metric as a dot on a scale of its own, with its limit as a dashed line and the allowed side shaded.

    Metrics between 0 and 1 have the scale 0 to 1; for others the ends of the scale are printed.
    """
    if not items:
        return nothing(title, "Nothing to show: no limit was adopted.", clean)
    shown = items[:MAX_LIMITS]
    left, right, row, top = 246, WIDTH - 110, 30, 10
    canvas = Canvas(clean)
    for index, item in enumerate(shown):
        y = top + row * index
        middle = y + 12
        value, low, high, limit = finite(item.value), finite(item.low), finite(item.high), finite(item.limit)
        ticks = _scale([number for number in (value, low, high, limit) if number is not None])
        first, last = ticks[0], ticks[-1]

        def x(number: float, first: float = first, last: float = last) -> float:
            return left + (right - left) * (number - first) / (last - first)

        canvas.text(left - 10, middle + 4, item.label, anchor="end", room=left - 16)
        if limit is not None:
            allowed = (x(limit), right) if item.op in (">=", ">") else (left, x(limit))
            canvas.rect(allowed[0], middle - 6, allowed[1] - allowed[0], 12, "#e9eef2")
        canvas.line(left, middle, right, middle, GRID, 1)
        if (first, last) != (0.0, 1.0):
            for end, anchor in ((first, "start"), (last, "end")):
                canvas.text(x(end), middle + 15, tick_text(end, ticks), anchor=anchor, size=9, fill=SOFT)
        if limit is not None:
            canvas.line(x(limit), middle - 10, x(limit), middle + 9, LIMIT, 1.4, "4 2")
        if value is None:
            canvas.text(left + 4, middle - 7, "not measured", size=10.5, fill=SOFT)
        else:
            if low is not None and high is not None:
                canvas.whisker(x(low), x(high), middle)
            canvas.dot(x(value), middle, 4)
        canvas.text(right + 12, middle + 4, item.word, size=11, room=WIDTH - right - 14)
    bottom = top + row * len(shown)
    note = "dot: value, with its interval; dashed: limit; shaded: the allowed side; scale 0 to 1 unless its ends are printed"
    canvas.text(10, bottom + 14, note, size=10.5, fill=SOFT)
    height = bottom + 22 + left_out(canvas, bottom + 16, len(shown), len(items))
    words = "; ".join(
        f"{i.label}: {'not measured' if finite(i.value) is None else format(i.value, '.4g')}, limit {i.op} {i.limit:.4g}, {i.word}"
        for i in items
    )
    return canvas.svg(height, title, words)


def _scale(known: Sequence[float]) -> list[float]:
    """Ends and steps of a scale: 0 to 1 for shares, from 0 on for what is never negative."""
    if all(0 <= number <= 1 for number in known):
        return [0.0, 1.0]
    low = min(known)
    return round_ticks(0.0 if low >= 0 else low, max(known), 4)


def calibration(title: str, points: Sequence[tuple[float, float, float, float]], *, clean: Cleaner = clean_text) -> str:
    """Draw predicted (x) against observed (y) with interval (low, high); the diagonal is where both agree."""
    drawn = [point for point in points if all(math.isfinite(number) for number in point)]
    if not drawn:
        return nothing(title, "Nothing to show: no score band is recorded.", clean)
    size, left, top = 250, 60, 14
    peak = max([0.1, *(max(p[0], p[1], p[3]) for p in drawn)])
    tick = next((step for step in (0.02, 0.05, 0.1, 0.2) if step * 5 >= peak - 1e-9), 0.2)
    ticks = min(5, math.ceil(peak / tick - 1e-9))  # round numbers, and no more room than the points need
    scale = tick * ticks

    def x(value: float) -> float:
        return left + size * min(max(value / scale, 0.0), 1.0)

    def y(value: float) -> float:
        return top + size * (1 - min(max(value / scale, 0.0), 1.0))

    canvas = Canvas(clean, left + size + 190)
    canvas.line(x(0), y(0), x(scale), y(scale), SOFT, 1, "4 3")
    for step in range(ticks + 1):
        value = tick * step
        canvas.line(x(0), y(value), x(scale), y(value), "#e2e2e2", 0.7)
        canvas.text(left - 8, y(value) + 4, f"{value:.2f}", anchor="end", size=10.5, fill=SOFT)
        canvas.text(x(value), top + size + 16, f"{value:.2f}", anchor="middle", size=10.5, fill=SOFT)
    for predicted, observed, low, high in drawn:
        canvas.line(x(predicted), y(low), x(predicted), y(high), INK, 1.1)
        canvas.dot(x(predicted), y(observed))
    canvas.text(left + size / 2, top + size + 34, "mean predicted probability", anchor="middle", size=11.5)
    canvas.text(left + size + 14, top + 12, "observed rate, with interval", size=11.5)
    canvas.text(left + size + 14, top + 30, "dashed: where both agree", size=11.5, fill=SOFT)
    words = "; ".join(f"predicted {p[0]:.3f}, observed {p[1]:.3f}" for p in drawn)
    return canvas.svg(top + size + 44, title, words)
