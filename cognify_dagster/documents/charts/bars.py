"""Bars with intervals and a limit line, and two bars a row for two distributions. See `drawing` for the invariants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cognify_dagster.documents.charts.drawing import (
    BAR,
    GRID,
    INK,
    LIMIT,
    MAX_ROWS,
    PAPER,
    SOFT,
    WIDTH,
    Canvas,
    finite,
    left_out,
    nothing,
)
from cognify_dagster.documents.view.cleaning import Cleaner, clean_text

_LEFT, _RIGHT = 160, WIDTH - 100


@dataclass(frozen=True)
class Bar:
    """One bar: value and interval on a scale of 0 to 1, number of records; `value` None where it could not be measured."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    note: str


@dataclass(frozen=True)
class Pair:
    """Two shares (0 to 1) of one thing, None where one side does not have it."""

    label: str
    before: float | None
    after: float | None


def _x(value: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * min(max(value, 0.0), 1.0)


def _grid(canvas: Canvas, top: float, bottom: float) -> None:
    for step in range(0, 11, 2):
        canvas.line(_x(step / 10), top - 4, _x(step / 10), bottom, GRID, 0.7)
        canvas.text(_x(step / 10), bottom + 15, f"{step / 10:.1f}", anchor="middle", size=10.5, fill=SOFT)


def bars(
    title: str,
    items: Sequence[Bar],
    *,
    limit: float | None = None,
    limit_label: str = "",
    clean: Cleaner = clean_text,
) -> str:
    """Draw horizontal bars of shares (0 to 1) with interval whiskers and, if given, a dashed limit line with its label.

    Args:
        items: at most 30 are drawn; the rest is named as standing in the table only.
        limit: where the dashed line stands, on the same scale.
        clean: makes texts safe to show.
    """
    if not items:
        return nothing(title, "Nothing to show: no value is recorded.", clean)
    shown = items[:MAX_ROWS]
    row, top = 26, 30
    canvas = Canvas(clean)
    bottom = top + row * len(shown)
    _grid(canvas, top, bottom)
    for index, item in enumerate(shown):
        y = top + row * index
        canvas.text(_LEFT - 8, y + 15, item.label, anchor="end", room=_LEFT - 14)
        value, low, high = finite(item.value), finite(item.low), finite(item.high)
        if value is None:
            canvas.text(_LEFT + 4, y + 15, "too few records to measure", size=11, fill=SOFT)
        else:
            canvas.rect(_LEFT, y + 4, _x(value) - _LEFT, 14, BAR)
            if low is not None and high is not None:
                canvas.whisker(_x(low), _x(high), y + 11)
        canvas.text(_RIGHT + 10, y + 15, item.note, size=11, room=WIDTH - _RIGHT - 12)
    if limit is not None and math.isfinite(limit):
        canvas.line(_x(limit), top - 8, _x(limit), bottom, LIMIT, 1.4, "5 3")
        canvas.text(_x(limit), top - 12, limit_label, anchor="middle", size=11, fill=LIMIT)
    height = bottom + 24 + left_out(canvas, bottom + 22, len(shown), len(items))
    words = "; ".join(f"{i.label}: {_number(i.value)}" for i in items)
    return canvas.svg(height, title, words)


def pairs(title: str, before: str, after: str, items: Sequence[Pair], *, clean: Cleaner = clean_text) -> str:
    """Draw two distributions side by side: an outlined bar for `before` and a filled one for `after` in each row."""
    if not items:
        return nothing(title, "Nothing to show: no distribution is recorded.", clean)
    shown = items[:MAX_ROWS]
    row, top = 32, 34
    canvas = Canvas(clean)
    bottom = top + row * len(shown)
    canvas.rect(_LEFT, 6, 18, 9, PAPER, INK)
    canvas.text(_LEFT + 24, 14, before, size=11, room=(_RIGHT - _LEFT) / 2 - 40)
    middle = (_LEFT + _RIGHT) / 2
    canvas.rect(middle, 6, 18, 9, BAR, BAR)
    canvas.text(middle + 24, 14, after, size=11, room=(_RIGHT - _LEFT) / 2 - 10)
    _grid(canvas, top, bottom)
    for index, item in enumerate(shown):
        y = top + row * index
        canvas.text(_LEFT - 8, y + 18, item.label, anchor="end", room=_LEFT - 14)
        for offset, value, fill, edge in ((3, item.before, PAPER, INK), (15, item.after, BAR, BAR)):
            known = finite(value)
            if known is None:
                canvas.text(_LEFT + 4, y + offset + 9, "none", size=9.5, fill=SOFT)
            else:
                canvas.rect(_LEFT, y + offset, _x(known) - _LEFT, 10, fill, edge)
        both = finite(item.before), finite(item.after)
        if both[0] is not None and both[1] is not None:
            canvas.text(_RIGHT + 10, y + 18, f"{both[1] - both[0]:+.3f}", size=11)
    canvas.text(_RIGHT + 10, 14, "difference", size=11, fill=SOFT)
    height = bottom + 24 + left_out(canvas, bottom + 22, len(shown), len(items))
    words = "; ".join(f"{i.label}: {before} {_number(i.before)}, {after} {_number(i.after)}" for i in items)
    return canvas.svg(height, title, words)


def _number(value: float | None) -> str:
    known = finite(value)
    return "not measured" if known is None else format(known, ".3f")
