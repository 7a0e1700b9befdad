"""The ledger entry: its exact bytes, how a draft becomes one, and how bytes are read back strictly.

Invariants: an entry is the RFC 8785 form of `{body, heads, ledger, prev, seq, time_us, v}`; a store finishes it by plain
concatenation under its lock and keeps it verbatim; `prev` chains every entry to the one before it; `heads` names, for each
subject, the entry before this one about the same subject (-1 if none). See docs/ledger-format.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cognify_dagster.ledger.canonical import canonical_json, parse_canonical
from cognify_dagster.ledger.errors import CanonicalJsonError, EntryError
from cognify_dagster.ledger.merkle import leaf_hash
from cognify_dagster.ledger.names import KIND, check_origin, check_origin_once, check_subject, check_subject_once

_loads: Callable[[bytes], Any]
try:
    from orjson import loads as _loads
except ImportError:  # pragma: no cover - only slower without it
    _loads = json.loads

VERSION = 1
CLOCK_KIND = "clock_floor_corrected"
MAX_ENTRY = 65_535
MAX_PAYLOAD = 4 * 1024 * 1024
MAX_SUBJECTS = 64
MAX_SCHEMA = 10_000
SIGNATURE_SIZE = 64
NO_PREVIOUS = "0" * 64
MAX_INTEGER = 2**53 - 1
COMMITMENT_PREFIX = b"cognify/payload/v1\x00"
BODY_PAYLOAD_TYPE = "application/vnd.cognify.entry-body+json"
_BODY_KEYS = {"actor", "evidence", "idem", "key", "kind", "payload", "schema", "sig", "subjects"}
_ENTRY_KEYS = {"body", "heads", "ledger", "prev", "seq", "time_us", "v"}
_HEX64 = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DIGESTS = re.compile(r"sha256:[0-9a-f]{64}(,sha256:[0-9a-f]{64})*")
_KEY_ID = re.compile(r"([0-9a-f]{16})?")

_NOT_HEX = bytes(set(range(256)) - set(b"0123456789abcdef"))
_SIGNATURE = re.compile(r"[A-Za-z0-9+/]{85}[AQgw]==")

BodySigner = Callable[[bytes], bytes]
"""Signs the pre-authentication encoding of a body; returns 64 bytes of Ed25519 signature."""


def payload_commitment(salt: bytes, payload: bytes) -> str:
    """SHA-256("cognify/payload/v1" ‖ 0x00 ‖ salt ‖ payload) in hex; the salt has 32 bytes."""
    if len(salt) != 32:
        raise EntryError("a payload salt has 32 bytes")
    return hashlib.sha256(COMMITMENT_PREFIX + salt + payload).hexdigest()


def pae(payload_type: str, body: bytes) -> bytes:
    """DSSE v1 pre-authentication encoding of a payload type and body."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body)


@dataclass(frozen=True)
class Draft:
    """What a writer hands to `append`: everything but what the store adds under its lock.

    `payload` is canonical JSON of the typed record; `facts_digest` the SHA-256 hex of its facts, compared when the same
    idempotency key comes again. `key_id` is empty for unsigned entries.
    """

    kind: str
    schema: int
    subjects: tuple[str, ...]
    actor: str
    idem: str
    payload: bytes
    facts_digest: str
    evidence: tuple[str, ...] = ()
    key_id: str = ""
    sign: BodySigner | None = None


def time_floor(draft: Draft, before: int) -> int:
    """Return the least time that an entry may have, microseconds since 1970 UTC: `before`, that of the entry before it.

    A correction of the clock may lie before that, but not before the `floor_us` that it names. Stores apply this as it stands;
    whether enough people signed the correction is for verification to say.
    """
    if draft.kind != CLOCK_KIND:
        return before
    facts = parse_canonical(draft.payload).get("facts")
    named = facts.get("floor_us") if isinstance(facts, dict) else None
    return min(before, named) if type(named) is int and named >= 0 else before


@dataclass(frozen=True)
class SealedBody:
    """A draft's body bytes, ready to be finished by a store, with what the store keeps beside them."""

    draft: Draft
    salt: bytes
    body: bytes


