"""Which sign-offs count for a version: verified, authorised, about the present package, and not voided since.

Invariants: a statement counts once; it counts only with a key that is still valid, a role held (or delegated) then, no hand in
the version, at the strength the signing key has; what does not count is explained, never dropped silently.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from cognify_dagster.governance.errors import SignatureError
from cognify_dagster.governance.oversight.conditions import expired_by_condition
from cognify_dagster.governance.oversight.exceptions import lifted_blocks
from cognify_dagster.governance.oversight.voids import Void
from cognify_dagster.governance.people.directory import Directory
from cognify_dagster.governance.people.groups import archived_keys, sso_problem
from cognify_dagster.governance.release.case import Case, Reason, Signed
from cognify_dagster.governance.release.involvement import excluded_from
from cognify_dagster.governance.signing.statements import SignOffPredicate, open_envelope, read_sign_off
from cognify_dagster.records import Package, RecordError, SignOff, parse_utc
from cognify_dagster.workspace import Reading, Recorded

Valid = tuple[Recorded[SignOff], SignOffPredicate]


@dataclass(frozen=True)
class Terms:
    """What an approval is held against: package, target, lifetime, people who may not approve, and what happened since."""

    package: Recorded[Package] | None
    approval_days: int
    excluded: frozenset[str]
    voids: tuple[Void, ...]


def valid_sign_offs(case: Case) -> list[Valid]:
    """Return the sign-off entries whose signatures verify, oldest first and each statement once; explain the others."""
    found: list[Valid] = []
    seen: set[str] = set()
    for item in case.reading.all(SignOff, case.subject):
        result = check_sign_off(item, case.reading, case.people)
        if not isinstance(result, str) and item.record.statement_digest in seen:
            result = "the same statement stands in an earlier entry; a statement counts once"
        if isinstance(result, str):
            reason = Reason("sign_off_invalid", f"sign-off entry {item.seq}: {result}", "a workspace admin")
            case.ignored.append((item.record.stage, reason))
        else:
            seen.add(item.record.statement_digest)
            found.append((item, result))
    return found


def standing(valid: Sequence[Valid]) -> list[Valid]:
    """Return the sign-offs that their signer did not withdraw. Naming a sign-off's leaf proves that the withdrawal came later."""
    withdrawn = {
        (predicate.reference.entry_leaf, item.record.person)
        for item, predicate in valid
        if predicate.decision == "withdraw" and predicate.reference is not None
    }
    return [(item, predicate) for item, predicate in valid if (item.leaf, item.record.person) not in withdrawn]


def blocks(case: Case, valid: Sequence[Valid]) -> list[Valid]:
    """Return the blocks of a version that nobody withdrew or lifted."""
    excluded = excluded_from(case.reading, case.policy, case.model, case.version)
    lifted, problems = lifted_blocks(case.reading, case.people, case.policy, case.subject, excluded)
    case.without_effect(problems)
    return [pair for pair in standing(valid) if pair[1].decision == "block" and pair[0].seq not in lifted]


def counting_approvals(case: Case, terms: Terms) -> list[Signed]:
    """Return the approvals that count; rejections and blocks become reasons."""
    valid = valid_sign_offs(case)
    for item, predicate in blocks(case, valid):
        name = case.people.name(item.record.person)
        case.block(
            "blocked",
            f"{name} blocked this version (entry {item.seq}): {predicate.comments}",
            f"{name}, or two people who may block (`cognify model lift-block`)",
        )
    counted: list[Signed] = []
    for item, predicate in standing(valid):
        name = case.people.name(item.record.person)
        if terms.package is None or predicate.package.digest != terms.package.record.package.digest:
            continue
        if predicate.decision == "reject":
            case.block("rejected", f"{name} rejected this package (entry {item.seq}): {predicate.comments}", name)
        if predicate.decision not in ("approve", "approve_with_conditions"):
            continue
        problem = approval_problem(case, terms, item, predicate)
        if problem:
            case.ignored.append((predicate.stage, problem))
            continue
        key = case.people.key_at(item.record.person, item.record.key_id, item.seq)
        behalf = predicate.on_behalf_of.person if predicate.on_behalf_of else None
        counted.append(Signed(item.seq, item.record.person, name, predicate, key.strength if key else "S3", behalf))
    return counted


def approval_problem(case: Case, terms: Terms, item: Recorded[SignOff], predicate: SignOffPredicate) -> Reason | None:
    """Say why a valid approval does not count for the release, or None."""
    name = case.people.name(item.record.person)
    where = f"{name}'s sign-off (entry {item.seq})"
    assert terms.package is not None
    lacking = authority_problem(case.people, predicate, item.seq, item.when)
    if lacking:
        return Reason("role_missing", f"{where}: {lacking}", "a workspace admin")
    if case.people.key_at(item.record.person, item.record.key_id, case.reading.size) is None:
        return Reason("key_revoked", f"{where}: the key was revoked since", name)
    hand = predicate.people & terms.excluded
    if hand:
        who = " and ".join(sorted(map(case.people.name, hand)))
        text = f"{where}: {who} had a hand in this version, or a conflict with somebody who had"
        return Reason("separation_of_duties", text, "another person with the role")
    if predicate.package.entry_seq != terms.package.seq or predicate.package.entry_leaf != terms.package.leaf:
        text = f"{where} is about package entry {predicate.package.entry_seq}, not the current one"
        return Reason("package_rebuilt", text, name)
    if case.target not in predicate.target_environments:
        allowed = ", ".join(predicate.target_environments) or "no target"
        return Reason("target_not_approved", f"{where} approves {allowed}, not {case.target}", name)
    return _ended(case, terms, item, predicate, name, where)


