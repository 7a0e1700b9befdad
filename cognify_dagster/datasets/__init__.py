"""Datasets: snapshots with a Merkle root, profiles, provenance, diffs, proofs and overlap.

This room writes nothing and knows no ledger entry: it returns values, which other rooms record. Byte formats are described in
``docs/dataset-format.md``.
"""

from __future__ import annotations

from cognify_dagster.datasets.compare.files import FileDiff, diff_files
from cognify_dagster.datasets.compare.records import RecordDiff, diff_record_manifests
from cognify_dagster.datasets.compare.snapshots import SnapshotDiff, diff_digest, diff_snapshots
from cognify_dagster.datasets.compare.tables import ChangedRecord, TableDiff, diff_tables
from cognify_dagster.datasets.errors import (
    DatasetError,
    DuplicateKeyError,
    ManifestError,
    ProofError,
    SilentChangeError,
    SourceChangedError,
    SourceError,
    TableError,
)
from cognify_dagster.datasets.expectations import Range, SchemaExpectation, expectation_from
from cognify_dagster.datasets.hashing.evidence import demand_hashed, hashed_share
from cognify_dagster.datasets.hashing.mapreduce import (
    FolderNames,
    ShardRange,
    list_files,
    map_files,
    map_links,
    map_source,
    reduce_shard_range,
    root_from_shards,
    split_rows,
)
from cognify_dagster.datasets.hashing.packed import Level
from cognify_dagster.datasets.hashing.progress import Progress, ProgressState
from cognify_dagster.datasets.manifest import check_header, file_manifest_bytes, read_file_manifest, root_fields
from cognify_dagster.datasets.overlap.exact import (
    DuplicateGroup,
    OverlapExample,
    OverlapReport,
    duplicate_groups,
    find_overlap,
)
from cognify_dagster.datasets.overlap.levels import LEVELS as OVERLAP_LEVELS
from cognify_dagster.datasets.overlap.levels import OverlapOptions, check_overlap
from cognify_dagster.datasets.overlap.near import miss_probability
from cognify_dagster.datasets.overlap.report import LevelResult, Match, OverlapFindings
from cognify_dagster.datasets.profile.statistics import json_value, profile_table, schema_hash, schema_list
from cognify_dagster.datasets.profile.streaming import profile_batches
from cognify_dagster.datasets.proof_files import check_proof_file, file_proof_file, record_proof_file
from cognify_dagster.datasets.proofs import (
    FileAbsence,
    FileProof,
    RecordAbsence,
    RecordProof,
    proof_from_dict,
    proof_to_dict,
    prove_file,
    prove_record,
    verify_proof,
)
from cognify_dagster.datasets.provenance import ExclusionRule, Provenance
from cognify_dagster.datasets.records.digests import (
    RecordDigestAlgorithm,
    RecordManifest,
    RecordSet,
    check_record_key,
    key_id,
    record_digests,
    record_root,
    record_set,
    schema_id,
    unpack_records,
)
from cognify_dagster.datasets.records.index import RecordIndex, read_index, record_index
from cognify_dagster.datasets.records.packed import PackedDigests
from cognify_dagster.datasets.records.tables import to_arrow
from cognify_dagster.datasets.records.typed import typed_digest, typed_record, typed_row
from cognify_dagster.datasets.snapshot import (
    Snapshot,
    header_bytes,
    manifest_bytes,
    observations_bytes,
    record_manifest_bytes,
    take_snapshot,
)
from cognify_dagster.datasets.sources.opening import read_table
from cognify_dagster.datasets.tree import (
    ContentAlgorithm,
    FileKind,
    FileLeaf,
    FileTree,
    RootFields,
    content_digest,
    dataset_root,
    ignore_digest,
)
from cognify_dagster.datasets.verify import VerifyReport, verify_snapshot

__all__ = [
    "Range",
    "SchemaExpectation",
    "expectation_from",
    "OVERLAP_LEVELS",
    "ChangedRecord",
    "ContentAlgorithm",
    "DatasetError",
    "DuplicateGroup",
    "DuplicateKeyError",
    "ExclusionRule",
    "FileAbsence",
    "FileDiff",
    "FileKind",
    "FileLeaf",
    "FileProof",
    "FileTree",
    "FolderNames",
    "Level",
    "LevelResult",
    "ManifestError",
    "Match",
    "OverlapExample",
    "OverlapFindings",
    "OverlapOptions",
    "OverlapReport",
    "PackedDigests",
    "Progress",
    "ProgressState",
    "ProofError",
    "Provenance",
    "RecordAbsence",
    "RecordDiff",
    "RecordDigestAlgorithm",
    "RecordIndex",
    "RecordManifest",
    "RecordProof",
    "RecordSet",
    "RootFields",
    "ShardRange",
    "SilentChangeError",
    "Snapshot",
    "SnapshotDiff",
    "SourceChangedError",
    "SourceError",
    "TableDiff",
    "TableError",
    "VerifyReport",
    "check_header",
    "check_proof_file",
    "check_overlap",
    "check_record_key",
    "content_digest",
    "dataset_root",
    "demand_hashed",
    "diff_digest",
    "diff_files",
    "diff_record_manifests",
    "diff_snapshots",
    "diff_tables",
    "duplicate_groups",
    "file_proof_file",
    "file_manifest_bytes",
    "find_overlap",
    "hashed_share",
    "header_bytes",
    "ignore_digest",
    "json_value",
    "key_id",
    "list_files",
    "manifest_bytes",
    "map_files",
    "map_links",
    "map_source",
    "miss_probability",
    "observations_bytes",
    "profile_batches",
    "profile_table",
    "proof_from_dict",
    "proof_to_dict",
    "prove_file",
    "prove_record",
    "read_file_manifest",
    "read_index",
    "read_table",
    "record_digests",
    "record_index",
    "record_manifest_bytes",
    "record_proof_file",
    "record_root",
    "record_set",
    "reduce_shard_range",
    "root_fields",
    "root_from_shards",
    "schema_hash",
    "schema_id",
    "schema_list",
    "split_rows",
    "take_snapshot",
    "to_arrow",
    "typed_digest",
    "typed_record",
    "typed_row",
    "unpack_records",
    "verify_proof",
    "verify_snapshot",
]