def seal_body(origin: str, draft: Draft, *, salt: bytes | None = None) -> SealedBody:
    """Check a draft and build its body bytes, with commitment and writer's signature.

    Args:
        origin: the ledger's origin; part of what the writer signs, so a body is worthless in another ledger.
        draft: the entry to be.
        salt: 32 bytes; random unless given (tests and golden vectors give one).

    Raises:
        EntryError: naming the field that is wrong.
    """
    _check_draft(draft)
    salt = secrets.token_bytes(32) if salt is None else salt
    evidence, subjects = sorted(set(draft.evidence)), sorted(set(draft.subjects))
    commitment = payload_commitment(salt, draft.payload)
    signature = b""
    if draft.sign is not None:
        body = {
            "actor": draft.actor,
            "evidence": evidence,
            "idem": draft.idem,
            "key": draft.key_id,
            "kind": draft.kind,
            "payload": commitment,
            "schema": draft.schema,
            "subjects": subjects,
        }
        signature = draft.sign(body_signing_input(origin, body))
        if len(signature) != SIGNATURE_SIZE:
            raise EntryError(f"the writer's signature has {len(signature)} bytes, not {SIGNATURE_SIZE}")
    # every member was checked to be ASCII that JSON does not escape, so this is the canonical form
    digests = '"' + '","'.join(evidence) + '"' if evidence else ""
    names = '","'.join(subjects)
    text = (
        f'{{"actor":"{draft.actor}","evidence":[{digests}],"idem":"{draft.idem}","key":"{draft.key_id}",'
        f'"kind":"{draft.kind}","payload":"{commitment}","schema":{draft.schema:d},'
        f'"sig":"{base64.b64encode(signature).decode()}","subjects":["{names}"]}}'
    )
    return SealedBody(draft, salt, text.encode("ascii"))


def body_signing_input(origin: str, body: Mapping[str, Any]) -> bytes:
    """Return the bytes a writer signs: PAE over the canonical `{body (without sig), ledger}`."""
    unsigned = {key: value for key, value in body.items() if key != "sig"}
    return pae(BODY_PAYLOAD_TYPE, canonical_json({"body": unsigned, "ledger": origin}))


def _check_draft(draft: Draft) -> None:
    if not KIND.fullmatch(draft.kind):
        raise EntryError(f"kind {draft.kind[:80]!r} is not a lower-case word")
    if not 1 <= draft.schema <= MAX_SCHEMA:
        raise EntryError(f"schema version {draft.schema} is out of range")
    if not draft.subjects or len(draft.subjects) > MAX_SUBJECTS:
        raise EntryError(f"an entry has 1 to {MAX_SUBJECTS} subjects, not {len(draft.subjects)}")
    for subject in draft.subjects:
        check_subject_once(subject)
    check_subject_once(draft.actor)
    if not _HEX64.fullmatch(draft.idem) or not _HEX64.fullmatch(draft.facts_digest):
        raise EntryError("idempotency key and facts digest are 64 hex digits")
    if len(draft.payload) > MAX_PAYLOAD:
        raise EntryError(f"the payload has {len(draft.payload)} bytes; above {MAX_PAYLOAD} put it into evidence")
    try:
        if type(parse_canonical(draft.payload)) is not dict:
            raise EntryError("the payload is not a JSON object")
    except CanonicalJsonError as error:
        raise EntryError(f"the payload could not be read back: {error}") from error
    for digest in draft.evidence:
        if not _DIGEST.fullmatch(digest):
            raise EntryError(f"evidence {digest[:80]!r} is not sha256:<64 hex digits>")
    if not _KEY_ID.fullmatch(draft.key_id) or bool(draft.key_id) != (draft.sign is not None):
        raise EntryError("a signed entry needs both a 16-digit key id and a signer; an unsigned one neither")


