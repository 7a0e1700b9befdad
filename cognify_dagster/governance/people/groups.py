"""Single sign-on in the ledger: which groups of an issuer stand for which roles, its archived keys, and what a token then allows.

Invariants: groups only narrow: nobody has a role by a group that they were not enrolled with, and a delegation widens no group; a mapping counts only with the
signatures of two workspace admins who had seen the one before it, and the newest that counts is in force; one that cannot be read
gives nobody anything; an issuer's keys count from the entry after the one that archived them, written by an enrolled workload.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import Field

from cognify_dagster.governance.errors import GovernanceError, SignatureError
from cognify_dagster.governance.people.directory import ADMIN, Directory, directory
from cognify_dagster.governance.people.enrol import policy_in_force
from cognify_dagster.governance.signing.acts import act_problem, first_use, people_needed
from cognify_dagster.governance.signing.drafts import ActForm, perform_act, register_form
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.governance.signing.sso import IssuerKeys, again_problem, key_set_digest, read_token
from cognify_dagster.governance.signing.statements import SignOffPredicate, act_predicate
from cognify_dagster.ledger import Receipt
from cognify_dagster.records import (
    GroupsClaimed,
    GroupsMapped,
    IssuerKey,
    IssuerKeysArchived,
    RecordError,
    SignOff,
    YamlError,
    build,
    issuer_subject,
    load_yaml,
    parse_utc,
)
from cognify_dagster.records.base import Part
from cognify_dagster.records.sso import Group, Issuer, Role
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key

MAX_GROUPS = 2000
MAX_MAPPING = 256 * 1024


class MappingFile(Part):
    """What a file for `cognify review map-groups` holds."""

    issuer: Issuer
    claim: str = Field(default="groups", min_length=1, max_length=100)
    groups: dict[Group, tuple[Role, ...]] = Field(max_length=500)


@dataclass(frozen=True)
class GroupMapping:
    """The mapping in force for an issuer. `problems` are entries without effect; one that cannot be read leaves `groups` empty."""

    seq: int
    claim: str
    groups: Mapping[str, tuple[str, ...]]
    problems: tuple[tuple[int, str], ...] = ()

    def roles(self, claims: Mapping[str, Any]) -> frozenset[str]:
        """Return the roles that the groups of a token stand for. A claim that is no list of text names no group."""
        given = claims.get(self.claim)
        listed = [given] if isinstance(given, str) else given if isinstance(given, list) else []
        names = [name for name in listed[:MAX_GROUPS] if isinstance(name, str)]
        return frozenset(role for name in names for role in self.groups.get(name, ()))


# --- the mapping ---------------------------------------------------------------------------------------------------------


def mapping_in_force(
    reading: Reading, issuer: str, before: int | None = None, people: Directory | None = None
) -> GroupMapping | None:
    """Return the mapping in force for an issuer just before an entry (now, unless given); None where there is none.

    Args:
        reading: the ledger.
        issuer: whose groups.
        before: the entry.
        people: the directory, if it is at hand.
    """
    subject, limit = issuer_subject(issuer), reading.size if before is None else before
    found: GroupMapping | None = None
    problems: list[tuple[int, str]] = []
    used: set[str] = set()
    people = people or directory(reading)
    for item in reading.all(GroupsMapped, subject):
        if item.seq >= limit:
            break
        problem = _mapping_problem(reading, item, issuer, people, found) or first_use(item.record.envelopes, used)
        if problem:
            problems.append((item.seq, f"the group mapping does not count: {problem}"))
        else:
            found = GroupMapping(item.seq, item.record.claim, item.record.groups)
    lost = [
        seq
        for seq in (*reading.unreadable(subject), *(item.entry.seq for item in reading.erased(subject)))
        if seq < limit
    ]
    if lost and max(lost) > (found.seq if found else -1):
        problems.append((max(lost), "an entry about the issuer cannot be read; its groups give no role"))
        return GroupMapping(max(lost), "", {}, tuple(problems))
    return GroupMapping(found.seq, found.claim, found.groups, tuple(problems)) if found else None


def groups_mapping(
    reading: Reading, issuer: str, claim: str, groups: Mapping[str, Sequence[str]], reason: str, signers: Sequence[str]
) -> GroupsMapped:
    """Return the record of a mapping, for `propose_act`.

    Raises:
        GovernanceError: if it is malformed, or names a role that the policy in force does not have.
    """
    facts = {
        "issuer": issuer,
        "claim": claim,
        "groups": {name: tuple(sorted(set(roles))) for name, roles in groups.items()},
        "reason": reason,
        "signers": tuple(sorted(signers)),
    }
    try:
        record = build(GroupsMapped, facts)
    except RecordError as error:
        raise GovernanceError(f"the group mapping: {error}") from error
    problem = _roles_problem(reading, record)
    if problem:
        raise GovernanceError(problem)
    return record


def map_groups(
    workspace: Workspace,
    issuer: str,
    claim: str,
    groups: Mapping[str, Sequence[str]],
    reason: str,
    signers: Sequence[PersonalKey],
) -> Receipt:
    """Say which groups of an issuer stand for which roles; two workspace admins sign it. It replaces the mapping before it.

    Args:
        workspace: where.
        issuer: whose groups, its URL.
        claim: the claim of the ID token that lists them.
        groups: roles by group; a group that is not named stands for none.
        reason: why; it stands in the ledger.
        signers: keys of the admins.

    Raises:
        GovernanceError: if a role is unknown, or too few admins sign.
    """
    names = [key.person for key in signers]
    return perform_act(
        workspace, lambda reading: groups_mapping(reading, issuer, claim, groups, reason, names), signers
    )


def read_mapping(text: str, source: str = "the group mapping") -> MappingFile:
    """Read a mapping file (YAML with issuer, claim and groups) strictly.

    Raises:
        GovernanceError: naming source and field.
    """
    try:
        if len(text) > MAX_MAPPING:
            raise RecordError(f"larger than {MAX_MAPPING} characters")
        value = load_yaml(text)
        if not isinstance(value, dict):
            raise RecordError("issuer, claim and groups are expected")
        return build(MappingFile, value)
    except (RecordError, YamlError) as error:
        raise GovernanceError(f"{source}: {error}") from error


def _roles_problem(reading: Reading, record: GroupsMapped) -> str | None:
    known = policy_in_force(reading).policy.roles
    unknown = sorted({role for roles in record.groups.values() for role in roles} - set(known))
    return f"role {unknown[0]!r} is not in the policy; it has {', '.join(known)}" if unknown else None


def _mapping_problem(
    reading: Reading, item: Recorded[GroupsMapped], issuer: str, people: Directory, last: GroupMapping | None
) -> str | None:
    record = item.record
    if record.issuer != issuer:
        return "it is about another issuer"
    problem = act_problem(
        reading,
        item,
        record.envelopes,
        people,
        (ADMIN,),
        needed=people_needed(reading),
        claimed=record.signers,
        allows=True,
    )
    if problem or last is None:
        return problem
    seen = min(int(act_predicate(envelope)["checkpoint"]["size"]) for envelope in record.envelopes)
    return None if seen > last.seq else f"it was signed before entry {last.seq} replaced the mapping; sign it again"


def _judge(reading: Reading, item: Recorded[GroupsMapped]) -> str | None:
    issuer, people = item.record.issuer, directory(reading)
    earlier = reading.all(GroupsMapped, issuer_subject(issuer))
    used: set[str] = set()
    for other in earlier:
        first_use(other.record.envelopes, used)
    last = mapping_in_force(reading, issuer, people=people)
    try:
        problem = _mapping_problem(reading, item, issuer, people, last)
    except (KeyError, TypeError, ValueError):
        problem = "its statement is malformed"
    return _roles_problem(reading, item.record) or problem or first_use(item.record.envelopes, used)


def _check(reading: Reading, record: GroupsMapped, signers: Sequence[str]) -> str | None:
    needed = people_needed(reading)
    if len(set(signers)) < needed:
        return f"a group mapping is signed by {needed} different workspace admins"
    return _roles_problem(reading, record)


register_form(
    ActForm(
        record=GroupsMapped,
        signers=lambda record: record.signers,
        roles=lambda reading, record, person: (ADMIN,),
        meaning=lambda record: (
            f"These groups of {record.issuer} stand for these roles; who is in none of them has no role there."
        ),
        judge=_judge,
        check=_check,
    )
)


# --- what the site's workload writes -------------------------------------------------------------------------------------


def claim_groups(
    workspace: Workspace, person: str, issuer: str, claims: Mapping[str, Any], token_digest: str
) -> GroupMapping | None:
    """Record for which roles a person's groups stand, if that changed since their last sign-in; return the mapping in force.

    Raises:
        WriterRefused: if the workspace's workload may not write such entries.
    """
    reading = workspace.read()
    mapping = mapping_in_force(reading, issuer)
    if mapping is None:
        return None
    roles = tuple(sorted(mapping.roles(claims)))
    before = [item.record for item in reading.all(GroupsClaimed, person) if item.record.issuer == issuer]
    if not before or set(before[-1].roles) != set(roles):
        record = GroupsClaimed(
            person=person, issuer=issuer, roles=roles, mapping_seq=mapping.seq, token_digest=token_digest
        )
        workspace.append(record, idem=idempotency_key("groups_claimed", person, token_digest))
    return mapping


def archive_keys(workspace: Workspace, issuer: str, keys: Sequence[IssuerKey]) -> str:
    """Archive an issuer's key set in the ledger, if it is not there yet; return its digest.

    Raises:
        WriterRefused: if the workspace's workload may not write such entries.
    """
    digest, reading = key_set_digest(keys), workspace.read()
    if archived_keys(reading, directory(reading), reading.size)(issuer, digest) is None:
        record = IssuerKeysArchived(issuer=issuer, keys=tuple(keys), digest=digest)
        workspace.append(record, idem=idempotency_key("issuer_keys_archived", issuer, digest), checkpoint=True)
    return digest


# --- what a signature by single sign-on needs ----------------------------------------------------------------------------


def archived_keys(reading: Reading, people: Directory, seq: int) -> IssuerKeys:
    """Return what finds an issuer's keys that were archived before entry `seq`."""

    def find(issuer: str, digest: str) -> Sequence[IssuerKey] | None:
        for item in reading.all(IssuerKeysArchived, issuer_subject(issuer)):
            record = item.record
            fits = (record.issuer, record.digest) == (issuer, digest) and key_set_digest(record.keys) == digest
            if fits and item.seq < seq and people.writer_problem(item.entry.entry) is None:
                return record.keys
        return None

    return find


