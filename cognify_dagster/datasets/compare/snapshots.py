"""What changed between two recorded snapshots, from evidence alone, as one value with a digest that a person can sign.

Invariants:
    * The data itself is never read: everything comes from the two entries and the evidence they name, each of which is
      checked against the snapshot's root before it is believed (the profile and record index against their evidence digest).
    * Equal entries give equal bytes: no time, location, host or order of rows is in it.
    * Lists are shown in part and bound in whole: each has a digest over all of it.
    * No value of personal data is in it: records appear as keyed digests.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cognify_dagster.datasets.compare.distributions import (
    ColumnShift,
    GroupShift,
    column_shifts,
    group_shifts,
    label_shift,
)
from cognify_dagster.datasets.compare.files import diff_files, list_digest
from cognify_dagster.datasets.compare.keyed import KeyedDiff, diff_indexes
from cognify_dagster.datasets.compare.records import diff_record_manifests
from cognify_dagster.datasets.compare.schemas import SchemaDiff, diff_schemas
from cognify_dagster.datasets.errors import DatasetError, ManifestError
from cognify_dagster.datasets.manifest import check_header, read_file_manifest
from cognify_dagster.datasets.records.digests import RecordManifest, unpack_records
from cognify_dagster.datasets.records.index import RecordIndex, read_index
from cognify_dagster.datasets.tree import FileLeaf

if TYPE_CHECKING:
    from cognify_dagster.datasets.scale.manifests import LargeManifest
    from cognify_dagster.records import DatasetSnapshot, EvidenceItem
    from cognify_dagster.workspace import Recorded, Workspace

FORMAT = "cognify/dataset-diff/v1"
MAX_PATHS = 100
LARGE_FILES = 200_000
"""Snapshots with more files are compared shard by shard."""


@dataclass(frozen=True)
class Side:
    """One of the two snapshots: name, root, counts."""

    name: str
    root: str
    files: int
    bytes: int
    records: int | None
    record_root: str | None
    schema_hash: str | None


@dataclass(frozen=True)
class FileChanges:
    """Files: counts, at most 100 paths of each kind, and a digest over all that changed."""

    added: int
    removed: int
    changed: int
    renamed: int
    unchanged: int
    added_paths: tuple[str, ...]
    removed_paths: tuple[str, ...]
    changed_paths: tuple[str, ...]
    renamed_paths: tuple[tuple[str, str], ...]
    digest: str


@dataclass(frozen=True)
class RecordChanges:
    """Records as a multiset of digests. `reason` says why they could not be compared; counts are then 0.

    The digests are SHA-256 (hex) over the added (removed) record digests, sorted, one after another.
    """

    compared: bool
    reason: str = ""
    added: int = 0
    removed: int = 0
    unchanged: int = 0
    added_digest: str = ""
    removed_digest: str = ""


@dataclass(frozen=True)
class SnapshotDiff:
    """The difference of two snapshots.

    Attributes:
        old: the earlier one; None where there is none, and everything is new.
        new: the later one.
        equal: their roots are the same.
        personal: records are personal data; their digests are keyed.
        files, records, keyed, schema: see there.
        label: how the balance of the label's classes moved.
        columns: columns whose statistics moved.
        groups: groups whose size or label balance moved.
    """

    old: Side | None
    new: Side
    equal: bool
    personal: bool
    files: FileChanges
    records: RecordChanges
    keyed: KeyedDiff
    schema: SchemaDiff
    label: ColumnShift | None
    columns: tuple[ColumnShift, ...]
    groups: tuple[GroupShift, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values, with the format's name; the bytes that `diff_digest` covers are its canonical JSON."""
        value: dict[str, Any] = _plain(asdict(self))
        return {"format": FORMAT, **value}

    @property
    def summary(self) -> str:
        """One sentence, for lists and messages."""
        if self.old is None:
            files, records = self.new.files, self.new.records
            return f"first snapshot: {files} file{'s' * (files != 1)}, {_or_no(records)} record{'s' * (records != 1)}"
        if self.equal:
            return "no change"
        schema = self.schema
        parts = [
            f"{count} {what if count == 1 else what + 's'} {word}"
            for what, counts in (
                ("file", (self.files.added, self.files.removed, self.files.changed, self.files.renamed)),
                ("record", _counts(self)),
                ("column", tuple(map(len, (schema.added, schema.removed, schema.retyped, schema.renamed)))),
            )
            for word, count in zip(("added", "removed", "changed", "renamed"), counts, strict=False)
            if count
        ]
        return ", ".join(parts) or "other ignore rules"