def assemble(origin: str, body: bytes, heads: Mapping[str, int], prev: str, seq: int, time_us: int) -> bytes:
    """Concatenate an entry's bytes, exactly as a database does it under its lock.

    Raises:
        EntryError: if the entry would exceed 65,535 bytes.
    """
    head_text = ",".join(f'"{subject}":{heads[subject]}' for subject in sorted(heads))
    data = b'{"body":%b,"heads":{%b},"ledger":"%b","prev":"%b","seq":%d,"time_us":%d,"v":%d}' % (
        body,
        head_text.encode("ascii"),
        origin.encode("ascii"),
        prev.encode("ascii"),
        seq,
        time_us,
        VERSION,
    )
    if len(data) > MAX_ENTRY:
        raise EntryError(f"the entry has {len(data)} bytes; the limit is {MAX_ENTRY}. Put large values into evidence")
    return data


@dataclass(frozen=True)
class Entry:
    """An entry read back from its bytes. `leaf` is its RFC 6962 leaf hash, `time_us` microseconds since 1970 UTC."""

    seq: int
    time_us: int
    ledger: str
    prev: str
    heads: Mapping[str, int]
    kind: str
    schema: int
    subjects: tuple[str, ...]
    actor: str
    idem: str
    commitment: str
    evidence: tuple[str, ...]
    key_id: str
    signature: bytes
    data: bytes
    leaf: bytes

    @classmethod
    def parse(cls, data: bytes) -> Entry:
        """Read entry bytes strictly.

        Raises:
            EntryError: if the bytes are not exactly a version-1 entry in canonical form.
        """
        if len(data) > MAX_ENTRY:
            raise EntryError(f"the entry has {len(data)} bytes; the limit is {MAX_ENTRY}")
        fast = _parse_exact(data)
        if fast is not None:
            return fast
        try:
            value = parse_canonical(data)
        except CanonicalJsonError as error:
            raise EntryError(f"entry bytes: {error}") from error
        try:
            return cls._from_value(value, data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EntryError(f"entry bytes: {error}") from error

    @classmethod
    def _from_value(cls, value: Any, data: bytes) -> Entry:
        if not isinstance(value, dict) or set(value) != _ENTRY_KEYS:
            raise EntryError("an entry has exactly the keys body, heads, ledger, prev, seq, time_us, v")
        body, heads = value["body"], value["heads"]
        if not isinstance(body, dict) or set(body) != _BODY_KEYS:
            raise EntryError("a body has exactly the keys " + ", ".join(sorted(_BODY_KEYS)))
        if type(value["v"]) is not int or value["v"] != VERSION:
            raise EntryError(f"entry version {value['v']} is unknown; use a newer release to read it")
        for name in ("seq", "time_us"):
            if type(value[name]) is not int or value[name] < 0:
                raise EntryError(f"{name} is not a natural number")
        if type(body["subjects"]) is not list or type(body["evidence"]) is not list or type(heads) is not dict:
            raise EntryError("subjects and evidence are lists, heads is an object")
        subjects = tuple(body["subjects"])
        if list(subjects) != sorted(set(subjects)) or not subjects or len(subjects) > MAX_SUBJECTS:
            raise EntryError("subjects are not sorted, distinct and at least one")
        for subject in subjects:
            check_subject(subject)
        if set(heads) != set(subjects) or any(type(h) is not int or not -1 <= h < value["seq"] for h in heads.values()):
            raise EntryError("heads do not name an earlier entry for each subject")
        if type(body["schema"]) is not int or not 1 <= body["schema"] <= MAX_SCHEMA or not KIND.fullmatch(body["kind"]):
            raise EntryError("kind or schema is malformed")
        hexes = (value["prev"], body["idem"], body["payload"])
        if not all(_HEX64.fullmatch(text) for text in hexes) or not _KEY_ID.fullmatch(body["key"]):
            raise EntryError("prev, idem, payload or key is not hex of the right length")
        evidence = tuple(body["evidence"])
        if list(evidence) != sorted(set(evidence)) or not all(_DIGEST.fullmatch(item) for item in evidence):
            raise EntryError("evidence is not a sorted list of distinct sha256 digests")
        signature = base64.b64decode(body["sig"], validate=True)
        if base64.b64encode(signature).decode() != body["sig"] or len(signature) != (
            SIGNATURE_SIZE if body["key"] else 0
        ):
            raise EntryError("sig is not the base64 of 64 bytes beside a key, or of none without one")
        return cls(
            seq=value["seq"],
            time_us=value["time_us"],
            ledger=check_origin(value["ledger"]),
            prev=value["prev"],
            heads=dict(heads),
            kind=body["kind"],
            schema=body["schema"],
            subjects=subjects,
            actor=check_subject(body["actor"]),
            idem=body["idem"],
            commitment=body["payload"],
            evidence=evidence,
            key_id=body["key"],
            signature=signature,
            data=data,
            leaf=leaf_hash(data),
        )

    def signing_input(self) -> bytes:
        """Return the bytes that the writer's signature covers."""
        body = {
            "actor": self.actor,
            "evidence": list(self.evidence),
            "idem": self.idem,
            "key": self.key_id,
            "kind": self.kind,
            "payload": self.commitment,
            "schema": self.schema,
            "subjects": list(self.subjects),
        }
        return body_signing_input(self.ledger, body)


def _parse_exact(data: bytes) -> Entry | None:
    """Read entry bytes in the usual form quickly; None if anything about them is unusual, so that the strict way decides.

    Every member is checked as the strict way does; then the bytes are put together again from the members. Only if they are
    the same bytes was the form canonical: so no JSON parser's leniency can let another form pass.
    """
    try:
        value = _loads(data)
        body, heads, seq, time_us = value["body"], value["heads"], value["seq"], value["time_us"]
        subjects, evidence, schema, kind = body["subjects"], body["evidence"], body["schema"], body["kind"]
        key, sig, prev, idem, commitment = body["key"], body["sig"], value["prev"], body["idem"], body["payload"]
        hexes = f"{prev}{idem}{commitment}".encode("ascii")
        if (
            type(seq) is not int
            or type(time_us) is not int
            or type(schema) is not int
            or not 0 <= seq <= MAX_INTEGER
            or not 0 <= time_us <= MAX_INTEGER
            or not 1 <= schema <= MAX_SCHEMA
            or not 1 <= len(subjects) <= MAX_SUBJECTS
            or len(prev) != 64
            or len(idem) != 64
            or len(hexes) != 192
            or len(hexes.translate(None, _NOT_HEX)) != 192
            or not KIND.fullmatch(kind)
            or list(heads) != subjects
            or subjects != sorted(set(subjects))
            or set(map(type, links := heads.values())) != {int}
            or min(links) < -1
            or max(links) >= seq
            or not (evidence == [] or (_DIGESTS.fullmatch(",".join(evidence)) and evidence == sorted(set(evidence))))
            or not _KEY_ID.fullmatch(key)
            or not (_SIGNATURE.fullmatch(sig) if key else sig == "")
        ):
            return None
        for subject in subjects:
            check_subject_once(subject)
        actor, ledger = check_subject_once(body["actor"]), check_origin_once(value["ledger"])
        digests = '"' + '","'.join(evidence) + '"' if evidence else ""
        names = '","'.join(subjects)
        pairs = ",".join([f'"{subject}":{head}' for subject, head in heads.items()])
        text = (
            f'{{"body":{{"actor":"{actor}","evidence":[{digests}],"idem":"{idem}","key":"{key}","kind":"{kind}",'
            f'"payload":"{commitment}","schema":{schema},"sig":"{sig}","subjects":["{names}"]}},"heads":{{{pairs}}},'
            f'"ledger":"{ledger}","prev":"{prev}","seq":{seq},"time_us":{time_us},"v":1}}'
        )
        if text.encode("ascii") != data:
            return None
        entry = object.__new__(Entry)
        entry.__dict__.update(
            seq=seq,
            time_us=time_us,
            ledger=ledger,
            prev=prev,
            heads=heads,
            kind=kind,
            schema=schema,
            subjects=tuple(subjects),
            actor=actor,
            idem=idem,
            commitment=commitment,
            evidence=tuple(evidence),
            key_id=key,
            signature=base64.b64decode(sig),
            data=data,
            leaf=leaf_hash(data),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    return entry
