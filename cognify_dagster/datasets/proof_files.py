"""Proof files: what is handed to somebody who asks whether a record or file was in a dataset.

A proof file holds the claim's proofs of version 1 (see ``docs/dataset-format.md``) and says to which dataset, root and ledger entry
they belong. For a record that is there, they also show how often: its first and last leaf, and what stands beside them.

Invariants:
    * It holds digests and paths, never a value of the data.
    * The claim is not stated but follows from the proofs; a reader brings the root along.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from typing import Any

from cognify_dagster.datasets.errors import DatasetError, ManifestError, ProofError
from cognify_dagster.datasets.manifest import check_header, root_fields
from cognify_dagster.datasets.proof_verifier import FILE_FORMAT, DoesNotHold, Unreadable, check_file
from cognify_dagster.datasets.proofs import RecordProof, proof_to_dict, prove_file, prove_record
from cognify_dagster.datasets.records.digests import RecordManifest
from cognify_dagster.datasets.records.packed import PackedDigests
from cognify_dagster.datasets.scale.looking import prove_in_manifest
from cognify_dagster.datasets.scale.manifests import LargeManifest
from cognify_dagster.datasets.tree import FileLeaf, FileTree


def record_proof_file(
    header: Mapping[str, Any], manifest: RecordManifest, digest: bytes, *, entry: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Prove that a record was in a snapshot and how often, or that it was not.

    Args:
        header: the snapshot's header.
        manifest: its record manifest.
        digest: the record's digest, made as the snapshot's were.
        entry: where the snapshot is recorded: `ledger`, `seq`, `leaf`.

    Returns:
        The proof file's JSON value.

    Raises:
        ManifestError: header and manifest do not belong together.
        DatasetError: the digest does not have 32 bytes.
    """
    if len(digest) != 32:
        raise DatasetError(f"a record digest has 32 bytes, not {len(digest)}")
    check_header(header, records=manifest)
    tree_root, fields = root_fields(header)
    leaves = PackedDigests.of(manifest.digests)

    def prove(wanted: bytes) -> Any:
        return prove_record(
            leaves,
            wanted,
            tree_root=tree_root,
            fields=fields,
            algorithm=manifest.algorithm,
            schema_id=manifest.schema_id,
        )

    subject = prove(digest)
    proofs = {"subject": subject}
    if isinstance(subject, RecordProof):
        first, past = subject.place.index, bisect.bisect_right(leaves, digest)
        if past - first > 1:
            proofs["last"] = _at(leaves, past - 1, subject)
        if first > 0:
            proofs["before"] = _at(leaves, first - 1, subject)
        if past < len(leaves):
            proofs["after"] = _at(leaves, past, subject)
    return _file(header, proofs, entry)


def _at(leaves: PackedDigests, index: int, like: RecordProof) -> RecordProof:
    from dataclasses import replace

    from cognify_dagster.datasets.proofs import Step
    from cognify_dagster.datasets.records.packed import packed_path

    return replace(like, digest=leaves[index], place=Step(index, packed_path(leaves, index)))


def file_proof_file(
    header: Mapping[str, Any],
    files: Sequence[FileLeaf] | LargeManifest,
    path: bytes,
    *,
    entry: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Prove that a file was in a snapshot, or that it was not; arguments and errors as for records.

    Of a :class:`~cognify_dagster.datasets.scale.LargeManifest`, which was checked against the header, one shard is read.
    """
    tree_root, fields = root_fields(header)
    if isinstance(files, LargeManifest):
        if (files.tree_root, files.fields) != (tree_root, fields):
            raise ManifestError("the file manifest was opened for another snapshot")
        return _file(header, {"subject": prove_in_manifest(files, path)}, entry)
    check_header(header, files)
    return _file(header, {"subject": prove_file(FileTree(files), path, fields)}, entry)


def _file(header: Mapping[str, Any], proofs: Mapping[str, Any], entry: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "format": FILE_FORMAT,
        "dataset": header.get("name", ""),
        "root": header["root"],
        "entry": dict(entry) if entry else None,
        "proofs": {name: proof_to_dict(proof) for name, proof in proofs.items()},
    }


def check_proof_file(value: Any, root: bytes) -> dict[str, Any]:
    """What a proof file shows under a root: `what` (record or file), `present`, `count`, `subject` (hex).

    Raises:
        ProofError: it does not hold, or is no proof file.
    """
    try:
        return check_file(value, root)
    except DoesNotHold as exc:
        raise ProofError(str(exc)) from None
    except Unreadable as exc:
        raise ProofError(f"the proof file cannot be read: {exc}") from None
