"""CBOR of passkeys: deterministic items are read as the `cbor2` library reads them, anything else is an error."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.governance.signing.cbor import CborError, read_item

KEYS = st.integers(-(2**63), 2**63) | st.text(st.characters(max_codepoint=127), max_size=8)
VALUES = st.recursive(
    st.integers(-(2**64), 2**64 - 1)
    | st.binary(max_size=40)
    | st.text(st.characters(max_codepoint=127))
    | st.booleans(),
    lambda inner: st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=5,
)


@given(VALUES, st.binary(max_size=4))
def test_what_the_library_writes_in_canonical_form_is_read_back(value: object, after: bytes) -> None:
    data = cbor2.dumps(value, canonical=True)
    try:
        assert read_item(data + after) == (value, after)
    except CborError:
        assert isinstance(
            value, dict
        )  # cbor2 orders keys as RFC 7049 did (shorter first) and nests as deep as it likes


@given(st.binary(max_size=60))
def test_any_other_bytes_are_an_error_or_what_the_library_reads(data: bytes) -> None:
    try:
        value, rest = read_item(data)
    except CborError:
        return
    assert cbor2.loads(data[: len(data) - len(rest)]) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x18\x17",
        b"\x19\x00\x01",
        b"\x5f\x41a\xff",
        b"\x42a",
        b"\x63\xc3\xa4a",
        b"\xa2\x02\x01\x01\x01",
        b"\xa2\x01\x01\x01\x02",
        b"\xf6",
        b"\xc0\x00",
        b"\x80",
    ],
    ids=lambda data: data.hex() or "empty",
)
def test_malformed_or_foreign_items_are_refused(data: bytes) -> None:
    with pytest.raises(CborError):
        read_item(data)
