"""Typed payloads: facts and observed apart, unknown fields kept in sight, unknown kinds refused, values canonicalizable."""

from __future__ import annotations

import hashlib
import math
from datetime import datetime, timedelta, timezone
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import datetimes, just

from cognify_dagster.ledger import canonical_json, check_subject, parse_canonical
from cognify_dagster.records import (
    Envelope,
    Evaluation,
    KeyRevoked,
    ModelRegistered,
    PayloadErased,
    Record,
    RecordError,
    ReleaseGranted,
    TrainingRun,
    UnknownKind,
    VersionOpened,
    build,
    kinds,
    parse_utc,
    read_record,
    register,
    to_json,
    to_metric,
    upcast,
    utc,
)
from cognify_dagster.records.base import _KINDS, _UPCASTS
from tests.ledger.bundle_factory import tell
from tests.ledger.strategies import json_values

MODEL: dict[str, Any] = {"model": "credit", "owner": "team:x", "risk_tier": "high"}


def test_facts_are_compared_observed_is_not() -> None:
    first = ModelRegistered(**MODEL, observed={"attempt": 1})
    again = ModelRegistered(**MODEL, observed={"attempt": 2, "host": "b"})
    other = ModelRegistered(**{**MODEL, "risk_tier": "low"})
    assert first.facts_digest() == again.facts_digest() != other.facts_digest()
    assert first.payload() != again.payload()
    assert first.facts_digest() == hashlib.sha256(canonical_json(first.facts())).hexdigest()


def test_unknown_fields_are_kept_in_extra_and_counted_as_facts() -> None:
    record = build(ModelRegistered, {**MODEL, "colour": "blue"})
    assert record.extra == {"colour": "blue"}
    assert record.facts()["extra"] == {"colour": "blue"}
    assert "extra" not in ModelRegistered(**MODEL).facts()
    assert record.facts_digest() != ModelRegistered(**MODEL).facts_digest()
    again = read_record("model_registered", 1, parse_canonical(record.payload()))
    assert again == record


def test_every_record_of_a_whole_story_reads_back_the_same(tmp_path: Any) -> None:
    view = tell(tmp_path).ledger.view()
    seen = set()
    for item in view.entries:
        assert item.payload is not None
        record = read_record(item.entry.kind, item.entry.schema, item.payload)
        assert record.payload() == canonical_json(item.payload)
        assert tuple(sorted(set(record.subjects()))) == item.entry.subjects
        assert tuple(sorted(set(record.evidence()))) == item.entry.evidence
        seen.add(item.entry.kind)
    assert len(seen) >= 13


def test_unknown_kinds_and_newer_schemas_are_refused() -> None:
    with pytest.raises(UnknownKind, match="unknown to this release"):
        read_record("telepathy", 1, {"facts": {}})
    with pytest.raises(UnknownKind, match="upgrade"):
        read_record("model_registered", 2, {"facts": MODEL})


def test_older_schemas_are_upcast_step_by_step() -> None:
    @register
    class Sample(Record):
        kind: ClassVar[str] = "sample_for_test"
        schema_version: ClassVar[int] = 3
        full_name: str

    try:
        upcast("sample_for_test", 1)(lambda facts: {"title": facts["name"]})
        with pytest.raises(UnknownKind, match="no upcast to 3"):
            read_record("sample_for_test", 1, {"facts": {"name": "x"}})
        upcast("sample_for_test", 2)(lambda facts: {"full_name": facts["title"]})
        record = read_record("sample_for_test", 1, {"facts": {"name": "x"}})
        assert isinstance(record, Sample)
        assert record.full_name == "x"
    finally:
        _KINDS.pop("sample_for_test")
        for step in (1, 2):
            _UPCASTS.pop(("sample_for_test", step), None)


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        (ModelRegistered, {**MODEL, "model": "has space"}, "model_registered: model"),
        (ModelRegistered, {"model": "credit"}, "owner"),
        (VersionOpened, {"model": "m", "version": "../1", "run": "r", "opened_by": "x"}, "version"),
        (PayloadErased, {"seq": 0, "basis": "b", "approved_by": "person/ada"}, "seq"),
        (PayloadErased, {"seq": 1, "basis": "b", "approved_by": "Ada"}, "approved_by"),
        (KeyRevoked, {"holder": "person/xy", "key_id": "XYZ", "reason": "r", "revoked_by": "person/yz"}, "key_id"),
        (TrainingRun, {**MODEL, "version": "1", "datasets": []}, "datasets"),
    ],
)
def test_bad_fields_are_named(kind: type[Record], fields: dict[str, Any], named: str) -> None:
    with pytest.raises(RecordError) as caught:
        build(kind, fields)
    assert named in str(caught.value)


