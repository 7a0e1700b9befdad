"""The frozen vectors: recomputed by the product and, from the format page alone, by the code in this file."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cognify_dagster.ledger import (
    CanonicalJsonError,
    Entry,
    ProofFile,
    TrustFile,
    canonical_json,
    open_checkpoint,
    parse_json,
    verify_consistency,
    verify_inclusion,
)
from cognify_dagster.ledger import offline_verifier as ov
from tests.golden import make_ledger_vectors as make

GOLDEN = Path(make.__file__).parent


def load(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(make.vectors()))
def test_the_vectors_are_made_again_byte_for_byte(name: str) -> None:
    assert (GOLDEN / name).read_bytes().decode() == make.vectors()[name]


@pytest.mark.parametrize("case", load("ledger/canonical.json"), ids=lambda case: case["json"][:20])
def test_canonical_json(case: dict[str, Any]) -> None:
    data = case["json"].encode()
    if case["canonical"] is None:
        with pytest.raises(CanonicalJsonError):
            canonical_json(parse_json(data))
    else:
        assert canonical_json(parse_json(data)) == case["canonical"].encode()
        assert ov.canonical(ov.parse_canonical(case["canonical"].encode(), "x")) == case["canonical"].encode()


def test_the_chain_follows_the_format_page() -> None:
    """Leaf, chain, heads, commitment and signature, with hashlib and string formatting only."""
    vectors = load("ledger/chain.json")
    prev, newest, leaves = "0" * 64, dict[str, int](), []
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(vectors["writer"]["public"]))
    assert vectors["writer"]["key_id"] == hashlib.sha256(bytes.fromhex(vectors["writer"]["public"])).hexdigest()[:16]
    for item in vectors["entries"]:
        data = item["entry"].encode()
        body = data[len(b'{"body":') : data.index(b',"heads":{')]
        heads = ",".join(f'"{s}":{newest.get(s, -1)}' for s in sorted(item["input"]["subjects"]))
        tail = f',"heads":{{{heads}}},"ledger":"{vectors["origin"]}","prev":"{prev}","seq":{item["seq"]}'
        assert data == b'{"body":' + body + f'{tail},"time_us":{item["time_us"]},"v":1}}'.encode()
        committed = b"cognify/payload/v1\0" + bytes.fromhex(item["salt"]) + item["payload"].encode()
        value = json.loads(data)["body"]
        assert value["payload"] == item["commitment"] == hashlib.sha256(committed).hexdigest()
        assert value["subjects"] == sorted(item["input"]["subjects"])
        assert value["evidence"] == sorted(item["input"]["evidence"])
        if item["input"]["signed"]:
            public.verify(base64.b64decode(value["sig"]), item["signing_input"].encode())
        else:
            assert (value["sig"], value["key"]) == ("", "")
        leaf = hashlib.sha256(b"\0" + data).digest()
        assert leaf.hex() == item["leaf"] == Entry.parse(data).leaf.hex() == ov.Entry(data, "x").leaf.hex()
        assert Entry.parse(data).signing_input() == item["signing_input"].encode()
        leaves.append(leaf)
        assert vectors["roots"][len(leaves)] == ov.tree_root(leaves).hex()
        prev = leaf.hex()
        newest.update(dict.fromkeys(item["input"]["subjects"], item["seq"]))


def test_proofs_of_the_chain() -> None:
    vectors = load("ledger/chain.json")
    roots = [bytes.fromhex(text) for text in vectors["roots"]]
    for index, hashes in vectors["inclusion"].items():
        leaf = bytes.fromhex(vectors["entries"][int(index)]["leaf"])
        verify_inclusion(int(index), 5, leaf, [bytes.fromhex(text) for text in hashes], roots[5])
    for size, hashes in vectors["consistency_to_5"].items():
        verify_consistency(int(size), 5, roots[int(size)], roots[5], [bytes.fromhex(text) for text in hashes])


def test_checkpoint_proof_and_trust_file_fit_each_other() -> None:
    folder = GOLDEN / "ledger"
    trust = TrustFile.parse((folder / "trust.txt").read_text(encoding="utf-8"))
    entries = load("ledger/chain.json")["entries"]
    assert trust.genesis is not None
    assert trust.genesis.hex() == entries[0]["leaf"]
    for name in ("checkpoint.txt", "checkpoint-cosigned.txt"):
        assert open_checkpoint((folder / name).read_bytes(), trust.logs).size == 5
    proof = ProofFile.parse((folder / "entry-00000002.tlog-proof").read_text(encoding="utf-8"))
    assert proof.verify(bytes.fromhex(entries[2]["leaf"]), trust.logs).origin == trust.origin
    assert ov.Trust((folder / "trust-witnessed.txt").read_text(encoding="utf-8")).met("any", {"audit"})


@pytest.mark.parametrize("name", ["sign-off", "act"])
def test_statements(name: str) -> None:
    vector = load(f"statement/{name}.json")
    statement = vector["statement"].encode()
    assert canonical_json(json.loads(statement)) == statement
    assert vector["statement_digest"] == hashlib.sha256(statement).hexdigest()
    expected = b"DSSEv1 28 application/vnd.in-toto+json %d %b" % (len(statement), statement)
    assert vector["pae"].encode() == expected
    public = bytes.fromhex(vector["key"]["public"])
    assert ov.ed25519_verify(public, expected, base64.b64decode(vector["signature"]))
    assert base64.b64decode(vector["envelope"]["payload"]) == statement
    members = set(json.loads(statement)["predicate"])
    assert members == (ov.SIGN_OFF_KEYS if name == "sign-off" else ov.ACT_KEYS)


def test_the_act_names_the_record_without_its_envelope() -> None:
    vector = load("statement/act.json")
    digest = hashlib.sha256(canonical_json(vector["facts_without_envelope"])).hexdigest()
    assert json.loads(vector["statement"])["subject"] == [{"name": "key_revoked", "digest": {"sha256": digest}}]


def test_the_frozen_bundle_still_verifies() -> None:
    trust = (GOLDEN / "ledger/bundle-v1.trust.txt").read_text(encoding="utf-8")
    report = ov.verify_bundle(GOLDEN / "ledger/bundle-v1.zip", trust)
    assert (report["exit_code"], report["level"], len(report["sign_offs"])) == (0, "L1", 3), report["findings"]
