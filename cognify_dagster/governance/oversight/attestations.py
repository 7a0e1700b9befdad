"""What people attest under their signature: whether an attestation counts, and for which state of the thing it is about.

Invariants: an attestation counts only with the signature of the one person it names, in a role they held, over its whole text; it is
about one state (the root of a snapshot, the digest of a model file) and says nothing about another; it ends with its date, with
its withdrawal, and when the key that signed it is revoked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from cognify_dagster.governance.errors import GovernanceError
from cognify_dagster.governance.oversight.signed import NO_ROLE, before_signing, signature_ended
from cognify_dagster.governance.people.directory import Directory, directory
from cognify_dagster.governance.people.enrol import policy_in_force
from cognify_dagster.governance.signing.acts import KEEPERS, UNSIGNED, act_problem, already, first_use
from cognify_dagster.governance.signing.drafts import ActForm, perform_act, register_form
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.ledger import Receipt
from cognify_dagster.records import (
    AttestationMade,
    AttestationWithdrawn,
    DatasetSnapshot,
    EvidenceItem,
    TrainingRun,
    build,
    parse_utc,
)
from cognify_dagster.workspace import Reading, Recorded, Workspace

Made = Recorded[AttestationMade]


@dataclass(frozen=True)
class Attestation:
    """An attestation and where it stands, whatever state of the thing somebody asks about.

    Attributes:
        item: the entry.
        why: why it does not count (signature, key, withdrawal, date); None if it counts.
        ended: `expired`, `withdrawn` or `revoked` where it counted once and does no more; else empty.
        withdrawn_seq: the entry that withdrew it.
    """

    item: Made
    why: str | None = None
    ended: str = ""
    withdrawn_seq: int | None = None

    @property
    def counts(self) -> bool:
        """Whether it counts for the state that it names."""
        return self.why is None


@dataclass(frozen=True)
class State:
    """The state of a thing that an attestation about it has to name: the digests in use, with the entries that hold them."""

    about: str
    digests: Mapping[str, int] = field(default_factory=dict)

    def mismatch(self, item: Made) -> str | None:
        """Say why an attestation is about another state, or None."""
        record = item.record
        if record.about_digest is None or record.about_digest in self.digests:
            return None
        thing = "snapshot" if record.about.startswith("dataset/") else "model file"
        return f"it is about another {thing} of {record.about} ({record.about_digest[:19]}…, entry {record.about_seq})"


def attestations_about(
    reading: Reading, people: Directory, subject: str, now: datetime
) -> tuple[tuple[Attestation, ...], tuple[tuple[int, str], ...]]:
    """Return the attestations about exactly one thing, oldest first, and withdrawals without effect.

    Args:
        reading: verified entries.
        people: the directory of that reading.
        subject: `model/KEY`, `model/KEY@VERSION` or `dataset/NAME`.
        now: the moment of judgement, with time zone.
    """
    made = [item for item in reading.all(AttestationMade, subject) if item.record.about == subject]
    if not made:
        return (), ()
    ended = [item for item in reading.all(AttestationWithdrawn, subject) if item.record.about == subject]
    return _standing(reading, people, made, ended, now)


def attestation_register(
    reading: Reading, people: Directory, now: datetime
) -> tuple[tuple[Attestation, ...], tuple[tuple[int, str], ...]]:
    """Return every attestation of the workspace, oldest first, and withdrawals without effect."""
    return _standing(reading, people, reading.all(AttestationMade), reading.all(AttestationWithdrawn), now)


def _standing(
    reading: Reading,
    people: Directory,
    made: Iterable[Made],
    ended: Iterable[Recorded[AttestationWithdrawn]],
    now: datetime,
) -> tuple[tuple[Attestation, ...], tuple[tuple[int, str], ...]]:
    problems: list[tuple[int, str]] = []
    withdrawn: dict[int, int] = {}
    used: set[str] = set()
    for end in ended:
        problem = withdrawal_problem(reading, end, people) or first_use((end.record.envelope,), used)
        if problem:
            problems.append((end.seq, f"the withdrawal of attestation {end.record.attestation_seq}: {problem}"))
        else:
            withdrawn.setdefault(end.record.attestation_seq, end.seq)
    found = [_one(reading, people, item, withdrawn, used, now) for item in made]
    return tuple(_unless_unknown(reading, item) for item in found), tuple(problems)


def _unless_unknown(reading: Reading, found: Attestation) -> Attestation:
    """A withdrawal that was erased or cannot be read may have been about any attestation of that thing before it."""
    for item in reading.view.history(found.item.record.about) if found.counts else ():
        seq = item.entry.seq
        if item.entry.kind == AttestationWithdrawn.kind and seq > found.item.seq and reading.at(seq) is None:
            return replace(found, why=f"entry {seq}, a withdrawal, cannot be read; attest it again", ended="withdrawn")
    return found


def _one(
    reading: Reading, people: Directory, item: Made, withdrawn: Mapping[int, int], used: set[str], now: datetime
) -> Attestation:
    record = item.record
    problem = attestation_problem(reading, item, people) or first_use((record.envelope,), used)
    if problem:
        return Attestation(item, problem)
    if item.seq in withdrawn:
        at = withdrawn[item.seq]
        return Attestation(item, f"it was withdrawn by entry {at}", "withdrawn", at)
    gone = signature_ended(reading, people, record.envelope)
    if gone:
        return Attestation(item, gone, "revoked")
    if record.expires is not None and parse_utc(record.expires) <= now:
        return Attestation(item, f"it expired on {record.expires}", "expired")
    return Attestation(item)


def attestation_problem(reading: Reading, item: Made, people: Directory) -> str | None:
    """Say why an attestation did not count when it was made, or None."""
    record = item.record
    problem = record.problem() or _state_problem(reading, item)
    if problem:
        return problem
    if record.expires is not None and parse_utc(record.expires) <= item.when:
        return f"it had expired ({record.expires}) when it was made"
    policy = people.policy_at(item.seq)
    roles = {record.role} & set(policy.acting_roles if policy is not None else ())
    return act_problem(
        reading, item, (record.envelope,), people, roles, needed=1, claimed=(record.attested_by,), allows=True
    )


def _state_problem(reading: Reading, item: Made) -> str | None:
    record = item.record
    if record.about_seq is None:
        known = record.about in reading.view.heads
        return None if known else f"the ledger knows no {record.about}"
    found = reading.at(record.about_seq) if record.about_seq < item.seq else None
    held = found.record if found is not None else None
    if isinstance(held, DatasetSnapshot):
        same = (f"dataset/{held.name}", snapshot_digest(held.root)) == (record.about, record.about_digest)
    elif isinstance(held, TrainingRun):
        same = (f"model/{held.model}@{held.version}", held.model_file.digest) == (record.about, record.about_digest)
    else:
        same = False
    return None if same else f"entry {record.about_seq} does not hold the state of {record.about} that it names"


def snapshot_digest(root: str) -> str:
    """Return the root of a snapshot (hex) as an attestation names it."""
    return f"sha256:{root}"


def withdrawal_problem(reading: Reading, item: Recorded[AttestationWithdrawn], people: Directory) -> str | None:
    """Say why a withdrawal does not count, or None. The attesting person may withdraw, and those who keep the registers."""
    record = item.record
    made = reading.find(AttestationMade, record.attestation_seq, item.seq)
    if made is None:
        return f"entry {record.attestation_seq} is no attestation before it"
    if (made.record.about, made.record.text_id) != (record.about, record.text_id):
        return f"the attestation of entry {record.attestation_seq} is about something else"
    policy = people.policy_at(item.seq)
    own = record.withdrawn_by == made.record.attested_by
    roles = policy.acting_roles if own and policy is not None else KEEPERS
    return act_problem(reading, item, (record.envelope,), people, roles, needed=1, claimed=(record.withdrawn_by,))


# --- making ----------------------------------------------------------------------------------------------------------


def attestation_record(
    reading: Reading,
    text_id: str,
    about: str,
    text: str,
    person: str,
    *,
    role: str,
    expires: str | None,
    text_version: str = "",
    party: str = "",
    documents: Sequence[EvidenceItem] = (),
    state_seq: int | None = None,
) -> AttestationMade:
    """Return the record with which a person attests a text, without their signature.

    It is bound to the newest snapshot of a data set, or the sealed model file of a version, unless `state_seq` names the entry
    of an earlier snapshot.

    Raises:
        GovernanceError: if there is no such thing, or no state of it that could be named.
    """
    digest, seq = _state_of(reading, about, state_seq)
    facts = {
        "text_id": text_id,
        "text": text,
        "text_version": text_version,
        "about": about,
        "about_digest": digest,
        "about_seq": seq,
        "party": party,
        "role": role,
        "documents": tuple(documents),
        "expires": expires,
        "attested_by": person,
        "envelope": UNSIGNED,
    }
    return build(AttestationMade, facts)


def _state_of(reading: Reading, about: str, state_seq: int | None) -> tuple[str | None, int | None]:
    if about not in reading.view.heads:
        raise GovernanceError(f"the ledger knows no {about[:160]}")
    if about.startswith("dataset/"):
        found = [i for i in reading.all(DatasetSnapshot, about) if state_seq is None or i.seq == state_seq]
        if not found:
            what = "has no snapshot" if state_seq is None else f"has no snapshot in entry {state_seq}"
            raise GovernanceError(f"{about} {what}; record one first")
        return snapshot_digest(found[-1].record.root), found[-1].seq
    if "@" in about:
        runs = reading.all(TrainingRun, about)
        if not runs:
            raise GovernanceError(
                f"{about} has no sealed training run, so there is no model file to attest anything about"
            )
        return runs[0].record.model_file.digest, runs[0].seq
    return None, None


def attest(workspace: Workspace, key: PersonalKey, make: Callable[[Reading], AttestationMade]) -> Receipt:
    """Sign an attestation and append it; one that says the same and still counts is not made twice.

    Args:
        workspace: where.
        key: of the person who attests.
        make: returns the record for a reading, see `attestation_record`.

    Raises:
        GovernanceError: if it would not count.
    """

    def attempt(reading: Reading) -> AttestationMade | Callable[[], Receipt]:
        record = make(reading)
        seq = attested_already(reading, record)
        return record if seq is None else already(reading, seq)

    return perform_act(workspace, attempt, [key])


def attested_already(reading: Reading, record: AttestationMade) -> int | None:
    """Return the entry with which the same person attested the same and which still counts, or None."""
    now = datetime.now(timezone.utc)
    for found in attestations_about(reading, directory(reading), record.about, now)[0]:
        if found.counts and record.model_copy(update={"envelope": found.item.record.envelope}) == found.item.record:
            return found.item.seq
    return None


def withdrawal_record(reading: Reading, seq: int, person: str, reason: str) -> AttestationWithdrawn:
    """Return the record with which a person withdraws an attestation, without their signature.

    Raises:
        GovernanceError: if the entry is no attestation.
    """
    found = reading.find(AttestationMade, seq)
    if found is None:
        raise GovernanceError(f"entry {seq} is no attestation; see `cognify attest list`")
    facts = {
        "attestation_seq": seq,
        "text_id": found.record.text_id,
        "about": found.record.about,
        "reason": reason,
        "withdrawn_by": person,
        "envelope": UNSIGNED,
    }
    return build(AttestationWithdrawn, facts)


def withdraw_attestation(workspace: Workspace, key: PersonalKey, seq: int, reason: str) -> Receipt:
    """Withdraw an attestation as the person who made it, or as one who keeps the registers.

    Raises:
        GovernanceError: if it would have no effect.
    """
    return perform_act(workspace, lambda reading: withdrawal_record(reading, seq, key.person, reason), [key])


# --- how they are signed and judged ----------------------------------------------------------------------------------


def _attesting_roles(reading: Reading, record: AttestationMade, _person: str) -> tuple[str, ...]:
    acting = policy_in_force(reading).policy.acting_roles
    return (record.role,) if record.role in acting else (NO_ROLE,)


def _withdrawing_roles(reading: Reading, record: AttestationWithdrawn, person: str) -> tuple[str, ...]:
    made = reading.find(AttestationMade, record.attestation_seq)
    own = made is not None and made.record.attested_by == person
    return policy_in_force(reading).policy.acting_roles if own else KEEPERS


def _meaning(record: AttestationMade) -> str:
    until = f" until {record.expires}" if record.expires else ""
    party = f" with {record.party}" if record.party else ""
    state = f" in the state {record.about_digest}" if record.about_digest else ""
    return f"I attest the text {record.text_id} ({record.text_digest}){party} about {record.about}{state}{until}."


def _judge(reading: Reading, item: Made) -> str | None:
    return attestation_problem(reading, item, directory(reading))


def _judge_withdrawal(reading: Reading, item: Recorded[AttestationWithdrawn]) -> str | None:
    people, record = directory(reading), item.record
    problem = withdrawal_problem(reading, item, people)
    if problem:
        return problem
    for found in attestations_about(reading, people, record.about, item.when)[0]:
        if found.item.seq == record.attestation_seq and found.withdrawn_seq is not None:
            return f"attestation {record.attestation_seq} was withdrawn already, by entry {found.withdrawn_seq}"
    return None


register_form(
    ActForm(
        record=AttestationMade,
        signers=lambda record: (record.attested_by,),
        roles=_attesting_roles,
        meaning=_meaning,
        judge=_judge,
        check=before_signing(_judge),
    )
)
register_form(
    ActForm(
        record=AttestationWithdrawn,
        signers=lambda record: (record.withdrawn_by,),
        roles=_withdrawing_roles,
        meaning=lambda record: f"I withdraw the attestation {record.text_id} of entry {record.attestation_seq}.",
        judge=_judge_withdrawal,
        check=before_signing(_judge_withdrawal),
    )
)
