"""Records about data: snapshots, what they were made from, and comparisons of them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from cognify_dagster.records.base import (
    Digest,
    Hex64,
    Json,
    Metric,
    Part,
    Record,
    SnapshotName,
    Utc,
    register,
)


class DatasetRef(Part):
    """A snapshot relied on: its name, root, ledger entry and role in the step."""

    name: SnapshotName
    root: Hex64
    seq: int
    role: Literal["train", "validation", "holdout", "evaluation", "other"] = "other"


class EvidenceItem(Part):
    """A blob in the evidence store."""

    name: str
    digest: Digest
    size: int
    media_type: str
    sensitivity: Literal["public", "internal", "confidential", "personal"] = "internal"


class ExclusionCount(Part):
    """A filter or exclusion and what it removed."""

    rule: str
    description: str = ""
    rows_before: int
    rows_after: int
    excluded_digest: str = ""
    verified: str = Field(
        default="", description="what the counts were checked against; empty: they are the owner's word"
    )


class SourceRef(Part):
    """Something that the data were made from, as it was then: a table or file, or an upstream asset with its data version.

    `time` is when that version came about, or was read; None where nobody knows.
    """

    name: str = Field(min_length=1, max_length=300)
    version: str = Field(default="", max_length=300)
    time: Utc | None = None
    kind: Literal["asset", "table", "file", "other"] = "other"


class QualityCheck(Part):
    """One data-quality check and what it found. `error` says that it could not be carried out, which is no pass."""

    name: str = Field(min_length=1, max_length=300)
    status: Literal["pass", "fail", "warn", "error"]
    detail: str = Field(default="", max_length=4000)
    tool: str = Field(default="", max_length=100, description="dagster, pandera, … with its version")


class CodeRef(Part):
    """The code that ran: git commit, dirty state, authors."""

    vcs: str
    commit: str = ""
    dirty: bool | None = None
    diff_digest: str = ""
    remote: str = ""
    authors: tuple[str, ...] = ()


@register
class DatasetSnapshot(Record):
    """A dataset as it was at one moment, identified by its Merkle root.

    The name of a partition is the dataset's name, `@` and the partition; its entry is also about the dataset as a whole.
    `author` and what follows came later: entries without them have the facts that they always had.
    """

    kind: ClassVar[str] = "dataset_snapshot"
    name: SnapshotName
    root: Hex64
    data_version: str
    file_count: int
    total_bytes: int
    record_count: int | None = None
    record_root: Hex64 | None = None
    record_digest_key: str | None = Field(None, description="id of the HMAC key where records hold personal data")
    schema_hash: Hex64 | None = None
    record_key: str | None = None
    label: str | None = None
    provenance: dict[str, Json] = Field(default_factory=dict)
    missing_provenance: tuple[str, ...] = ()
    exclusions: tuple[ExclusionCount, ...] = ()
    parent_root: Hex64 | None = None
    change_reason: str = ""
    header: dict[str, Json] = Field(default_factory=dict)
    profile: EvidenceItem
    manifest: EvidenceItem
    record_manifest: EvidenceItem | None = None
    data: EvidenceItem | None = Field(None, description="the table itself, where the source is a table in memory")
    record_index: EvidenceItem | None = Field(
        None, description="digests by record key and column, for comparing versions"
    )
    observations: EvidenceItem | None = Field(
        None, description="what each file is known by: hashed, reused or by its provider; stat and version"
    )
    author: str = Field(
        default="", description="who had the snapshot taken: person/… or unattributed; empty: not stated"
    )
    touched_by: tuple[str, ...] = Field((), description="who launched the run and wrote its code, as far as enrolled")
    unattributed: tuple[str, ...] = Field(default=(), description="launchers and authors that map to nobody")
    code: CodeRef | None = Field(default=None, description="the pipeline's code")
    sources: tuple[SourceRef, ...] = Field(default=(), max_length=1000)
    quality: tuple[QualityCheck, ...] = Field(default=(), max_length=1000)
    unjustified_columns: tuple[str, ...] = Field(default=(), description="columns that no purpose is stated for")

    @property
    def failed_quality(self) -> tuple[QualityCheck, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.quality if check.status in ("fail", "error"))

    def facts(self) -> dict[str, Any]:
        """Return the facts; what came later and is empty is left out, so that earlier entries read as they were written."""
        data = super().facts()
        for name in _SINCE_SNAPSHOTS:
            if not data[name]:
                del data[name]
        for rule in data["exclusions"]:
            if not rule["verified"]:
                del rule["verified"]
        return data

    def subjects(self) -> tuple[str, ...]:
        return dataset_subjects(self.name)

    def evidence(self) -> tuple[str, ...]:
        items = [
            self.profile,
            self.manifest,
            self.record_manifest,
            self.data,
            self.record_index,
            self.observations,
        ]
        return tuple(item.digest for item in items if item is not None)


_SINCE_SNAPSHOTS = (
    "record_index",
    "observations",
    "author",
    "touched_by",
    "unattributed",
    "code",
    "sources",
    "quality",
    "unjustified_columns",
)


def dataset_subjects(name: str) -> tuple[str, ...]:
    """Return the subject of a dataset; for a partition of it also that of the dataset as a whole."""
    return tuple(sorted({f"dataset/{name}", f"dataset/{name.partition('@')[0]}"}))


DEFAULT_OVERLAP_CHECK = "no_overlap"
"""Name of an overlap check that gives none."""


class OverlapLevel(Part):
    """What one level of a comparison found: how many rows on either side, by which parameters, and which records.

    `matches` holds digests and row numbers of some holdout records and of training records that they were found in.
    """

    level: str
    overlap_holdout: int
    overlap_train: int
    fraction: Metric
    not_compared: int = 0
    text_columns: tuple[str, ...] = ()
    parameters: dict[str, Json] = Field(default_factory=dict)
    matches: tuple[dict[str, Json], ...] = ()


@register
class OverlapChecked(Record):
    """Two snapshots were compared record by record.

    `check` and what follows came later: entries without them have the facts that they always had. `check` is the name of the
    check that compared; the newest of each name counts, and one without a name is `DEFAULT_OVERLAP_CHECK`.
    """

    kind: ClassVar[str] = "overlap_checked"
    train: DatasetRef
    holdout: DatasetRef
    level: str
    compared_columns: tuple[str, ...]
    ignored_columns: tuple[str, ...]
    overlapping_records: int
    passed: bool
    detail: dict[str, Json] = Field(default_factory=dict)
    check: str = ""
    levels: tuple[OverlapLevel, ...] = ()
    report: EvidenceItem | None = None

    def facts(self) -> dict[str, Any]:
        """Return the facts; what came later and is empty is left out, so that earlier entries read as they were written."""
        data = super().facts()
        for name in ("check", "levels", "report"):
            if not data[name]:
                del data[name]
        return data

    def evidence(self) -> tuple[str, ...]:
        return (self.report.digest,) if self.report is not None else ()

    def subjects(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s for ref in (self.train, self.holdout) for s in dataset_subjects(ref.name)))
