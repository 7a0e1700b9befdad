"""What the API answers, as OpenAPI describes it. Times are UTC (`YYYY-MM-DDTHH:MM:SSZ`); `entry` is an entry's number in the ledger."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")


class Schema(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Page(Schema, Generic[T]):
    """A page of a list. `size` is how many entries of the ledger it shows; without `next_cursor` it is the last."""

    items: list[T]
    size: int
    next_cursor: str | None = None


class ApiInfo(Schema):
    """Which ledger this is, and how far it is verified."""

    origin: str
    trial: bool
    size: int
    root: str = Field(description="RFC 6962 root of the entries, hex; recomputed from verified leaves")
    checkpoint_size: int | None = Field(None, description="entries under the newest signed checkpoint")
    version: str = Field(description="version of the software")


class LiveOut(Schema):
    """What is live on a target, and whether it stands."""

    target: str
    standing: Literal["none", "live", "suspended", "unattested"]
    version: str | None
    since: str | None = None
    entry: int | None = None
    grant_entry: int | None = None
    purpose: str | None = None
    reasons: list[ReasonOut] = []
    review_due: str | None = None
    review_overdue: bool = False
    notes: list[str] = []


class ReasonOut(Schema):
    """Why something is held back: a stable code, a sentence, who can resolve it."""

    code: str
    text: str
    resolved_by: str = ""


class ModelOut(Schema):
    """A model of the inventory."""

    model: str
    title: str
    owner: str | None
    tier: str | None
    tier_signed_entry: int | None = Field(description="the entry in which people signed the tier; null: nobody did")
    frameworks: list[str]
    intended_use: str
    versions: int
    status: Literal["none", "live", "suspended", "unattested"] = Field(
        description="the worst standing over its targets"
    )
    live: list[LiveOut]
    next_review: str | None
    review_overdue: bool
    open_findings: int
    blocking_findings: int


class ModelDetail(ModelOut):
    """A model, as of `size` entries."""

    size: int


class VersionOut(Schema):
    """A version of a model, and where it stands on a target."""

    model: str
    version: str
    target: str
    state: Literal["live", "suspended", "unattested", "ready", "releasing", "superseded", "blocked"]
    opened: str | None
    opened_entry: int | None
    package_digest: str | None
    package_entry: int | None
    revision: int | None
    next_stage: str | None
    waiting_for: list[str]


class VersionDetail(VersionOut):
    """A version, as of `size` entries."""

    size: int


class ConditionOut(Schema):
    """A condition of an approval or a limit of a review that is open. `entry` set it, counting from 0 there."""

    entry: int
    condition: int
    text: str
    kind: str
    due: str | None
    overdue: bool
    person: str
    name: str
    role: str


class FindingOut(Schema):
    """A finding and where it stands."""

    entry: int
    model: str
    version: str | None
    severity: str
    title: str
    text: str
    raised_by: str
    due: str | None
    open: bool
    blocking: bool
    accepted_until: str | None
    closed_entry: int | None


class SignatureOut(Schema):
    """A sign-off that counts."""

    entry: int
    person: str
    name: str
    on_behalf_of: str | None
    strength: str
    decision: str
    signed_at: str


class GateOut(Schema):
    """What the newest gate result of a family says."""

    family: str
    status: str
    entry: int | None


class StageOut(Schema):
    """One stage of the version's tier. `by` says what made it done."""

    stage: str
    title: str
    kind: str
    role: str | None
    wanted: dict[str, int] = Field(description="how many signatures, by role; empty for gates")
    min_strength: str | None
    done: bool
    by: str
    gates: list[GateOut]
    signed: list[SignatureOut]
    waiting_for: list[str]


class DecisionOut(Schema):
    """Whether a version may be released to a target now, with every reason against it. Anyone can replay it from `size` and `at`."""

    model: str
    version: str
    target: str
    size: int
    at: str
    released: bool = Field(description="whether nothing holds it back")
    state: str
    tier: str
    policy_digest: str
    package_digest: str | None
    stages: list[StageOut]
    waived: list[str]
    reasons: list[ReasonOut]
    conditions: list[ConditionOut]
    findings: list[FindingOut]
    review_due: str | None
    grant_entry: int | None
    completed_entry: int | None
    notes: list[str]


class SignOffOut(Schema):
    """A sign-off entry, whether it counts or not; see the decision for what counts."""

    entry: int
    time: str
    model: str
    version: str
    stage: str
    decision: str
    role: str
    person: str
    name: str
    strength: str
    package_digest: str
    statement_digest: str
    signed_at: str


class EvidenceOut(Schema):
    """A file of the evidence store."""

    name: str
    digest: str
    size: int
    media_type: str
    sensitivity: str


class CountsOut(Schema):
    """Counts of a framework's requirements by status, law and guidance apart."""

    framework: str
    status: str
    law: dict[str, int]
    guidance: dict[str, int]


class PackageOut(Schema):
    """A recorded package: what people sign. Its content is at `/package/content`."""

    model: str
    version: str
    revision: int
    entry: int
    time: str
    leaf: str
    digest: str
    size_bytes: int
    review_copy: EvidenceOut | None
    final_copy: EvidenceOut | None
    model_card: EvidenceOut
    other: list[EvidenceOut]
    model_digest: str
    training_entry: int
    evaluation_entry: int | None
    dataset_entries: list[int]
    policy_digest: str
    coverage: list[CountsOut]
    built_by: str
    built_from_size: int


class CoverageOut(Schema):
    """The coverage reports of the newest package, as they stand in it."""

    model: str
    version: str
    package_digest: str
    package_entry: int
    frameworks: list[dict[str, Any]]


class ReleaseOut(Schema):
    """A step of a release."""

    entry: int
    time: str
    event: Literal["granted", "refused", "completed", "failed", "suspended"]
    version: str
    target: str
    grant_entry: int | None
    purpose: str | None
    package_digest: str | None
    supersedes: str | None
    reasons: list[str]


class DatasetOut(Schema):
    """A dataset and its newest snapshot."""

    name: str
    snapshots: int
    newest_entry: int
    newest_time: str
    root: str
    record_count: int | None
    total_bytes: int


class SnapshotOut(Schema):
    """A dataset as it was at one moment."""

    name: str
    entry: int
    time: str
    root: str
    parent_root: str | None
    data_version: str
    file_count: int
    total_bytes: int
    record_count: int | None
    change_reason: str
    missing_provenance: list[str]
    failed_quality: list[str]
    provenance: dict[str, Any] | None = Field(description="null without the scope read:personal")


class EntryOut(Schema):
    """An entry of the ledger, verified. `facts` are null if `withheld` says why."""

    entry: int
    time: str
    kind: str
    schema_version: int
    subjects: list[str]
    actor: str
    leaf: str
    evidence: list[str]
    facts: dict[str, Any] | None
    withheld: Literal["personal", "erased", "unreadable"] | None


class EntryDetail(EntryOut):
    """An entry with its links into the chain."""

    previous_leaf: str
    heads: dict[str, int] = Field(description="the entry before this one about each subject; -1: there is none")
    key_id: str
    size: int


class ConsistencyOut(Schema):
    """RFC 6962 proof that the first `old` entries are a prefix of the first `new`. Hashes are hex."""

    old: int
    new: int
    old_root: str
    new_root: str
    path: list[str]
