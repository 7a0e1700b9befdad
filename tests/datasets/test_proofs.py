"""Proofs: every file and record can be proven, every other one can be proven absent, and no altered proof holds."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.datasets import (
    DatasetError,
    FileAbsence,
    FileProof,
    FileTree,
    ProofError,
    RecordAbsence,
    RecordProof,
    dataset_root,
    proof_from_dict,
    proof_to_dict,
    prove_file,
    prove_record,
    record_digests,
    record_set,
    verify_proof,
)
from tests.datasets.test_tree import files, leaf, paths


def holds(proof, root: bytes) -> bool:
    """Whether a proof holds, after a trip through JSON."""
    again = proof_from_dict(json.loads(json.dumps(proof_to_dict(proof))))
    assert again == proof
    try:
        verify_proof(again, root)
    except ProofError:
        return False
    return True


@settings(max_examples=40, deadline=None)
@given(files, paths)
def test_every_file_is_proven_and_every_other_path_proven_absent(content, stranger):
    # two shards only, so that absence proofs meet neighbours
    tree = FileTree((leaf(p, c) for p, c in content.items()), bits=1)
    fields = tree.fields()
    root = dataset_root(tree.tree_root, fields)
    for path in content:
        proof = prove_file(tree, path, fields)
        assert isinstance(proof, FileProof)
        assert holds(proof, root)
        assert not holds(proof, bytes(32))
        assert not holds(replace(proof, leaf=leaf(path, content[path] + b"x")), root)
        assert not holds(replace(proof, leaf=leaf(stranger + b"?", content[path])), root)
    if stranger not in content:
        proof = prove_file(tree, stranger, fields)
        assert isinstance(proof, FileAbsence)
        assert holds(proof, root)
        for present in content:
            assert not holds(replace(proof, path=present), root)


def test_the_twelve_bit_tree_is_proven_too():
    tree = FileTree(leaf(f"{i}".encode(), b"x") for i in range(500))
    fields = tree.fields()
    root = dataset_root(tree.tree_root, fields)
    assert all(holds(prove_file(tree, f"{i}".encode(), fields), root) for i in range(0, 1000, 7))


def test_an_absence_proof_with_neighbours_that_are_not_adjacent_does_not_hold():
    tree = FileTree((leaf(f"{i:03}".encode(), b"x") for i in range(60)), bits=1)
    fields = tree.fields()
    root = dataset_root(tree.tree_root, fields)
    members = tree.shards[0]
    victim = members[5]
    left, right = (prove_file(tree, members[i].path, fields) for i in (4, 6))
    honest = prove_file(tree, victim.path, fields)
    for forged_index in (5, 6):
        forged = FileAbsence(
            victim.path,
            (left.leaf, left.place),
            (right.leaf, replace(right.place, index=forged_index)),
            left.shard_size,
            honest.upper,
            fields,
        )
        assert not holds(forged, root)
    for size in range(len(members) + 2):
        assert not holds(FileAbsence(victim.path, (left.leaf, left.place), None, size, honest.upper, fields), root)
        assert not holds(FileAbsence(victim.path, None, (right.leaf, right.place), size, honest.upper, fields), root)
    assert not holds(FileAbsence(victim.path, None, None, 0, honest.upper, fields), root)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=20))
def test_every_record_is_proven_and_every_other_proven_absent(values):
    made = record_set(pa.table({"v": pa.array(values, pa.int64())}))
    tree = FileTree([])
    fields = tree.fields(made.root())
    root = dataset_root(tree.tree_root, fields)
    everything = record_digests(pa.table({"v": list(range(31))}))
    for value, digest in enumerate(everything):
        proof = prove_record(made, digest, tree_root=tree.tree_root, fields=fields)
        assert isinstance(proof, RecordProof if value in values else RecordAbsence)
        assert holds(proof, root)
        other = everything[(value + 1) % 31]
        if isinstance(proof, RecordProof):
            assert not holds(replace(proof, digest=other), root)
            assert not holds(replace(proof, count=proof.count + 1), root)
        elif values:
            assert not holds(replace(proof, left=None, right=None, count=0), root)
    sorted_only = prove_record(
        made.sorted_digests(),
        everything[0],
        tree_root=tree.tree_root,
        fields=fields,
        algorithm=made.algorithm,
        schema_id=made.schema_id,
    )
    assert holds(sorted_only, root)


def test_a_record_that_is_present_cannot_be_shown_absent():
    made = record_set(pa.table({"v": list(range(20))}))
    tree = FileTree([])
    fields = tree.fields(made.root())
    root = dataset_root(tree.tree_root, fields)
    leaves = made.sorted_digests()
    left, here, right = (prove_record(made, leaves[i], tree_root=tree.tree_root, fields=fields) for i in (7, 8, 9))
    common = (made.algorithm, made.schema_id, tree.tree_root, fields)
    for count in range(22):
        for shown in ((left, right), (left, None), (None, right), (None, None)):
            sides = [side and (side.digest, side.place) for side in shown]
            assert not holds(RecordAbsence(here.digest, *sides, count, *common), root)


def test_damaged_proof_files_are_refused():
    tree = FileTree([leaf(b"a", b"1")])
    good = proof_to_dict(prove_file(tree, b"a", tree.fields()))
    for change in (
        {"format": "other"},
        {"type": "other"},
        {"upper": ["zz"]},
        {"upper": None},
        {"shard_size": -1},
        {"shard_size": True},
        {"leaf": {}},
        {"root_fields": {**good["root_fields"], "shard_bits": 2**70}},
    ):
        with pytest.raises(ProofError):
            verify_proof(proof_from_dict({**good, **change}), bytes(32))
    huge = proof_from_dict({**good, "root_fields": {**good["root_fields"], "shard_bits": 300}})
    with pytest.raises(ProofError):
        verify_proof(huge, bytes(32))


def test_bare_digests_need_to_say_how_they_were_made():
    with pytest.raises(DatasetError, match="schema id"):
        prove_record([], bytes(32), tree_root=bytes(32), fields=FileTree([]).fields())
