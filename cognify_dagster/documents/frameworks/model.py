"""What a framework file holds: a regulation as data. The types of the YAML files under `templates/frameworks`.

Invariants: a file with an unknown field, an unknown evidence kind or check, a repeated id or an empty evidence tree is refused,
so a misspelt demand cannot quietly count as met; the first requirement of every framework is its
scope determination. The file format is described in docs/frameworks.md.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from cognify_dagster.documents.frameworks.conditions import Condition, Strict
from cognify_dagster.ledger import canonical_json

Force = Literal["law", "guidance", "voluntary", "draft"]
FrameworkStatus = Literal["in_force", "future", "draft", "superseded", "withdrawn"]
Basis = Literal["primary", "secondary", "memory"]

BASIS_TEXT: dict[str, str] = {
    "primary": "checked against the source",
    "secondary": "from secondary sources",
    "memory": "from memory, not checked against the source",
}

#: What a framework file may demand of each kind of evidence. Each name is a check of the `coverage_*` modules.
KIND_CHECKS: dict[str, frozenset[str]] = {
    "auto:dataset": frozenset(
        {
            "provenance",
            "profile",
            "schema",
            "splits_disjoint",
            "feature_inventory",
            "deidentified",
            "licence",
            "source",
            "collection_period",
            "group_counts",
            "column_purposes",
            "jurisdiction",
            "consent",
            "agreement",
            "agreement_reviewed",
            "authorised",
            "deidentification_certificate",
            "quality_checks",
        }
    ),
    "auto:training": frozenset(
        {
            "config",
            "data_pinned",
            "code_known",
            "code_clean",
            "base_model",
            "model_kind",
            "parameters",
            "compute",
            "duration",
            "energy",
            "base_licence",
            "modality",
            "base_identity",
            "selection",
            "feature_code",
            "checkpoints",
            "rerun",
        }
    ),
    "auto:environment": frozenset({"packages", "seed", "hardware", "image", "lock_file"}),
    "auto:eval": frozenset(
        {
            "passed",
            "intervals",
            "calibration",
            "thresholds_before_training",
            "reason_codes",
            "alternatives",
            "evaluator_code",
            "slices",
            "sites",
            "comparison",
            "sensitivity",
            "benchmarks",
            "explanations",
        }
    ),
    "auto:fairness": frozenset({"selection_rates", "attributes_declared", "bases_compared", "proxy_review"}),
    "auto:approval": frozenset({"independent"}),
    "auto:deployment": frozenset({"target", "rollback"}),
    "auto:monitoring": frozenset(),
    "auto:ledger": frozenset(
        {
            "history",
            "inventory",
            "policy",
            "next_due",
            "approved_before_release",
            "retention",
            "checkpoint",
            "change_plan",
            "incidents",
            "findings",
            "delegation",
            "people",
        }
    ),
    "human": frozenset(),
    "attestation": frozenset(),
}

#: Evidence kinds whose demand may name tables: an evaluation holds them.
KINDS_WITH_TABLES = frozenset({"auto:eval", "auto:fairness"})

#: Facts that are worked out from the ledger and never asked for. Conditions may use them without listing them among `facts`.
DERIVED_FACTS = frozenset({"risk_tier", "gpai_compute_ratio_above_third"})


class EvidenceNode(Strict):
    """One demand for evidence, or a group of them (`all_of`, `any_of`).

    Attributes:
        checks: what exactly has to be there, by names of `KIND_CHECKS`.
        tables: for evaluations and fairness: tables or attachments that the evaluation has to hold.
        section: what a person writes (kind human), or the claim that somebody of `role` signs (kind attestation).
        text_id: for attestations: a signed attestation record with this text has to be there, about the version, its model or one of
            its data sets, by `role`, not expired. Without it the signature on the package is the attestation.
        max_age_days: older evidence is stale. Counted in days from the entry to the moment of judgement.
    """

    all_of: tuple[EvidenceNode, ...] = ()
    any_of: tuple[EvidenceNode, ...] = ()
    kind: str = ""
    checks: tuple[str, ...] = ()
    tables: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,59}$")], ...] = ()
    section: str = Field("", pattern=r"^[a-z][a-z0-9_]{0,59}$|^$")
    text_id: str = Field("", pattern=r"^[a-z][a-z0-9_]{0,59}$|^$")
    role: str = Field("", max_length=60)
    min_words: int = Field(1, ge=1, le=10_000)
    max_age_days: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one_form(self) -> EvidenceNode:
        forms = sum((bool(self.all_of), bool(self.any_of), bool(self.kind)))
        if forms != 1:
            raise ValueError(
                "evidence is exactly one of: kind, all_of with at least one item, any_of with at least one item"
            )
        if not self.kind:
            if extra := sorted(self.model_fields_set - {"all_of", "any_of"}):
                raise ValueError(f"a group of evidence has no {extra[0]}; set it on the items of the group")
            return self
        if self.kind not in KIND_CHECKS:
            raise ValueError(f"unknown evidence kind {self.kind!r}; known: {', '.join(sorted(KIND_CHECKS))}")
        if unknown := sorted(set(self.checks) - KIND_CHECKS[self.kind]):
            known = ", ".join(sorted(KIND_CHECKS[self.kind])) or "none"
            raise ValueError(f"{self.kind} has no check {unknown[0]!r}; known: {known}")
        if self.tables and self.kind not in KINDS_WITH_TABLES:
            raise ValueError(f"{self.kind} holds no tables; only {', '.join(sorted(KINDS_WITH_TABLES))} do")
        if self.text_id and self.kind != "attestation":
            raise ValueError(f"{self.kind} has no text_id; only an attestation does")
        if self.kind == "human" and not self.section:
            raise ValueError("human evidence names its section")
        if self.kind == "attestation" and not self.role:
            raise ValueError("an attestation names the role that signs it")
        if self.kind in ("attestation", "auto:approval") and not re.fullmatch(r"[a-z][a-z0-9_]*|", self.role):
            raise ValueError(
                f"{self.kind} names a role as the policy spells it (like model_validator), not {self.role!r}"
            )
        return self

    def leaves(self) -> Iterator[EvidenceNode]:
        """Yield the single demands."""
        if self.kind:
            yield self
        for part in (*self.all_of, *self.any_of):
            yield from part.leaves()


class Requirement(Strict):
    """One requirement, in our own words.

    Attributes:
        citation: one or several references joined by `"; "`, each a line of the framework's list of headings.
        judged_by: role whose signature answers the requirement once all its evidence is there. Where it is set, evidence alone
            never counts as the answer: somebody has to judge it.
        effective_from: the day from which this requirement applies, where it is another than the framework's.
        cross_refs: `framework-id:requirement-id`, or a reference into a standard that is not shipped (`iso42001:A.7.4`).
    """

    id: str = Field(pattern=r"^[a-z][A-Za-z0-9_.-]{0,79}$")
    citation: str = Field(min_length=1, max_length=600)
    basis: Basis
    paraphrase: str = Field(min_length=10, max_length=300)
    force: Force
    mandatory: bool
    scope_determination: bool = False
    effective_from: str | None = Field(None, pattern=r"^\d{4}-\d{2}-\d{2}$")
    applies_when: Condition | None = None
    evidence: EvidenceNode
    judged_by: str = Field("", pattern=r"^[a-z][a-z0-9_]{0,59}$|^$")
    cross_refs: tuple[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,59}:\S.{0,99}$")], ...] = ()

    @field_validator("applies_when", mode="before")
    @classmethod
    def _condition(cls, value: Any) -> Condition | None:
        return value if value is None or isinstance(value, Condition) else Condition.parse(value)


class Section(Strict):
    """A titled group of requirements."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]{0,59}$")
    title: str = Field(min_length=1)
    requirements: tuple[Requirement, ...] = Field(min_length=1)


