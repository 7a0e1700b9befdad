"""Datasets: snapshots with a Merkle root, profiles, provenance, diffs, proofs and overlap.

This room writes nothing and knows no ledger entry: it returns values, which other rooms record. Byte formats are described in
``docs/dataset-format.md``.
"""

from __future__ import annotations

from cognify_dagster.datasets.compare.differences import (
    ChangedRecord,
    FileDiff,
    RecordDiff,
    TableDiff,
    diff_files,
    diff_record_manifests,
    diff_tables,
)
from cognify_dagster.datasets.errors import (
    DatasetError,
    DuplicateKeyError,
    ManifestError,
    ProofError,
    SourceChangedError,
    SourceError,
    TableError,
)
from cognify_dagster.datasets.manifest import check_header, file_manifest_bytes, read_file_manifest, root_fields
from cognify_dagster.datasets.overlap.exact import (
    DuplicateGroup,
    OverlapExample,
    OverlapReport,
    duplicate_groups,
    find_overlap,
)
from cognify_dagster.datasets.profile.statistics import json_value, profile_table, schema_hash, schema_list
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
from cognify_dagster.datasets.records.tables import to_arrow
from cognify_dagster.datasets.snapshot import (
    Snapshot,
    header_bytes,
    manifest_bytes,
    record_manifest_bytes,
    take_snapshot,
)
from cognify_dagster.datasets.sources.opening import Progress, read_table
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
    "ManifestError",
    "OverlapExample",
    "OverlapReport",
    "Progress",
    "ProofError",
    "Provenance",
    "RecordAbsence",
    "RecordDiff",
    "RecordDigestAlgorithm",
    "RecordManifest",
    "RecordProof",
    "RecordSet",
    "RootFields",
    "Snapshot",
    "SourceChangedError",
    "SourceError",
    "TableDiff",
    "TableError",
    "VerifyReport",
    "check_header",
    "check_record_key",
    "content_digest",
    "dataset_root",
    "diff_files",
    "diff_record_manifests",
    "diff_tables",
    "duplicate_groups",
    "file_manifest_bytes",
    "find_overlap",
    "header_bytes",
    "ignore_digest",
    "json_value",
    "key_id",
    "manifest_bytes",
    "profile_table",
    "proof_from_dict",
    "proof_to_dict",
    "prove_file",
    "prove_record",
    "read_file_manifest",
    "read_table",
    "record_digests",
    "record_manifest_bytes",
    "record_root",
    "record_set",
    "root_fields",
    "schema_hash",
    "schema_id",
    "schema_list",
    "take_snapshot",
    "to_arrow",
    "unpack_records",
    "verify_proof",
    "verify_snapshot",
]
