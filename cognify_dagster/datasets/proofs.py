"""Proofs that a file or record is, or is not, part of a dataset with a given root.

Invariants:
    * Verification needs the 32-byte dataset root only: every other number comes from the proof and is bound by the root.
    * An absence proof shows two neighbours in a sorted tree. It holds as far as the maker of the snapshot sorted the tree,
      which anyone holding the manifest can check (:func:`cognify_dagster.datasets.manifest.check_header`).
    * The directions in a proof are fixed by hashes, so stating another tree size cannot make non-neighbours adjacent.
"""

from __future__ import annotations

import bisect
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cognify_dagster.datasets.errors import DatasetError, ProofError
from cognify_dagster.datasets.records.digests import RecordDigestAlgorithm, RecordSet, record_root_from
from cognify_dagster.datasets.records.packed import PackedDigests, packed_path
from cognify_dagster.datasets.tree import (
    ContentAlgorithm,
    FileKind,
    FileLeaf,
    FileTree,
    RootFields,
    check_path,
    dataset_root,
    merkle_path,
    merkle_root,
    root_from_path,
    sha256,
    shard_of,
    show_path,
)


@dataclass(frozen=True)
class Step:
    """A leaf's place in a tree: its index and the sibling hashes from below."""

    index: int
    siblings: tuple[bytes, ...]


@dataclass(frozen=True)
class FileProof:
    """A file is part of the dataset."""

    leaf: FileLeaf
    place: Step
    shard_size: int
    upper: tuple[bytes, ...]
    fields: RootFields


@dataclass(frozen=True)
class FileAbsence:
    """No file with this path is part of the dataset: the path's two neighbours in its shard are adjacent."""

    path: bytes
    left: tuple[FileLeaf, Step] | None
    right: tuple[FileLeaf, Step] | None
    shard_size: int
    upper: tuple[bytes, ...]
    fields: RootFields


@dataclass(frozen=True)
class RecordProof:
    """A record digest is part of the dataset (once for each index it is proven at)."""

    digest: bytes
    place: Step
    count: int
    algorithm: RecordDigestAlgorithm
    schema_id: bytes
    tree_root: bytes
    fields: RootFields


@dataclass(frozen=True)
class RecordAbsence:
    """A record digest is not part of the dataset: its two neighbours among the sorted digests are adjacent."""

    digest: bytes
    left: tuple[bytes, Step] | None
    right: tuple[bytes, Step] | None
    count: int
    algorithm: RecordDigestAlgorithm
    schema_id: bytes
    tree_root: bytes
    fields: RootFields


# --- making ------------------------------------------------------------------------------------------------------------


def prove_file(tree: FileTree, path: bytes, fields: RootFields) -> FileProof | FileAbsence:
    """Prove that a path is in the tree, or that it is not.

    Args:
        tree: the snapshot's file tree.
        path: relative path, raw bytes.
        fields: the other root fields of the snapshot.

    Raises:
        DatasetError: the path is not canonical.
    """
    check_path(path)
    shard = shard_of(path, tree.bits)
    members = tree.shards.get(shard, [])
    hashes = [leaf.leaf_hash() for leaf in members]
    position = bisect.bisect_left([leaf.path for leaf in members], path)
    upper = tree.upper_path(shard)
    if position < len(members) and members[position].path == path:
        step = Step(position, merkle_path(hashes, position))
        return FileProof(members[position], step, len(members), upper, fields)
    left, right = (
        (members[i], Step(i, merkle_path(hashes, i))) if 0 <= i < len(members) else None
        for i in (position - 1, position)
    )
    return FileAbsence(path, left, right, len(members), upper, fields)


def prove_record(
    records: RecordSet | Sequence[bytes],
    digest: bytes,
    *,
    tree_root: bytes,
    fields: RootFields,
    algorithm: RecordDigestAlgorithm | None = None,
    schema_id: bytes | None = None,
) -> RecordProof | RecordAbsence:
    """Prove that a record digest is in the snapshot, or that it is not.

    Args:
        records: the snapshot's records, or their sorted digests (then give ``algorithm`` and ``schema_id``).
        digest: 32 bytes, made as the snapshot's digests were (same columns; same key when keyed).
        tree_root: root of the snapshot's file tree.
        fields: the snapshot's root fields.

    Raises:
        DatasetError: ``algorithm`` or ``schema_id`` is missing.
    """
    if isinstance(records, RecordSet):
        algorithm, schema_id = records.algorithm, records.schema_id
        leaves = PackedDigests.of(records.sorted_digests())
    else:
        leaves = PackedDigests.of(records)
    if algorithm is None or schema_id is None:
        raise DatasetError("a proof over bare digests needs the algorithm and the schema id of the snapshot")
    position = bisect.bisect_left(leaves, digest)
    common = (len(leaves), algorithm, schema_id, tree_root, fields)
    if position < len(leaves) and leaves[position] == digest:
        return RecordProof(digest, Step(position, packed_path(leaves, position)), *common)
    left, right = (
        (leaves[i], Step(i, packed_path(leaves, i))) if 0 <= i < len(leaves) else None for i in (position - 1, position)
    )
    return RecordAbsence(digest, left, right, *common)


