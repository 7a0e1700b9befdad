"""The verifier's own Ed25519 against RFC 8032 vectors, the `cryptography` package, and encodings that must be refused."""

from __future__ import annotations

import hashlib
import os
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.ledger.offline_verifier import L, P, ed25519_verify

VECTORS = [  # RFC 8032 §7.1: secret, public, message, signature
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize("vector", VECTORS, ids=["empty", "one byte", "two bytes"])
def test_rfc8032_vectors(vector: tuple[str, str, str, str]) -> None:
    secret, public, message, signature = (bytes.fromhex(text) for text in vector)
    assert Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw() == public
    assert ed25519_verify(public, message, signature)


@settings(max_examples=60)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(0, 511))
def test_accepts_what_cryptography_signs_and_refuses_any_flipped_bit(secret: bytes, message: bytes, bit: int) -> None:
    key = Ed25519PrivateKey.from_private_bytes(secret)
    public, signature = key.public_key().public_bytes_raw(), key.sign(message)
    assert ed25519_verify(public, message, signature)
    flipped = bytearray(signature)
    flipped[bit // 8] ^= 1 << bit % 8
    assert not ed25519_verify(public, message, bytes(flipped))
    assert not ed25519_verify(public, message + b"\0", signature)


def test_malleable_and_malformed_signatures_are_refused() -> None:
    _secret, public, message, signature = (bytes.fromhex(text) for text in VECTORS[2])
    s = int.from_bytes(signature[32:], "little")
    assert not ed25519_verify(public, message, signature[:32] + (s + L).to_bytes(32, "little"))
    for bad in (b"", signature[:63], signature + b"\0", bytes(64), b"\xff" * 64):
        assert not ed25519_verify(public, message, bad)
    for bad_key in (
        b"",
        public[:31],
        public + b"\0",
        b"\xff" * 32,
        P.to_bytes(32, "little"),
        (P + 1).to_bytes(32, "little"),
    ):
        assert not ed25519_verify(bad_key, message, signature)


def test_keys_of_small_order_sign_nothing() -> None:
    """With such a key one signature would fit many messages."""
    small = [(1).to_bytes(32, "little"), (P - 1).to_bytes(32, "little"), bytes(32), bytes(31) + b"\x80"]
    for key in small:
        for message in (b"", b"a", b"b"):
            for r in small:
                assert not ed25519_verify(key, message, r + bytes(32))


def test_a_hundred_signatures_take_less_than_one_and_a_half_seconds() -> None:
    keys = [Ed25519PrivateKey.from_private_bytes(hashlib.sha256(bytes([i])).digest()) for i in range(10)]
    cases = []
    for index in range(100):
        key, message = keys[index % 10], os.urandom(300)
        cases.append((key.public_key().public_bytes_raw(), message, key.sign(message)))
    best = 9.0
    for _ in range(3):  # the machine is shared: the best of three says what the code can do
        start = time.perf_counter()
        assert all(ed25519_verify(*case) for case in cases)
        best = min(best, time.perf_counter() - start)
    assert best < 1.5