class Source(Strict):
    """Where the requirements come from."""

    title: str = Field(min_length=1)
    url: str | None = Field(None, pattern=r"^https://")
    retrieved: str | None = Field(None, pattern=r"^\d{4}-\d{2}-\d{2}$")
    note: str = ""


class FactNeeded(Strict):
    """A fact that scope and conditions ask for; stated in the model's `framework_facts`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,59}$")
    question: str = Field(min_length=1)


class ProhibitedBasis(Strict):
    """A trait on whose basis nobody may be treated worse, and names by which columns about it are recognised.

    Attributes:
        columns: patterns (`*` stands for anything) over the lower-case name of a column.
    """

    basis: str = Field(min_length=1)
    columns: tuple[str, ...] = Field(min_length=1)


Artefact = Literal[
    "technical_file",
    "logs",
    "training_data",
    "evaluation",
    "approvals",
    "package",
    "incidents",
    "personal_data",
]


class RetentionClass(Strict):
    """How long a class of artefacts is kept under the framework.

    Attributes:
        start: the event from which the term counts (`from` in the file).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    id: str = Field(pattern=r"^[a-z][A-Za-z0-9_.-]{0,79}$")
    artefacts: tuple[Artefact, ...] = Field(min_length=1)
    years: int | None = Field(None, ge=1, le=100)
    months: int | None = Field(None, ge=1, le=1200)
    start: Literal["created", "last_in_force", "placed_on_market", "notice", "deployment_end"] = Field(alias="from")
    note: str = ""
    citation: str = Field(min_length=1, max_length=600)
    basis: Basis

    @model_validator(mode="after")
    def _one_term(self) -> RetentionClass:
        if (self.years is None) == (self.months is None):
            raise ValueError("a retention class has a term in either years or months")
        return self


