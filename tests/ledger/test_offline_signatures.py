"""The verifier's own ECDSA P-256 and RSA PKCS#1 v1.5 against the `cryptography` package, and what must be refused."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.ledger.offline_verifier import (
    P256,
    P256_B,
    P256_BASE,
    P256_N,
    _p256_add,
    _sum,
    es256_verify,
    rs256_verify,
)

ECDSA = ec.ECDSA(hashes.SHA256())
EC_KEY = ec.derive_private_key(0x1234567890ABCDEF, ec.SECP256R1())
EC = EC_KEY.public_key().public_numbers()
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA = RSA_KEY.public_key().public_numbers()


def theirs(message: bytes, signature: bytes) -> bool:
    try:
        EC_KEY.public_key().verify(signature, message, ECDSA)
    except InvalidSignature:
        return False
    return True


# --- ECDSA P-256


@settings(max_examples=25, deadline=None)
@given(st.integers(1, P256_N - 1), st.binary(max_size=100), st.integers(0, 255))
def test_es256_accepts_what_cryptography_signs_and_nothing_else(secret: int, message: bytes, bit: int) -> None:
    key = ec.derive_private_key(secret, ec.SECP256R1())
    public, signature = key.public_key().public_numbers(), key.sign(message, ECDSA)
    assert es256_verify(public.x, public.y, message, signature)
    assert not es256_verify(public.x, public.y, message + b"\0", signature)
    r, s = decode_dss_signature(signature)
    flipped = encode_dss_signature(r, s ^ 1 << bit)
    assert not es256_verify(public.x, public.y, message, flipped)
    assert not es256_verify(public.x, (P256 - public.y) % P256, message, signature)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 71), st.integers(1, 255), st.sampled_from(["flip", "cut", "add"]))
def test_es256_agrees_with_cryptography_on_mutated_signatures(at: int, mask: int, kind: str) -> None:
    good = EC_KEY.sign(b"message", ECDSA)
    at %= len(good)
    bad = {
        "flip": good[:at] + bytes([good[at] ^ mask]) + good[at + 1 :],
        "cut": good[:at],
        "add": good[:at] + bytes([mask]) + good[at:],
    }[kind]
    ours = es256_verify(EC.x, EC.y, b"message", bad)
    assert ours <= theirs(b"message", bad), "stricter is allowed, laxer is not"
    assert not ours


def test_es256_takes_only_the_one_der_form() -> None:
    r, s = decode_dss_signature(EC_KEY.sign(b"m", ECDSA))
    good = encode_dss_signature(r, s)
    assert es256_verify(EC.x, EC.y, b"m", good)
    assert es256_verify(EC.x, EC.y, b"m", encode_dss_signature(r, P256_N - s)), "ECDSA itself accepts both"

    def der(*numbers: bytes, tail: bytes = b"", tag: int = 0x30, long_form: bool = False) -> bytes:
        body = b"".join(bytes([2, len(n)]) + n for n in numbers) + tail
        return bytes([tag]) + (bytes([0x81, len(body)]) if long_form else bytes([len(body)])) + body

    raw_r, raw_s = (n.to_bytes(n.bit_length() // 8 + 1, "big") for n in (r, s))
    assert der(raw_r, raw_s) == good
    refused = [
        der(b"\0" + raw_r, raw_s), der(raw_r, b"\0" + raw_s), der(raw_r, raw_s, tail=b"\0"), der(raw_r, raw_s) + b"\0",
        der(raw_r, raw_s, long_form=True), der(raw_r, raw_s, tag=0x31), der(raw_r), der(raw_r, raw_s, raw_s),
        r.to_bytes(32, "big") + s.to_bytes(32, "big"), b"", b"\x30\x00", b"\x30\x06\x02\x01\x00\x02\x01\x00", good[:-1],
        der((r + P256_N).to_bytes(34, "big"), raw_s), b"\x30" * 72, b"\xff" * 72, b"\x30" + b"\xff" * 71,
    ]  # fmt: skip
    for bad in refused:
        assert not es256_verify(EC.x, EC.y, b"m", bad), bad.hex()
    for bad_r, bad_s in ((0, s), (r, 0), (P256_N, s), (r, P256_N), (r + P256_N, s), (r, s + P256_N)):
        assert not es256_verify(EC.x, EC.y, b"m", encode_dss_signature(bad_r, bad_s))


def test_es256_refuses_points_off_the_curve_and_out_of_range() -> None:
    signature = EC_KEY.sign(b"m", ECDSA)
    for x, y in (
        (EC.x, EC.y + 1),
        (EC.x + P256, EC.y),
        (EC.x, EC.y + P256),
        (-EC.x, EC.y),
        (EC.x, EC.y - P256),
        (0, 0),
    ):
        assert not es256_verify(x, y, b"m", signature)


def test_p256_arithmetic() -> None:
    x, y = P256_BASE
    assert (y * y - x**3 + 3 * x - P256_B) % P256 == 0
    assert _sum(_p256_add, None, P256_N, P256_BASE, 0, P256_BASE) is None, "the order of the base point"
    assert _sum(_p256_add, None, P256_N - 1, P256_BASE, 1, P256_BASE) is None
    assert _p256_add(P256_BASE, (x, P256 - y)) is None
    assert _p256_add(None, P256_BASE) == _p256_add(P256_BASE, None) == P256_BASE
    for a, b in ((1, 1), (2, 5), (3, P256_N - 3), (7, 0), (0, 0), (2**200, 2**255)):
        secret = (a + 3 * b) % P256_N
        point = _sum(_p256_add, None, a, P256_BASE, b, _sum(_p256_add, None, 3, P256_BASE, 0, P256_BASE))
        if secret == 0:
            assert point is None
        else:
            numbers = ec.derive_private_key(secret, ec.SECP256R1()).public_key().public_numbers()
            assert point == (numbers.x, numbers.y)


# --- RSA


@pytest.mark.parametrize("size", [2048, 3072, 4096])
def test_rs256_accepts_what_cryptography_signs(size: int) -> None:
    key = RSA_KEY if size == 2048 else rsa.generate_private_key(public_exponent=65537, key_size=size)
    public, signature = key.public_key().public_numbers(), key.sign(b"message", padding.PKCS1v15(), hashes.SHA256())
    assert rs256_verify(public.n, public.e, b"message", signature)
    assert not rs256_verify(public.n, public.e, b"another", signature)
    assert not rs256_verify(public.n, public.e, b"message", b"\0" + signature)
    assert not rs256_verify(public.n, public.e, b"message", signature[:-1])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2047))
def test_rs256_refuses_any_flipped_bit(bit: int) -> None:
    signature = bytearray(RSA_KEY.sign(b"m", padding.PKCS1v15(), hashes.SHA256()))
    signature[bit // 8] ^= 1 << bit % 8
    assert not rs256_verify(RSA.n, RSA.e, b"m", bytes(signature))


def forged(block: bytes) -> bytes:
    """What the key's owner gets by applying the private key to any block: padding is then all that is checked."""
    numbers = RSA_KEY.private_numbers()
    return pow(int.from_bytes(block, "big"), numbers.d, RSA.n).to_bytes(256, "big")


