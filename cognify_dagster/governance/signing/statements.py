"""Statements and their signatures: in-toto Statement v1 in DSSE v1 envelopes.

Invariants: a signature covers the DSSE pre-authentication encoding, so payload type and bytes are bound together; a payload
is parsed only after its signature verified, and never re-serialized; a statement names ledger, subject digests, person, key
and the checkpoint its signer saw, so it is worthless for another workspace, package or person.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

from cryptography.exceptions import InvalidSignature
from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from cognify_dagster.governance.errors import SignatureError
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.governance.signing.passkeys import verify_passkey
from cognify_dagster.governance.signing.signatures import verifies
from cognify_dagster.governance.signing.sso import IssuerKeys, verify_sso
from cognify_dagster.ledger import CanonicalJsonError, Checkpoint, canonical_json, pae, parse_canonical
from cognify_dagster.records import Envelope, EnvelopeSignature, PublicKey, Record, RecordError, build, utc
from cognify_dagster.records.base import Digest, Hex64, Json, ModelKey, Part, PersonId, Utc, VersionId, parse_utc
from cognify_dagster.workspace import Recorded

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
SIGN_OFF = "urn:cognify:predicate:sign-off:v1"
ACT = "urn:cognify:predicate:act:v1"
Decision = Literal["approve", "approve_with_conditions", "reject", "withdraw", "block", "acknowledge"]


class PackageRef(Part):
    """The package as the ledger knows it."""

    digest: Digest
    entry_seq: int
    entry_leaf: Hex64


class Condition(Part):
    """A condition of an approval; `due` is when it must be met, if at all dated.

    `kind` says what a program can check: `use_cap` and `population` are enforced by the deployment that declares so, `expiry`
    ends the approval at `limit["until"]`, `monitoring` and `remediation` are met by a signed closure, at the latest when due.
    """

    text: str = Field(min_length=1)
    due: Utc | None = None
    kind: Literal["text", "use_cap", "population", "expiry", "monitoring", "remediation"] = "text"
    limit: dict[str, Json] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _dated(self) -> Condition:
        if self.kind == "expiry":
            until = self.limit.get("until")
            if set(self.limit) != {"until"} or not isinstance(until, str):
                raise ValueError('an expiry condition has the limit {"until": "2027-01-31T00:00:00Z"}')
            parse_utc(until)
        return self

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Plain conditions stand as they always did."""
        return _without(handler(self), {"kind": "text", "limit": {}})


class Viewed(Part):
    """The document that the signing command opened for the signer."""

    digest: Digest
    media_type: str


class Head(Part):
    """The ledger's head that the signer saw: size and root in hex."""

    size: int
    root: Hex64


class EntryRef(Part):
    """An earlier entry that this statement is about (for withdraw, close, delegate)."""

    entry_seq: int
    entry_leaf: Hex64


class OnBehalf(Part):
    """For whom a delegate signs, and the entry of the delegation that allows it."""

    person: PersonId
    delegation: EntryRef


def _without(data: dict[str, Any], absent: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out members that say nothing, so that a statement from before they existed keeps its bytes."""
    return {name: value for name, value in data.items() if name not in absent or value != absent[name]}


class SignOffPredicate(Part):
    """All that a sign-off says (ARCHITECTURE: statement fields)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    ledger: str
    model: ModelKey
    version: VersionId
    package: PackageRef
    model_digest: Digest
    decision: Decision
    stage: str
    role: str
    meaning: str = Field(min_length=1)
    comments: str = Field("", max_length=10_000)
    conditions: tuple[Condition, ...] = ()
    links: tuple[str, ...] = ()
    target_environments: tuple[str, ...] = ()
    expires: Utc | None = None
    viewed: Viewed | None  # null where the signing command opened nothing
    checkpoint: Head
    policy_digest: Digest
    person: PersonId
    printed_name: str
    key_id: str
    signed_at: Utc
    reference: EntryRef | None = None
    on_behalf_of: OnBehalf | None = None

    @property
    def people(self) -> frozenset[str]:
        """Everyone whose signature this uses up: the signer, and for whom they sign."""
        return frozenset({self.person} | ({self.on_behalf_of.person} if self.on_behalf_of else set()))

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(handler(self), {"on_behalf_of": None})


def sign_off_statement(predicate: SignOffPredicate) -> bytes:
    """Return the canonical statement bytes that a person signs."""
    name = f"model/{predicate.model}@{predicate.version}"
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [
                {"name": f"{name}/package", "digest": {"sha256": predicate.package.digest[7:]}},
                {"name": f"{name}/model-file", "digest": {"sha256": predicate.model_digest[7:]}},
            ],
            "predicateType": SIGN_OFF,
            "predicate": predicate.model_dump(mode="json"),
        }
    )