# --- checking ----------------------------------------------------------------------------------------------------------


def verify_proof(proof: FileProof | FileAbsence | RecordProof | RecordAbsence, root: bytes) -> None:
    """Check a proof against a dataset root (32 bytes).

    Raises:
        ProofError: the proof does not hold for this root.
    """
    if not 1 <= proof.fields.shard_bits <= 20:
        raise ProofError("the proof names an impossible number of shard bits")
    try:
        if isinstance(proof, FileProof):
            found = _file_root(proof)
        elif isinstance(proof, FileAbsence):
            found = _file_absence_root(proof)
        elif isinstance(proof, RecordProof):
            found = _record_root(
                proof, root_from_path(proof.digest, proof.place.index, proof.count, proof.place.siblings)
            )
        else:
            found = _record_absence_root(proof)
    except ProofError:
        raise
    except DatasetError as exc:
        raise ProofError(f"the proof is malformed: {exc}") from exc
    if not hmac.compare_digest(found, root):
        raise ProofError("the proof leads to another dataset root: it belongs to another snapshot, or was altered")


def _climb(node: bytes, shard: int, upper: Sequence[bytes], fields: RootFields) -> bytes:
    if len(upper) != fields.shard_bits:
        raise ProofError("the proof does not have one hash for each shard level")
    for sibling in upper:
        if len(sibling) != 32:
            raise ProofError("a proof hash is not 32 bytes long")
        node = sha256(b"\x01" + (sibling + node if shard % 2 else node + sibling))
        shard //= 2
    return dataset_root(node, fields)


def _file_root(proof: FileProof) -> bytes:
    check_path(proof.leaf.path)
    node = root_from_path(proof.leaf.leaf_hash(), proof.place.index, proof.shard_size, proof.place.siblings)
    return _climb(node, shard_of(proof.leaf.path, proof.fields.shard_bits), proof.upper, proof.fields)


def _neighbours(count: int, left: Step | None, right: Step | None) -> None:
    if left is None and right is None:
        if count != 0:
            raise ProofError("an absence proof in a tree that is not empty needs a neighbour")
    elif left is None:
        if right is None or right.index != 0:
            raise ProofError("without a left neighbour the right one has to be the first leaf")
    elif right is None:
        if left.index != count - 1:
            raise ProofError("without a right neighbour the left one has to be the last leaf")
    elif right.index != left.index + 1:
        raise ProofError("the two neighbours are not adjacent")


def _file_absence_root(proof: FileAbsence) -> bytes:
    check_path(proof.path)
    bits = proof.fields.shard_bits
    shard = shard_of(proof.path, bits)
    _neighbours(proof.shard_size, proof.left and proof.left[1], proof.right and proof.right[1])
    if (proof.left and proof.left[0].path >= proof.path) or (proof.right and proof.right[0].path <= proof.path):
        raise ProofError("the path does not lie between the neighbours shown")
    nodes = set()
    for leaf, step in filter(None, (proof.left, proof.right)):
        check_path(leaf.path)
        if shard_of(leaf.path, bits) != shard:
            raise ProofError("a neighbour belongs to another shard")
        nodes.add(root_from_path(leaf.leaf_hash(), step.index, proof.shard_size, step.siblings))
    if len(nodes) > 1:
        raise ProofError("the two neighbours lead to different shard roots")
    return _climb(nodes.pop() if nodes else merkle_root(()), shard, proof.upper, proof.fields)


def _record_root(proof: RecordProof | RecordAbsence, merkle: bytes) -> bytes:
    found = record_root_from(merkle, proof.count, proof.algorithm, proof.schema_id)
    return dataset_root(proof.tree_root, replace(proof.fields, record_root=found))


def _record_absence_root(proof: RecordAbsence) -> bytes:
    _neighbours(proof.count, proof.left and proof.left[1], proof.right and proof.right[1])
    if (proof.left and proof.left[0] >= proof.digest) or (proof.right and proof.right[0] <= proof.digest):
        raise ProofError("the digest does not lie between the neighbours shown")
    nodes = set()
    for digest, step in filter(None, (proof.left, proof.right)):
        if len(digest) != 32:
            raise ProofError("a neighbour's digest is not 32 bytes long")
        nodes.add(root_from_path(digest, step.index, proof.count, step.siblings))
    if len(nodes) > 1:
        raise ProofError("the two neighbours lead to different record trees")
    return _record_root(proof, nodes.pop() if nodes else merkle_root(()))


# --- JSON --------------------------------------------------------------------------------------------------------------


