"""The data sets that a version relied on, and what changed in them since the version released last.

Invariants: a data set is the entry that was pinned, not whatever is newest; its changes are those that governance reads from the order
of the snapshots, with the difference, reasons and decisions that are on record now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cognify_dagster.governance import Change, changes_between, directory
from cognify_dagster.records import DatasetRef, DatasetSnapshot, Evaluation
from cognify_dagster.workspace import Reading, Recorded

MAX_CHANGES = 50


@dataclass(frozen=True)
class DatasetFact:
    """A snapshot that the version relied on: how it was referred to, and its entry (None if that does not hold the root)."""

    ref: DatasetRef
    snapshot: Recorded[DatasetSnapshot] | None


@dataclass(frozen=True)
class DataChangeFact:
    """How a data set that a version relied on came to be what it is.

    Attributes:
        after: the snapshot that was used.
        before: the snapshot of the same data set that the version released last used; None where it used none.
        changes: the steps between the two, oldest first; without `before` the step that brought the root.
        cut: how many older steps are left out.
        reasons: the entries of people's reasons, by number.
        used_at: what was decided from this entry on came after the first use.
    """

    after: Recorded[DatasetSnapshot]
    before: Recorded[DatasetSnapshot] | None
    changes: tuple[Change, ...]
    cut: int
    reasons: Mapping[int, Recorded[Any]]
    used_at: int | None

    def entries(self) -> dict[int, str]:
        """Return sequence number and leaf of every entry that this rests on."""
        cited: dict[int, str] = {self.after.seq: self.after.leaf}
        if self.before is not None:
            cited[self.before.seq] = self.before.leaf
        cited.update({item.seq: item.leaf for item in self.reasons.values()})
        for change in self.changes:
            cited.update({item.seq: item.leaf for item in change.entries})
            cited.update({judged.item.seq: judged.item.leaf for judged in change.decisions})
            if change.diff is not None:
                cited[change.diff.seq] = change.diff.leaf
        return cited


def pinned(reading: Reading, refs: Iterable[DatasetRef]) -> tuple[DatasetFact, ...]:
    """Return the snapshots that references name; one that has another name or root than its reference counts as none."""
    result = []
    for ref in refs:
        found = reading.find(DatasetSnapshot, ref.seq) if 0 <= ref.seq < reading.size else None
        if found is not None and (found.record.name, found.record.root) != (ref.name, ref.root):
            found = None
        result.append(DatasetFact(ref, found))
    return tuple(result)


def in_use(
    datasets: Iterable[DatasetFact],
    started: int | None,
    evaluation_data: DatasetFact | None,
    evaluation: Recorded[Evaluation] | None,
) -> list[tuple[DatasetFact, int | None]]:
    """Return each data set with the entry from which on it was in use: what it rested on is judged as it stood before that.

    `started` is that of the training, see `workspace.started_of`; None where there is none.
    """
    found = [(item, started) for item in datasets]
    if evaluation_data is not None and evaluation is not None:
        found.append((evaluation_data, evaluation.seq))
    return found


def data_changes(
    reading: Reading, used: Sequence[tuple[DatasetFact, int | None]], released: Iterable[DatasetFact]
) -> tuple[DataChangeFact, ...]:
    """Return the changes of each data set, in the order of use.

    Args:
        reading: verified entries.
        used: the data sets of the version, each with the entry from which on it was in use.
        released: those of the version released last.
    """
    people = directory(reading)
    earlier = {item.ref.name: item.snapshot for item in released if item.snapshot is not None}
    found: dict[int, DataChangeFact] = {}
    for item, used_at in used:
        if item.snapshot is None or item.ref.seq in found:
            continue
        before = earlier.get(item.ref.name)
        after = before.seq if before is not None else None
        changes, cut = changes_between(reading, people, item.ref.name, after, item.ref.seq, MAX_CHANGES)
        given = {one.seq: reading.at(one.seq) for change in changes for one in change.reasons if one.person}
        reasons = {seq: entry for seq, entry in given.items() if entry is not None}
        found[item.ref.seq] = DataChangeFact(item.snapshot, before, tuple(changes), cut, reasons, used_at)
    return tuple(found.values())
