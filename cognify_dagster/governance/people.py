"""Who is who: people, their keys and roles, and workload keys, as the ledger's entries establish them.

Invariants: a person counts only if the genesis entry names them or an enrolled second person vouched with a valid signature;
a key is valid only for entries after its enrolment and before its revocation; an enrolment or revocation whose signature
fails has no effect and is reported.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cognify_dagster.governance.errors import SignatureError
from cognify_dagster.governance.statements import read_act
from cognify_dagster.ledger import Entry
from cognify_dagster.records import Genesis, KeyRevoked, Person, PersonEnrolled, PublicKey, Workload, WorkloadEnrolled
from cognify_dagster.workspace import Reading, Recorded

ADMIN = "workspace_admin"


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
    workloads: dict[str, tuple[int, Workload]] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)

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
        """Say why an entry's writer does not count, or None: it must be signed by an enrolled workload for this kind."""
        if not entry.key_id:
            return f"entry {entry.seq} ({entry.kind}) is not signed by a workload"
        for name, (since, workload) in self.workloads.items():
            if workload.key.key_id != entry.key_id:
                continue
            if self.key_at(name, entry.key_id, entry.seq) is None:
                return f"entry {entry.seq} ({entry.kind}): the workload key {entry.key_id} was not valid then"
            if entry.seq <= since and entry.seq != 0:
                return f"entry {entry.seq} ({entry.kind}) is older than its workload's enrolment"
            if entry.kind not in workload.kinds:
                return f"entry {entry.seq}: {name} may not write {entry.kind} entries"
            try:
                key = Ed25519PublicKey.from_public_bytes(base64.b64decode(workload.key.public))
                key.verify(entry.signature, entry.signing_input())
            except (InvalidSignature, ValueError):
                return f"entry {entry.seq} ({entry.kind}): the workload's signature does not verify"
            return None
        return f"entry {entry.seq} ({entry.kind}): no enrolled workload has the key {entry.key_id}"


def directory(reading: Reading) -> Directory:
    """Build the directory from the genesis entry and the history of `people`."""
    result = Directory()
    _found(result, reading.genesis, reading.origin)
    for item in reading.history("people"):
        try:
            if isinstance(item.record, PersonEnrolled):
                _enrol(result, item.seq, item.record, reading.origin)
            elif isinstance(item.record, WorkloadEnrolled):
                _enrol_workload(result, item.seq, item.record, reading.origin)
            elif isinstance(item.record, KeyRevoked):
                _revoke(result, item.seq, item.record, reading.origin)
        except SignatureError as error:
            result.problems.append((item.seq, str(error)))
    return result


def _found(result: Directory, item: Recorded[Genesis], origin: str) -> None:
    genesis = item.record
    for founder in genesis.founders:
        result.standings[founder.person] = [Standing(0, founder, "genesis")]
        result.keys[founder.person] = [KeySpan(key, 0) for key in founder.keys]
    for workload in genesis.workloads:
        result.workloads[workload.workload] = (0, workload)
        result.keys[workload.workload] = [KeySpan(workload.key, 0)]
    signed: set[str] = set()
    for envelope in genesis.envelopes:
        try:
            signed.add(str(read_act(genesis, envelope, origin, lambda p, k: result.key_at(p, k, 0))["person"]))
        except SignatureError as error:
            result.problems.append((0, str(error)))
    missing = [founder.person for founder in genesis.founders if founder.person not in signed]
    if missing:
        result.problems.append((0, f"the genesis entry is not signed by {', '.join(missing)}"))


def _enrol(result: Directory, seq: int, record: PersonEnrolled, origin: str) -> None:
    person = record.person
    predicate = read_act(record, record.envelope, origin, lambda p, k: result.key_at(p, k, seq))
    voucher = str(predicate["person"])
    if voucher != record.vouched_by:
        raise SignatureError("the voucher named is not the one who signed")
    if voucher == person.person:
        raise SignatureError(f"{voucher} cannot vouch for themselves")
    standing = result.person_at(voucher, seq)
    if standing is None or ADMIN not in standing.roles:
        raise SignatureError(f"{voucher} may not enrol people: the role {ADMIN} is needed")
    taken = {span.key.key_id: holder for holder, spans in result.keys.items() for span in spans}
    for key in person.keys:
        if taken.get(key.key_id, person.person) != person.person:
            raise SignatureError(f"key {key.key_id} belongs to {taken[key.key_id]} already")
    result.standings.setdefault(person.person, []).append(Standing(seq, person, voucher))
    spans = result.keys.setdefault(person.person, [])
    known = {span.key.key_id for span in spans}
    spans.extend(KeySpan(key, seq) for key in person.keys if key.key_id not in known)


def _enrol_workload(result: Directory, seq: int, record: WorkloadEnrolled, origin: str) -> None:
    predicate = read_act(record, record.envelope, origin, lambda p, k: result.key_at(p, k, seq))
    standing = result.person_at(str(predicate["person"]), seq)
    if standing is None or ADMIN not in standing.roles:
        raise SignatureError("only a workspace admin enrols workloads")
    result.workloads[record.workload.workload] = (seq, record.workload)
    result.keys.setdefault(record.workload.workload, []).append(KeySpan(record.workload.key, seq))


def _revoke(result: Directory, seq: int, record: KeyRevoked, origin: str) -> None:
    predicate = read_act(record, record.envelope, origin, lambda p, k: result.key_at(p, k, seq))
    revoker = str(predicate["person"])
    standing = result.person_at(revoker, seq)
    if revoker != record.holder and (standing is None or ADMIN not in standing.roles):
        raise SignatureError(f"{revoker} may not revoke the key of {record.holder}")
    spans = result.keys.get(record.holder, [])
    result.keys[record.holder] = [
        KeySpan(span.key, span.since, seq) if span.key.key_id == record.key_id and span.until is None else span
        for span in spans
    ]