def _ended(
    case: Case, terms: Terms, item: Recorded[SignOff], predicate: SignOffPredicate, name: str, where: str
) -> Reason | None:
    """Say what ended an approval that once counted, or None."""
    age_s = (case.now - item.when).total_seconds()
    own_end = predicate.expires is not None and parse_utc(predicate.expires) <= case.now
    if age_s > terms.approval_days * 86_400 or own_end:
        return Reason("approval_expired", f"{where} has expired", name)
    ended = [given for given in predicate.conditions if expired_by_condition(given, case.now)]
    if ended:
        return Reason("approval_expired", f"{where} ended by its own condition: {ended[0].text}", name)
    since = [void for void in terms.voids if void.seq > item.seq]
    if since:
        return Reason("approval_void", f"{where} counts no more: {since[0].text}", f"{name} (review and sign again)")
    if "policy_change" in case.policy.voids and predicate.policy_digest != case.in_force.digest:
        return Reason("approval_void", f"{where} was given under another policy", f"{name} (sign again)")
    return None


def authority_problem(people: Directory, predicate: SignOffPredicate, seq: int, at: datetime) -> str | None:
    """Say why a signer had not the role, as their own or by delegation, just before entry `seq`; None if they had."""
    if predicate.on_behalf_of is None:
        if predicate.role in people.roles_at(predicate.person, seq, int(at.timestamp() * 1_000_000)):
            return None
        return _no_role(people, predicate, seq)
    reference = predicate.on_behalf_of
    found = people.delegation_of(reference.delegation.entry_seq)
    if found is None or (found.leaf, found.delegator) != (reference.delegation.entry_leaf, reference.person):
        return f"entry {reference.delegation.entry_seq} is no delegation from {people.name(reference.person)}"
    return people.delegation_problem(found, predicate.person, predicate.role, predicate.model, predicate.stage, seq, at)


def _no_role(people: Directory, predicate: SignOffPredicate, seq: int) -> str:
    name, person = people.name(predicate.person), people.person_at(predicate.person, seq)
    if person is not None and predicate.role in person.roles:
        return f"{name}'s roles were not recertified in time (`cognify people recertify`)"
    held = ", ".join(person.roles) if person is not None else "none"
    return f"{name} does not hold the role {predicate.role}; held: {held}"


def check_sign_off(item: Recorded[SignOff], reading: Reading, people: Directory) -> SignOffPredicate | str:
    """Verify a sign-off entry against the directory; return its predicate, or why it does not count."""
    record = item.record
    key = people.key_at(record.person, record.key_id, item.seq)
    if key is None:
        return f"{people.name(record.person)} had no valid key {record.key_id} then"
    try:
        statement = open_envelope(record.envelope, key, archived_keys(reading, people, item.seq))
        predicate = read_sign_off(statement)
    except (SignatureError, RecordError) as error:
        return str(error)
    if record.strength != key.strength:
        return f"the entry claims strength {record.strength}, the key has {key.strength}"
    if key.algorithm == "oidc":
        problem = sso_problem(reading, people, item, predicate)
        if problem:
            return problem
    if hashlib.sha256(statement).hexdigest() != record.statement_digest:
        return "the entry's statement digest is not that of the statement"
    seen = predicate.checkpoint
    if not 0 < seen.size <= min(item.seq, reading.size):
        return "the statement was made on another history of the ledger"
    if not same_history(reading, seen.size, seen.root):
        return "the statement was made on another history of the ledger"
    same = (
        predicate.ledger == reading.origin
        and predicate.model == record.model
        and predicate.version == record.version
        and predicate.person == record.person
        and predicate.key_id == record.key_id
        and predicate.decision == record.decision
        and predicate.stage == record.stage
        and predicate.role == record.role
        and predicate.package.digest == record.package_digest
        and predicate.package.entry_seq == record.package_seq
    )
    return predicate if same else "the statement says something else than the entry (or belongs to another ledger)"


def same_history(reading: Reading, size: int, root: str) -> bool:
    """Whether a head that somebody saw is one of this ledger."""
    return reading.view.consistent(size, bytes.fromhex(root))


def people_of(signed: Collection[Signed]) -> frozenset[str]:
    """Everyone whose signatures these are, delegators included."""
    return frozenset(person for item in signed for person in item.people)
