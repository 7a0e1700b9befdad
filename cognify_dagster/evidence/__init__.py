"""Evidence: content-addressed blobs with optional encryption, in a local folder or behind an fsspec URL.

The names below are what other rooms may use; the rest is private.
"""

from cognify_dagster.evidence.collection import Collected, Marks, collect
from cognify_dagster.evidence.errors import (
    EvidenceConflict,
    EvidenceCorrupt,
    EvidenceDiskFull,
    EvidenceError,
    EvidenceKeyErased,
    EvidenceKeyUnavailable,
    EvidenceMissing,
    EvidenceTooLarge,
)
from cognify_dagster.evidence.keys import KeyProvider, LocalKeyProvider
from cognify_dagster.evidence.reference import EvidenceRef, Sensitivity, digest_bytes
from cognify_dagster.evidence.store import EvidenceStore

__all__ = [
    "Collected",
    "EvidenceConflict",
    "EvidenceCorrupt",
    "EvidenceDiskFull",
    "EvidenceError",
    "EvidenceKeyErased",
    "EvidenceKeyUnavailable",
    "EvidenceMissing",
    "EvidenceRef",
    "EvidenceStore",
    "EvidenceTooLarge",
    "KeyProvider",
    "LocalKeyProvider",
    "Marks",
    "Sensitivity",
    "collect",
    "digest_bytes",
]
