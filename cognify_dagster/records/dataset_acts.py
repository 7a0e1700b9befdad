"""Records about changes of a dataset: what changed, why, and what people decided about it.

Invariants: a change is the step from one root to another (from none for the first snapshot), never a name or a time; a decision is one
person's signed word about one difference, by its digest, and says nothing about any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from cognify_dagster.records.base import Digest, Hex64, Json, PersonId, Record, SnapshotName, register
from cognify_dagster.records.data import EvidenceItem, dataset_subjects
from cognify_dagster.records.governance import Envelope
from cognify_dagster.records.sections import HumanText


def change_bounds(roots: Sequence[str], place: int) -> tuple[int, int]:
    """Return where the snapshots in a row that have the same root as that at `place` begin and end (exclusive).

    The first of them brought the root, the one before it had another: that step is the change.
    """
    start, end = place, place + 1
    while start and roots[start - 1] == roots[place]:
        start -= 1
    while end < len(roots) and roots[end] == roots[place]:
        end += 1
    return start, end


@register
class DatasetDiffRecorded(Record):
    """What differs between two snapshots of a dataset, computed from their manifests; `report` holds the whole of it.

    `diff_digest` is what people approve; the difference can be computed again from the two snapshots and compared.
    """

    kind: ClassVar[str] = "dataset_diff_recorded"
    name: SnapshotName
    old_root: Hex64 | None = Field(description="None: the first snapshot, all of it is new")
    new_root: Hex64
    old_seq: int | None
    new_seq: int
    diff_digest: Digest
    summary: dict[str, Json] = Field(default_factory=dict)
    report: EvidenceItem | None = None

    def subjects(self) -> tuple[str, ...]:
        return dataset_subjects(self.name)

    def evidence(self) -> tuple[str, ...]:
        return () if self.report is None else (self.report.digest,)


@register
class DatasetReasonGiven(Record):
    """A person says, under their signature, why a dataset changed, where the snapshot did not say it or said too little."""

    kind: ClassVar[str] = "dataset_reason_given"
    name: SnapshotName
    old_root: Hex64 | None
    new_root: Hex64
    snapshot_seq: int = Field(ge=1)
    reason: HumanText = Field(min_length=1)
    given_by: PersonId
    envelope: Envelope

    def subjects(self) -> tuple[str, ...]:
        return tuple(sorted({*dataset_subjects(self.name), self.given_by}))


@register
class DatasetChangeDecided(Record):
    """A person approves or rejects a change of a dataset: exactly this difference, for exactly this reason."""

    kind: ClassVar[str] = "dataset_change_decided"
    name: SnapshotName
    old_root: Hex64 | None
    new_root: Hex64
    snapshot_seq: int = Field(ge=1, description="the entry of the snapshot that brought the new root")
    snapshot_leaf: Hex64
    diff_digest: Digest
    reason: str = Field(default="", description="the declared reason that the person read; empty if none was declared")
    decision: Literal["approve", "reject"]
    comment: str = Field(default="", max_length=10_000)
    role: str = Field(min_length=1)
    decided_by: PersonId
    envelope: Envelope

    def subjects(self) -> tuple[str, ...]:
        return tuple(sorted({*dataset_subjects(self.name), self.decided_by}))
