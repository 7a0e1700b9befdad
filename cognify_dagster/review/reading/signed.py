"""What an entry's signatures say, in words, and whether each verifies: one way for every kind of act that people sign.

Each signature is shown with the printed name, the role, the time and the meaning (21 CFR 11.50). Invariants: a signature is said to
verify only if it does now, over exactly what stands in the entry, with the key that was enrolled for its person just before the
entry; what became of the key since is said beside it; of a statement that does not verify the page shows what it claims, as a claim.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cognify_dagster.governance import Directory, check_sign_off, directory
from cognify_dagster.governance.errors import SignatureError
from cognify_dagster.governance.people.authority import RECOVERY, KeySpan
from cognify_dagster.governance.people.directory import envelopes_of
from cognify_dagster.governance.release.approvals import same_history
from cognify_dagster.governance.signing.statements import (
    envelope_statement,
    read_act,
    read_sign_off,
    statement_digest,
)
from cognify_dagster.records import Envelope, PersonEnrolled, PublicKey, Record, SignOff
from cognify_dagster.review.reading.facts import Fact, facts_in_words, key_words
from cognify_dagster.review.signing.statements import sign_off_rows, word_code
from cognify_dagster.workspace import Reading, Recorded


@dataclass(frozen=True)
class SignedStatement:
    """One signature under a record.

    Args:
        number: its place among the record's signatures, from 0.
        name: the printed name; of a recovery key what it is.
        person: the signer's id, empty for a recovery key.
        behalf: for whom they signed, by a delegation.
        role, meaning, comments, signed_at: what the statement says.
        seen: which head of the ledger the signer saw.
        key: id and kind of the key.
        enrolled: since when the key was that person's.
        problem: why the signature does not verify; empty if it does.
        since: what became of the key after the entry; empty if nothing did.
        digest, code: of the statement: SHA-256 and the words to read aloud.
        statement: the exact statement, as JSON to read.
        envelope: the signed envelope as it stands in the entry.
    """

    number: int
    name: str
    person: str
    behalf: str
    role: str
    meaning: str
    comments: str
    signed_at: str
    seen: str
    key: str
    enrolled: str
    problem: str
    since: str
    digest: str
    code: str
    statement: str
    envelope: str

    @property
    def verifies(self) -> bool:
        """Whether the signature verifies with the key that was enrolled then."""
        return not self.problem


def signed_statements(reading: Reading, item: Recorded[Record]) -> tuple[SignedStatement, ...]:
    """Return every signature under an entry, in order; nothing where its kind is not signed by people."""
    people = directory(reading)
    return tuple(
        _statement(reading, people, item, number, envelope) for number, envelope in enumerate(envelopes_of(item.record))
    )


def signed_facts(reading: Reading, item: Recorded[Record]) -> tuple[Fact, ...]:
    """Return in words what an entry's signatures are under: of a sign-off its statement, of any other act its facts."""
    people, record = directory(reading), item.record
    if isinstance(record, SignOff):
        try:
            predicate = read_sign_off(envelope_statement(record.envelope))
        except SignatureError:  # then what the entry says of itself is shown
            predicate = None
        if predicate is not None:
            rows = sign_off_rows(predicate, people, strength=record.strength, to_signer=False)
            return tuple(Fact(name, value, text="\n" in value) for name, value in rows)
    payload = item.entry.payload
    facts = payload["facts"] if payload is not None else {}
    return facts_in_words(record.kind, facts, people, type(record).model_fields)


def effect_problem(reading: Reading, item: Recorded[Record]) -> str:
    """Say why an act about people, keys or the policy had no effect, as the directory judged it in its place; empty if it had."""
    people = directory(reading)
    listed = (*people.problems, *people.policy_problems, *people.policy_unreadable)
    return "; ".join(dict.fromkeys(text for seq, text in listed if seq == item.seq))


