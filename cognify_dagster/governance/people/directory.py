"""Builds the directory of people, keys and policy from what the ledger's entries say, one entry after the other.

Invariants: a person counts only if the genesis entry names them, others vouched with valid signatures, or the founders' recovery keys
set them; a key is valid only for entries after its enrolment and before its end; an act whose signatures fail has no
effect and is reported; a signed act has its effect once, so an old one cannot be replayed to bring roles back; where the payload
of such an entry was erased or cannot be read, the keys of the holders it was about count no more; a policy adoption is judged by the
people and the policy before it, an act about people by the policy before it. An entry that is disregarded takes nothing away from
these rules: decisions only cease to stop at it.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Collection, Mapping, Sequence

from cognify_dagster.governance.errors import PolicyError, SignatureError
from cognify_dagster.governance.people.authority import (
    ADMIN,
    RECOVERY,
    SHARED,
    Authority,
    Delegation,
    Directory,
    KeySpan,
    PolicyInForce,
    Standing,
)
from cognify_dagster.governance.people.rules import (
    RULES,
    Act,
    close_keys,
    end_delegations,
    key_problem,
    require_recovery,
)
from cognify_dagster.governance.policy.document import parse_policy
from cognify_dagster.governance.signing.statements import act_predicate, read_act, statement_digest
from cognify_dagster.ledger import Entry, canonical_json
from cognify_dagster.records import (
    DelegationEnded,
    EntryDisregarded,
    Envelope,
    Genesis,
    PersonRecovered,
    PolicyAdopted,
    PublicKey,
    Record,
)
from cognify_dagster.workspace import Reading, Recorded

__all__ = [
    "ADMIN",
    "RECOVERY",
    "Authority",
    "Delegation",
    "Directory",
    "KeySpan",
    "PolicyInForce",
    "Standing",
    "act_of",
    "apply",
    "directory",
    "effect_problem",
    "envelopes_of",
    "key_problem",
    "policy_digest",
    "rule_problem",
    "signed_about_people",
]
_ENDS_KEYS = frozenset({"person_enrolled", "workload_enrolled", "key_revoked", PersonRecovered.kind})
_SPEAKING = frozenset({*(kind.kind for kind in RULES), PolicyAdopted.kind, EntryDisregarded.kind, *_ENDS_KEYS})
"""Kinds of entry from which a directory follows; others (a release relies on people and policy) only name these subjects."""
_built: weakref.WeakKeyDictionary[Reading, Directory] = weakref.WeakKeyDictionary()


def directory(reading: Reading) -> Directory:
    """Return the directory at the end of a reading. It is built once, must not be changed (see `Directory.copy`), and is used by later
    readings of the workspace as long as no entry from which it follows was added or erased."""
    found = _built.get(reading)
    if found is None:
        found = _built[reading] = _kept(reading)
    return found


def _kept(reading: Reading) -> Directory:
    with reading.finding_out:
        return _found_out(reading)


def _found_out(reading: Reading) -> Directory:
    heads = reading.view.heads
    people, policy, erasures = (heads.get(name, -1) for name in ("people", "policy", "erasures"))
    before: tuple[int, int, int, Directory] | None = reading.memo.get("directory")
    if before is None or erasures != before[2] or people < before[0] or policy < before[1]:
        found = _build(reading)
        if before is None or (people >= before[0] and policy >= before[1] and erasures >= before[2]):
            reading.memo["directory"] = (people, policy, erasures, found)
        return found
    added = [*reading.view.since("people", before[0]), *reading.view.since("policy", before[1])]
    found = before[3] if all(item.entry.kind not in _SPEAKING for item in added) else _build(reading)
    reading.memo["directory"] = (people, policy, erasures, found)
    return found


def _build(reading: Reading) -> Directory:
    result = Directory()
    _found(result, reading.genesis, reading.origin)
    entries = {
        item.entry.seq: item.entry
        for name in ("people", "policy")
        for item in reading.view.walk(name)
        if item.entry.kind in _SPEAKING
    }
    for seq in sorted(entries):
        result.newest = seq
        item = reading.at(seq)
        if item is None:
            _forget(result, entries[seq], erased=reading.view.entries[seq].payload is None)
            continue
        try:
            apply(result, reading, item)
        except SignatureError as error:
            problems = result.policy_problems if isinstance(item.record, PolicyAdopted) else result.problems
            problems.append((seq, str(error)))
    return result


def apply(people: Directory, reading: Reading, item: Recorded[Record]) -> None:
    """Let an entry have its effect on a directory of what stands before it; entries of other kinds have none.

    Raises:
        SignatureError: if the act does not count; the directory is then as it was.
    """
    record = item.record
    if isinstance(record, PolicyAdopted):
        _adopt(people, reading, item, record)
        return
    if type(record) not in RULES and not isinstance(record, EntryDisregarded):
        return
    act, digests = act_of(people, item, envelopes_of(record), reading.origin)
    _judge(people, reading, record, act)
    people.used |= digests


def effect_problem(reading: Reading, item: Recorded[Record]) -> str | None:
    """Say why an act would have no effect on the directory of a reading, or None."""
    try:
        apply(directory(reading).copy(), reading, item)
    except SignatureError as error:
        return str(error)
    return None


def rule_problem(
    reading: Reading, record: Record, signers: Collection[str], recovery: Collection[str], time_us: int
) -> str | None:
    """Say why an act about people would not count as the next entry if these people, or recovery keys, signed it; or None."""
    act = Act(reading.size, time_us, "", frozenset(signers), frozenset(recovery), reading.size)
    try:
        _judge(directory(reading).copy(), reading, record, act)
    except SignatureError as error:
        return str(error)
    return None


def _judge(people: Directory, reading: Reading, record: Record, act: Act) -> None:
    if isinstance(record, EntryDisregarded):
        _disregard(people, reading, record, act)
    else:
        RULES[type(record)](people, record, act)


def envelopes_of(record: Record) -> tuple[Envelope, ...]:
    """Return the signed envelopes inside a record, in order."""
    one, several = getattr(record, "envelope", None), getattr(record, "envelopes", None) or ()
    return tuple(item for item in (one, *several) if item is not None)


def signed_about_people(reading: Reading, person: str, key_id: str, since: int) -> list[int]:
    """Return the entries about people, machines or policy, from `since` on, that a key of a person signed.

    A revocation with effect from an earlier entry leaves them in force: who is who follows from the entries in their order, and
    people have to undo by a new act what should not be.
    """
    heads = {item.entry.seq for name in ("people", "policy") for item in reading.view.history(name)}
    found = []
    for seq in sorted(seq for seq in heads if seq >= since):
        item = reading.at(seq)
        for envelope in envelopes_of(item.record) if item is not None else ():
            try:
                said = act_predicate(envelope)
            except SignatureError:
                continue
            if (said.get("person"), said.get("key_id")) == (person, key_id):
                found.append(seq)
                break
    return found


def act_of(
    people: Directory, item: Recorded[Record], envelopes: Sequence[Envelope], origin: str
) -> tuple[Act, set[str]]:
    """Verify every envelope of an act; return who signed and what they saw, and the digests of the statements.

    Raises:
        SignatureError: if one does not verify, is by somebody who signed already, or had its effect before.
    """

    def find(person: str, key_id: str) -> PublicKey | None:
        if person == RECOVERY:
            return next((key for key in people.recovery_keys if key.key_id == key_id), None)
        return people.signing_key(person, key_id, item.seq)

    signers, recovery, digests, keys = set[str](), set[str](), set[str](), set[tuple[str, str]]()
    seen = item.seq
    for envelope in envelopes:
        predicate = read_act(item, envelope, origin, find)
        digest = statement_digest(envelope)
        if digest in people.used:
            raise SignatureError("the same signed statement had its effect in an earlier entry")
        person, key_id = str(predicate["person"]), str(predicate["key_id"])
        into, name = (recovery, key_id) if person == RECOVERY else (signers, person)
        if name in into or digest in digests:
            raise SignatureError(f"{name} signed twice; different people have to sign")
        into.add(name)
        digests.add(digest)
        keys.add((person, key_id))
        seen = min(seen, _seen(predicate, item.seq))
    if not digests:
        raise SignatureError("nobody signed it")
    act = Act(item.seq, item.time_us, item.leaf, frozenset(signers), frozenset(recovery), seen, frozenset(keys))
    return act, digests


def _seen(predicate: Mapping[str, object], seq: int) -> int:
    """How many entries the signer says to have seen."""
    head = predicate.get("checkpoint")
    size = head.get("size") if isinstance(head, dict) else None
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= seq:
        raise SignatureError("the statement does not say which entries its signer saw")
    return size


# --- genesis and what cannot be read -------------------------------------------------------------------------------------


def _found(result: Directory, item: Recorded[Genesis], origin: str) -> None:
    genesis = item.record
    holders = [(founder.person, founder.keys) for founder in genesis.founders]
    holders += [(workload.workload, (workload.key,)) for workload in genesis.workloads]
    problems = [key_problem(key) for _, keys in holders for key in keys]
    publics = [key.public for _, keys in holders for key in keys]
    if len(set(publics)) != len(publics):
        problems.append("the genesis entry gives two holders the same key")
    if genesis.origin != origin:
        problems.append(f"the genesis entry founds {genesis.origin!r}, not {origin!r}")
    if len({founder.person for founder in genesis.founders}) < (1 if genesis.trial else 2):
        problems.append("the genesis entry has too few founders")
    result.trial = genesis.trial
    result.recovery_keys = tuple(key for key in genesis.recovery_keys if key_problem(key) is None)
    result.recovery_threshold = genesis.recovery_threshold
    for founder in genesis.founders:
        result.standings[founder.person] = [Standing(0, founder, "genesis", time_us=item.time_us)]
        result.keys[founder.person] = [KeySpan(key, 0) for key in founder.keys]
    for workload in genesis.workloads:
        result.workloads.append((0, workload))
        result.keys[workload.workload] = [KeySpan(workload.key, 0)]
    signed: set[str] = set()
    for envelope in genesis.envelopes:
        try:
            signed.add(str(read_act(item, envelope, origin, lambda p, k: result.signing_key(p, k, 0))["person"]))
        except SignatureError as error:
            problems.append(str(error))
    missing = [founder.person for founder in genesis.founders if founder.person not in signed]
    if missing:
        problems.append(f"the genesis entry is not signed by {', '.join(missing)}")
    result.problems += [(0, problem) for problem in problems if problem]
    if policy_digest(genesis.policy) != genesis.policy_digest:
        result.policy_problems.append((0, "its policy digest is not that of its policy"))
    try:
        result.policies.append((0, parse_policy(genesis.policy, "the genesis policy"), genesis.policy_digest))
    except PolicyError as error:
        result.policy_unreadable.append((0, str(error)))


def _forget(result: Directory, entry: Entry, *, erased: bool) -> None:
    """What an entry said is gone: whoever it was about may have lost a role, a key or a delegation by it."""
    if entry.kind == PolicyAdopted.kind and erased:
        result.policy_unreadable.append((entry.seq, "its payload was erased"))
    if entry.kind == DelegationEnded.kind:
        about = set(entry.subjects)
        end_delegations(result, entry.seq, lambda item: {item.delegator, item.delegate} <= about)
    if entry.kind not in _ENDS_KEYS or "people" not in entry.subjects:
        return
    for holder in entry.subjects:
        if holder in result.keys:
            close_keys(result, holder, entry.seq)
            result.problems.append((entry.seq, f"it cannot be read; the keys of {holder} count no more"))


# --- policy --------------------------------------------------------------------------------------------------------------


def policy_digest(policy: Mapping[str, object]) -> str:
    """Return the digest of a policy as it stands in the ledger, whatever fields today's schema has."""
    return "sha256:" + hashlib.sha256(canonical_json(policy)).hexdigest()