def _or_no(count: int | None) -> str:
    return "no" if count is None else str(count)


def _counts(diff: SnapshotDiff) -> tuple[int, int, int]:
    if diff.keyed.compared:
        return diff.keyed.added, diff.keyed.removed, diff.keyed.changed
    return diff.records.added, diff.records.removed, 0


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def diff_digest(diff: SnapshotDiff) -> str:
    """``sha256:`` and the SHA-256 (hex) of the difference's canonical JSON (RFC 8785): what a data steward signs."""
    from cognify_dagster.ledger import canonical_json

    return "sha256:" + hashlib.sha256(canonical_json(diff.to_dict())).hexdigest()


def diff_snapshots(
    workspace: Workspace, old: Recorded[DatasetSnapshot] | None, new: Recorded[DatasetSnapshot]
) -> SnapshotDiff:
    """Compare two recorded snapshots.

    Args:
        workspace: where their evidence lies.
        old: the earlier one; None for a first snapshot, of which everything is new.
        new: the later one.

    Raises:
        ManifestError: evidence does not belong to its snapshot.
        EvidenceError: evidence is missing or damaged. Evidence that was erased is no error: what it would have shown is
            said to be unknown.
    """
    before = _Evidence(workspace, old.record) if old is not None else None
    after = _Evidence(workspace, new.record)
    keyed, renamed = _keyed(before, after)
    old_profile: Mapping[str, Any] = before.profile if before else {}
    schema = diff_schemas(
        before.record.header.get("schema") if before else None,
        after.record.header.get("schema"),
        renamed,
        old_profile.get("columns"),
        after.profile.get("columns"),
    )
    names = {item.new: item.old for item in schema.renamed}
    return SnapshotDiff(
        old=_side(before.record) if before else None,
        new=_side(after.record),
        equal=before is not None and before.record.root == after.record.root,
        personal=any(side.record.record_digest_key for side in (before, after) if side is not None),
        files=_large_files(before, after) if after.large or (before and before.large) else _small_files(before, after),
        records=_records(before, after),
        keyed=keyed,
        schema=schema,
        label=label_shift(old_profile, after.profile) if before else None,
        columns=column_shifts(old_profile, after.profile, names) if before else (),
        groups=group_shifts(old_profile, after.profile) if before else (),
    )


class _Evidence:
    """What one snapshot left in evidence, checked against its header."""

    def __init__(self, workspace: Workspace, record: DatasetSnapshot) -> None:
        self.record = record
        self._workspace = workspace
        self.erased = False
        self.large = record.file_count > LARGE_FILES
        self.leaves: list[FileLeaf] = [] if self.large else self._files()
        self.records: RecordManifest | None = self._records()
        check_header(record.header, None if self.large else self.leaves, self.records)
        if record.header.get("root") != record.root:
            raise ManifestError(f"dataset {record.name!r}: the header is that of another root than the record says")
        self.profile: dict[str, Any] = self._profile()
        self.index: RecordIndex | None = self._index()

    def _get(self, item: EvidenceItem | None) -> bytes | None:
        from cognify_dagster.evidence.errors import EvidenceKeyErased

        if item is None:
            return None
        try:
            return self._workspace.evidence.get(item.digest)
        except EvidenceKeyErased:
            self.erased = True
            return None

    def _files(self) -> list[FileLeaf]:
        data = self._get(self.record.manifest)
        if data is None:
            raise ManifestError(
                f"dataset {self.record.name!r}: the file manifest was erased; there is nothing to compare"
            )
        return read_file_manifest(data)

    def manifest(self, folder: Path) -> LargeManifest:
        """The file manifest, to be read in parts from a file in a folder."""
        from cognify_dagster.datasets.scale.manifests import LargeManifest

        path = self._workspace.evidence.copy_to(self.record.manifest.digest, folder / f"{self.record.root}.parquet")
        return LargeManifest(path, self.record.header)

    def _records(self) -> RecordManifest | None:
        data = self._get(self.record.record_manifest)
        return None if data is None else unpack_records(data)

    def _profile(self) -> dict[str, Any]:
        import json

        data = self._get(self.record.profile)
        try:
            value = json.loads(data) if data else {}
        except ValueError as exc:
            raise ManifestError(f"dataset {self.record.name!r}: the profile is not JSON ({exc})") from exc
        return value if isinstance(value, dict) else {}

    def _index(self) -> RecordIndex | None:
        data = self._get(self.record.record_index)
        return None if data is None else read_index(data, self.records)