def _statement(
    reading: Reading, people: Directory, item: Recorded[Record], number: int, envelope: Envelope
) -> SignedStatement:
    said, text = _claims(envelope)
    problem = _problem(reading, people, item, envelope)
    person, key_id = str(said.get("person", "")), str(said.get("key_id", ""))
    recovery = person == RECOVERY
    span = None if recovery else _span(people, person, key_id, item.seq)
    strength = span.key.strength if span is not None else "S3" if recovery else ""
    behalf = said.get("on_behalf_of")
    digest = _digest(envelope)
    return SignedStatement(
        number=number,
        name="Recovery key of the founders" if recovery else str(said.get("printed_name") or _name(people, person)),
        person="" if recovery else person,
        behalf=_name(people, str(behalf.get("person", ""))) if isinstance(behalf, Mapping) else "",
        role=str(said.get("role", "")),
        meaning=str(said.get("meaning", "")),
        comments=str(said.get("comments", "")),
        signed_at=str(said.get("signed_at", "")),
        seen=_seen(reading, item, said),
        key=key_words(key_id, strength),
        enrolled="by the founders, with entry 0" if recovery else f"with entry {span.since}" if span else "",
        problem=problem,
        since="" if recovery or span is None else _later(reading, people, span, person, item.seq),
        digest=digest,
        code=word_code(digest) if digest else "",
        statement=text,
        envelope=json.dumps(envelope.model_dump(mode="json"), indent=2),
    )


def _problem(reading: Reading, people: Directory, item: Recorded[Record], envelope: Envelope) -> str:
    """Why the signature does not verify over this entry with a key valid just before it, or nothing."""
    if isinstance(item.record, SignOff):
        checked = check_sign_off(item, reading, people)  # type: ignore[arg-type]
        return checked if isinstance(checked, str) else ""

    def find(person: str, key_id: str) -> PublicKey | None:
        if person == RECOVERY:
            return next((key for key in people.recovery_keys if key.key_id == key_id), None)
        return people.signing_key(person, key_id, item.seq)

    try:
        read_act(item, envelope, reading.origin, find)
    except SignatureError as error:
        return str(error)
    return ""


def _claims(envelope: Envelope) -> tuple[Mapping[str, Any], str]:
    """What a statement says, unverified, and the whole of it as JSON to read."""
    try:
        value = json.loads(envelope_statement(envelope))
        said = value["predicate"]
    except (SignatureError, ValueError, KeyError, TypeError):
        return {}, ""
    return (said if isinstance(said, Mapping) else {}), json.dumps(value, indent=2, ensure_ascii=False)


def _digest(envelope: Envelope) -> str:
    try:
        return statement_digest(envelope)
    except SignatureError:
        return ""


def _name(people: Directory, person: str) -> str:
    return people.name(person) if person else "nobody who can be read"


def _span(people: Directory, person: str, key_id: str, seq: int) -> KeySpan | None:
    """The key as it was enrolled for the person: the span that covers the entry, else the newest of that id."""
    spans = [span for span in people.keys.get(person, ()) if span.key.key_id == key_id]
    return next((span for span in spans if span.valid_at(seq)), spans[-1] if spans else None)


def _later(reading: Reading, people: Directory, span: KeySpan, person: str, seq: int) -> str:
    """What became of a key after an entry that it signed."""
    if span.distrusted is not None and span.distrusted <= seq:
        return (
            f"the key was revoked since with effect from entry {span.distrusted}, before this one: what it signed to allow "
            "something counts no more"
        )
    if span.until is None or span.until <= seq:
        return ""
    ending = reading.at(span.until)
    if ending is not None and isinstance(ending.record, PersonEnrolled):
        return f"the key was replaced since, by entry {span.until}; what it signed before stands"
    return f"the key of {people.name(person)} was ended since, by entry {span.until}"


def _seen(reading: Reading, item: Recorded[Record], said: Mapping[str, Any]) -> str:
    """Which head of the ledger the signer saw, and whether it is one of this ledger."""
    head = said.get("checkpoint")
    size, root = (head.get("size"), head.get("root")) if isinstance(head, Mapping) else (None, None)
    if not isinstance(size, int) or not isinstance(root, str):
        return ""
    if size == 0 and item.seq == 0:
        return "an empty ledger, which this entry founds"
    try:
        known = 0 < size <= item.seq and same_history(reading, size, root)
    except ValueError:
        known = False
    told = f"the first {size} entries, root {root[:16]}…"
    return told if known else f"{told}: that is no head of this ledger"