def _adopt(people: Directory, reading: Reading, item: Recorded[Record], record: PolicyAdopted) -> None:
    current = people.policy_at(item.seq)
    if current is None:
        raise SignatureError("the policy before it cannot be read, so nobody knows who may adopt one")
    act, digests = act_of(people, item, record.envelopes, reading.origin)
    adopters = [who for who in act.signers if people.roles_at(who, item.seq, item.time_us) & set(current.adopters)]
    if len(adopters) < (1 if people.trial else current.policy_quorum):
        raise SignatureError("not enough people with the right role signed it")
    if policy_digest(record.policy) != record.policy_digest:
        raise SignatureError("its digest is not that of its policy")
    people.used |= digests
    try:
        people.policies.append((item.seq, parse_policy(record.policy, "the policy"), record.policy_digest))
    except PolicyError as error:
        people.policy_unreadable.append((item.seq, str(error)))


# --- disregarding --------------------------------------------------------------------------------------------------------


def _disregard(people: Directory, reading: Reading, record: EntryDisregarded, act: Act) -> None:
    """Let decisions go on without an entry that cannot be read, proven or given an effect.

    It is safe because nothing takes effect by it and nothing valid loses its effect: it lifts only the stop. People whom the entry
    is about do not sign (it may have revoked their key), and a release that can read the entry judges anew.
    """
    if not 0 < record.seq < act.seq:
        raise SignatureError(f"entry {record.seq} is not an earlier entry")
    try:
        entry = reading.view.entries[record.seq].entry
    except LookupError:  # a view of some subjects only, which cannot judge this and relies on nothing that it names
        return
    shared = [name for name in entry.subjects if name in SHARED or name.startswith("person/")]
    if not shared:
        raise SignatureError(
            f"entry {record.seq} is not about people or policy; those it is about have to deal with it"
        )
    if reading.at(record.seq) is not None and people.writer_problem(entry) is None:
        listed = (*people.problems, *people.policy_problems)
        if record.seq not in {seq for seq, _ in listed}:
            raise SignatureError(f"entry {record.seq} is valid; what is valid cannot be disregarded")
    if act.recovery:
        require_recovery(people, record.recovery_keys, act)
    else:
        _disregarders(people, record, entry, act)
    people.disregarded.setdefault(record.seq, act.seq)


def _disregarders(people: Directory, record: EntryDisregarded, entry: Entry, act: Act) -> None:
    if set(record.signers) != act.signers or len(record.signers) != len(act.signers):
        raise SignatureError("the people named are not those who signed")
    about = act.signers & set(entry.subjects)
    if about:
        raise SignatureError(f"{', '.join(sorted(about))} cannot disregard an entry about themselves")
    policy, needed, roles = people.policy_at(act.seq), 2, {ADMIN}
    if "policy" in entry.subjects and policy is not None:
        needed, roles = max(2, policy.policy_quorum), set(policy.adopters)
    needed = 1 if people.trial else needed
    able = [who for who in act.signers if people.roles_at(who, act.seq, act.time_us) & roles]
    if len(able) < needed:
        raise SignatureError(f"{needed} different people with one of the roles {', '.join(sorted(roles))} have to sign")
