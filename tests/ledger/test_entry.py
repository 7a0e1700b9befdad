"""Entries: exact bytes, strict reading, and that no changed byte goes unseen."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.ledger import (
    Draft,
    Entry,
    EntryError,
    canonical_json,
    check_origin,
    check_subject,
    payload_commitment,
)
from cognify_dagster.ledger import offline_verifier as ov
from cognify_dagster.ledger.entry import MAX_ENTRY, MAX_PAYLOAD, NO_PREVIOUS, assemble, seal_body

ORIGIN = "bank.example/demo/models"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
KEY_ID = hashlib.sha256(PUBLIC).hexdigest()[:16]


def draft(**changed: Any) -> Draft:
    fields: dict[str, Any] = {
        "kind": "training_run",
        "schema": 1,
        "subjects": ("model/credit@1", "model/credit"),
        "actor": "workload/pipeline",
        "idem": "11" * 32,
        "payload": b'{"facts":{}}',
        "facts_digest": "22" * 32,
        "evidence": ("sha256:" + "33" * 32,),
        **changed,
    }
    return Draft(**fields)


def entry_bytes(*, signed: bool = True, **changed: Any) -> bytes:
    if signed:
        changed = {"key_id": KEY_ID, "sign": KEY.sign, **changed}
    sealed = seal_body(ORIGIN, draft(**changed), salt=bytes(32))
    heads = dict.fromkeys(sorted(set(sealed.draft.subjects)), -1)
    heads["model/credit"] = 4
    return assemble(ORIGIN, sealed.body, heads, "ab" * 32, 7, 1_760_000_000_000_000)


def accepts(data: bytes) -> bool:
    """Both readers agree on every input; say whether they accept it."""
    try:
        Entry.parse(data)
        first = True
    except EntryError:
        first = False
    try:
        ov.Entry(data, "x")
        second = True
    except ov.Bad:
        second = False
    assert first == second, data
    return first


def test_assembled_bytes_are_canonical_and_read_back() -> None:
    data = entry_bytes()
    assert canonical_json(json.loads(data)) == data
    entry = Entry.parse(data)
    assert (entry.seq, entry.time_us, entry.prev, entry.kind) == (7, 1_760_000_000_000_000, "ab" * 32, "training_run")
    assert entry.subjects == ("model/credit", "model/credit@1")
    assert dict(entry.heads) == {"model/credit": 4, "model/credit@1": -1}
    assert entry.leaf == hashlib.sha256(b"\x00" + data).digest()
    assert entry.commitment == hashlib.sha256(b"cognify/payload/v1\0" + bytes(32) + b'{"facts":{}}').hexdigest()


def test_the_writers_signature_covers_body_and_ledger() -> None:
    entry = Entry.parse(entry_bytes())
    public = Ed25519PublicKey.from_public_bytes(PUBLIC)
    public.verify(entry.signature, entry.signing_input())
    body = {k: v for k, v in json.loads(entry.data)["body"].items() if k != "sig"}
    message = canonical_json({"body": body, "ledger": ORIGIN})
    kind = b"application/vnd.cognify.entry-body+json"
    assert entry.signing_input() == b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(message), message)
    assert ov.Entry(entry.data, "x").signed == entry.signing_input()


@settings(max_examples=300)
@given(st.integers(0, len(entry_bytes()) - 1), st.integers(0, 255))
def test_any_changed_byte_is_refused_or_changes_the_leaf(at: int, value: int) -> None:
    original = entry_bytes()
    data = original[:at] + bytes([value]) + original[at + 1 :]
    if data != original and accepts(data):
        assert Entry.parse(data).leaf != Entry.parse(original).leaf


@given(st.integers(0, len(entry_bytes())), st.binary(min_size=1, max_size=3))
def test_any_insertion_or_truncation_is_refused_or_changes_the_leaf(at: int, extra: bytes) -> None:
    original = entry_bytes()
    for data in (original[:at] + extra + original[at:], original[:at] if at < len(original) else original + b" "):
        if accepts(data):
            assert Entry.parse(data).leaf != Entry.parse(original).leaf


def changed(path: str, value: Any, data: bytes | None = None) -> bytes:
    root = json.loads(data or entry_bytes())
    node = root
    *parents, last = path.split(".")
    for name in parents:
        node = node[name]
    if value is KeyError:
        del node[last]
    else:
        node[last] = value
    return canonical_json(root)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("v", 2), ("v", True), ("v", "1"), ("seq", -1), ("seq", "7"), ("seq", True), ("seq", 1.5), ("time_us", -1), ("time_us", None),
        ("prev", "AB" * 32), ("prev", "ab" * 31), ("prev", 1), ("ledger", "x"), ("ledger", "a b c"), ("ledger", 5), ("extra", 1),
        ("heads", {}), ("heads", []), ("heads", {"model/credit": 7, "model/credit@1": -1}), ("heads", {"model/credit": -2, "model/credit@1": -1}),
        ("heads", {"model/credit": True, "model/credit@1": -1}), ("heads", {"model/credit": 1.5, "model/credit@1": -1}), ("body", []), ("body", None),
        ("body.subjects", []), ("body.subjects", ["model/credit@1", "model/credit"]), ("body.subjects", ["model/credit"]),
        ("body.subjects", "m"), ("body.subjects", {"model/credit": 1, "model/credit@1": 2}), ("body.subjects", [1, 2]),
        ("body.evidence", ""), ("body.evidence", {}), ("body.evidence", ["sha256:" + "3" * 63]), ("body.evidence", [1]),
        ("body.evidence", ["sha256:" + "33" * 32] * 2), ("body.evidence", ["sha256:" + "44" * 32, "sha256:" + "33" * 32]),
        ("body.kind", "Training"), ("body.kind", ""), ("body.kind", 1), ("body.schema", 0), ("body.schema", "1"), ("body.schema", True),
        ("body.schema", 10_001), ("body.idem", "x"), ("body.payload", "11" * 31), ("body.key", "abc"), ("body.key", ""), ("body.key", None),
        ("body.sig", ""), ("body.sig", "AAAA"), ("body.sig", "!!!!"), ("body.sig", None), ("body.actor", "Model"), ("body.actor", "model/é"),
        ("body.more", 1), ("body.sig", KeyError), ("seq", KeyError),
    ],
)  # fmt: skip
def test_wrong_members_are_refused_by_both_readers(path: str, value: Any) -> None:
    assert accepts(entry_bytes())
    assert not accepts(changed(path, value))


def test_a_subject_that_is_a_whole_string_is_not_a_list_of_letters() -> None:
    data = changed("body.subjects", "m", changed("heads", {"m": -1}))
    assert not accepts(data)


def test_an_unsigned_entry_has_neither_key_nor_signature() -> None:
    data = entry_bytes(signed=False)
    assert accepts(data)
    assert Entry.parse(data).signature == b""
    assert not accepts(changed("body.sig", "A" * 86 + "==", data))
    assert not accepts(changed("body.sig", "A" * 85 + "B==", entry_bytes()))


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "No"}, {"schema": 0}, {"schema": 10_001}, {"subjects": ()}, {"subjects": tuple(f"s/{n}" for n in range(65))},
        {"subjects": ("Model/x",)}, {"subjects": ("model/х",)}, {"subjects": ("model/a\n",)}, {"actor": "a b"}, {"idem": "x"},
        {"facts_digest": "y"}, {"payload": b"x" * (MAX_PAYLOAD + 1)}, {"payload": b"{} "}, {"payload": b"[]"}, {"payload": b""},
        {"evidence": ("md5:1",)}, {"key_id": KEY_ID}, {"sign": KEY.sign}, {"key_id": "zz", "sign": KEY.sign},
        {"key_id": KEY_ID, "sign": lambda data: b"short"},
    ],
)  # fmt: skip
def test_bad_drafts_are_refused_before_anything_is_written(fields: dict[str, Any]) -> None:
    with pytest.raises(EntryError):
        seal_body(ORIGIN, draft(**fields))


def test_an_entry_is_at_most_65535_bytes() -> None:
    evidence = tuple(f"sha256:{n:064x}" for n in range(900))
    sealed = seal_body(ORIGIN, draft(evidence=evidence))
    with pytest.raises(EntryError, match="limit is 65535"):
        assemble(ORIGIN, sealed.body, {"model/credit": -1, "model/credit@1": -1}, NO_PREVIOUS, 0, 0)
    with pytest.raises(EntryError, match="limit"):
        Entry.parse(b" " * (MAX_ENTRY + 1))


def test_salts_are_random_and_32_bytes_long() -> None:
    assert seal_body(ORIGIN, draft()).salt != seal_body(ORIGIN, draft()).salt
    with pytest.raises(EntryError, match="32 bytes"):
        payload_commitment(b"short", b"{}")


@pytest.mark.parametrize("origin", ["", "ab", "/abc", "a b c", "ünder", "a" * 201, "abc\n", "abc+d"])
def test_bad_origins(origin: str) -> None:
    with pytest.raises(EntryError, match="origin"):
        check_origin(origin)


@pytest.mark.parametrize("subject", ["policy", "model/credit_default", "model/credit_default@3.1+b", "person/ada-l"])
def test_good_subjects(subject: str) -> None:
    assert check_subject(subject) == subject