def read_sign_off(statement: bytes) -> SignOffPredicate:
    """Read statement bytes strictly: canonical, of our predicate type, subjects equal to what the predicate names.

    Raises:
        SignatureError: if they are not.
    """
    value = _read_statement(statement, SIGN_OFF)
    try:
        predicate = build(SignOffPredicate, value["predicate"])
    except RecordError as error:
        raise SignatureError(f"the statement is malformed: {error}") from error
    if sign_off_statement(predicate) != statement:
        raise SignatureError("the statement's subjects are not those its predicate names")
    return predicate


def act_content_digest(facts: Mapping[str, Any]) -> str:
    """SHA-256 hex over the canonical facts of a record without its envelopes.

    For a record in the ledger the facts are those stored, not those of today's model: a later release may know more fields,
    and what people signed must keep verifying.
    """
    content = {key: value for key, value in facts.items() if key not in ("envelope", "envelopes")}
    return hashlib.sha256(canonical_json(content)).hexdigest()


def act_statement(
    record: Record, *, ledger: str, person: str, key_id: str, role: str, meaning: str, head: Checkpoint
) -> bytes:
    """Return the canonical statement with which a person signs a governance record."""
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": record.kind, "digest": {"sha256": act_content_digest(record.facts())}}],
            "predicateType": ACT,
            "predicate": {
                "ledger": ledger,
                "kind": record.kind,
                "meaning": meaning,
                "person": person,
                "key_id": key_id,
                "role": role,
                "checkpoint": {"size": head.size, "root": head.root.hex()},
                "signed_at": utc(),
            },
        }
    )


def sign_act(record: Record, key: PersonalKey, *, ledger: str, role: str, meaning: str, head: Checkpoint) -> Envelope:
    """Sign a governance record as a person."""
    statement = act_statement(
        record, ledger=ledger, person=key.person, key_id=key.key_id, role=role, meaning=meaning, head=head
    )
    return seal(statement, key.key_id, key.sign)


def read_act(
    item: Recorded[Record], envelope: Envelope, ledger: str, find: Callable[[str, str], PublicKey | None]
) -> Mapping[str, Any]:
    """Verify that an envelope signs this record in this ledger; return its predicate.

    Args:
        item: the entry the envelope belongs to.
        envelope: the signature.
        ledger: the origin it must name.
        find: (person, key id) -> the public key valid at that point, or None.

    Raises:
        SignatureError: saying what does not match.
    """
    person, key_id = _claimed_signer(envelope)
    key = find(person, key_id)
    if key is None:
        raise SignatureError(f"{person} has no valid key {key_id} at this point")
    if key.algorithm == "oidc":
        raise SignatureError("single sign-on signs sign-offs only; this needs a personal key or a passkey")
    value = _read_statement(open_envelope(envelope, key), ACT)
    predicate = value["predicate"]
    if not isinstance(predicate, dict) or predicate.get("ledger") != ledger:
        raise SignatureError("the statement belongs to another ledger")
    payload = item.entry.payload
    if payload is None:
        raise SignatureError("the entry's payload was erased")
    kind = item.record.kind
    subject = [{"name": kind, "digest": {"sha256": act_content_digest(payload["facts"])}}]
    if predicate.get("kind") != kind or value["subject"] != subject:
        raise SignatureError(f"the statement signs something else than this {kind} record")
    return predicate