def sso_problem(
    reading: Reading,
    people: Directory,
    item: Recorded[SignOff],
    predicate: SignOffPredicate,
    now: datetime | None = None,
) -> str | None:
    """Say why a sign-off whose ID token verifies does not count, or None; None for one that has no ID token.

    Args:
        reading: the ledger.
        people: its directory.
        item: the sign-off.
        predicate: what it says.
        now: when it would be appended, if it was not yet.
    """
    proof = item.record.envelope.signatures[0].oidc
    key = people.key_at(predicate.person, predicate.key_id, item.seq)
    if proof is None or key is None or key.oidc is None:
        return None
    try:
        claims = read_token(proof.id_token).claims
    except SignatureError as error:
        return str(error)
    stale = again_problem(claims, parse_utc(predicate.signed_at), now or item.when)
    if stale or predicate.decision == "withdraw":  # who lost a role may still take back what they said
        return stale
    mapping = mapping_in_force(reading, key.oidc.issuer, item.seq, people)
    if mapping is None or predicate.role in mapping.roles(claims):
        return None
    behalf = predicate.on_behalf_of
    whose = f" that {people.name(behalf.person)} delegated" if behalf is not None else ""
    name = people.name(predicate.person)
    return f"the groups of {name} do not stand for the role {predicate.role}{whose} (entry {mapping.seq})"