def _side(record: DatasetSnapshot) -> Side:
    return Side(
        record.name,
        record.root,
        record.file_count,
        record.total_bytes,
        record.record_count,
        record.record_root,
        record.schema_hash,
    )


def _small_files(old: _Evidence | None, new: _Evidence) -> FileChanges:
    return _files(old.leaves if old else [], new.leaves)


def _large_files(old: _Evidence | None, new: _Evidence) -> FileChanges:
    """The same with memory for what differs only."""
    from cognify_dagster.datasets.scale.looking import all_added, diff_manifests

    with tempfile.TemporaryDirectory(prefix="cognify-diff-") as name:
        folder = Path(name)
        after = new.manifest(folder)
        if old is None:
            paths, digest = all_added(after, MAX_PATHS)
            return FileChanges(new.record.file_count, 0, 0, 0, 0, paths, (), (), (), digest)
        (folder / "old").mkdir()
        found = diff_manifests(old.manifest(folder / "old"), after)
        return _files(found.old, found.new, found.unchanged)


def _files(old: list[FileLeaf], new: list[FileLeaf], unchanged: int = 0) -> FileChanges:
    diff = diff_files(old, new)
    return FileChanges(
        added=len(diff.added),
        removed=len(diff.removed),
        changed=len(diff.changed),
        renamed=len(diff.renamed),
        unchanged=diff.unchanged + unchanged,
        added_paths=diff.added[:MAX_PATHS],
        removed_paths=diff.removed[:MAX_PATHS],
        changed_paths=diff.changed[:MAX_PATHS],
        renamed_paths=diff.renamed[:MAX_PATHS],
        digest=list_digest(old, new),
    )


def _records(old: _Evidence | None, new: _Evidence) -> RecordChanges:
    if new.records is None:
        return RecordChanges(False, _why(new, "the new version"))
    if old is not None and old.records is None:
        return RecordChanges(False, _why(old, "the old version"))
    taken = [side.record.record_digest_key for side in (old, new) if side is not None]
    if len(set(taken)) > 1:
        return RecordChanges(False, "the two versions digest their records with different keys, or only one with a key")
    before = old.records if old is not None else None
    if before is None:
        before = RecordManifest(new.records.algorithm, new.records.schema_id, [])
    try:
        diff = diff_record_manifests(before, new.records)
    except DatasetError:
        return RecordChanges(False, "the two versions have different columns, so every record digest differs")
    added, removed = (hashlib.sha256(b"".join(side)).hexdigest() for side in (diff.added_digests, diff.removed_digests))
    return RecordChanges(True, "", diff.added, diff.removed, diff.unchanged, added, removed)


def _why(side: _Evidence, which: str) -> str:
    if side.record.record_manifest is None:
        return f"{which} has no records (its files are no table)"
    return f"the record digests of {which} were erased"


def _keyed(old: _Evidence | None, new: _Evidence) -> tuple[KeyedDiff, list[tuple[str, str]]]:
    if old is None:
        return KeyedDiff(False, "there is no earlier version"), []
    indexes: list[RecordIndex] = []
    for side, which in ((old, "old"), (new, "new")):
        if side.index is not None:
            indexes.append(side.index)
        elif side.record.record_index is not None:
            return KeyedDiff(False, f"the record index of the {which} version was erased"), []
        else:
            return KeyedDiff(False, f"the {which} version was taken without a record key"), []
    return diff_indexes(indexes[0], indexes[1])
