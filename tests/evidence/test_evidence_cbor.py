"""One value has one encoding, and nothing else is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.evidence._cbor import CborError, Tag, decode, encode

scalars = st.integers(0, 2**64 - 1) | st.binary(max_size=300) | st.text(max_size=80)
keys = st.integers(0, 2**64 - 1) | st.text(max_size=10)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4)
        | st.builds(Tag, keys.filter(lambda k: isinstance(k, int)), inner)
    ),
    max_leaves=6,
)


def depth(value: object) -> int:
    if isinstance(value, Tag):
        return 1 + depth(value.value)
    children = list(value) if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
    if isinstance(value, dict):
        children += list(value)
    return 1 + max(map(depth, children), default=-1) if isinstance(value, (list, dict)) else 0


@given(values.filter(lambda value: depth(value) <= 4))
def test_what_is_encoded_is_decoded(value: object) -> None:
    assert decode(encode(value)) == value


@given(st.binary(max_size=60))
def test_whatever_is_decoded_encodes_to_the_same_bytes(data: bytes) -> None:
    try:
        value = decode(data)
    except CborError:
        return
    assert encode(value) == data


@pytest.mark.parametrize(
    ("value", "expected"),
    [  # RFC 8949, appendix A
        (0, "00"), (23, "17"), (24, "1818"), (255, "18ff"), (256, "190100"), (65535, "19ffff"), (65536, "1a00010000"),
        (2**32 - 1, "1affffffff"), (2**32, "1b0000000100000000"), (2**64 - 1, "1bffffffffffffffff"),
        (b"\x01\x02\x03\x04", "4401020304"), ("IETF", "6449455446"), ("\u00fc", "62c3bc"), ([1, [2, 3]], "8201820203"),
        ({1: 2, 3: 4}, "a201020304"), ({"a": 1, "b": [2, 3]}, "a26161016162820203"), (Tag(1, 1363896240), "c11a514b67b0"),
    ],
)  # fmt: skip
def test_examples_of_the_standard(value: object, expected: str) -> None:
    assert encode(value).hex() == expected
    assert decode(bytes.fromhex(expected)) == value


def test_map_keys_are_sorted_by_their_encoding() -> None:
    assert encode({"aa": 0, "b": 0, 100: 0, 1: 0}).hex() == "a40100186400616200626161" + "00"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "too early"), ("41", "too early"), ("5affffffff", "too early"), ("1817", "shortest"), ("190018", "shortest"),
        ("1a0000ffff", "shortest"), ("1b00000000ffffffff", "shortest"), ("5f4101ff", "indefinite"), ("9f01ff", "indefinite"),
        ("1c", "reserved"), ("0000", "follow"), ("a201000100", "unique"), ("a203000100", "sorted"), ("a1410000", "map key"),
        ("20", "not used"), ("f4", "not used"), ("fb3ff0000000000000", "not used"), ("62c328", "UTF-8"),
        ("818181818100", "deep"), ("9a00010000", "too many"), ("ba00010000", "too many"),
    ],
)  # fmt: skip
def test_other_encodings_are_refused(data: str, why: str) -> None:
    with pytest.raises(CborError, match=why):
        decode(bytes.fromhex(data))


@pytest.mark.parametrize("value", [True, None, -1, 1.5, 2**64, {1: None}])
def test_other_types_are_refused(value: object) -> None:
    with pytest.raises(CborError):
        encode(value)
