"""Records about people, keys, policy and signatures."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from cognify_dagster.records.base import (
    DatasetName,
    Digest,
    Hex64,
    HolderId,
    Json,
    ModelKey,
    Part,
    PersonId,
    Record,
    Utc,
    VersionId,
    WorkloadId,
    register,
)


class PublicKey(Part):
    """An enrolled Ed25519 public key. `key_id` is the first 16 hex digits of SHA-256 over the 32 key bytes."""

    key_id: str = Field(pattern=r"^[0-9a-f]{16}$")
    algorithm: Literal["ed25519"] = "ed25519"
    public: str = Field(description="base64 of the 32-byte key")
    strength: Literal["S3"] = "S3"


class Person(Part):
    """A human under governance. The id is opaque; name and aliases stand in the payload, which can be erased."""

    person: PersonId
    name: str = Field(min_length=1, max_length=200)
    title: str = ""
    roles: tuple[str, ...]
    aliases: tuple[str, ...] = Field(default=(), description="git e-mails (git:…) and run launchers (user:…)")
    keys: tuple[PublicKey, ...]


class Workload(Part):
    """A machine identity that writes entries. It can never sign off."""

    workload: WorkloadId
    key: PublicKey
    kinds: tuple[str, ...] = Field(description="record kinds this workload may write")


class EnvelopeSignature(Part):
    """One DSSE signature; `sig` is base64."""

    keyid: str
    sig: str


class Envelope(Part):
    """A DSSE v1 envelope (base64 payload)."""

    payload: str
    payloadType: str  # noqa: N815  (the member name of the DSSE specification)
    signatures: tuple[EnvelopeSignature, ...]


@register
class Genesis(Record):
    """The ledger's first entry: who founded it, with which keys and policy."""

    kind: ClassVar[str] = "genesis"
    format_version: int = 1
    origin: str
    log_key: str = Field(description="vkey of the checkpoint signer")
    trial: bool
    founders: tuple[Person, ...]
    workloads: tuple[Workload, ...] = ()
    policy: dict[str, Json]
    policy_digest: Digest
    recovery_threshold: int = Field(ge=1)
    recovery_keys: tuple[PublicKey, ...]
    created: Utc
    envelopes: tuple[Envelope, ...] = ()

    def subjects(self) -> tuple[str, ...]:
        people = [founder.person for founder in self.founders]
        return ("ledger", "policy", *people, *(item.workload for item in self.workloads))


@register
class PersonEnrolled(Record):
    """A person joined or changed (roles, keys); vouched for by another person's signature."""

    kind: ClassVar[str] = "person_enrolled"
    person: Person
    vouched_by: PersonId
    envelope: Envelope

    def subjects(self) -> tuple[str, ...]:
        return ("people", self.person.person)


@register
class WorkloadEnrolled(Record):
    """A machine key was admitted; signed by a workspace admin."""

    kind: ClassVar[str] = "workload_enrolled"
    workload: Workload
    enrolled_by: PersonId
    envelope: Envelope

    def subjects(self) -> tuple[str, ...]:
        return ("people", self.workload.workload)


@register
class KeyRevoked(Record):
    """A person's or workload's key counts no more from this entry on."""

    kind: ClassVar[str] = "key_revoked"
    holder: HolderId
    key_id: str = Field(pattern=r"^[0-9a-f]{16}$")
    reason: str = Field(min_length=1)
    revoked_by: PersonId
    envelope: Envelope

    def subjects(self) -> tuple[str, ...]:
        return ("people", self.holder)


@register
class PolicyAdopted(Record):
    """A policy version came into force, signed by the people the policy before it demands."""

    kind: ClassVar[str] = "policy_adopted"
    policy: dict[str, Json]
    policy_digest: Digest
    reason: str = Field(min_length=1)
    envelopes: tuple[Envelope, ...]

    def subjects(self) -> tuple[str, ...]:
        return ("policy",)


class GateRule(Part):
    """One threshold, adopted before results exist."""

    id: str
    family: Literal["performance", "fairness", "data_quality", "completeness"]
    metric: str
    op: Literal[">=", "<=", ">", "<"]
    threshold: float
    source: Literal["policy", "convention", "law"]
    reason: str = ""
    on_insufficient: Literal["fail", "pass_with_note"] = "fail"


@register
class GateSetAdopted(Record):
    """A person-signed set of thresholds for one model."""

    kind: ClassVar[str] = "gate_set_adopted"
    name: DatasetName
    model: ModelKey
    gates: tuple[GateRule, ...]
    digest: Digest
    adopted_by: PersonId
    envelope: Envelope

    def subjects(self) -> tuple[str, ...]:
        return (f"gates/{self.name}", f"model/{self.model}", self.adopted_by)


@register
class SignOff(Record):
    """A statement about one package of one model version, with its signature."""

    kind: ClassVar[str] = "sign_off"
    model: ModelKey
    version: VersionId
    stage: str
    decision: Literal["approve", "approve_with_conditions", "reject", "withdraw", "block", "acknowledge"]
    role: str
    person: PersonId
    key_id: str
    strength: Literal["S2", "S3", "S4"]
    package_digest: Digest
    package_seq: int
    statement_digest: Hex64
    signed_at: Utc
    envelope: Envelope

    def subjects(self) -> tuple[str, ...]:
        return (f"model/{self.model}", f"model/{self.model}@{self.version}", self.person)


@register
class SignOffRefused(Record):
    """Somebody tried to sign and was refused; kept, so that attempts are visible."""

    kind: ClassVar[str] = "sign_off_refused"
    model: ModelKey
    version: VersionId
    stage: str
    decision: str
    role: str
    person: PersonId
    statement_digest: Hex64
    reasons: tuple[str, ...]

    def subjects(self) -> tuple[str, ...]:
        people = (self.person,) if self.person.startswith("person/") else ()
        return (f"model/{self.model}@{self.version}", *people)


def person_subjects(people: tuple[str, ...]) -> tuple[str, ...]:
    """Return those ids that are people (attribution may also be `unattributed` or a workload)."""
    return tuple(sorted({item for item in people if item.startswith("person/")}))
