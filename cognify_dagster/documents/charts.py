"""A small SVG writer for the charts of documents: bars with intervals and a limit line, and a calibration plot.

Charts are strings of SVG 1.1 with presentational attributes only (they work in PDF and under a strict content policy), same input,
same bytes. A chart never stands alone: the table beside it has the same numbers. All text is escaped and cleaned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from cognify_dagster.documents.cleaning import clean_text

WIDTH = 640
FONT = "Libertinus Serif"
INK, SOFT, BAR, LIMIT = "#1a1a1a", "#6b6b6b", "#8fa3b5", "#8a1c1c"


@dataclass(frozen=True)
class Bar:
    """One bar: value and interval on a scale of 0 to 1, number of records; `value` None where it could not be measured."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    note: str


def _svg(width: int, height: int, title: str, description: str, body: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{escape(clean_text(title))}</title><desc>{escape(clean_text(description))}</desc>{''.join(body)}</svg>"
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: float = 12, fill: str = INK) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-family={quoteattr(FONT)} font-size="{size:g}" fill="{fill}" '
        f'text-anchor="{anchor}">{escape(clean_text(text))}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, color: str, width: float = 1, dash: str = "") -> str:
    extra = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" stroke-width="{width:g}"{extra}/>'


def _short(text: str, limit: int = 24) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def bars(title: str, items: Sequence[Bar], *, limit: float | None = None, limit_label: str = "") -> str:
    """Draw horizontal bars of shares (0 to 1) with interval whiskers and, if given, a dashed limit line with its label."""
    left, right, row, top = 150, WIDTH - 96, 26, 30
    height = top + row * len(items) + 30

    def x(value: float) -> float:
        return left + (right - left) * min(max(value, 0.0), 1.0)

    body: list[str] = []
    bottom = top + row * len(items)
    for step in range(0, 11, 2):
        body.append(_line(x(step / 10), top - 4, x(step / 10), bottom, "#d8d8d8", 0.7))
        body.append(_text(x(step / 10), bottom + 15, f"{step / 10:.1f}", anchor="middle", size=10.5, fill=SOFT))
    for index, item in enumerate(items):
        y = top + row * index
        body.append(_text(left - 8, y + 15, _short(item.label), anchor="end"))
        if item.value is None or not math.isfinite(item.value):
            body.append(_text(left + 4, y + 15, "too few records to measure", size=11, fill=SOFT))
        else:
            body.append(f'<rect x="{left}" y="{y + 4}" width="{x(item.value) - left:.1f}" height="14" fill="{BAR}"/>')
            if item.low is not None and item.high is not None:
                mid = y + 11
                body.append(_line(x(item.low), mid, x(item.high), mid, INK, 1.2))
                body += [_line(x(end), mid - 4, x(end), mid + 4, INK, 1.2) for end in (item.low, item.high)]
        body.append(_text(right + 10, y + 15, item.note, size=11))
    if limit is not None:
        body.append(_line(x(limit), top - 8, x(limit), bottom, LIMIT, 1.4, "5 3"))
        body.append(_text(x(limit), top - 12, limit_label, anchor="middle", size=11, fill=LIMIT))
    words = "; ".join(f"{i.label}: {'not measured' if i.value is None else format(i.value, '.3f')}" for i in items)
    return _svg(WIDTH, height, title, words, body)


def calibration(title: str, points: Sequence[tuple[float, float, float, float]]) -> str:
    """Draw predicted (x) against observed (y) with interval (low, high); the diagonal is where both agree."""
    size, left, top = 250, 60, 14
    peak = max([0.1, *(max(p[0], p[1], p[3]) for p in points)])
    tick = next((step for step in (0.02, 0.05, 0.1, 0.2) if step * 5 >= peak - 1e-9), 0.2)
    ticks = min(5, math.ceil(peak / tick - 1e-9))  # round numbers, and no more room than the points need
    scale = tick * ticks

    def x(value: float) -> float:
        return left + size * min(max(value / scale, 0.0), 1.0)

    def y(value: float) -> float:
        return top + size * (1 - min(max(value / scale, 0.0), 1.0))

    body = [_line(x(0), y(0), x(scale), y(scale), SOFT, 1, "4 3")]
    for step in range(ticks + 1):
        value = tick * step
        body += [_line(x(0), y(value), x(scale), y(value), "#e2e2e2", 0.7)]
        body.append(_text(left - 8, y(value) + 4, f"{value:.2f}", anchor="end", size=10.5, fill=SOFT))
        body.append(_text(x(value), top + size + 16, f"{value:.2f}", anchor="middle", size=10.5, fill=SOFT))
    for predicted, observed, low, high in points:
        body.append(_line(x(predicted), y(low), x(predicted), y(high), INK, 1.1))
        body.append(f'<circle cx="{x(predicted):.1f}" cy="{y(observed):.1f}" r="3.2" fill="{INK}"/>')
    body.append(_text(left + size / 2, top + size + 34, "mean predicted probability", anchor="middle", size=11.5))
    body.append(_text(left + size + 14, top + 12, "observed rate, with interval", size=11.5))
    body.append(_text(left + size + 14, top + 30, "dashed: where both agree", size=11.5, fill=SOFT))
    words = "; ".join(f"predicted {p[0]:.3f}, observed {p[1]:.3f}" for p in points)
    return _svg(left + size + 190, top + size + 44, title, words, body)
