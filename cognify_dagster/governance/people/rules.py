"""What an act about people needs to count, and what it then changes.

Invariants: each rule judges the signatures that verified, against the state just before the entry, and changes nothing if it
raises; the people who signed are those whom the record names, each once; nobody gets a role or a key by the word of fewer
people than the policy of that point demands, and nobody by their own word alone; one admin suffices only to take something
away; keys end with the entry that no longer lists them and never come back.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from cognify_dagster.governance.errors import SignatureError
from cognify_dagster.governance.people.authority import ADMIN, RECOVERY, Delegation, Directory, KeySpan, Standing
from cognify_dagster.governance.signing.sso import identity_problem
from cognify_dagster.records import (
    Delegated,
    DelegationEnded,
    KeyRevoked,
    Person,
    PersonEnrolled,
    PersonRecovered,
    PublicKey,
    Recertified,
    Record,
    WorkloadEnrolled,
    parse_utc,
)


@dataclass(frozen=True)
class Act:
    """An act as it stands, or would stand, in the ledger: who signed it, and how many entries each of them saw at least.

    `keys` are the keys (person, key id) that signed it, none for an act that nobody signed yet.
    """

    seq: int
    time_us: int
    leaf: str
    signers: frozenset[str]
    recovery: frozenset[str] = frozenset()
    seen: int = 0
    keys: frozenset[tuple[str, str]] = frozenset()


def key_problem(key: PublicKey) -> str | None:
    """Say why a public key cannot be enrolled, or None: its id must be that of its bytes."""
    try:
        public = base64.b64decode(key.public, validate=True)
    except ValueError:
        return f"key {key.key_id} is not base64"
    wrong_size = key.algorithm == "ed25519" and len(public) != 32
    if wrong_size or hashlib.sha256(public).hexdigest()[:16] != key.key_id:
        return f"key {key.key_id}: the id is not that of the key"
    return identity_problem(key) if key.algorithm == "oidc" else None


# --- enrolment, workloads, revocation ------------------------------------------------------------------------------------


def enrolled(people: Directory, record: PersonEnrolled, act: Act) -> None:
    """A person joins or changes: see `docs/people.md` for who has to sign what."""
    person, who = record.person, record.person.person
    _named(people, act, (record.vouched_by, *record.witnesses))
    _check_keys(people, who, person.keys)
    _check_aliases(people, person)
    before = people.standing_at(who, act.seq)
    change = change_of(people, person, act.seq)
    alone = people.trial and act.signers == {who} and change == "rotation"
    if who in act.signers and change != "rotation":
        raise SignatureError(f"{who} cannot vouch for themselves; ask others")
    if record.vouched_by == who and not alone:
        raise SignatureError(f"{who} cannot vouch for themselves; the admin who vouches is somebody else")
    _require_admin(people, record.vouched_by, act, "enrol people")
    for witness in record.witnesses:
        if witness != who and not people.roles_at(witness, act.seq, act.time_us):
            raise SignatureError(f"{witness} cannot vouch: they hold no role that counts now")
    needed = 1 if change == "reduction" else people.vouchers_at(act.seq)
    if len(act.signers) < needed:
        raise SignatureError(
            f"{len(act.signers)} of {needed} people vouched for {who}: a workspace admin and others who are enrolled have to sign"
        )
    _fresh(before, act)
    _stand(people, Standing(act.seq, person, record.vouched_by, record.witnesses, act.time_us))


def change_of(people: Directory, person: Person, seq: int) -> str:
    """Say what a new state of a person is, compared with the one before entry `seq`.

    Returns:
        "new"; "rotation" (nothing but keys is added, and perhaps roles are gone), "reduction" (roles or keys are gone and
        nothing is added), or "change".
    """
    before = people.person_at(person.person, seq)
    if before is None:
        return "new"
    same = (person.name, person.title, sorted(person.aliases)) == (before.name, before.title, sorted(before.aliases))
    if not same or not set(person.roles) <= set(before.roles):
        return "change"
    known = {span.key.key_id for span in people.keys.get(person.person, ())}
    return "rotation" if {key.key_id for key in person.keys} - known else "reduction"


def workload_enrolled(people: Directory, record: WorkloadEnrolled, act: Act) -> None:
    """A workspace admin admits a machine key."""
    _named(people, act, (record.enrolled_by,))
    _require_admin(people, record.enrolled_by, act, "enrol workloads")
    workload = record.workload
    if workload.key.algorithm != "ed25519":
        raise SignatureError("a machine has no passkey")
    _check_keys(people, workload.workload, (workload.key,))
    people.workloads.append((act.seq, workload))
    _add_keys(people, workload.workload, (workload.key,), act.seq)


def revoked(people: Directory, record: KeyRevoked, act: Act) -> None:
    """The holder or a workspace admin ends a key, perhaps saying from which earlier entry on it was not to be trusted."""
    _named(people, act, (record.revoked_by,))
    if record.revoked_by != record.holder:
        _require_admin(people, record.revoked_by, act, f"revoke the key of {record.holder}")
    since = record.effective_from
    if since is not None and since > act.seq:
        raise SignatureError(f"a revocation takes effect at the latest with its own entry {act.seq}, not {since}")
    if since is not None and not record.holder.startswith("person/"):
        raise SignatureError("only a person's key is revoked with effect from an earlier entry")
    close_keys(people, record.holder, act.seq, {record.key_id})
    if since is not None:
        _distrust(people, record.holder, record.key_id, since)


def _distrust(people: Directory, holder: str, key_id: str, since: int) -> None:
    """Note from which entry on a key was not to be trusted, and end the delegations that it signed from there on."""
    people.keys[holder] = [
        replace(span, distrusted=min(since, span.distrusted or since)) if span.key.key_id == key_id else span
        for span in people.keys.get(holder, [])
    ]
    people.delegations = [
        replace(item, distrusted=True)
        if (item.delegator, item.key_id) == (holder, key_id) and item.seq >= since
        else item
        for item in people.delegations
    ]


# --- delegation and recertification --------------------------------------------------------------------------------------


def delegated(people: Directory, record: Delegated, act: Act) -> None:
    """A person lets another sign in a role that they hold as their own."""
    _named(people, act, (record.delegator,))
    who = record.delegator
    if record.role == ADMIN:
        raise SignatureError(f"the role {ADMIN} cannot be delegated; enrol another admin")
    if record.role not in people.roles_at(who, act.seq, act.time_us):
        raise SignatureError(f"{who} may not delegate {record.role}: only a role of one's own that counts now")
    if record.delegate == who:
        raise SignatureError(f"{who} cannot delegate to themselves")
    if people.person_at(record.delegate, act.seq) is None or not people.valid_keys(record.delegate, act.seq):
        raise SignatureError(f"{record.delegate} is not enrolled with a key, so nothing can be delegated to them")
    days = people.rules_at(act.seq).max_delegation_days
    if days == 0:
        raise SignatureError("the policy allows no delegation (people.max_delegation_days is 0)")
    starts, expires = parse_utc(record.starts), parse_utc(record.expires)
    if not starts < expires <= starts + timedelta(days=days):
        raise SignatureError(f"a delegation ends after it starts, and within {days} days (policy: max_delegation_days)")
    people.delegations.append(
        Delegation(
            act.seq, act.leaf, who, record.delegate, record.role, record.models, record.stages, record.starts,
            record.expires, record.reason, key_id=next((key_id for person, key_id in act.keys if person == who), ""),
        )
    )  # fmt: skip


def delegation_ended(people: Directory, record: DelegationEnded, act: Act) -> None:
    """Delegator, delegate or a workspace admin ends a delegation."""
    _named(people, act, (record.ended_by,))
    found = people.delegation_of(record.delegation_seq)
    if found is None or (found.delegator, found.delegate) != (record.delegator, record.delegate):
        raise SignatureError(
            f"entry {record.delegation_seq} is no delegation of {record.delegator} to {record.delegate}"
        )
    if found.ended is not None:
        raise SignatureError(f"the delegation of entry {found.seq} has ended already, with entry {found.ended}")
    if record.ended_by not in (found.delegator, found.delegate):
        _require_admin(people, record.ended_by, act, "end somebody else's delegation")
    end_delegations(people, act.seq, lambda item: item.seq == found.seq)


def recertified(people: Directory, record: Recertified, act: Act) -> None:
    """A workspace admin confirms another person's roles. Their own recertification may be overdue: somebody has to begin."""
    _named(people, act, (record.recertified_by,))
    standing, admin = people.standing_at(record.person, act.seq), people.person_at(record.recertified_by, act.seq)
    if record.person == record.recertified_by:
        raise SignatureError(f"{record.person} cannot recertify themselves")
    if admin is None or ADMIN not in admin.roles:
        raise SignatureError(f"{record.recertified_by} may not recertify people: the role {ADMIN} is needed")
    if standing is None:
        raise SignatureError(f"{record.person} is not enrolled")
    if set(record.roles) != set(standing.person.roles):
        raise SignatureError(f"{record.person} holds other roles than those confirmed; sign what they hold now")
    _fresh(standing, act)
    people.recertified.setdefault(record.person, []).append((act.seq, act.time_us))


