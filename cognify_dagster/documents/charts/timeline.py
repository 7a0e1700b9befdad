"""The entries about a version in order, with the breaks between them. See `drawing` for the invariants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cognify_dagster.documents.charts.drawing import GRID, INK, LIMIT, SOFT, WIDTH, Canvas, nothing
from cognify_dagster.documents.view.cleaning import Cleaner, clean_text

#: A break from this length on is marked.
BREAK = timedelta(days=1)
MAX_EVENTS = 80
MAX_LANES = 12
_LEFT, _RIGHT, _TOP, _LANE = 150, WIDTH - 24, 34, 24


@dataclass(frozen=True)
class Moment:
    """One entry: UTC time `YYYY-MM-DDTHH:MM:SSZ`, the lane it stands in, and what it says."""

    time: str
    lane: str
    text: str


def timeline(title: str, items: Sequence[Moment], *, clean: Cleaner = clean_text) -> str:
    """Draw entries as dots, one lane for each kind of step, in order; breaks of a day or more are marked with their length.

    The steps have equal width: a scale of time would press everything that happens in an hour into one point. Of more than 80
    entries the newest are drawn, of more than 12 lanes the rest share one.
    """
    told = [(found, item) for item in items if (found := _time(item.time)) is not None]
    if not told:
        return nothing(title, "Nothing to show: no entry is recorded.", clean)
    shown = told[-MAX_EVENTS:]
    lanes = list(dict.fromkeys(item.lane for _, item in shown))
    if len(lanes) > MAX_LANES:
        lanes = [*lanes[: MAX_LANES - 1], "other"]
    canvas = Canvas(clean)
    bottom = _TOP + _LANE * len(lanes)
    step = (_RIGHT - _LEFT) / max(len(shown), 1)
    for index, lane in enumerate(lanes):
        y = _TOP + _LANE * index + _LANE / 2
        canvas.text(_LEFT - 10, y + 4, lane, anchor="end", size=11, room=_LEFT - 16)
        canvas.line(_LEFT, y, _RIGHT, y, GRID, 0.7)
    last_date, last_gap = -1e9, -1e9
    breaks = 0
    for index, (when, item) in enumerate(shown):
        x = _LEFT + step * (index + 0.5)
        gap = when - shown[index - 1][0] if index else timedelta()
        if gap >= BREAK:
            breaks += 1
            middle = x - step / 2
            canvas.line(middle, _TOP - 6, middle, bottom, LIMIT, 1, "3 3")
            if middle - last_gap >= 56:
                canvas.text(middle, _TOP - 11, in_days(gap), anchor="middle", size=10.5, fill=LIMIT)
                last_gap = middle
        row = lanes.index(item.lane) if item.lane in lanes else len(lanes) - 1
        canvas.dot(x, _TOP + _LANE * row + _LANE / 2, 3.4)
        new_day = not index or when.date() != shown[index - 1][0].date()
        if new_day and x - last_date >= 62:
            end = x > _RIGHT - 40
            canvas.line(x, bottom, x, bottom + 5, INK, 0.8)
            canvas.text(
                x, bottom + 17, when.strftime("%Y-%m-%d"), anchor="end" if end else "middle", size=10, fill=SOFT
            )
            last_date = x
    note = (
        "entries in order, equal steps; a dashed line is a break, with its length"
        if breaks
        else "entries in order, equal steps"
    )
    if len(told) > len(shown):
        note += f"; {len(told) - len(shown)} earlier entries stand in the table only"
    canvas.text(_LEFT, bottom + 34, note, size=10.5, fill=SOFT)
    words = "; ".join(f"{item.time} {item.text}" for _, item in shown)
    return canvas.svg(bottom + 42, title, words)


def in_days(gap: timedelta) -> str:
    """Return a break in words: hours below two days, days above."""
    hours = round(gap.total_seconds() / 3600)
    if hours < 48:
        return f"{hours} hours"
    return f"{gap.days} days"


def _time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return None
