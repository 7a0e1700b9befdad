"""Records about a model's oversight that people sign: classification, findings, conditions, blocks, change plans, exceptions.

None has an effect without the signatures it needs; which those are is decided in the governance room from the policy.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from cognify_dagster.records.base import (
    DatasetName,
    Json,
    ModelKey,
    Part,
    PersonId,
    Record,
    TargetName,
    Utc,
    VersionId,
    register,
)
from cognify_dagster.records.governance import Envelope

Severity = Literal["low", "medium", "high", "critical"]
PLAN_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,59}$"


def _about(model: str, version: str | None, *people: str) -> tuple[str, ...]:
    """Subjects of an act about one version of a model, or about all of them, and of the people in it.

    What concerns all versions has the subject `oversight/MODEL`: a decision walks its whole history, which stays short, while
    that of `model/MODEL` grows with every version.
    """
    named = f"model/{model}@{version}" if version else f"oversight/{model}"
    return (f"model/{model}", named, *sorted({person for person in people if person.startswith("person/")}))


@register
class ModelClassified(Record):
    """The risk tier, owner and scope of a model, as people signed it. It outranks what code registered."""

    kind: ClassVar[str] = "model_classified"
    model: ModelKey
    tier: str = Field(min_length=1)
    owner: PersonId
    rationale: str = Field(min_length=1, description="inherent risk, exposure, purpose: why this tier")
    frameworks: tuple[str, ...] = ()
    gate_set: DatasetName | None = Field(None, description="the set of thresholds that applies to this model")
    responsible: dict[str, str] = Field(default_factory=dict, description="activity to person/…, for the RACI table")
    signers: tuple[PersonId, ...]
    envelopes: tuple[Envelope, ...]

    def subjects(self) -> tuple[str, ...]:
        return _about(self.model, None, self.owner, *self.signers)


@register
class FindingOpened(Record):
    """A person found something wrong with a model or one version of it."""

    kind: ClassVar[str] = "finding_opened"
    model: ModelKey
    version: VersionId | None = None
    severity: Severity
    title: str = Field(min_length=1, max_length=200)
    text: str = Field("", max_length=10_000)
    owner: PersonId | None = None
    due: Utc | None = None
    links: tuple[str, ...] = ()
    raised_by: PersonId
    envelope: Envelope

    def subjects(self) -> tuple[str, ...]:
        return ("findings", *_about(self.model, self.version, self.raised_by))


@register
class FindingResolved(Record):
    """A finding (a person's, or one that reconciliation recorded) was closed with evidence, or its risk accepted for a while."""

    kind: ClassVar[str] = "finding_resolved"
    model: ModelKey
    version: VersionId | None = None
    finding_seq: int = Field(ge=1)
    outcome: Literal["closed", "accepted"]
    reason: str = Field(min_length=1, max_length=10_000)
    links: tuple[str, ...] = ()
    accepted_until: Utc | None = None
    resolved_by: PersonId
    envelope: Envelope

    def subjects(self) -> tuple[str, ...]:
        return ("findings", *_about(self.model, self.version, self.resolved_by))


@register
class ConditionClosed(Record):
    """A condition of an approval, or a limit that a review set, was met. `condition` counts from 0 in the statement or review.

    `sign_off_seq` is the entry of the sign-off or of the review.
    """

    kind: ClassVar[str] = "condition_closed"
    model: ModelKey
    version: VersionId
    sign_off_seq: int = Field(ge=1)
    condition: int = Field(ge=0)
    reason: str = Field(min_length=1, max_length=10_000)
    links: tuple[str, ...] = ()
    closed_by: PersonId
    envelope: Envelope

    def subjects(self) -> tuple[str, ...]:
        return _about(self.model, self.version, self.closed_by)


@register
class BlockLifted(Record):
    """A block was lifted by two people who may block, where the one who blocked cannot withdraw it."""

    kind: ClassVar[str] = "block_lifted"
    model: ModelKey
    version: VersionId
    sign_off_seq: int = Field(ge=1)
    reason: str = Field(min_length=1)
    lifted_by: tuple[PersonId, ...]
    envelopes: tuple[Envelope, ...]

    def subjects(self) -> tuple[str, ...]:
        return _about(self.model, self.version, *self.lifted_by)


@register
class ChangePlanAdopted(Record):
    """A predetermined change control plan: changes against a base version that need no new full approval."""

    kind: ClassVar[str] = "change_plan_adopted"
    plan: str = Field(pattern=PLAN_PATTERN)
    model: ModelKey
    base_version: VersionId
    bounds: dict[str, Json] = Field(description="what may change, see `cognify_dagster.governance.changes.plan`")
    stages: tuple[str, ...] = Field(description="sign-off stages that a covered version needs no new signature for")
    reason: str = Field(min_length=1)
    expires: Utc
    signers: tuple[PersonId, ...]
    envelopes: tuple[Envelope, ...]

    def subjects(self) -> tuple[str, ...]:
        return (f"model/{self.model}@{self.base_version}", *_about(self.model, None, *self.signers))


@register
class ChangePlanEnded(Record):
    """A change plan covers no version from this entry on."""

    kind: ClassVar[str] = "change_plan_ended"
    plan_seq: int = Field(ge=1)
    model: ModelKey
    reason: str = Field(min_length=1)
    ended_by: PersonId
    envelope: Envelope

    def subjects(self) -> tuple[str, ...]:
        return _about(self.model, None, self.ended_by)


@register
class BreakGlassOpened(Record):
    """An emergency release without some sign-offs, for a limited time, with the approvers the policy demands."""

    kind: ClassVar[str] = "break_glass_opened"
    model: ModelKey
    version: VersionId
    target: TargetName
    waived: tuple[str, ...] = Field(min_length=1, description="the sign-off stages done without")
    reason: str = Field(min_length=10)
    expires: Utc
    signers: tuple[PersonId, ...]
    envelopes: tuple[Envelope, ...]

    def subjects(self) -> tuple[str, ...]:
        return _about(self.model, self.version, *self.signers)


@register
class RollbackOrdered(Record):
    """A person orders that an earlier version goes live again in place of the one that is live now."""

    kind: ClassVar[str] = "rollback_ordered"
    model: ModelKey
    version: VersionId
    target: TargetName
    replaces_seq: int = Field(ge=1, description="the entry that completed the deployment which is live now")
    reason: str = Field(min_length=1)
    ordered_by: PersonId
    envelope: Envelope

    def subjects(self) -> tuple[str, ...]:
        return (*_about(self.model, self.version, self.ordered_by), f"release/{self.model}.{self.target}")


@register
class ModelAdopted(Record):
    """A model that was live before this ledger existed: recorded as unattested, with what is known."""

    kind: ClassVar[str] = "model_adopted"
    model: ModelKey
    version: VersionId
    target: TargetName
    live_since: Utc | None = None
    known: dict[str, Json] = Field(default_factory=dict)
    unknown: tuple[str, ...] = Field(default=(), description="what nobody can say any more")
    adopted_by: PersonId
    envelope: Envelope

    def subjects(self) -> tuple[str, ...]:
        return (*_about(self.model, self.version, self.adopted_by), f"release/{self.model}.{self.target}")


class ReviewLimit(Part):
    """What a review demands of further use: as a condition of an approval, open until a signed closure says that it is met."""

    text: str = Field(min_length=1, max_length=2000)
    due: Utc | None = None
    kind: Literal["text", "use_cap", "population", "expiry", "monitoring", "remediation"] = "text"
    limit: dict[str, Json] = Field(default_factory=dict)


@register
class ReviewCompleted(Record):
    """A periodic review of a model that is in use, with its outcome.

    `restricted` comes with limits (`conditions`). `retire` ends the use of the model, all versions, until a later review says
    otherwise.
    """

    kind: ClassVar[str] = "review_completed"
    model: ModelKey
    version: VersionId
    outcome: Literal["confirmed", "restricted", "retire"]
    text: str = Field(min_length=1, max_length=10_000)
    conditions: tuple[ReviewLimit, ...] = Field(default=(), max_length=50, description="with outcome restricted")
    next_due: Utc | None = None
    reviewed_by: PersonId
    envelope: Envelope

    def facts(self) -> dict[str, Any]:
        """Return the facts; without conditions they are what they were before there were any."""
        data = super().facts()
        if not data["conditions"]:
            del data["conditions"]
        return data

    def subjects(self) -> tuple[str, ...]:
        return (f"model/{self.model}@{self.version}", *_about(self.model, None, self.reviewed_by))


@register
class ModelEvent(Record):
    """Something happened that may void approvals given before it. The policy says which events do."""

    kind: ClassVar[str] = "model_event"
    model: ModelKey
    version: VersionId | None = None
    event: Literal["data_change", "base_model_change", "drift_breach", "incident", "framework_change"]
    text: str = Field(min_length=1, max_length=10_000)
    links: tuple[str, ...] = ()
    reported_by: str = Field(description="person/… with a signature, or the workload that noticed")
    envelope: Envelope | None = None

    def subjects(self) -> tuple[str, ...]:
        return _about(self.model, self.version, self.reported_by)


@register
class ReleaseSuspended(Record):
    """What is live does not stand any more: its approvals were withdrawn, blocked, overdue or void."""

    kind: ClassVar[str] = "release_suspended"
    model: ModelKey
    version: VersionId
    target: TargetName
    completed_seq: int
    reasons: tuple[str, ...] = Field(min_length=1)

    def subjects(self) -> tuple[str, ...]:
        return (*_about(self.model, self.version), f"release/{self.model}.{self.target}")
