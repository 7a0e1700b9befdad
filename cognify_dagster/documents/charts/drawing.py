"""What the charts are drawn with: text, lines and shapes of SVG 1.1, with room for text estimated and never overrun.

Invariants: text of a package is cleaned and escaped before it is placed; only presentational attributes are used, so a chart works in
a PDF and under a strict content policy; numbers are rounded the same way everywhere, so the same input gives the same bytes; nothing
that is no finite number becomes a coordinate.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from typing import Protocol
from xml.sax.saxutils import escape, quoteattr

from cognify_dagster.documents.view.cleaning import Cleaner, clean_text

WIDTH = 640
FONT = "Libertinus Serif"
INK, SOFT, GRID, BAR, LIMIT, PAPER = "#1a1a1a", "#5a5a5a", "#d8d8d8", "#8fa3b5", "#8a1c1c", "#ffffff"
#: Rows that fit on one page of a document; the table under the chart has all of them.
MAX_ROWS = 30
MAX_DESCRIPTION = 1500


class Drawing(Protocol):
    """A chart that waits for the way in which texts are cleaned."""

    def __call__(self, *, clean: Cleaner = ...) -> str:
        """Return the SVG."""


def finite(value: float | None) -> float | None:
    """Return a number that can be drawn, or None."""
    return float(value) if value is not None and math.isfinite(value) else None


def width_of(text: str, size: float) -> float:
    """Estimate the width of a text, rather too wide than too narrow."""
    return size * sum(1.0 if unicodedata.east_asian_width(char) in "WF" else 0.5 for char in text)


def fitted(text: str, room: float, size: float) -> str:
    """Return as much of a text as fits, on one line, with … where it was cut."""
    one = " ".join(text[:400].split())
    if width_of(one, size) <= room and len(text) <= 400:
        return one
    kept = []
    left = room - width_of("…", size)
    for char in one:
        left -= width_of(char, size)
        if left < 0:
            break
        kept.append(char)
    return "".join(kept).rstrip() + "…"


class Canvas:
    """Collects the shapes of one chart, `width` user units wide."""

    def __init__(self, clean: Cleaner, width: int = WIDTH) -> None:
        self.width = width
        self.clean: Callable[[str], str] = clean
        self._parts: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        anchor: str = "start",
        size: float = 12,
        fill: str = INK,
        room: float = 0,
        weight: str = "",
    ) -> None:
        """Place a text on its baseline; with `room`, cut it to that width."""
        shown = " ".join(self.clean(text[:2000]).split())
        shown = fitted(shown, room, size) if room else shown
        bold = f' font-weight="{weight}"' if weight else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-family={quoteattr(FONT)} font-size="{size:g}" fill="{fill}" '
            f'text-anchor="{anchor}"{bold}>{escape(shown)}</text>'
        )

    def line(
        self, x1: float, y1: float, x2: float, y2: float, color: str = INK, width: float = 1, dash: str = ""
    ) -> None:
        """Draw a line."""
        extra = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" stroke-width="{width:g}"{extra}/>'
        )

    def rect(self, x: float, y: float, width: float, height: float, fill: str, stroke: str = "") -> None:
        """Draw a box."""
        edge = f' stroke="{stroke}" stroke-width="1"' if stroke else ""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" fill="{fill}"{edge}/>'
        )

    def dot(self, x: float, y: float, radius: float = 3.2, fill: str = INK, stroke: str = "") -> None:
        """Draw a dot."""
        edge = f' stroke="{stroke}" stroke-width="1.2"' if stroke else ""
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{fill}"{edge}/>')

    def whisker(self, low: float, high: float, y: float) -> None:
        """Draw an interval with its ends."""
        self.line(low, y, high, y, INK, 1.2)
        for end in (low, high):
            self.line(end, y - 4, end, y + 4, INK, 1.2)

    def arrow(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """Draw a bent arrow from left to right."""
        bend = max(18.0, (x2 - x1) / 2)
        self._parts.append(
            f'<path d="M{x1:.1f},{y1:.1f} C{x1 + bend:.1f},{y1:.1f} {x2 - bend:.1f},{y2:.1f} {x2 - 5:.1f},{y2:.1f}" '
            f'fill="none" stroke="{SOFT}" stroke-width="1"/>'
            f'<path d="M{x2:.1f},{y2:.1f} l-7,-3.2 l0,6.4 z" fill="{SOFT}"/>'
        )

    def svg(self, height: float, title: str, description: str) -> str:
        """Return the chart; `description` says in words what it shows."""
        told = " ".join(self.clean(description[: 4 * MAX_DESCRIPTION]).split())
        if len(told) > MAX_DESCRIPTION:
            told = told[:MAX_DESCRIPTION] + "…"
        name = " ".join(self.clean(title[:2000]).split())
        tall = math.ceil(height)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{tall}" viewBox="0 0 {self.width} {tall}" '
            f'role="img"><title>{escape(name)}</title><desc>{escape(told)}</desc>{"".join(self._parts)}</svg>'
        )


def nothing(title: str, sentence: str, clean: Cleaner = clean_text) -> str:
    """Return a chart that says that there is nothing to show."""
    canvas = Canvas(clean)
    canvas.text(10, 24, sentence, fill=SOFT)
    return canvas.svg(40, title, sentence)


def left_out(canvas: Canvas, y: float, shown: int, total: int) -> float:
    """Say below a chart how many rows only the table has; return the height that takes."""
    if total <= shown:
        return 0
    canvas.text(10, y + 14, f"{total - shown} more stand in the table only", size=11, fill=SOFT)
    return 22


def round_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return round numbers that span a range."""
    least = max(abs(low) * 1e-6, abs(high) * 1e-6, 1e-9)  # a narrower scale would only show rounding
    if high - low < least:
        high = low + least
    raw = (high - low) / wanted
    base = 10 ** math.floor(math.log10(raw))
    step = base * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * base >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * n, 12) for n in range(first, last + 1)]


def tick_text(value: float, ticks: Sequence[float]) -> str:
    """Return a tick's number with as many decimals as the ticks need."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    decimals = min(6, max(0, -math.floor(math.log10(step) + 1e-9) + (0 if _one_digit(step) else 1)))
    return f"{value + 0.0:.{decimals}f}" if abs(value) < 1e9 else f"{value:.2g}"


def _one_digit(step: float) -> bool:
    scaled = step / 10 ** math.floor(math.log10(step) + 1e-9)
    return abs(scaled - round(scaled)) < 1e-6
