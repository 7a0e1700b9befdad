"""Records about packages, releases, deployments and findings."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from cognify_dagster.records.base import (
    Digest,
    Hex64,
    Json,
    ModelKey,
    Part,
    Record,
    SubjectId,
    TargetName,
    Utc,
    VersionId,
    register,
)
from cognify_dagster.records.data import EvidenceItem


class CoverageSummary(Part):
    """Counts by status of one framework's requirements, law and guidance apart."""

    framework: str
    status: str = Field(description="state of the framework: in_force, draft, superseded, …")
    law: dict[str, int] = Field(default_factory=dict)
    guidance: dict[str, int] = Field(default_factory=dict)


@register
class Package(Record):
    """The frozen package of one model version: what people sign."""

    kind: ClassVar[str] = "package"
    model: ModelKey
    version: VersionId
    revision: int = Field(ge=1)
    package: EvidenceItem
    review_copy: EvidenceItem | None = None
    model_card: EvidenceItem
    other: tuple[EvidenceItem, ...] = ()
    model_digest: Digest
    training_seq: int
    evaluation_seq: int | None
    dataset_seqs: tuple[int, ...]
    policy_digest: Digest
    coverage: tuple[CoverageSummary, ...] = ()
    render_profile: dict[str, Json] = Field(default_factory=dict)
    built_by: str = Field(description="person/… or unattributed")
    built_from_size: int = Field(description="the package describes the first n entries")

    def subjects(self) -> tuple[str, ...]:
        people = (self.built_by,) if self.built_by.startswith("person/") else ()
        return (f"model/{self.model}", f"model/{self.model}@{self.version}", *people)

    def evidence(self) -> tuple[str, ...]:
        items = [self.package, self.review_copy, self.model_card, *self.other]
        return tuple(item.digest for item in items if item is not None)


@register
class FinalCopy(Record):
    """The PDF with the signature page, rendered after the signatures were complete."""

    kind: ClassVar[str] = "final_copy"
    model: ModelKey
    version: VersionId
    package_digest: Digest
    final_copy: EvidenceItem
    sealed: bool = False

    def subjects(self) -> tuple[str, ...]:
        return (f"model/{self.model}@{self.version}",)

    def evidence(self) -> tuple[str, ...]:
        return (self.final_copy.digest,)


class ReasonPart(Part):
    """One reason of a decision: a stable code, the sentence for people, and who can resolve it."""

    code: str
    text: str
    resolved_by: str = ""


@register
class ReleaseRefused(Record):
    """A deployment was attempted and refused by the gate."""

    kind: ClassVar[str] = "release_refused"
    model: ModelKey
    version: VersionId
    target: TargetName
    run: str
    decided_on_size: int
    policy_digest: Digest
    reasons: tuple[ReasonPart, ...]
    requested_by: str = "unattributed"

    def subjects(self) -> tuple[str, ...]:
        return (f"model/{self.model}", f"model/{self.model}@{self.version}")


@register
class ReleaseGranted(Record):
    """The gate released one version to one target: unique for approval round × target.

    It names the size n and time it decided on, so anyone can replay the decision over entries[0:n].
    """

    kind: ClassVar[str] = "release_granted"
    model: ModelKey
    version: VersionId
    target: TargetName
    round: Hex64 = Field(description="digest over package digest and the statements that count")
    package_digest: Digest
    package_seq: int
    model_digest: Digest
    sign_off_seqs: tuple[int, ...]
    gate_seqs: tuple[int, ...]
    decided_on_size: int
    decided_at: Utc
    policy_digest: Digest
    relied_on: tuple[SubjectId, ...] = Field(description="subjects whose whole history the decision walked")
    supersedes: str | None = None
    purpose: Literal["release", "rollback", "break_glass"] = "release"
    order_seq: int | None = Field(default=None, description="the entry that ordered the rollback or broke the glass")
    plan_seq: int | None = Field(default=None, description="the change plan that covered the version")
    waived: tuple[str, ...] = Field(default=(), description="sign-off stages done without, by plan or break-glass")
    conditions: tuple[dict[str, Json], ...] = Field(default=(), description="open conditions the release is bound to")

    def subjects(self) -> tuple[str, ...]:
        return tuple(
            sorted(
                {
                    f"model/{self.model}",
                    f"model/{self.model}@{self.version}",
                    f"release/{self.model}.{self.target}",
                    *self.relied_on,
                }
            )
        )


@register
class DeploymentCompleted(Record):
    """The released version is live on the target."""

    kind: ClassVar[str] = "deployment_completed"
    model: ModelKey
    version: VersionId
    target: TargetName
    grant_seq: int
    model_digest: Digest
    location: str = ""
    supersedes: str | None = None
    detail: dict[str, Json] = Field(default_factory=dict)

    def subjects(self) -> tuple[str, ...]:
        return (
            f"model/{self.model}",
            f"model/{self.model}@{self.version}",
            f"release/{self.model}.{self.target}",
        )


@register
class DeploymentFailed(Record):
    """The deployment's body failed under a grant; a retry continues under the same grant."""

    kind: ClassVar[str] = "deployment_failed"
    model: ModelKey
    version: VersionId
    target: TargetName
    grant_seq: int
    attempt: str
    reason: str

    def subjects(self) -> tuple[str, ...]:
        return (
            f"model/{self.model}",
            f"model/{self.model}@{self.version}",
            f"release/{self.model}.{self.target}",
        )


@register
class Reconciliation(Record):
    """Dagster shows something that the ledger does not account for."""

    kind: ClassVar[str] = "finding"
    code: Literal["unattested_materialization", "unattested_check", "unknown_run", "other"]
    model: ModelKey | None = None
    version: VersionId | None = None
    asset: str
    storage_id: int | None = None
    text: str

    def subjects(self) -> tuple[str, ...]:
        found = ["findings"]
        if self.model:
            found.append(f"model/{self.model}")
            found.append(f"model/{self.model}@{self.version}" if self.version else f"oversight/{self.model}")
        return tuple(found)


@register
class BundleExported(Record):
    """A bundle was exported; its subject heads pin the newest entry about everything the bundle tells of."""

    kind: ClassVar[str] = "bundle_exported"
    model: ModelKey
    version: VersionId
    package_digest: Digest
    relied_on: tuple[SubjectId, ...]
    exported_by: str = "unattributed"

    def subjects(self) -> tuple[str, ...]:
        return tuple(sorted({f"model/{self.model}", f"model/{self.model}@{self.version}", *self.relied_on}))
