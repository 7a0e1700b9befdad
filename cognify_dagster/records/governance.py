"""Records about people, keys, policy and signatures."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

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


class Passkey(Part):
    """What an assertion of a passkey must name: the site it belongs to and the pages that may ask for it."""

    credential_id: str = Field(description="base64url, without padding")
    rp_id: str
    origins: tuple[str, ...] = Field(min_length=1)
    aaguid: str = ""
    backed_up: bool = Field(False, description="synced to several devices")


class OidcIdentity(Part):
    """Whom a company's sign-in service (OpenID Connect issuer) must name in an ID token, and for which client."""

    issuer: str = Field(pattern=r"^https?://[!-~]+$", max_length=500)
    subject: str = Field(min_length=1, max_length=255, description="the issuer's `sub`, compared as it is")
    client_id: str = Field(min_length=1, max_length=255, description="the review site as the issuer knows it")


class PublicKey(Part):
    """An enrolled public key: a personal Ed25519 key (S3), a passkey (S4), or a person's identity at an issuer (S2).

    `key_id` is the first 16 hex digits of SHA-256 over the public bytes: the 32 bytes of an Ed25519 key, the COSE key of a
    passkey (WebAuthn Level 3), the canonical JSON of the member `oidc`.
    """

    key_id: str = Field(pattern=r"^[0-9a-f]{16}$")
    algorithm: Literal["ed25519", "webauthn", "oidc"] = "ed25519"
    public: str = Field(description="base64 of the public bytes", max_length=4096)
    strength: Literal["S2", "S3", "S4"] = "S3"
    passkey: Passkey | None = None
    oidc: OidcIdentity | None = None

    @model_validator(mode="after")
    def _whole(self) -> PublicKey:
        passkey, oidc = self.algorithm == "webauthn", self.algorithm == "oidc"
        if passkey != (self.passkey is not None) or passkey != (self.strength == "S4"):
            raise ValueError(
                "a passkey has algorithm webauthn, strength S4 and the member passkey; other keys have none"
            )
        if oidc != (self.oidc is not None) or oidc != (self.strength == "S2"):
            raise ValueError(
                "an identity for single sign-on has algorithm oidc, strength S2 and the member oidc; keys have none"
            )
        return self

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave a member out where there is none: what was signed before it existed stays as it was."""
        data: dict[str, Any] = handler(self)
        return {name: value for name, value in data.items() if name not in ("passkey", "oidc") or value is not None}


class Person(Part):
    """A human under governance. The id is opaque; name and aliases stand in the payload, which can be erased."""

    person: PersonId
    name: str = Field(min_length=1, max_length=200)
    title: str = ""
    roles: tuple[str, ...]
    aliases: tuple[str, ...] = Field(
        default=(), description="git e-mails (git:…), run launchers (user:…), identities (oidc:issuer|subject)"
    )
    keys: tuple[PublicKey, ...]


class Workload(Part):
    """A machine identity that writes entries. It can never sign off."""

    workload: WorkloadId
    key: PublicKey
    kinds: tuple[str, ...] = Field(description="record kinds this workload may write")


class Assertion(Part):
    """The parts of a WebAuthn assertion that its signature covers, in base64."""

    authenticator_data: str
    client_data_json: str


class OidcProof(Part):
    """The ID token in which an issuer says that a person signed in again for one statement, and which keys verify it."""

    id_token: str = Field(pattern=r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$", max_length=16_384)
    keys: Digest = Field(description="digest of the issuer's key set, which an earlier entry archived")


class EnvelopeSignature(Part):
    """One DSSE signature; `sig` is base64. A passkey's comes with its assertion, one by single sign-on with its ID token."""

    keyid: str
    sig: str
    webauthn: Assertion | None = None
    oidc: OidcProof | None = None

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A plain DSSE signature has no further members."""
        data: dict[str, Any] = handler(self)
        return {name: value for name, value in data.items() if name not in ("webauthn", "oidc") or value is not None}


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
    """A person joined or changed (roles, keys); vouched for by other people's signatures.

    `vouched_by` is the workspace admin who enrols, `witnesses` are the further people who know the person; with their own
    signature the person themselves may be one of them.
    """

    kind: ClassVar[str] = "person_enrolled"
    person: Person
    vouched_by: PersonId
    witnesses: tuple[PersonId, ...] = ()
    envelope: Envelope
    envelopes: tuple[Envelope, ...] = Field(default=(), description="the signatures of the witnesses")

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
    """A person's or workload's key counts no more from this entry on.

    `effective_from` names an earlier entry from which on it was not to be trusted (it was lost or copied then).
    """

    kind: ClassVar[str] = "key_revoked"
    holder: HolderId
    key_id: str = Field(pattern=r"^[0-9a-f]{16}$")
    reason: str = Field(min_length=1)
    revoked_by: PersonId
    effective_from: int | None = Field(None, ge=1, description="the first entry for which it was not to be trusted")
    envelope: Envelope

    def facts(self) -> dict[str, Any]:
        """Return the facts; without an earlier position they are what they were before there were any."""
        data = super().facts()
        if data["effective_from"] is None:
            del data["effective_from"]
        return data

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


def _last_second(value: Any) -> Any:
    """Accept a day, as YAML reads it or as text: its last second is meant."""
    text = value.isoformat() if type(value) is date else value
    return f"{text}T23:59:59Z" if isinstance(text, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", text) else text


class AcceptedAdvisory(Part):
    """A known vulnerability that the signer of the gate set accepts, why, and up to when (a day: to its last second, UTC)."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{2,99}$", description="any id of it: CVE, GHSA, PYSEC …")
    package: str = Field(default="", max_length=200, description="only in this package; empty: wherever it is found")
    reason: str = Field(pattern=r"\S", max_length=1000)
    expires: Annotated[Utc, BeforeValidator(_last_second)]


class SecurityTerms(Part):
    """What a gate of family `security` counts, how old the advisories may be, and which vulnerabilities are accepted."""

    min_severity: Literal["any", "low", "medium", "high", "critical"] = Field(
        default="any", description="count from here on; one of unknown severity always counts"
    )
    max_age_days: int = Field(default=30, ge=1, le=3650, description="older advisories judge nothing: the gate fails")
    partial_snapshot: Literal["note", "fail"] = Field(
        default="note", description="what a partial set of advisories means"
    )
    accepted: tuple[AcceptedAdvisory, ...] = Field(default=(), max_length=500)


class GateRule(Part):
    """One threshold, adopted before results exist."""

    id: str
    family: Literal["performance", "fairness", "data_quality", "completeness", "security"]
    metric: str
    op: Literal[">=", "<=", ">", "<"]
    threshold: float
    source: Literal["policy", "convention", "law"]
    reason: str = ""
    on_insufficient: Literal["fail", "pass_with_note"] = "fail"
    security: SecurityTerms | None = None

    @model_serializer(mode="wrap")
    def _without_absent_terms(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A rule without terms of its own has the form, and so the digest, that it had before there were any."""
        data: dict[str, Any] = handler(self)
        if data.get("security") is None:
            data.pop("security", None)
        return data


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
