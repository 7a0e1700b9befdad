"""Acts that people sign, together or alone, here or each on their own machine, and whether such an act counts.

Invariants: an act counts only with valid signatures of as many different people as it needs, each holding one of the roles it needs
at that point; a signed statement has its effect once; what is appended was judged right before as the entry it becomes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from cognify_dagster.governance.errors import GovernanceError, SignatureError
from cognify_dagster.governance.people.directory import ADMIN, Directory, directory
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.governance.signing.statements import act_predicate, read_act, sign_act, statement_digest
from cognify_dagster.ledger import IdempotencyConflict, Receipt, SizeChanged
from cognify_dagster.records import Envelope, EnvelopeSignature, Record
from cognify_dagster.workspace import Reading, Recorded, Workspace

COMPLIANCE = "compliance_officer"
KEEPERS = (COMPLIANCE, ADMIN)
PEOPLE = 2
_ATTEMPTS = 5
UNSIGNED = Envelope(payload="", payloadType="", signatures=(EnvelopeSignature(keyid="", sig=""),))
R = TypeVar("R", bound=Record)


def people_needed(reading: Reading) -> int:
    """How many different people sign a joint act: two, in a trial ledger one."""
    return 1 if reading.trial else PEOPLE


def role_of(people: Directory, person: str, key_id: str, seq: int, roles: Sequence[str]) -> str:
    """Return the first of the roles that a person holds just before entry `seq`, with a key that is valid then.

    Raises:
        GovernanceError: if they hold none, or the key does not count.
    """
    standing = people.person_at(person, seq)
    if standing is None or people.signing_key(person, key_id, seq) is None:
        raise GovernanceError(f"{person} is not enrolled here with the key {key_id}; see `cognify people list`")
    counting = people.roles_at(person, seq, time.time_ns() // 1000)
    held = [role for role in roles if role in counting]
    if not held and set(roles) & set(standing.roles):
        raise GovernanceError(
            f"the roles of {standing.name} were not recertified in time; see `cognify people recertify`"
        )
    if not held:
        raise GovernanceError(f"{standing.name} may not do this: one of the roles {', '.join(roles)} is needed")
    return held[0]


def sign_jointly(
    reading: Reading, record: R, signers: Sequence[PersonalKey], roles: Sequence[str], meaning: str, *, needed: int
) -> tuple[Envelope, ...]:
    """Return the envelopes of all signers over a record.

    Raises:
        GovernanceError: if there are too few different people, or one of them may not sign this.
    """
    held = check_signers(reading, signers, roles, needed=needed)
    head = reading.view.checkpoint()
    return tuple(
        sign_act(record, key, ledger=reading.origin, role=role, meaning=meaning, head=head)
        for key, role in zip(signers, held, strict=True)
    )


def check_signers(
    reading: Reading, signers: Sequence[PersonalKey], roles: Sequence[str], *, needed: int
) -> tuple[str, ...]:
    """Return the role in which each signs, before anything is signed or made.

    Raises:
        GovernanceError: if there are too few different people, or one of them may not sign this.
    """
    if len({key.person for key in signers}) < needed:
        raise GovernanceError(
            f"this needs the signatures of {needed} different people, each with one of: {', '.join(roles)}"
        )
    people = directory(reading)
    return tuple(role_of(people, key.person, key.key_id, reading.size, roles) for key in signers)


def act_problem(
    reading: Reading,
    item: Recorded[Record],
    envelopes: Sequence[Envelope],
    people: Directory,
    roles: Collection[str],
    *,
    needed: int,
    claimed: Collection[str],
    allows: bool = False,
) -> str | None:
    """Say why an act in the ledger does not count, or None. Whether its statements had their effect before: see `first_use`.

    Args:
        reading: verified entries.
        item: the act.
        envelopes: its signatures.
        people: the directory of that reading.
        roles: the roles of which each who counts needs one.
        needed: how many different people have to sign.
        claimed: the people whom the record names as signers.
        allows: whether the act allows something. It then counts for nothing if a key that signed it was revoked later with effect
            from an entry up to this one; what restrains something stands.
    """
    signed: set[str] = set()
    everyone: set[str] = set()
    for envelope in envelopes:
        try:
            predicate = read_act(item, envelope, reading.origin, lambda p, k: people.signing_key(p, k, item.seq))
        except SignatureError as error:
            return str(error)
        everyone.add(str(predicate["person"]))
        if allows and not people.trusted(str(predicate["person"]), str(predicate["key_id"]), item.seq):
            return distrusted_text(people, str(predicate["person"]))
        if people.roles_at(str(predicate["person"]), item.seq, item.time_us) & set(roles):
            signed.add(str(predicate["person"]))
    if len(signed) < needed:
        return f"it is signed by {len(signed)} people with one of the roles {', '.join(sorted(roles))}; {needed} are needed"
    if everyone != set(claimed):
        return "it names other people than those who signed it"
    return None


def distrusted_text(people: Directory, person: str) -> str:
    """Say that somebody signed with a key that was revoked with effect from an earlier entry."""
    return f"{people.name(person)}'s key was revoked with effect from before it"


def distrusted(item: Recorded[Record], envelopes: Sequence[Envelope], people: Directory) -> str | None:
    """Say that an act was signed with a key that was revoked later with effect from before it, or None."""
    for envelope in envelopes:
        predicate = act_predicate(envelope)
        person, key_id = str(predicate.get("person")), str(predicate.get("key_id"))
        if not people.trusted(person, key_id, item.seq):
            return distrusted_text(people, person)
    return None


def first_use(envelopes: Sequence[Envelope], used: set[str]) -> str | None:
    """Say that the same signed statements had their effect before; if they had not, note them as used and return None."""
    digests = {statement_digest(envelope) for envelope in envelopes}
    if digests & used:
        return "the same signed statement had its effect in an earlier entry"
    used |= digests
    return None


def decide_and_append(workspace: Workspace, attempt: Callable[[Reading], Callable[[], Receipt]]) -> Receipt:
    """Decide on a reading and append only if nothing was appended since; decide again where something was.

    Args:
        workspace: where.
        attempt: decides (raising if it refuses) and returns the append, made with `expected_size` of the reading.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return attempt(workspace.read())()
        except (SizeChanged, IdempotencyConflict):  # somebody else was first; perhaps with this very act
            continue
    return attempt(workspace.read())()


def already(reading: Reading, seq: int) -> Callable[[], Receipt]:
    """Return the receipt of an entry that did this before, in the place of an append."""
    entry = reading.view.entries[seq].entry
    return lambda: Receipt(entry.seq, entry.leaf, entry.time_us, duplicate=True)
