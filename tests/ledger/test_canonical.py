"""Canonical JSON is RFC 8785: same bytes as an independent implementation, errors for what it forbids."""

from __future__ import annotations

import datetime
import enum
import hashlib
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.ledger import CanonicalJsonError, canonical, canonical_json, parse_canonical, parse_json
from cognify_dagster.ledger import offline_verifier as ov
from tests.ledger.strategies import json_values


class Colour(enum.Enum):
    RED = 1


class Named(str):
    """A subclass, of which orjson would write the base."""


@dataclass
class Point:
    x: int


@given(json_values)
def test_same_bytes_as_rfc8785_and_as_the_verifiers_own_implementation(value: Any) -> None:
    data = canonical_json(value)
    assert data == rfc8785.dumps(value)
    assert ov.canonical(value) == data


@given(json_values)
def test_canonical_bytes_are_read_back_as_canonical(value: Any) -> None:
    data = canonical_json(value)
    assert canonical_json(parse_canonical(data)) == data
    assert ov.canonical(ov.parse_canonical(data, "x")) == data


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_written_as_ecmascript_does(value: float) -> None:
    assert ov.canonical(value) == rfc8785.dumps(value) == canonical_json(value)


@given(json_values)
def test_without_orjson_the_bytes_are_the_same(value: Any) -> None:
    data = canonical_json(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canonical, "orjson", None)
        assert canonical_json(value) == data
        assert canonical_json(parse_canonical(data)) == data


@given(st.one_of(st.builds(lambda m, e: float(f"{m}e{e}"), st.integers(-(10**17), 10**17), st.integers(-340, 290))))
def test_numbers_at_every_magnitude(value: float) -> None:
    """Where `repr`, orjson and ECMAScript turn from digits to exponents in different places."""
    assert canonical_json(value) == canonical_json([value])[1:-1] == rfc8785.dumps(value)


@given(
    st.dictionaries(
        st.text("a\u00e9\ud7ff\ue000\uffff\U00010000\U0010ffff", max_size=3), st.integers(0, 9), max_size=8
    ),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_keys_around_the_surrogates_sort_by_utf16_on_every_path(keys: dict[str, int], number: float) -> None:
    for value in (keys, {"n": number, **keys}, [{"in": (keys, number)}]):
        assert canonical_json(value) == rfc8785.dumps(value)


def test_the_value_itself_is_left_as_it_was() -> None:
    value = {"a": [1.5, {"b": 2.5}], "c": (0.5,)}
    assert canonical_json(value) == b'{"a":[1.5,{"b":2.5}],"c":[0.5]}'
    assert value == {"a": [1.5, {"b": 2.5}], "c": (0.5,)}


@pytest.mark.parametrize(
    "value", [uuid.UUID(int=1), datetime.date(2026, 1, 1), Colour.RED, Named("x"), Point(1), Decimal(1)]
)
def test_what_orjson_knows_and_json_does_not_is_refused(value: Any) -> None:
    for case in (value, [value], {"a": value}, {"a": 1.5, "b": [value]}):
        with pytest.raises(CanonicalJsonError, match="has no JSON form"):
            canonical_json(case)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-0.0, "0"), (1.0, "1"), (1e21, "1e+21"), (1e20, "100000000000000000000"), (1e-6, "0.000001"), (1e-7, "1e-7"),
        (5e-324, "5e-324"), (1.7976931348623157e308, "1.7976931348623157e+308"), (333333333.33333329, "333333333.3333333"),
        (9007199254740994.0, "9007199254740994"), (-1.5e-9, "-1.5e-9"), (0.1, "0.1"), (123456.789, "123456.789"),
    ],
)  # fmt: skip
def test_numbers_of_the_rfc(value: float, text: str) -> None:
    assert canonical_json(value).decode() == ov.canonical(value).decode() == text
    assert canonical_json(parse_canonical(text.encode())) == text.encode()


def test_keys_sort_by_utf16_code_units() -> None:
    value = {"\U0001f600": 1, "\ue000": 2, "€": 3, "a": 4, "\r": 5}
    data = canonical_json(value)
    assert list(parse_json(data)) == ["\r", "a", "€", "\U0001f600", "\ue000"]
    assert ov.canonical(value) == data


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [float("nan")]}, "$.a[0]"), ({"a": float("inf")}, "$.a"), ({"a": 2**53}, "$.a"), ({"a": "\ud800"}, "$.a"),
        ({1: 2}, "key 1"), ({"a": object()}, "$.a"), ({"a": b"x"}, "$.a"), ({"a": {1, 2}}, "$.a"), (-(2**53), "$"),
    ],
)  # fmt: skip
def test_what_has_no_form_is_an_error_naming_the_path(value: Any, path: str) -> None:
    with pytest.raises(CanonicalJsonError) as caught:
        canonical_json(value)
    assert path in str(caught.value)


def test_depth_is_bounded() -> None:
    value: Any = 1
    for _ in range(70):
        value = [value]
    with pytest.raises(CanonicalJsonError, match="levels deep"):
        canonical_json(value)
    with pytest.raises(CanonicalJsonError):
        parse_json(b"[" * 200_000)
    with pytest.raises(ov.Bad):
        ov.parse_canonical(b"[" * 70 + b"]" * 70, "x")


@pytest.mark.parametrize(
    "data",
    [b'{"a":1,"a":1}', b"NaN", b"Infinity", b"1e400", b"\xff", b"[1,]", b"", b"{'a':1}", b'"\\ud800"'],
)  # fmt: skip
def test_parsing_is_strict(data: bytes) -> None:
    with pytest.raises(CanonicalJsonError):
        parse_canonical(data)
    with pytest.raises(ov.Bad):
        ov.parse_canonical(data, "x")


@pytest.mark.parametrize(
    "data",
    [b' {"a":1}', b'{"a": 1}', b'{"b":1,"a":2}', b"1.0", b"-0", b"1E5", b"100000000000000000001", b"9007199254740993",
     b'"\\u0041"', b'"\\/"', b'{"a":1}\n', b"01"],
)  # fmt: skip
def test_other_forms_of_the_same_value_are_not_canonical(data: bytes) -> None:
    with pytest.raises(CanonicalJsonError):
        parse_canonical(data)
    with pytest.raises(ov.Bad):
        ov.parse_canonical(data, "x")


def test_the_size_is_bounded_before_parsing() -> None:
    with pytest.raises(CanonicalJsonError, match="limit"):
        parse_json(b'"' + b"a" * 100 + b'"', limit=50)


@given(json_values, json_values)
def test_a_payload_made_in_one_pass_is_the_canonical_one(facts: Any, observed: Any) -> None:
    payload, digest = canonical.payload_and_digest(facts, observed)
    assert payload == canonical_json({"facts": facts, "observed": observed})
    assert digest == hashlib.sha256(canonical_json(facts)).hexdigest()
