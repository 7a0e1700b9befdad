"""What hostile or unlucky payloads get, and that every kind names subjects a ledger accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognify_dagster.ledger import Draft, Ledger, SqliteStore, check_subject
from cognify_dagster.records import (
    ModelRegistered,
    Record,
    RecordError,
    build,
    kinds,
    read_record,
    register,
    to_json,
    to_metric,
    upcast,
)
from cognify_dagster.records.base import _KINDS, _UPCASTS

MODEL: dict[str, Any] = {"model": "credit", "owner": "team:x", "risk_tier": "high"}
TIMES = {
    "created", "signed_at", "decided_at", "starts", "expires", "due", "accepted_until", "live_since", "next_due",
    "ends", "until",
}  # fmt: skip
ATTRIBUTED = {"launched_by", "opened_by", "built_by", "touched_by"}


def one_kind_of_key(key: dict[str, Any]) -> dict[str, Any]:
    """What a JSON schema cannot say: a key is a passkey, or an identity at an issuer, in all its members or in none."""
    passkey, oidc = key["passkey"] is not None, key["passkey"] is None and key["oidc"] is not None
    algorithm, strength = ("webauthn", "S4") if passkey else ("oidc", "S2") if oidc else ("ed25519", "S3")
    return {**key, "algorithm": algorithm, "strength": strength, "oidc": key["oidc"] if oidc else None}


def fitting(schema: dict[str, Any], defs: dict[str, Any], name: str = "") -> st.SearchStrategy[Any]:
    """Values that fit a record's own JSON schema, as a writer of another product would read it."""
    if "$ref" in schema:
        part = schema["$ref"].rsplit("/", 1)[1]
        found = fitting(defs[part], defs, name)
        return found.map(one_kind_of_key) if part == "PublicKey" else found
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if name in TIMES:
        return st.just("2026-01-01T00:00:00Z")
    if name == "relied_on":
        return st.lists(st.sampled_from(["policy", "model/m@1", "person/ada"]))
    if "const" in schema:
        return st.just(schema["const"])
    if "anyOf" in schema:
        kinds_of = [option for option in schema["anyOf"] if option.get("type") != "string" or "pattern" in option]
        return st.one_of(*(fitting(option, defs, name) for option in kinds_of or schema["anyOf"]))
    kind = schema.get("type")
    if kind == "string" and name in ATTRIBUTED:
        return st.sampled_from(["person/ada", "unattributed"])
    if kind == "string" and "[0-9a-f]{" in schema.get("pattern", ""):
        start, _, rest = schema["pattern"].strip("^$").partition("[0-9a-f]{")
        return st.sampled_from([start + digit * int(rest.rstrip("}")) for digit in "0a"])
    if kind == "string" and "pattern" in schema:
        fits = st.from_regex(schema["pattern"].replace("$", r"\Z"))
        return fits.filter(lambda text: len(text) >= schema.get("minLength", 0))
    if kind == "string":
        return st.text(min_size=schema.get("minLength", 0), max_size=20).filter(str.isprintable)
    if kind == "integer":
        return st.integers(schema.get("minimum", 0), schema.get("maximum", 2**53 - 1))
    if kind == "number":
        return st.floats(allow_nan=False, allow_infinity=False)
    if kind == "boolean":
        return st.booleans()
    if kind == "null":
        return st.none()
    if kind == "array":
        items = fitting(schema.get("items", {}), defs, name)
        return st.lists(items, min_size=schema.get("minItems", 0), max_size=2)
    if kind == "object" and "properties" in schema:
        return st.fixed_dictionaries({key: fitting(value, defs, key) for key, value in schema["properties"].items()})
    return st.just({}) if kind == "object" else st.sampled_from([None, 1, "text"])


@pytest.mark.parametrize("kind", sorted(kinds()))
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_fits_the_published_schema_reads_and_names_valid_subjects(kind: str, data: st.DataObject) -> None:
    model = kinds()[kind]
    schema = model.model_json_schema()
    facts = data.draw(fitting(schema, schema.get("$defs", {})))
    record = build(model, facts)
    assert record.subjects()
    for subject in record.subjects():
        check_subject(subject)
    assert read_record(kind, model.schema_version, {"facts": record.facts(), "observed": {}}).facts() == record.facts()


@pytest.mark.parametrize(
    "payload",
    [
        [],
        {},
        {"facts": None},
        {"facts": []},
        {"facts": "text"},
        {"facts": {**MODEL, "extra": []}},
        {"facts": {**MODEL, "extra": ["x"], "new": 1}},
        {"facts": {**MODEL, "extra": {"new": 1}, "new": 2}},
        {"facts": MODEL, "observed": "text"},
    ],
)
def test_a_payload_of_the_wrong_shape_is_a_record_error(payload: Any) -> None:
    """Never another exception: a decision has to be able to name the entry and refuse."""
    with pytest.raises(RecordError, match="model_registered"):
        read_record("model_registered", 1, payload)


def test_an_upcast_that_trips_over_a_payload_is_a_record_error() -> None:
    @register
    class Sample(Record):
        kind: ClassVar[str] = "sample_for_test"
        schema_version: ClassVar[int] = 2
        title: str

    try:
        upcast("sample_for_test", 1)(lambda facts: {"title": facts["name"]})
        with pytest.raises(RecordError, match="sample_for_test schema 1"):
            read_record("sample_for_test", 1, {"facts": {}})
    finally:
        _KINDS.pop("sample_for_test")
        _UPCASTS.pop(("sample_for_test", 1), None)


def test_numbers_too_large_for_a_metric_are_refused_not_crashed_on() -> None:
    assert to_metric(2**53) == 2.0**53
    with pytest.raises(RecordError, match="too large"):
        to_metric(10**400)
    assert to_json(10**400) == str(10**400)


@given(value=st.one_of(st.floats(), st.integers(), st.floats(2.0**53, 1e22)))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_number_is_recorded_the_ledger_can_be_read_again(tmp_path: Path, value: float) -> None:
    folder = tmp_path / str(abs(hash(repr(value))))
    folder.mkdir(exist_ok=True)
    (folder / "ledger.sqlite").unlink(missing_ok=True)
    ledger = Ledger(SqliteStore.create(folder / "ledger.sqlite", "test.example/x"))
    record = ModelRegistered(**MODEL, framework_facts={"n": value})
    draft = Draft(
        record.kind,
        1,
        record.subjects(),
        "system",
        "ab" * 32,
        record.payload(),
        record.facts_digest(),
        record.evidence(),
    )
    ledger.append(draft)
    payload = ledger.view().entries[0].payload
    assert payload is not None
    assert read_record(record.kind, 1, payload).facts_digest() == record.facts_digest()