# --- recovery ------------------------------------------------------------------------------------------------------------


def recovered(people: Directory, record: PersonRecovered, act: Act) -> None:
    """The founders' recovery keys, k of n, set a person's standing and keys anew; every older key of theirs ends."""
    require_recovery(people, record.recovery_keys, act)
    person = record.person
    _check_keys(people, person.person, person.keys)
    _check_aliases(people, person)
    known = {span.key.key_id for span in people.keys.get(person.person, ())}
    if not person.keys or known & {key.key_id for key in person.keys}:
        raise SignatureError(f"a recovery gives {person.person} new keys, none that was theirs before")
    _fresh(people.standing_at(person.person, act.seq), act)
    close_keys(people, person.person, act.seq)  # before the new ones are there: delegations by lost keys end, too
    _stand(people, Standing(act.seq, person, RECOVERY, (), act.time_us))


def require_recovery(people: Directory, named: Sequence[str], act: Act) -> None:
    """Refuse unless exactly the recovery keys named signed, as many as genesis says and in a real ledger two or more."""
    needed = max(people.recovery_threshold, 1 if people.trial else 2)
    if act.signers:
        raise SignatureError("recovery keys sign alone")
    if set(named) != act.recovery or len(named) != len(act.recovery):
        raise SignatureError("it names other recovery keys than those that signed")
    if len(act.recovery) < needed:
        raise SignatureError(f"{len(act.recovery)} recovery keys signed; {needed} are needed")


