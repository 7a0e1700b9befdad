"""Where data came from: the human part of a dataset snapshot."""

from __future__ import annotations

from datetime import date
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cognify_dagster.records import SourceRef


class ExclusionRule(BaseModel):
    """One step that left records out (a filter, a sample, a split).

    Attributes:
        name: short name of the rule.
        description: what it leaves out and why.
        rows_before: rows it was given.
        rows_after: rows it kept.
        excluded_digest_root: record root (hex) of the rows left out, see :func:`cognify_dagster.datasets.record_set`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    description: str = Field(min_length=1)
    rows_before: int = Field(ge=0)
    rows_after: int = Field(ge=0)
    excluded_digest_root: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _counts(self) -> ExclusionRule:
        if self.rows_after > self.rows_before:
            raise ValueError(
                f"rule {self.name!r} has more rows after ({self.rows_after}) than before ({self.rows_before})"
            )
        return self

    @property
    def excluded(self) -> int:
        """How many rows were left out."""
        return self.rows_before - self.rows_after


class Provenance(BaseModel):
    """Who collected what, when, how, and under which terms.

    Attributes:
        source: what the data is, for people ("UCI 350: default of credit card clients").
        source_url: address without credentials.
        owner: who answers for the data.
        licence: licence or terms of use.
        attribution: text that the licence asks for.
        collected_from, collected_to: the period the data is about.
        collected_unknown: why the period is not known, in place of the two dates.
        collected_how: method of collection.
        agreement_ref, agreement_reviewed_by: data use agreement and who reviewed it.
        jurisdiction: where the people or the data come from.
        consent: legal ground or form of consent.
        contains_personal_data, contains_phi: personal data; protected health information.
        classification: the owner's sensitivity class.
        deidentification_method: for example "HIPAA Safe Harbor, 45 CFR 164.514(b)(2)".
        processing: what left records out, in order; each step starts with the rows the last one kept.
        column_purposes: why each column is needed.
        notes: anything else.
        collected_by: who collected the data, where that is not the owner.
        right_to_use: on which right it is used, where the licence alone does not say it.
        agreement_reviewed_on: when the agreement was reviewed.
        source_authorisation: who allowed the data to be taken from its source, with a reference.
        consent_location: where proof of consent lies.
        intended_use: what the data may be used for.
        proprietary: whether it holds trade secrets or the work of others.
        issued_on: when this state of the data was issued by its source.
        processing_geography, storage_geography: where it may be processed; where it is kept.
        privacy_techniques: what protects people in it besides de-identification (tokens, noise, aggregation).
        deidentification_certificate: the expert's determination or certificate, by reference.
        sources: tables or files that it was made from, each with version and time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = ""
    source_url: str | None = None
    owner: str = ""
    licence: str = ""
    attribution: str | None = None
    collected_from: date | None = None
    collected_to: date | None = None
    collected_unknown: str | None = None
    collected_how: str | None = None
    agreement_ref: str | None = None
    agreement_reviewed_by: str | None = None
    jurisdiction: str | None = None
    consent: str | None = None
    contains_personal_data: bool = False
    contains_phi: bool = False
    classification: str | None = None
    deidentification_method: str | None = None
    processing: tuple[ExclusionRule, ...] = ()
    column_purposes: dict[str, str] = Field(default_factory=dict)
    notes: str | None = None
    collected_by: str | None = None
    right_to_use: str | None = None
    agreement_reviewed_on: date | None = None
    source_authorisation: str | None = None
    consent_location: str | None = None
    intended_use: str | None = None
    proprietary: bool | None = None
    issued_on: date | None = None
    processing_geography: str | None = None
    storage_geography: str | None = None
    privacy_techniques: str | None = None
    deidentification_certificate: str | None = None
    sources: tuple[SourceRef, ...] = ()

    @field_validator("source_url")
    @classmethod
    def _no_credentials(cls, value: str | None) -> str | None:
        if value and "@" in urlsplit(value).netloc:
            raise ValueError("source_url holds a user name or password; leave it out")
        return value

    @model_validator(mode="after")
    def _order(self) -> Provenance:
        if self.collected_from and self.collected_to and self.collected_to < self.collected_from:
            raise ValueError(f"collected_to {self.collected_to} lies before collected_from {self.collected_from}")
        for before, after in pairwise(self.processing):
            if before.rows_after != after.rows_before:
                raise ValueError(
                    f"rule {after.name!r} starts with {after.rows_before} rows, but {before.name!r} kept {before.rows_after}"
                )
        return self

    @property
    def personal(self) -> bool:
        """Whether records have to be treated as personal data (health information is)."""
        return self.contains_personal_data or self.contains_phi

    def missing_mandatory(self) -> list[str]:
        """Names of the mandatory fields that are empty.

        Mandatory are ``source``, ``owner``, ``licence``, and either both collection dates or ``collected_unknown``.
        """
        names = [name for name in ("source", "owner", "licence") if not getattr(self, name).strip()]
        if not (self.collected_unknown or "").strip():
            names += [name for name in ("collected_from", "collected_to") if getattr(self, name) is None]
        return names

    def unjustified_columns(self, columns: list[str] | tuple[str, ...]) -> list[str]:
        """The columns without a purpose, in the given order."""
        return [name for name in columns if not self.column_purposes.get(name, "").strip()]

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values; dates are ISO 8601. Fields that came later stand in it only where they say something."""
        data = self.model_dump(mode="json")
        return {name: value for name, value in data.items() if name not in _LATER or value not in (None, [])}


_LATER = frozenset(
    {
        "collected_by", "right_to_use", "agreement_reviewed_on", "source_authorisation", "consent_location", "intended_use",
        "proprietary", "issued_on", "processing_geography", "storage_geography", "privacy_techniques",
        "deidentification_certificate", "sources",
    }
)  # fmt: skip