def test_parts_refuse_unknown_fields() -> None:
    with pytest.raises(RecordError, match="Envelope"):
        build(Envelope, {"payload": "", "payloadType": "", "signatures": [], "certificate": "x"})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1), (0.5, 0.5), (float("nan"), "NaN"), (float("inf"), "Infinity"), (-math.inf, "-Infinity"), ("NaN", "NaN"),
        (np.float32(0.5), 0.5), (np.int64(7), 7), (np.float64("nan"), "NaN"), (2**60, float(2**60)),
    ],
)  # fmt: skip
def test_metrics(value: Any, expected: Any) -> None:
    result = to_metric(value)
    assert result == expected
    assert type(result) in (int, float, str)
    canonical_json(result)


@pytest.mark.parametrize("value", [True, "0.5", None, [], "nan", object()])
def test_what_is_no_metric(value: Any) -> None:
    with pytest.raises(RecordError):
        to_metric(value)


@given(json_values)
def test_json_values_pass_unchanged(value: Any) -> None:
    assert canonical_json(to_json(value)) == canonical_json(value)


def test_free_form_values_are_coerced_or_refused_with_their_path() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    value = {"a": np.arange(3), "b": 2**60, "c": float("nan"), "d": moment, "e": (1, np.bool_(True))}
    assert to_json(value) == {"a": [0, 1, 2], "b": str(2**60), "c": "NaN", "d": "2026-01-02T03:04:05Z", "e": [1, True]}
    with pytest.raises(RecordError, match=r"\$\.x\[1\]"):
        to_json({"x": [1, object()]})
    with pytest.raises(RecordError, match="not text"):
        to_json({1: 2})


def test_times_are_utc_to_the_second() -> None:
    east = datetime(2026, 1, 1, 1, 0, tzinfo=timezone(timedelta(hours=2)))
    assert utc(east) == "2025-12-31T23:00:00Z"
    assert parse_utc("2025-12-31T23:00:00Z") == east
    for bad in ("2025-12-31", "2025-12-31T23:00:00+00:00", "2025-12-31T23:00:00.5Z", ""):
        with pytest.raises(RecordError):
            parse_utc(bad)
    with pytest.raises(RecordError, match="time zone"):
        utc(datetime(2026, 1, 1))


@given(datetimes(min_value=datetime(1, 1, 1), timezones=just(timezone.utc)))
def test_every_moment_comes_back_to_the_second(moment: datetime) -> None:
    text = f"{moment.year:04}-{moment:%m-%dT%H:%M:%S}Z"
    assert parse_utc(text) == moment.replace(microsecond=0)


def test_a_release_is_about_everything_it_relied_on() -> None:
    record = ReleaseGranted(
        model="credit", version="1", target="production", round="ab" * 32, package_digest="sha256:" + "1" * 64, package_seq=1,
        model_digest="sha256:" + "2" * 64, sign_off_seqs=(2,), gate_seqs=(), decided_on_size=3, decided_at=utc(),
        policy_digest="sha256:" + "3" * 64, relied_on=("person/ada", "policy", "dataset/loans"),
    )  # fmt: skip
    assert {"release/credit.production", "model/credit@1", "person/ada", "policy", "dataset/loans"} <= set(
        record.subjects()
    )
    for subject in record.subjects():
        check_subject(subject)


def test_kinds_are_lower_case_words_with_a_schema() -> None:
    for kind, model in kinds().items():
        assert kind == model.kind == kind.lower()
        assert model.schema_version >= 1
        assert model.model_json_schema()["properties"]
        assert model.__doc__
    assert Evaluation.kind in kinds()
