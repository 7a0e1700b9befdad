"""The policy: roles, tiers, stages, separation of duties. Input as YAML; its digest is over the canonical JSON.

A policy counts only once the genesis entry or a signed `policy_adopted` entry holds it; the file itself is never consulted
for a decision.
"""

from __future__ import annotations

import hashlib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from cognify_dagster.governance.errors import PolicyError
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import SECTION_PATTERN
from cognify_dagster.records.base import PersonId, TargetName

ROLES = (
    "data_scientist",
    "ml_engineer",
    "model_validator",
    "compliance_officer",
    "business_owner",
    "auditor",
    "workspace_admin",
)
GATE_FAMILIES = ("performance", "fairness", "data_quality", "completeness", "security")
STRENGTHS = ("S2", "S3", "S4")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stage(_Model):
    """One stage. An `automated` stage is met by gate results, a `sign_off` stage by people.

    `role` and `quorum` say who signs; `further_roles` adds people of other roles to the same stage (for example one `legal`
    beside one `compliance_officer`), each with their own signature.
    """

    kind: Literal["automated", "sign_off"]
    title: str = ""
    gates: tuple[Literal["performance", "fairness", "data_quality", "completeness", "security"], ...] = ()
    role: str = ""
    quorum: int = Field(1, ge=1, le=20)
    further_roles: dict[str, int] = {}
    min_strength: Literal["S2", "S3", "S4"] = "S3"
    meaning: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Stage:
        if self.kind == "automated" and not self.gates:
            raise ValueError("an automated stage names at least one gate")
        if self.kind == "sign_off" and not (self.role and self.meaning):
            raise ValueError("a sign_off stage needs a role and a meaning")
        if self.role in self.further_roles or any(not 1 <= count <= 20 for count in self.further_roles.values()):
            raise ValueError("further_roles: other roles than the stage's own, each with a number from 1 to 20")
        return self

    @property
    def wanted(self) -> dict[str, int]:
        """How many signatures the stage needs, by role."""
        return {self.role: self.quorum, **self.further_roles} if self.kind == "sign_off" else {}


