"""When a sealed training run began, as a position in the ledger. Everything that asks what came before a training asks here.

Invariant: a record's own word about its beginning only ever counts for an earlier position. It began no later than its version was
opened (the entry that the same run wrote before it trained) and no later than it was sealed, whatever it claims; so thresholds or plans
adopted after that never count as adopted before.
"""

from __future__ import annotations

from collections.abc import Sequence

from cognify_dagster.records import TrainingRun, VersionOpened
from cognify_dagster.workspace.reading import Reading, Recorded


def started_of(reading: Reading, training: Recorded[TrainingRun]) -> int:
    """Return how many entries the ledger had when a training began; what has that sequence number or a higher one came after.

    Args:
        reading: verified entries.
        training: the sealed run.
    """
    return started_by(training, openings_of(reading, training.record.model, training.record.version))


def started_by(training: Recorded[TrainingRun], openings: Sequence[Recorded[VersionOpened]]) -> int:
    """Return what `started_of` does, for the entries that opened the version, oldest first."""
    opened = opened_at(openings, str(training.record.observed.get("run", "")))
    limits = [training.record.started_after_seq, training.seq, *([] if opened is None else [opened])]
    return max(0, min(limits))


def openings_of(reading: Reading, model: str, version: str) -> list[Recorded[VersionOpened]]:
    """Return the entries that opened a version, oldest first: one for each run that tried."""
    return reading.all(VersionOpened, f"model/{model}@{version}")


def opened_at(openings: Sequence[Recorded[VersionOpened]], run: str) -> int | None:
    """Return how many entries there were once a run had opened the version: its first opening, else the first by any run."""
    own = [item for item in openings if item.record.run == run] or openings
    return own[0].seq + 1 if own else None


def size_at(reading: Reading, time_us: int | None) -> int:
    """Return how many entries there were at a moment, in microseconds since 1970; none where nobody knows the moment."""
    if time_us is None:
        return 0
    low, high = 0, reading.size
    while low < high:
        middle = (low + high) // 2
        if reading.view.entry(middle).entry.time_us <= time_us:
            low = middle + 1
        else:
            high = middle
    return low