def proof_to_dict(proof: FileProof | FileAbsence | RecordProof | RecordAbsence) -> dict[str, Any]:
    """The proof as JSON values; bytes are lower-case hex."""
    fields = proof.fields
    out: dict[str, Any] = {
        "format": "cognify/dataset-proof/v1",
        "root_fields": {
            "shard_bits": fields.shard_bits,
            "file_count": fields.file_count,
            "total_bytes": fields.total_bytes,
            "record_root": fields.record_root.hex(),
            "ignore_digest": fields.ignore_digest.hex(),
        },
    }
    if isinstance(proof, FileProof | FileAbsence):
        out |= {"shard_size": proof.shard_size, "upper": [h.hex() for h in proof.upper]}
        if isinstance(proof, FileProof):
            return out | {"type": "file", "leaf": _leaf_dict(proof.leaf), "place": _step_dict(proof.place)}
        sides = {
            side: value and {"leaf": _leaf_dict(value[0]), "place": _step_dict(value[1])}
            for side, value in (("left", proof.left), ("right", proof.right))
        }
        return out | {"type": "file-absence", "path": proof.path.hex()} | sides
    out |= {
        "digest": proof.digest.hex(),
        "count": proof.count,
        "algorithm": proof.algorithm.label,
        "schema_id": proof.schema_id.hex(),
        "tree_root": proof.tree_root.hex(),
    }
    if isinstance(proof, RecordProof):
        return out | {"type": "record", "place": _step_dict(proof.place)}
    near = {
        side: value and {"digest": value[0].hex(), "place": _step_dict(value[1])}
        for side, value in (("left", proof.left), ("right", proof.right))
    }
    return out | {"type": "record-absence"} | near


def proof_from_dict(value: dict[str, Any]) -> FileProof | FileAbsence | RecordProof | RecordAbsence:
    """Read what :func:`proof_to_dict` wrote.

    Raises:
        ProofError: the value is not a proof of version 1.
    """
    try:
        if value["format"] != "cognify/dataset-proof/v1":
            raise ProofError(f"unknown proof format {value['format']!r}")
        raw = value["root_fields"]
        fields = RootFields(
            _count(raw["file_count"]),
            _count(raw["total_bytes"]),
            _hash(raw["record_root"]),
            _hash(raw["ignore_digest"]),
            _count(raw["shard_bits"]),
        )
        kind = value["type"]
        if kind in ("file", "file-absence"):
            size, upper = _count(value["shard_size"]), tuple(_hash(h) for h in value["upper"])
            if kind == "file":
                return FileProof(_leaf_of(value["leaf"]), _step_of(value["place"]), size, upper, fields)
            left, right = (
                (_leaf_of(value[s]["leaf"]), _step_of(value[s]["place"])) if value[s] else None
                for s in ("left", "right")
            )
            return FileAbsence(bytes.fromhex(value["path"]), left, right, size, upper, fields)
        algorithm = RecordDigestAlgorithm.from_label(value["algorithm"])
        common = (_count(value["count"]), algorithm, _hash(value["schema_id"]), _hash(value["tree_root"]), fields)
        if kind == "record":
            return RecordProof(_hash(value["digest"]), _step_of(value["place"]), *common)
        if kind != "record-absence":
            raise ProofError(f"unknown proof type {kind!r}")
        near_left, near_right = (
            (_hash(value[s]["digest"]), _step_of(value[s]["place"])) if value[s] else None for s in ("left", "right")
        )
        return RecordAbsence(_hash(value["digest"]), near_left, near_right, *common)
    except ProofError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise ProofError(f"the proof cannot be read ({type(exc).__name__}: {exc})") from exc


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**64:
        raise ProofError(f"{value!r} is not a count")
    return value


def _hash(value: Any) -> bytes:
    raw = bytes.fromhex(value)
    if len(raw) != 32:
        raise ProofError("a hash in the proof is not 32 bytes long")
    return raw


def _step_dict(step: Step) -> dict[str, Any]:
    return {"index": step.index, "siblings": [h.hex() for h in step.siblings]}


def _step_of(value: dict[str, Any]) -> Step:
    return Step(_count(value["index"]), tuple(_hash(h) for h in value["siblings"]))


def _leaf_dict(leaf: FileLeaf) -> dict[str, Any]:
    return {
        "path": leaf.path.hex(),
        "path_text": show_path(leaf.path),
        "kind": int(leaf.kind),
        "size": leaf.size,
        "algorithm": leaf.algorithm.label,
        "digest": leaf.digest.hex(),
        "record_root": leaf.record_root.hex() if leaf.record_root else None,
    }


def _leaf_of(value: dict[str, Any]) -> FileLeaf:
    algorithm = {a.label: a for a in ContentAlgorithm}[value["algorithm"]]
    inner = value["record_root"]
    return FileLeaf(
        bytes.fromhex(value["path"]),
        FileKind(value["kind"]),
        _count(value["size"]),
        algorithm,
        _hash(value["digest"]),
        _hash(inner) if inner else None,
    )