class Tier(_Model):
    """The stages, in order, that a model of this tier passes, and how long approvals last.

    `review_days` is the interval of periodic reviews of what is live (none unless given); an overdue one is shown, and with
    `overdue_review: block` it holds back further releases and counts as a suspension. `change_plans` says whether a change
    plan may stand in for sign-offs. `required_sections` are sections that people write, which this tier demands besides the
    policy's `required_fields`; an empty one fails the gate `completeness`. `blocking_frameworks` are frameworks whose open mandatory
    requirements fail their coverage check in Dagster as an error, which stops what comes after it; others only warn.
    `sign_off_days`: so many days after a stage could be signed its signatures should be there (no date unless given). Who is late is
    reminded; nothing is ever approved, rejected or released because time passed.
    """

    stages: tuple[str, ...] = Field(min_length=1)
    approval_days: int = Field(365, ge=1, le=3650)
    review_days: int | None = Field(None, ge=1, le=3650)
    overdue_review: Literal["show", "block"] = "show"
    change_plans: bool = True
    required_sections: tuple[Annotated[str, Field(pattern=SECTION_PATTERN)], ...] = Field((), max_length=60)
    blocking_frameworks: tuple[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,59}$")], ...] = Field(
        (), max_length=60
    )
    sign_off_days: int | None = Field(None, ge=1, le=366)

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A tier without these parts has the form, and so the digest, that it had before there were any."""
        data: dict[str, Any] = handler(self)
        for name in ("required_sections", "blocking_frameworks", "sign_off_days"):
            _without_empty(data, name)
        return data


def _without_empty(data: dict[str, Any], name: str) -> dict[str, Any]:
    if not data.get(name):
        data.pop(name, None)
    return data


class SeparationOfDuties(_Model):
    """Who may not sign off: everyone who had a hand in the version in one of these ways, and people with a conflict.

    A `dataset_approver` attested something about a snapshot that the version was trained or evaluated on, or approved its change.
    `conflicts` are groups of people who may not judge each other's work: who shares a group with somebody who had a hand in
    the version may not sign it off.
    """

    exclude: tuple[
        Literal["run_launcher", "commit_authors", "package_builder", "gate_set_adopter", "dataset_approver"], ...
    ] = ("run_launcher", "commit_authors", "package_builder")
    distinct_people_across_stages: bool = True
    conflicts: tuple[tuple[PersonId, ...], ...] = ()


class People(_Model):
    """How people and their authority are looked after.

    `vouchers` is how many people sign an enrolment or a change of roles or keys, a workspace admin among them.
    `recertify_days`: a role counts for new signatures only if the person was enrolled or recertified within that time.
    """

    vouchers: int = Field(default=2, ge=1, le=5)
    recertify_days: int | None = Field(default=None, ge=1, le=3650)
    max_delegation_days: int = Field(default=30, ge=0, le=366, description="0 forbids delegation")


class Target(_Model):
    """What a deployment target demands besides the stages: targets that the version must have been live on before."""

    after: tuple[TargetName, ...] = ()
    min_hours: int = Field(default=0, ge=0, le=24 * 365)


class RequiredAttestation(_Model):
    """An attestation without which no release happens, such as an agreement with the vendor that serves the model.

    It is demanded in the tiers, on the targets and for models under the frameworks that are named (each: all, unless named).
    `about` says what it has to be about: the model, the version, or each data set that the version rests on. `party_fact` names a
    fact of the model's registration that names the other side (a vendor, or several): each needs an attestation that names it,
    and none is needed where the fact says false.
    """

    text_id: str = Field(pattern=r"^[a-z][a-z0-9_]{0,59}$")
    about: Literal["model", "version", "datasets"] = "model"
    roles: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    targets: tuple[TargetName, ...] = ()
    frameworks: tuple[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,59}$")], ...] = ()
    party_fact: str = Field("", pattern=r"^([a-z][a-z0-9_]{0,59})?$")


class DatasetApproval(_Model):
    """Who approves a change of a dataset: so many people of a role, none of whom had a hand in the snapshot."""

    role: str = Field(min_length=1)
    quorum: int = Field(1, ge=1, le=20)
    strength: Literal["S3", "S4"] = "S3"


class DatasetRule(_Model):
    """What is demanded of datasets before a model is trained or evaluated on them. All rules that fit a dataset apply together.

    `names` are patterns such as `loans_*`, which fit a dataset with all its partitions; `tiers` those of the models (each, unless
    named). `reason: required` demands a declared reason for every change, `approval` that people approve the first snapshot and
    every change, `fully_hashed` that all bytes were read and hashed for the snapshot, none taken over from an earlier one.
    """

    names: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.@+*?\[\]!-]{1,170}$")], ...] = Field(("*",), min_length=1)
    tiers: tuple[str, ...] = ()
    reason: Literal["required", "optional"] = "optional"
    approval: DatasetApproval | None = None
    fully_hashed: bool = False

    def fits(self, dataset: str, tier: str | None = None) -> bool:
        """Whether the rule is about a dataset, or the dataset of a partition; with a tier, for models of that tier."""
        named = {dataset, dataset.partition("@")[0]}
        return any(fnmatchcase(name, pattern) for name in named for pattern in self.names) and (
            tier is None or not self.tiers or tier in self.tiers
        )


class Findings(_Model):
    """Which open findings hold back a release, who may open and close them, and who may accept their risk for how long."""

    blocking: tuple[Literal["low", "medium", "high", "critical"], ...] = ("high", "critical")
    open_roles: tuple[str, ...] = ("model_validator", "compliance_officer", "auditor", "business_owner")
    close_roles: tuple[str, ...] = ("model_validator", "compliance_officer")
    accept_roles: tuple[str, ...] = ("compliance_officer", "business_owner")
    max_acceptance_days: int = Field(default=180, ge=1, le=3650)


class BreakGlass(_Model):
    """Emergency releases without some sign-offs. Off unless enabled. Automated gates and blocks are never waived."""

    enabled: bool = False
    roles: tuple[str, ...] = ("business_owner", "compliance_officer")
    extra_role: str = Field(default="compliance_officer", description="at least one signer holds this role")
    quorum: int = Field(default=2, ge=2, le=20)
    max_hours: int = Field(default=72, ge=1, le=24 * 30)


class Policy(_Model):
    """A whole policy."""

    version: Literal[1] = 1
    title: str = "Model release policy"
    roles: tuple[str, ...] = ROLES
    tiers: dict[str, Tier]
    stages: dict[str, Stage]
    separation_of_duties: SeparationOfDuties = SeparationOfDuties()
    unattributed: Literal["block", "warn"] = "block"
    adopters: tuple[str, ...] = Field(("workspace_admin",), description="roles that may sign gate sets and policies")
    gate_set_adopters: tuple[str, ...] = ("model_validator", "compliance_officer", "workspace_admin")
    blockers: tuple[str, ...] = ("compliance_officer",)
    policy_quorum: int = Field(2, ge=1)
    classifiers: tuple[str, ...] = ("compliance_officer", "model_validator", "business_owner")
    unclassified_tier: str = Field("", description="tier of a model nobody classified; empty: the one with most stages")
    people: People = People()
    targets: dict[TargetName, Target] = {}
    findings: Findings = Findings()
    break_glass: BreakGlass = BreakGlass()
    rollback_roles: tuple[str, ...] = ("ml_engineer", "business_owner", "compliance_officer")
    review_roles: tuple[str, ...] = ("model_validator",)
    voids: tuple[
        Literal["data_change", "base_model_change", "drift_breach", "incident", "framework_change", "policy_change"],
        ...,
    ] = ("base_model_change", "drift_breach", "incident", "framework_change")
    blocked_live: Literal["report", "suspend"] = "suspend"
    required_fields: tuple[Literal["intended_use", "out_of_scope", "limitations", "failure_modes"], ...] = (
        "intended_use",
        "limitations",
    )
    required_attestations: tuple[RequiredAttestation, ...] = Field((), max_length=50)
    datasets: tuple[DatasetRule, ...] = Field((), max_length=100)

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A policy that demands no attestations, and nothing of data, has the form and the digest that it had before these parts."""
        return _without_empty(_without_empty(handler(self), "required_attestations"), "datasets")

    @model_validator(mode="after")
    def _known_names(self) -> Policy:
        for name, tier in self.tiers.items():
            if len(set(tier.stages)) != len(tier.stages):
                raise ValueError(f"tiers.{name}.stages: a stage is named twice")
            for stage in tier.stages:
                if stage not in self.stages:
                    raise ValueError(f"tiers.{name}.stages: stage {stage!r} is not defined under stages")
        for name, stage_def in self.stages.items():
            if stage_def.role and stage_def.role not in self.roles:
                raise ValueError(f"stages.{name}.role: role {stage_def.role!r} is not in roles")
            for role in stage_def.further_roles:
                if role not in self.roles:
                    raise ValueError(f"stages.{name}.further_roles: role {role!r} is not in roles")
        for field, roles in self._named_roles().items():
            for role in roles:
                if role not in self.roles and role not in ROLES:
                    raise ValueError(f"{field}: role {role!r} is not in roles")
        for number, wanted in enumerate(self.required_attestations):
            unknown = [name for name in wanted.tiers if name not in self.tiers]
            if unknown:
                raise ValueError(f"required_attestations.{number}.tiers: there is no tier {unknown[0]!r}")
        for number, rule in enumerate(self.datasets):
            unknown = [name for name in rule.tiers if name not in self.tiers]
            if unknown:
                raise ValueError(f"datasets.{number}.tiers: there is no tier {unknown[0]!r}")
            if rule.approval is not None and rule.approval.role not in self.roles:
                raise ValueError(f"datasets.{number}.approval.role: role {rule.approval.role!r} is not in roles")
        if self.unclassified_tier and self.unclassified_tier not in self.tiers:
            raise ValueError(f"unclassified_tier: there is no tier {self.unclassified_tier!r}")
        return self

    def _named_roles(self) -> dict[str, tuple[str, ...]]:
        """The fields that name roles, as they are written in the file."""
        top = ("adopters", "gate_set_adopters", "blockers", "classifiers", "rollback_roles", "review_roles")
        found: dict[str, tuple[str, ...]] = {field: getattr(self, field) for field in top}
        for field in ("open_roles", "close_roles", "accept_roles"):
            found[f"findings.{field}"] = getattr(self.findings, field)
        for number, wanted in enumerate(self.required_attestations):
            found[f"required_attestations.{number}.roles"] = wanted.roles
        if self.break_glass.enabled:
            found["break_glass.roles"] = (*self.break_glass.roles, self.break_glass.extra_role)
        return found

    @property
    def acting_roles(self) -> tuple[str, ...]:
        """The roles of which any will do where an act needs no certain one: all but the auditor's, who looks on and raises findings."""
        return tuple(role for role in self.roles if role != "auditor")

    @property
    def strictest_tier(self) -> str:
        """The tier of a model that nobody classified."""
        if self.unclassified_tier:
            return self.unclassified_tier
        return max(
            self.tiers, key=lambda name: (sum(self.stages[s].kind == "sign_off" for s in self.tiers[name].stages), name)
        )

    def as_json(self) -> dict[str, Any]:
        """Return the policy as JSON values, defaults included."""
        data: dict[str, Any] = self.model_dump(mode="json")
        return data

    @property
    def digest(self) -> str:
        """`sha256:` and the hex digest of the canonical JSON."""
        return "sha256:" + hashlib.sha256(canonical_json(self.as_json())).hexdigest()

    def stages_of(self, tier: str) -> list[tuple[str, Stage]]:
        """Return the stages of a tier in order.

        Raises:
            PolicyError: if the policy has no such tier.
        """
        if tier not in self.tiers:
            raise PolicyError(f"the policy has no tier {tier!r}; it has {', '.join(sorted(self.tiers))}")
        return [(name, self.stages[name]) for name in self.tiers[tier].stages]


def parse_policy(data: Any, source: str = "policy") -> Policy:
    """Validate policy data.

    Raises:
        PolicyError: naming source and field.
    """
    if not isinstance(data, dict):
        raise PolicyError(f"{source}: a policy is a mapping")
    try:
        return Policy.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        text = first["msg"].removeprefix("Value error, ")
        raise PolicyError(f"{source}: {where + ': ' if where else ''}{text}") from error


def load_policy(path: Path) -> Policy:
    """Read `policy.yaml`.

    Raises:
        PolicyError: naming file and field.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PolicyError(f"{path}: cannot be read: {error}") from error
    return parse_policy(data, str(path))
