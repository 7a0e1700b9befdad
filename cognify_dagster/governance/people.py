"""Who is who: people, their keys and roles, and workload keys, as the ledger's entries establish them.

Invariants: a person counts only if the genesis entry names them or an enrolled second person vouched with a valid signature;
a key is valid only for entries after its enrolment and before its revocation; an enrolment or revocation whose signature
fails has no effect and is reported; a signed act has its effect once, so an old enrolment cannot be replayed to bring roles
back; where the payload of such an entry was erased, the keys of the holder it was about count no more.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cognify_dagster.governance.errors import SignatureError
from cognify_dagster.governance.statements import read_act, statement_digest
from cognify_dagster.ledger import Entry
from cognify_dagster.records import (
    Envelope,
    Genesis,
    KeyRevoked,
    Person,
    PersonEnrolled,
    PublicKey,
    Record,
    Workload,
    WorkloadEnrolled,
)
from cognify_dagster.workspace import Reading, Recorded

ADMIN = "workspace_admin"
_PERSON_SIGNED = frozenset({"person_enrolled", "workload_enrolled", "key_revoked"})


@dataclass(frozen=True)
class KeySpan:
    """A key and the entries for which it is valid: after `since`, before `until` (None: still valid)."""

    key: PublicKey
    since: int
    until: int | None = None

    def valid_at(self, seq: int) -> bool:
        """Whether the key may have signed entry `seq`. An enrolment's own entry is not covered, genesis's is."""
        return (self.since < seq or seq == self.since == 0) and (self.until is None or seq < self.until)


@dataclass(frozen=True)
class Standing:
    """A person's state from entry `since` on."""

    since: int
    person: Person
    vouched_by: str


@dataclass
class Directory:
    """People and workloads as of the end of a reading. `problems` lists entries that had no effect, with the reason."""

    standings: dict[str, list[Standing]] = field(default_factory=dict)
    keys: dict[str, list[KeySpan]] = field(default_factory=dict)
    workloads: list[tuple[int, Workload]] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)
    used: set[str] = field(default_factory=set, repr=False)

    def person_at(self, person: str, seq: int) -> Person | None:
        """Return who the person was just before entry `seq`."""
        found = [item.person for item in self.standings.get(person, ()) if item.since < seq or seq == item.since == 0]
        return found[-1] if found else None

    def key_at(self, holder: str, key_id: str, seq: int) -> PublicKey | None:
        """Return a holder's key if it is valid for entry `seq`."""
        for span in self.keys.get(holder, ()):
            if span.key.key_id == key_id and span.valid_at(seq):
                return span.key
        return None

    def name(self, person: str) -> str:
        """Return the newest name of a person, or the id itself."""
        found = self.standings.get(person)
        return found[-1].person.name if found else person

    def people(self) -> list[Person]:
        """Return everyone, in their newest state."""
        return [items[-1].person for items in self.standings.values()]

    def with_role(self, role: str) -> list[Person]:
        """Return the people who hold a role now."""
        return [person for person in self.people() if role in person.roles]

    def resolve(self, aliases: Iterable[str]) -> tuple[list[str], list[str]]:
        """Map aliases such as `git:ben@bank.example` or `user:ben` to people; return (person ids, unmapped aliases)."""
        table = {alias.lower(): person.person for person in self.people() for alias in person.aliases}
        found: set[str] = set()
        unknown: list[str] = []
        for alias in aliases:
            person = alias if alias in self.standings else table.get(alias.lower())
            if person is None:
                unknown.append(alias)
            else:
                found.add(person)
        return sorted(found), unknown

    def writer_problem(self, entry: Entry) -> str | None:
        """Say why an entry's writer does not count, or None: it must be signed by an enrolled workload for this kind.

        Enrolments and revocations are exempt: they have effect only through the person's signature inside, and a revoked
        workload key could otherwise never be replaced.
        """
        if entry.kind in _PERSON_SIGNED:
            return None
        if not entry.key_id:
            return f"entry {entry.seq} ({entry.kind}) is not signed by a workload"
        known = [item for since, item in self.workloads if item.key.key_id == entry.key_id and since <= entry.seq]
        if not known:
            return f"entry {entry.seq} ({entry.kind}): no workload enrolled before it has the key {entry.key_id}"
        workload = known[-1]
        if self.key_at(workload.workload, entry.key_id, entry.seq) is None:
            return f"entry {entry.seq} ({entry.kind}): the workload key {entry.key_id} was not valid then"
        if entry.kind not in workload.kinds:
            return f"entry {entry.seq}: {workload.workload} may not write {entry.kind} entries"
        try:
            key = Ed25519PublicKey.from_public_bytes(base64.b64decode(workload.key.public))
            key.verify(entry.signature, entry.signing_input())
        except (InvalidSignature, ValueError):
            return f"entry {entry.seq} ({entry.kind}): the workload's signature does not verify"
        return None


def directory(reading: Reading) -> Directory:
    """Build the directory from the genesis entry and the history of `people`."""
    result = Directory()
    _found(result, reading.genesis, reading.origin)
    for entry in (found.entry for found in reading.view.history("people")):
        item = reading.at(entry.seq)
        try:
            if item is None:
                _forget(result, entry)
            elif isinstance(item.record, PersonEnrolled):
                _enrol(result, item, item.record, reading.origin)
            elif isinstance(item.record, WorkloadEnrolled):
                _enrol_workload(result, item, item.record, reading.origin)
            elif isinstance(item.record, KeyRevoked):
                _revoke(result, item, item.record, reading.origin)
        except SignatureError as error:
            result.problems.append((entry.seq, str(error)))
    return result