INFO = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(b"m").digest()


def test_rs256_takes_only_the_one_padding() -> None:
    def block(
        start: bytes = b"\0\1", fill: int = 0xFF, middle: bytes = b"\0", info: bytes = INFO, tail: bytes = b""
    ) -> bytes:
        return start + bytes([fill]) * (256 - len(start) - len(middle) - len(info) - len(tail)) + middle + info + tail

    assert rs256_verify(RSA.n, RSA.e, b"m", forged(block()))
    without_null = bytes.fromhex("302f300b0609608648016503040201") + INFO[17:]
    sha1 = bytes.fromhex("3021300906052b0e03021a05000414") + hashlib.sha1(b"m").digest()
    refused = [
        block(fill=0xFE), block(start=b"\0\2"), block(start=b"\0\0"), block(middle=b"\1"), block(info=without_null),
        block(info=sha1), block(info=INFO[:-1], tail=b"\0"), b"\0\1" + b"\xff" * 8 + b"\0" + INFO + bytes(194),
        block(info=INFO[19:]), bytes(256),
    ]  # fmt: skip
    for bad in refused:
        assert not rs256_verify(RSA.n, RSA.e, b"m", forged(bad)), bad.hex()


def test_rs256_refuses_weak_and_odd_keys() -> None:
    signature = RSA_KEY.sign(b"m", padding.PKCS1v15(), hashes.SHA256())
    number = int.from_bytes(signature, "big")
    assert not rs256_verify(RSA.n, RSA.e, b"m", (number + RSA.n).to_bytes(257, "big"))
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    weak = small.public_key().public_numbers()
    assert not rs256_verify(weak.n, weak.e, b"m", small.sign(b"m", padding.PKCS1v15(), hashes.SHA256()))
    for n, e in (
        (RSA.n, 1),
        (RSA.n, 0),
        (RSA.n, 2),
        (RSA.n + 1, RSA.e),
        (0, 3),
        (RSA.n, 2**32 + 1),
        (1 << 9000 | 1, 3),
    ):
        assert not rs256_verify(n, e, b"m", signature)
