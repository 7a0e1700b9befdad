"""The ledger as it stood at a past moment: its first entries, with the policy, people and keys of that time."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from cognify_dagster.cli.inputs import parse_time
from cognify_dagster.cli.output import moment

if TYPE_CHECKING:
    from cognify_dagster.workspace import Reading, Workspace


def read_at(workspace: Workspace, at: str | None) -> tuple[Reading, datetime]:
    """Return the entries up to a time and that time; without one all entries and the present.

    Raises:
        click.UsageError: if the time lies before the ledger's first entry or in the future.
    """
    from cognify_dagster.records import parse_utc

    reading, now = workspace.read(), datetime.now(timezone.utc)
    if at is None:
        return reading, now
    try:
        when = parse_utc(parse_time(at)).replace(microsecond=999_999)
    except ValueError as error:
        raise click.UsageError(f"--at: {error}") from error
    first = reading.view.entry(0).entry.time_us
    if _micros(when) < first:
        raise click.UsageError(f"--at {at}: the ledger begins at {moment(first)}; nothing is known from before")
    if when > now:
        if when.date() != now.date() or len(at) > len("2026-11-21"):
            raise click.UsageError(f"--at {at}: that is in the future; the newest entry is of {_newest(reading)}")
        when = now  # a date means its last second; of today, up to now
    return workspace.read(_size_at(reading, _micros(when))), when


def _newest(reading: Reading) -> str:
    return moment(reading.view.entry(reading.size - 1).entry.time_us)


def _micros(when: datetime) -> int:
    return int(when.timestamp()) * 1_000_000 + when.microsecond


def _size_at(reading: Reading, time_us: int) -> int:
    """How many entries the ledger had: up to the last one that is not later. Times grow, but for corrections of the clock."""
    view = reading.view
    if next(iter(view.of_kind("clock_floor_corrected")), None) is not None:
        return next((item.entry.seq + 1 for item in reversed(view.entries) if item.entry.time_us <= time_us), 0)
    low, high = 0, reading.size
    while low < high:
        middle = (low + high) // 2
        if view.entry(middle).entry.time_us <= time_us:
            low = middle + 1
        else:
            high = middle
    return low
