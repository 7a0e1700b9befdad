"""The encryption envelope: frozen bytes, and no byte that may change."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.evidence import EvidenceError, EvidenceKeyErased, EvidenceRef, EvidenceStore, LocalKeyProvider
from cognify_dagster.evidence.envelope import (
    MAX_ENVELOPE_OVERHEAD,
    EnvelopeError,
    blob_aad,
    data_key_id,
    decrypt0,
    encrypt0,
    key_aad,
    parse_encrypt0,
    seal,
    unseal,
)
from cognify_dagster.evidence.reference import digest_bytes

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden" / "evidence"
FORMAT_PAGE = HERE.parents[1] / "docs" / "evidence-format.md"
VECTORS: dict[str, Any] = json.loads((GOLDEN / "envelope-v1.json").read_text())
KEY, IV = bytes(range(32)), bytes(range(12))
DATA = b"a row about a person\n"
SEALED = seal(DATA, key=KEY, iv=IV, sensitivity="personal", media_type="text/csv")


@pytest.mark.parametrize("case", VECTORS["blobs"], ids=lambda case: case["name"])
def test_golden_sealed_blobs(case: dict[str, str]) -> None:
    key, iv, plaintext = (bytes.fromhex(case[name]) for name in ("key", "iv", "plaintext"))
    assert digest_bytes(plaintext) == case["digest"]
    assert data_key_id(key).hex() == case["kid"]
    assert blob_aad(case["digest"], case["sensitivity"], case["media_type"]).hex() == case["external_aad"]
    sealed = seal(plaintext, key=key, iv=iv, sensitivity=case["sensitivity"], media_type=case["media_type"])
    assert sealed.hex() == case["sealed"]
    assert parse_encrypt0(sealed).protected.hex() == case["protected"]
    opened = unseal(sealed, key=key, digest=case["digest"])
    assert (opened.plaintext, opened.sensitivity, opened.media_type) == (
        plaintext,
        case["sensitivity"],
        case["media_type"],
    )


def test_golden_wrapped_key(tmp_path: Path) -> None:
    case = VECTORS["wrapped_key"]
    path = tmp_path / "kek"
    path.write_bytes(bytes.fromhex(case["kek"]))
    path.chmod(0o600)
    provider = LocalKeyProvider(path)
    assert provider.key_id == case["kek_id"]
    assert key_aad(case["digest"]).hex() == case["external_aad"]
    wrapped = encrypt0(
        bytes.fromhex(case["data_key"]),
        key=bytes.fromhex(case["kek"]),
        iv=bytes.fromhex(case["iv"]),
        kid=provider.key_id.encode(),
        external_aad=key_aad(case["digest"]),
        headers={},
    )
    assert wrapped.hex() == case["wrapped"]
    assert provider.unwrap(wrapped, key_aad(case["digest"])).hex() == case["data_key"]


def test_golden_store_is_still_read(tmp_path: Path) -> None:
    root = tmp_path / "store"
    shutil.copytree(GOLDEN / "store-v1", root)
    refs = json.loads((root / "refs.json").read_text())
    kek = tmp_path / "kek"
    kek.write_bytes(bytes.fromhex(refs["key_encryption_key"]))
    kek.chmod(0o600)
    store = EvidenceStore(root, keys=LocalKeyProvider(kek))
    for value in refs["readable"]:
        ref = EvidenceRef.from_dict(value)
        assert store.get(ref) == f"evidence of class {ref.sensitivity}\n".encode()
    with pytest.raises(EvidenceKeyErased):
        store.get(EvidenceRef.from_dict(refs["erased"]))
    assert store.list_digests() == sorted(value["digest"] for value in [*refs["readable"], refs["erased"]])


def test_format_page_shows_the_golden_bytes() -> None:
    page = re.sub(r"\s+", "", FORMAT_PAGE.read_text(encoding="utf-8"))
    blob, wrapped = VECTORS["blobs"][0], VECTORS["wrapped_key"]
    for value in (
        blob["key"],
        blob["iv"],
        blob["plaintext"],
        blob["digest"],
        blob["kid"],
        blob["sealed"],
        wrapped["wrapped"],
    ):
        assert value in page


def test_format_page_takes_the_golden_blob_apart() -> None:
    dump = FORMAT_PAGE.read_text(encoding="utf-8").split("### Example")[1].split("```")[1]
    # Each line is pairs of hex digits, then spaces and an explanation.
    pieces = [re.match(r"(?:(?:[0-9a-f]{2})+(?: |$))*", line.strip()) for line in dump.splitlines()]
    shown = "".join(piece.group() for piece in pieces if piece)
    assert shown.replace(" ", "") == VECTORS["blobs"][0]["sealed"]


def test_every_flipped_bit_is_caught() -> None:
    for position in range(len(SEALED)):
        for bit in range(8):
            damaged = bytearray(SEALED)
            damaged[position] ^= 1 << bit
            with pytest.raises(EnvelopeError):
                unseal(bytes(damaged), key=KEY, digest=digest_bytes(DATA))


def test_every_truncation_and_any_addition_is_caught() -> None:
    for changed in [SEALED[:length] for length in range(len(SEALED))] + [
        SEALED + b"\x00",
        b"\xd0" + SEALED,
        SEALED * 2,
    ]:
        with pytest.raises(EnvelopeError):
            unseal(changed, key=KEY, digest=digest_bytes(DATA))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_without_other_errors(data: bytes) -> None:
    with pytest.raises(EnvelopeError):
        parse_encrypt0(data)


def test_a_blob_opens_only_under_its_own_key_and_digest() -> None:
    with pytest.raises(EnvelopeError, match="another data key"):
        unseal(SEALED, key=bytes(32), digest=digest_bytes(DATA))
    with pytest.raises(EnvelopeError, match="authentication failed"):
        unseal(SEALED, key=KEY, digest=digest_bytes(b"other"))


def test_relabelled_class_or_media_type_is_caught() -> None:
    # The label is changed as an attacker without the key would: in place, at equal length.
    for old, new in ((b"text/csv", b"text/tsv"), (b"personal", b"confiden")):
        assert old in SEALED
        with pytest.raises(EnvelopeError):
            unseal(SEALED.replace(old, new), key=KEY, digest=digest_bytes(DATA))


def _forge(headers: dict[int | str, object], plaintext: bytes = DATA, aad: bytes | None = None) -> bytes:
    """What a holder of the data key could write."""
    context = blob_aad(digest_bytes(DATA), "personal", "text/csv") if aad is None else aad
    return encrypt0(plaintext, key=KEY, iv=IV, kid=data_key_id(KEY), external_aad=context, headers=headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {3: "text/csv"},
        {3: "text/csv", "cognify.sensitivity": "public"},
        {3: "text/csv", "cognify.sensitivity": 7},
        {3: "no media type", "cognify.sensitivity": "personal"},
        {3: 50, "cognify.sensitivity": "personal"},
        {2: [1], 3: "text/csv", "cognify.sensitivity": "personal"},
    ],
)
def test_other_protected_headers_are_refused_even_with_the_right_key(headers: dict[int | str, object]) -> None:
    with pytest.raises(EnvelopeError):
        unseal(_forge(headers), key=KEY, digest=digest_bytes(DATA))


def test_further_unprotected_headers_are_refused() -> None:
    # Unprotected headers are not authenticated by GCM, so anybody could add one.
    assert SEALED.count(b"\xa2\x04\x50") == 1
    iv_end = SEALED.index(IV) + len(IV)
    start = SEALED.index(b"\xa2\x04\x50")
    added = SEALED[:start] + b"\xa3" + SEALED[start + 1 : iv_end] + b"\x06\x40" + SEALED[iv_end:]
    with pytest.raises(EnvelopeError, match="nothing else"):
        unseal(added, key=KEY, digest=digest_bytes(DATA))


def test_a_key_holder_cannot_pass_off_other_content() -> None:
    forged = _forge({3: "text/csv", "cognify.sensitivity": "personal"}, plaintext=b"other")
    with pytest.raises(EnvelopeError, match="digest"):
        unseal(forged, key=KEY, digest=digest_bytes(DATA))


def test_wrapped_keys_and_blobs_cannot_stand_in_for_each_other() -> None:
    wrapped = encrypt0(DATA, key=KEY, iv=IV, kid=data_key_id(KEY), external_aad=key_aad(digest_bytes(DATA)), headers={})
    with pytest.raises(EnvelopeError):
        unseal(wrapped, key=KEY, digest=digest_bytes(DATA))
    with pytest.raises(EnvelopeError):
        decrypt0(parse_encrypt0(SEALED), key=KEY, external_aad=key_aad(digest_bytes(DATA)))


@given(st.binary(max_size=2000), st.sampled_from(["confidential", "personal"]), st.binary(min_size=32, max_size=32))
def test_sealing_is_deterministic_reversible_and_bounded(data: bytes, sensitivity: Any, key: bytes) -> None:
    sealed = seal(data, key=key, iv=IV, sensitivity=sensitivity, media_type="a/" + "b" * 127)
    assert sealed == seal(data, key=key, iv=IV, sensitivity=sensitivity, media_type="a/" + "b" * 127)
    assert unseal(sealed, key=key, digest=digest_bytes(data)).plaintext == data
    assert len(sealed) <= len(data) + MAX_ENVELOPE_OVERHEAD


@pytest.mark.parametrize("sensitivity", ["public", "internal", "secret"])
def test_only_encrypted_classes_are_sealed(sensitivity: Any) -> None:
    with pytest.raises(EvidenceError):
        seal(DATA, key=KEY, iv=IV, sensitivity=sensitivity, media_type="text/csv")


@pytest.mark.parametrize(("key", "iv"), [(KEY[:16], IV), (KEY, IV[:8]), (b"", IV)])
def test_key_and_iv_lengths_are_fixed(key: bytes, iv: bytes) -> None:
    with pytest.raises(EvidenceError, match="bytes"):
        seal(DATA, key=key, iv=iv, sensitivity="personal", media_type="text/csv")
