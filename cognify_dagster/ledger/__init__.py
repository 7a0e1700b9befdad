"""A verifiable ledger: RFC 6962 tree over canonical entries, C2SP checkpoints and proofs, SQLite storage.

This room knows no other room and imports neither Dagster nor any policy. The names below are its public surface; the format
is specified in docs/ledger-format.md.
"""

from cognify_dagster.ledger.canonical import canonical_json, parse_canonical, parse_json
from cognify_dagster.ledger.entry import Draft, Entry, body_signing_input, pae, payload_commitment
from cognify_dagster.ledger.errors import (
    CanonicalJsonError,
    ClockError,
    EntryError,
    IdempotencyConflict,
    LedgerError,
    LedgerFull,
    LedgerUnreadable,
    NoteError,
    NotWitnessed,
    ProofError,
    RolledBack,
    SizeChanged,
    Tampered,
)
from cognify_dagster.ledger.group import GroupCommitter
from cognify_dagster.ledger.ledger import Ledger, VerifiedEntry, VerifiedView
from cognify_dagster.ledger.merkle import leaf_hash, merkle_root, node_hash, verify_consistency, verify_inclusion
from cognify_dagster.ledger.names import check_origin, check_subject
from cognify_dagster.ledger.note import (
    Checkpoint,
    Note,
    ProofFile,
    TrustFile,
    VerifierKey,
    open_checkpoint,
    parse_note,
    sign_note,
    verify_note,
)
from cognify_dagster.ledger.signer import LogSigner, new_secret, read_secret, write_private
from cognify_dagster.ledger.sqlite.store import SqliteStore, filesystem_of
from cognify_dagster.ledger.store import Receipt, Store
from cognify_dagster.ledger.verification.report import Finding, Outcome, Report

__all__ = [
    "CanonicalJsonError",
    "Checkpoint",
    "ClockError",
    "Draft",
    "Entry",
    "EntryError",
    "Finding",
    "GroupCommitter",
    "IdempotencyConflict",
    "Ledger",
    "LedgerError",
    "LedgerFull",
    "LedgerUnreadable",
    "LogSigner",
    "Note",
    "NoteError",
    "NotWitnessed",
    "Outcome",
    "ProofError",
    "ProofFile",
    "Receipt",
    "Report",
    "RolledBack",
    "SizeChanged",
    "SqliteStore",
    "Store",
    "Tampered",
    "TrustFile",
    "VerifiedEntry",
    "VerifiedView",
    "VerifierKey",
    "body_signing_input",
    "canonical_json",
    "check_origin",
    "check_subject",
    "filesystem_of",
    "leaf_hash",
    "merkle_root",
    "new_secret",
    "node_hash",
    "open_checkpoint",
    "pae",
    "parse_canonical",
    "parse_json",
    "parse_note",
    "payload_commitment",
    "read_secret",
    "sign_note",
    "verify_consistency",
    "verify_inclusion",
    "verify_note",
    "write_private",
]