def key_problem(key: PublicKey) -> str | None:
    """Say why a public key cannot be enrolled, or None: its id must be that of its bytes."""
    try:
        public = base64.b64decode(key.public, validate=True)
    except ValueError:
        return f"key {key.key_id} is not base64"
    if len(public) != 32 or hashlib.sha256(public).hexdigest()[:16] != key.key_id:
        return f"key {key.key_id}: the id is not that of the key"
    return None


def _found(result: Directory, item: Recorded[Genesis], origin: str) -> None:
    genesis = item.record
    problems = [key_problem(key) for founder in genesis.founders for key in founder.keys]
    problems += [key_problem(workload.key) for workload in genesis.workloads]
    if genesis.origin != origin:
        problems.append(f"the genesis entry founds {genesis.origin!r}, not {origin!r}")
    if len({founder.person for founder in genesis.founders}) < (1 if genesis.trial else 2):
        problems.append("the genesis entry has too few founders")
    for founder in genesis.founders:
        result.standings[founder.person] = [Standing(0, founder, "genesis")]
        result.keys[founder.person] = [KeySpan(key, 0) for key in founder.keys]
    for workload in genesis.workloads:
        result.workloads.append((0, workload))
        result.keys[workload.workload] = [KeySpan(workload.key, 0)]
    signed: set[str] = set()
    for envelope in genesis.envelopes:
        try:
            signed.add(_signer(result, item, envelope, origin))
        except SignatureError as error:
            problems.append(str(error))
    missing = [founder.person for founder in genesis.founders if founder.person not in signed]
    if missing:
        problems.append(f"the genesis entry is not signed by {', '.join(missing)}")
    result.problems += [(0, problem) for problem in problems if problem]


def _signer(result: Directory, item: Recorded[Record], envelope: Envelope, origin: str) -> str:
    """Verify an act's envelope and return who signed it."""
    predicate = read_act(item, envelope, origin, lambda person, key: result.key_at(person, key, item.seq))
    if statement_digest(envelope) in result.used:
        raise SignatureError("the same signed statement had its effect in an earlier entry")
    return str(predicate["person"])


def _require_admin(result: Directory, person: str, seq: int, act: str) -> None:
    standing = result.person_at(person, seq)
    if standing is None or ADMIN not in standing.roles:
        raise SignatureError(f"{person} may not {act}: the role {ADMIN} is needed")


def _check_keys(result: Directory, holder: str, keys: Iterable[PublicKey]) -> None:
    taken = {span.key.public: owner for owner, spans in result.keys.items() for span in spans}
    for key in keys:
        problem = key_problem(key)
        if problem:
            raise SignatureError(problem)
        if taken.get(key.public, holder) != holder:
            raise SignatureError(f"key {key.key_id} belongs to {taken[key.public]} already")


def _enrol(result: Directory, item: Recorded[Record], record: PersonEnrolled, origin: str) -> None:
    person = record.person
    voucher = _signer(result, item, record.envelope, origin)
    if voucher != record.vouched_by:
        raise SignatureError("the voucher named is not the one who signed")
    if voucher == person.person:
        raise SignatureError(f"{voucher} cannot vouch for themselves")
    _require_admin(result, voucher, item.seq, "enrol people")
    _check_keys(result, person.person, person.keys)
    result.used.add(statement_digest(record.envelope))
    result.standings.setdefault(person.person, []).append(Standing(item.seq, person, voucher))
    _add_keys(result, person.person, person.keys, item.seq)


def _enrol_workload(result: Directory, item: Recorded[Record], record: WorkloadEnrolled, origin: str) -> None:
    signer = _signer(result, item, record.envelope, origin)
    if signer != record.enrolled_by:
        raise SignatureError("the admin named is not the one who signed")
    _require_admin(result, signer, item.seq, "enrol workloads")
    workload = record.workload
    _check_keys(result, workload.workload, (workload.key,))
    result.used.add(statement_digest(record.envelope))
    result.workloads.append((item.seq, workload))
    _add_keys(result, workload.workload, (workload.key,), item.seq)


def _add_keys(result: Directory, holder: str, keys: Iterable[PublicKey], seq: int) -> None:
    """Keys once known keep their span: enrolling a revoked key again does not bring it back."""
    spans = result.keys.setdefault(holder, [])
    known = {span.key.key_id for span in spans}
    spans.extend(KeySpan(key, seq) for key in keys if key.key_id not in known)


def _revoke(result: Directory, item: Recorded[Record], record: KeyRevoked, origin: str) -> None:
    revoker = _signer(result, item, record.envelope, origin)
    if revoker != record.revoked_by:
        raise SignatureError("the revoker named is not the one who signed")
    if revoker != record.holder:
        _require_admin(result, revoker, item.seq, f"revoke the key of {record.holder}")
    _close(result, record.holder, item.seq, record.key_id)


def _close(result: Directory, holder: str, seq: int, key_id: str | None = None) -> None:
    result.keys[holder] = [
        KeySpan(span.key, span.since, seq) if span.until is None and key_id in (None, span.key.key_id) else span
        for span in result.keys.get(holder, [])
    ]


def _forget(result: Directory, entry: Entry) -> None:
    """What an entry said is gone: whoever it was about may have lost a role or a key by it."""
    if entry.kind not in _PERSON_SIGNED:
        return
    for holder in entry.subjects:
        if holder in result.keys:
            _close(result, holder, entry.seq)
            result.problems.append((entry.seq, f"it cannot be read; the keys of {holder} count no more"))