def _claimed_signer(envelope: Envelope) -> tuple[str, str]:
    """Who the payload says signed; only used to look the key up, the signature then proves it."""
    try:
        predicate = _read_statement(_payload(envelope), ACT)["predicate"]
        return str(predicate["person"]), str(predicate["key_id"])
    except (KeyError, TypeError) as error:
        raise SignatureError("the statement does not name its signer") from error


def act_predicate(envelope: Envelope) -> Mapping[str, Any]:
    """Return what a statement about a governance record says, unverified.

    Raises:
        SignatureError: if it is no such statement.
    """
    predicate = _read_statement(_payload(envelope), ACT)["predicate"]
    if not isinstance(predicate, dict):
        raise SignatureError("the statement is malformed")
    return predicate


def seal(statement: bytes, key_id: str, sign: Callable[[bytes], bytes]) -> Envelope:
    """Sign statement bytes into an envelope."""
    signature = base64.b64encode(sign(pae(PAYLOAD_TYPE, statement))).decode()
    return Envelope(
        payload=base64.b64encode(statement).decode(),
        payloadType=PAYLOAD_TYPE,
        signatures=(EnvelopeSignature(keyid=key_id, sig=signature),),
    )


def open_envelope(envelope: Envelope, key: PublicKey, issuer_keys: IssuerKeys | None = None) -> bytes:
    """Verify an envelope with one key and return the statement bytes.

    Args:
        envelope: the signed statement.
        key: the enrolled key that has to have signed it.
        issuer_keys: finds the archived keys of an issuer; without it no signature by single sign-on verifies.

    Raises:
        SignatureError: if it has another payload type, not exactly one signature, or the signature fails.
    """
    if envelope.payloadType != PAYLOAD_TYPE:
        raise SignatureError(f"payload type {envelope.payloadType!r} is not {PAYLOAD_TYPE!r}")
    if len(envelope.signatures) != 1:
        raise SignatureError("an envelope has exactly one signature")
    statement = _payload(envelope)
    try:
        signature = base64.b64decode(envelope.signatures[0].sig, validate=True)
        _verify_signature(key, envelope.signatures[0], signature, pae(PAYLOAD_TYPE, statement), issuer_keys)
    except (InvalidSignature, ValueError) as error:
        if isinstance(error, SignatureError):
            raise
        raise SignatureError("the signature does not verify") from error
    return statement


def _verify_signature(
    key: PublicKey, member: EnvelopeSignature, signature: bytes, message: bytes, issuer_keys: IssuerKeys | None
) -> None:
    """The enrolled key says what kind of signature counts, never the envelope."""
    if key.algorithm == "oidc":
        verify_sso(key, member, signature, message, issuer_keys)
        return
    if member.oidc is not None:
        raise SignatureError("the signature of a key has no ID token")
    if key.algorithm == "webauthn":
        verify_passkey(key, member.webauthn, signature, message)
        return
    if member.webauthn is not None:
        raise SignatureError("the signature of a personal key has no assertion")
    if not verifies(base64.b64decode(key.public, validate=True), signature, message):
        raise SignatureError("the signature does not verify")


def envelope_statement(envelope: Envelope) -> bytes:
    """Return the statement bytes inside an envelope, unverified."""
    return _payload(envelope)


def statement_digest(envelope: Envelope) -> str:
    """Return the SHA-256 hex of the statement bytes inside an envelope: a statement counts once, however often it is sent."""
    return hashlib.sha256(_payload(envelope)).hexdigest()


def _payload(envelope: Envelope) -> bytes:
    try:
        return base64.b64decode(envelope.payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureError("the envelope's payload is not base64") from error


def _read_statement(statement: bytes, predicate_type: str) -> dict[str, Any]:
    try:
        value = parse_canonical(statement)
    except CanonicalJsonError as error:
        raise SignatureError(f"the statement is malformed: {error}") from error
    if not isinstance(value, dict) or set(value) != {"_type", "subject", "predicateType", "predicate"}:
        raise SignatureError("not an in-toto Statement v1")
    if value["_type"] != STATEMENT_TYPE or value["predicateType"] != predicate_type:
        raise SignatureError(f"the statement's type is not {predicate_type}")
    return value