Date = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")


class Framework(Strict):
    """A regulation or guidance document as data."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,59}$")
    title: str = Field(min_length=1)
    version: str = Field(min_length=1)
    jurisdiction: str
    industry: str
    status: FrameworkStatus
    effective_from: str | None = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    effective_to: str | None = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    supersedes: tuple[str, ...] = ()
    as_of: str = Date
    sources: tuple[Source, ...] = Field(min_length=1)
    disclaimer: str = Field(min_length=1)
    notes: tuple[str, ...] = ()
    facts: tuple[FactNeeded, ...] = ()
    prohibited_bases: tuple[ProhibitedBasis, ...] = ()
    applicability: Condition | None = None
    retention: tuple[RetentionClass, ...] = ()
    sections: tuple[Section, ...] = Field(min_length=1)

    @field_validator("applicability", mode="before")
    @classmethod
    def _condition(cls, value: Any) -> Condition | None:
        return value if value is None or isinstance(value, Condition) else Condition.parse(value)

    @model_validator(mode="after")
    def _consistent(self) -> Framework:
        seen: set[str] = set()
        for item in self.requirements():
            if item.id in seen:
                raise ValueError(f"requirement id {item.id!r} occurs twice; ids are never reused")
            seen.add(item.id)
        first = next(iter(self.requirements()))
        if not first.scope_determination:
            raise ValueError(f"the first requirement ({first.id}) has to be the scope determination")
        terms = [item.id for item in self.retention]
        if repeated := sorted({name for name in terms if terms.count(name) > 1}):
            raise ValueError(f"retention class {repeated[0]!r} occurs twice")
        known = {fact.name for fact in self.facts} | DERIVED_FACTS
        conditions = [self.applicability, *(item.applies_when for item in self.requirements())]
        for condition in conditions:
            for name in condition.facts() if condition else ():
                if name not in known:
                    raise ValueError(f"a condition asks for {name!r}, which is not among the framework's facts")
        if derived := sorted({fact.name for fact in self.facts} & DERIVED_FACTS):
            raise ValueError(
                f"the fact {derived[0]!r} is worked out from the ledger and never asked for; leave it out of facts"
            )
        return self

    def requirements(self) -> Iterator[Requirement]:
        """Yield all requirements in order."""
        for section in self.sections:
            yield from section.requirements

    def digest(self) -> str:
        """Return `sha256:` and the hex digest over the canonical JSON of the parsed file."""
        return "sha256:" + hashlib.sha256(canonical_json(self.model_dump(mode="json"))).hexdigest()

    def counts(self, item: Requirement, today: str) -> bool:
        """Whether a requirement's result counts on the day (`YYYY-MM-DD`). Drafts, superseded and withdrawn texts are listed only.

        A text that begins later as a whole may hold requirements with an earlier day of their own, and the other way round.
        """
        begins = item.effective_from or self.effective_from
        started = begins <= today if begins is not None else self.status == "in_force"
        return (
            self.status in ("in_force", "future")
            and started
            and (self.effective_to is None or today <= self.effective_to)
        )

    def scored(self, today: str) -> bool:
        """Whether any requirement's result counts on the day (`YYYY-MM-DD`)."""
        return any(self.counts(item, today) for item in self.requirements())