# --- what the rules share ------------------------------------------------------------------------------------------------


def _named(people: Directory, act: Act, named: Sequence[str]) -> None:
    if act.recovery:
        raise SignatureError("recovery keys sign no act of this kind")
    if len(set(named)) != len(named):
        raise SignatureError("a person is named twice; different people have to sign")
    if set(named) != act.signers:
        raise SignatureError("the people named are not those who signed")


def _require_admin(people: Directory, person: str, act: Act, what: str) -> None:
    standing = people.person_at(person, act.seq)
    if standing is None or ADMIN not in standing.roles:
        raise SignatureError(f"{person} may not {what}: the role {ADMIN} is needed")
    if ADMIN not in people.roles_at(person, act.seq, act.time_us):
        raise SignatureError(f"{person} may not {what}: their roles were not recertified in time")


def _fresh(before: Standing | None, act: Act) -> None:
    """Who signs a change has seen the state that it changes: an old signature brings nothing back."""
    if before is not None and act.seen <= before.since:
        raise SignatureError(f"it was signed before entry {before.since} changed this person; sign it again")


def _check_keys(people: Directory, holder: str, keys: Iterable[PublicKey]) -> None:
    taken = {span.key.public: owner for owner, spans in people.keys.items() for span in spans}
    listed: set[str] = set()
    for key in keys:
        problem = key_problem(key)
        if problem:
            raise SignatureError(problem)
        if key.key_id in listed:
            raise SignatureError(f"key {key.key_id} is listed twice")
        listed.add(key.key_id)
        owner = taken.get(key.public, holder)
        if owner != holder:
            raise SignatureError(f"key {key.key_id} belongs to {owner} ({people.name(owner)}) already")


def _check_aliases(people: Directory, person: Person) -> None:
    """An alias that pointed to two people would let one's work be laid at the other's door."""
    taken = {alias.lower(): other.person for other in people.people() for alias in other.aliases}
    for alias in person.aliases:
        owner = taken.get(alias.lower(), person.person)
        if owner != person.person:
            raise SignatureError(f"the alias {alias} belongs to {owner} ({people.name(owner)}) already")


def _stand(people: Directory, standing: Standing) -> None:
    """Set a person's state: keys that it lists are added or stay, all others of theirs end; delegations end with role or keys."""
    person, seq = standing.person, standing.since
    people.standings.setdefault(person.person, []).append(standing)
    _add_keys(people, person.person, person.keys, seq)
    gone = {span.key.key_id for span in people.keys[person.person]} - {key.key_id for key in person.keys}
    close_keys(people, person.person, seq, gone)
    end_delegations(people, seq, lambda item: item.delegator == person.person and item.role not in person.roles)


def _add_keys(people: Directory, holder: str, keys: Iterable[PublicKey], seq: int) -> None:
    """Keys once known keep their span: enrolling a revoked key again does not bring it back."""
    spans = people.keys.setdefault(holder, [])
    known = {span.key.key_id for span in spans}
    spans.extend(KeySpan(key, seq) for key in keys if key.key_id not in known)


def close_keys(people: Directory, holder: str, seq: int, key_ids: set[str] | None = None) -> None:
    """End keys of a holder (all, unless named) with entry `seq`; delegations end with the delegator's last key."""
    spans = people.keys.get(holder, [])
    people.keys[holder] = [
        replace(span, until=seq) if span.until is None and (key_ids is None or span.key.key_id in key_ids) else span
        for span in spans
    ]
    if all(span.until is not None for span in people.keys[holder]):
        end_delegations(people, seq, lambda item: item.delegator == holder)


def end_delegations(people: Directory, seq: int, which: Callable[[Delegation], bool]) -> None:
    """End those running delegations for which `which` says so."""
    people.delegations = [
        replace(item, ended=seq) if item.ended is None and which(item) else item for item in people.delegations
    ]


Rule = Callable[[Directory, Any, Act], None]
RULES: dict[type[Record], Rule] = {
    PersonEnrolled: enrolled,
    WorkloadEnrolled: workload_enrolled,
    KeyRevoked: revoked,
    Delegated: delegated,
    DelegationEnded: delegation_ended,
    Recertified: recertified,
    PersonRecovered: recovered,
}
