"""Provenance: mandatory fields, counts that add up, purposes for columns."""

from __future__ import annotations

from datetime import date

import pytest
from pydantic import ValidationError

from cognify_dagster.datasets import ExclusionRule, Provenance


def rule(name: str, before: int, after: int, **more) -> ExclusionRule:
    return ExclusionRule(name=name, description="why", rows_before=before, rows_after=after, **more)


def test_missing_mandatory_fields_are_named():
    assert Provenance().missing_mandatory() == ["source", "owner", "licence", "collected_from", "collected_to"]
    filled = Provenance(source="s", owner="o", licence="l", collected_from=date(2020, 1, 1))
    assert filled.missing_mandatory() == ["collected_to"]
    assert filled.model_copy(update={"collected_unknown": "never written down"}).missing_mandatory() == []
    assert Provenance(source=" ", owner="o", licence="l", collected_unknown="x").missing_mandatory() == ["source"]


def test_excluded_counts_have_to_add_up():
    assert rule("dedupe", 100, 90).excluded == 10
    with pytest.raises(ValidationError, match="more rows after"):
        rule("dedupe", 1, 2)
    with pytest.raises(ValidationError, match="starts with 95 rows, but 'dedupe' kept 90"):
        Provenance(processing=(rule("dedupe", 100, 90), rule("split", 95, 50)))
    with pytest.raises(ValidationError):
        rule("x", 1, 1, excluded_digest_root="abc")


def test_dates_credentials_and_unknown_fields_are_checked():
    with pytest.raises(ValidationError, match="before collected_from"):
        Provenance(collected_from=date(2020, 1, 2), collected_to=date(2020, 1, 1))
    with pytest.raises(ValidationError, match="password"):
        Provenance(source_url="https://me:pw@example.org/x")
    with pytest.raises(ValidationError):
        Provenance(license="typo")  # type: ignore[call-arg]


def test_columns_without_a_purpose_are_listed():
    made = Provenance(column_purposes={"age": "eligibility", "zip": " "})
    assert made.unjustified_columns(["age", "zip", "sex"]) == ["zip", "sex"]


def test_provenance_cannot_be_changed_and_comes_back_from_json():
    made = Provenance(source="s", collected_from=date(2020, 1, 1), processing=(rule("a", 2, 1),))
    with pytest.raises(ValidationError):
        made.source = "t"
    assert Provenance.model_validate(made.to_dict()) == made
    assert made.to_dict()["collected_from"] == "2020-01-01"


def test_health_information_counts_as_personal():
    assert Provenance(contains_phi=True).personal
    assert not Provenance().personal
