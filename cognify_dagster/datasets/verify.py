"""Checking data against a snapshot that was taken earlier: which file or record is not what it was."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cognify_dagster.datasets.compare.files import diff_files
from cognify_dagster.datasets.compare.records import diff_record_manifests
from cognify_dagster.datasets.errors import DatasetError, ManifestError
from cognify_dagster.datasets.hashing.packed import Leaves, PackedFiles
from cognify_dagster.datasets.hashing.progress import Progress
from cognify_dagster.datasets.hashing.source import hash_source, index_use
from cognify_dagster.datasets.hashing.verifying import Verify
from cognify_dagster.datasets.manifest import check_header, read_file_manifest
from cognify_dagster.datasets.records.collecting import RecordCollector
from cognify_dagster.datasets.records.digests import RecordManifest, key_id, record_set, unpack_records
from cognify_dagster.datasets.snapshot import Snapshot, manifest_bytes, record_manifest_bytes
from cognify_dagster.datasets.sources.ignore import IgnoreRules
from cognify_dagster.datasets.sources.local import Found
from cognify_dagster.datasets.sources.opening import (
    Source,
    TableSource,
    open_source,
    read_files,
    table_files,
)
from cognify_dagster.datasets.sources.streaming import STREAM_BYTES, TableStream
from cognify_dagster.datasets.tree import NO_RECORDS, FileLeaf, dataset_root


@dataclass(frozen=True)
class VerifyReport:
    """What a check found.

    Attributes:
        ok: the data has the snapshot's root.
        expected_root, found_root: hex; ``found_root`` is None when records could not be recomputed.
        changed, missing, extra: paths.
        records_expected, records_found: counts, None without records.
        records_added, records_removed: how many record digests are new or gone, None without a record manifest.
        reasons: plain sentences, one for each finding.
        hashed: files that were read for this check.
        reused: files that were not, since an index says that they have not changed.
        notes: plain sentences about how the check was made.
    """

    ok: bool
    expected_root: str
    found_root: str | None
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    records_expected: int | None
    records_found: int | None
    records_added: int | None
    records_removed: int | None
    reasons: tuple[str, ...]
    hashed: int = 0
    reused: int = 0
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def verify_snapshot(
    source: Any,
    header: Snapshot | Mapping[str, Any],
    manifest: bytes | None = None,
    record_manifest: bytes | None = None,
    *,
    record_hmac_key: bytes | None = None,
    progress: Progress | None = None,
    storage_options: Mapping[str, Any] | None = None,
    index: str | os.PathLike[str] | None = None,
    index_digest: str | None = None,
) -> VerifyReport:
    """Hash a source again and compare it with a snapshot.

    Args:
        source: as for :func:`take_snapshot`.
        header: the snapshot, or its recorded header together with ``manifest``.
        manifest: file manifest bytes.
        record_manifest: record manifest bytes; without them changed records are counted only in total.
        record_hmac_key: the key, when the snapshot's digests are keyed.
        progress: see :func:`take_snapshot`.
        storage_options: arguments for the fsspec filesystem.
        index: stat index of a snapshot: files that are as it says are not read again. Without it every file is.
        index_digest: SHA-256 in hex that the index has to have.

    Raises:
        ManifestError: header and manifests do not belong together.
        SourceError: the source is missing or unreadable, or changed while it was read.
        TableError: a table file can no longer be read as a table while the files themselves are unchanged.
        DatasetError: the record key is missing or another one.
    """
    if isinstance(header, Snapshot):
        if header.header["records"]["mode"] != "none" and record_manifest is None:
            record_manifest = record_manifest_bytes(header)
        manifest = manifest_bytes(header) if manifest is None else manifest
        header = header.header
    if manifest is None:
        raise ManifestError("a recorded header needs its file manifest to be verified")
    leaves = read_file_manifest(manifest)
    expected_records = unpack_records(record_manifest) if record_manifest is not None else None
    check_header(header, leaves, expected_records)
    taken = header["records"]
    if taken["mode"] != "none":
        _check_key(taken, record_hmac_key)
    rules = IgnoreRules(header["params"]["ignore"])
    if rules.digest.hex() != header["params"]["ignore_digest"]:
        raise ManifestError("the header's ignore rules do not have the digest that its root covers: they were altered")
    opened = open_source(source, storage_options)
    packed = PackedFiles.of(())
    data_files: list[Found] = []
    notes: list[str] = []
    if not isinstance(opened, TableSource):
        use = index_use(opened, rules, str(header.get("name", "")), index, index_digest)
        use.load()
        how = Verify("quick" if index is not None else "full")
        hashed = hash_source(opened, rules, index=use.found, verify=how, progress=progress)
        packed, notes = hashed.files, use.notes
        if taken["mode"] != "none":
            _, data_files = table_files(hashed.found())
    found_leaves: Sequence[FileLeaf] = Leaves(packed)
    same = packed.tree_root.hex() == header["files"]["tree_root"]
    files = diff_files((), ()) if same else diff_files(leaves, found_leaves)
    reasons = [f"file {path} has other content" for path in files.changed]
    missing = files.removed + tuple(old for old, _ in files.renamed)
    extra = files.added + tuple(new for _, new in files.renamed)
    reasons += [f"file {path} is missing" for path in files.removed]
    reasons += [f"file {path} was not part of the snapshot" for path in files.added]
    reasons += [f"file {old} is now named {new}" for old, new in files.renamed]
    counts: tuple[int | None, int | None, int | None] = (None, None, None)
    record_root: bytes | None = NO_RECORDS
    if taken["mode"] != "none":
        try:
            now = _records_now(opened, data_files, found_leaves, header, record_hmac_key, progress)
        except DatasetError as exc:
            if files.empty:
                raise
            record_root = None
            reasons.append(f"the records cannot be read any more: {exc}")
        else:
            record_root = now.root()
            counts = _compare(now, taken, expected_records, reasons)
    found_root = None
    if record_root is not None:
        found_root = dataset_root(packed.tree_root, packed.fields(record_root, rules.digest)).hex()
    return VerifyReport(
        ok=found_root == header["root"],
        expected_root=header["root"],
        found_root=found_root,
        changed=files.changed,
        missing=tuple(sorted(missing)),
        extra=tuple(sorted(extra)),
        records_expected=taken.get("count"),
        records_found=counts[0],
        records_added=counts[1],
        records_removed=counts[2],
        reasons=tuple(reasons),
        hashed=packed.counts()["hashed"],
        reused=len(packed) - packed.counts()["hashed"],
        notes=tuple(notes),
    )


def _check_key(taken: Mapping[str, Any], key: bytes | None) -> None:
    wanted = taken.get("key_id")
    if (wanted is None) != (taken["digest"] == "sha256"):
        raise ManifestError("the header's record digest and key id contradict each other: it was altered")
    if wanted is None:
        return
    if key is None:
        raise DatasetError(f"the snapshot's record digests are keyed; pass the record key {wanted}")
    if key_id(key) != wanted:
        raise DatasetError(f"the snapshot's record digests were made with key {wanted}, not with key {key_id(key)}")


def _records_now(
    opened: Source,
    data_files: list[Found],
    leaves: Sequence[FileLeaf],
    header: Mapping[str, Any],
    key: bytes | None,
    progress: Progress | None,
) -> RecordManifest:
    secret = key if header["records"]["digest"] != "sha256" else None
    if isinstance(opened, TableSource):
        table = opened.table
    elif not data_files:
        raise DatasetError("the source holds no table any more")
    else:
        types = {name: kind for name, kind, _ in header["schema"] or []}
        wanted = {item.path for item in data_files}
        by_path = {leaf.path: leaf for leaf in leaves if leaf.path in wanted}
        if sum(leaf.size for leaf in by_path.values()) > STREAM_BYTES:
            with contextlib.closing(RecordCollector(secret=secret)) as collector:
                for batch in TableStream(opened, data_files, by_path, types).batches():
                    collector.add(batch)
                made, _ = collector.finish()
            return RecordManifest(made.algorithm, made.schema_id, made.sorted_digests())
        table = read_files(opened, data_files, by_path, types, progress)
    now = record_set(table, key=secret)
    return RecordManifest(now.algorithm, now.schema_id, now.sorted_digests())


def _compare(
    now: RecordManifest, taken: Mapping[str, Any], expected: RecordManifest | None, reasons: list[str]
) -> tuple[int, int | None, int | None]:
    if now.root().hex() == taken["root"]:
        return len(now.digests), 0, 0
    if now.schema_id.hex() != taken["schema_id"]:
        reasons.append("the records have other columns")
        return len(now.digests), None, None
    if expected is None:
        reasons.append(f"the records changed: {taken['count']} then, {len(now.digests)} now")
        return len(now.digests), None, None
    change = diff_record_manifests(expected, now)
    reasons.append(f"the records changed: {change.removed} are gone and {change.added} are new")
    return len(now.digests), change.added, change.removed
