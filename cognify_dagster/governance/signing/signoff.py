"""Sign-off: the one function through which every surface submits a signed statement.

Invariants: nothing becomes a `sign_off` entry that does not verify, is not about the current package, or breaks role, order
or separation of duties; a refused attempt becomes a `sign_off_refused` entry with its reasons.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cognify_dagster.governance.errors import GovernanceError, SignatureError, SignOffDenied
from cognify_dagster.governance.people.directory import Directory, directory
from cognify_dagster.governance.people.enrol import policy_in_force
from cognify_dagster.governance.policy.document import STRENGTHS, Policy
from cognify_dagster.governance.release.approvals import authority_problem, check_sign_off
from cognify_dagster.governance.release.case import StageState
from cognify_dagster.governance.release.decision import Decision, decide
from cognify_dagster.governance.release.involvement import excluded_people
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.governance.signing.proposing import APPROVALS, DEFAULT_TARGET, Choice, propose
from cognify_dagster.governance.signing.statements import SignOffPredicate, envelope_statement, read_sign_off, seal
from cognify_dagster.ledger import Receipt, SizeChanged
from cognify_dagster.records import Envelope, Package, SignOff, SignOffRefused, parse_utc
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key

MAX_STATEMENT_AGE = timedelta(days=14)
_RETRIES = 5


def sign_off(workspace: Workspace, model: str, version: str, key: PersonalKey, choice: Choice) -> Receipt:
    """Propose, sign and submit in one step.

    Raises:
        SignOffDenied: with every reason; the attempt is recorded.
    """
    statement = propose(workspace.read(), model, version, key.person, key.key_id, choice)
    return submit(workspace, seal(statement, key.key_id, key.sign))


def submit(workspace: Workspace, envelope: Envelope) -> Receipt:
    """Verify a signed statement and append it, or record the refusal.

    Raises:
        SignatureError: if the envelope holds no sign-off statement for this ledger at all.
        SignOffDenied: with every reason; the attempt is recorded.
    """
    statement = envelope_statement(envelope)
    predicate = read_sign_off(statement)
    if predicate.ledger != workspace.origin:
        raise SignatureError(
            f"the statement is for workspace {predicate.ledger!r}, this is {workspace.origin!r}; it is worthless here"
        )
    digest = hashlib.sha256(statement).hexdigest()
    reading = workspace.read()
    key = directory(reading).key_at(predicate.person, predicate.key_id, reading.size)
    strength = key.strength if key is not None else "S3"
    record = SignOff(
        model=predicate.model,
        version=predicate.version,
        stage=predicate.stage,
        decision=predicate.decision,
        role=predicate.role,
        person=predicate.person,
        key_id=predicate.key_id,
        strength=strength,
        package_digest=predicate.package.digest,
        package_seq=predicate.package.entry_seq,
        statement_digest=digest,
        signed_at=predicate.signed_at,
        envelope=envelope,
    )
    for attempt in range(_RETRIES):
        reading = workspace.read() if attempt else reading
        reasons = _problems(reading, record, predicate)
        if reasons:
            _record_refusal(workspace, record, reasons)
            raise SignOffDenied(reasons)
        try:
            return workspace.append(
                record,
                actor=predicate.person,
                idem=idempotency_key("sign_off", digest),
                expected_size=None if _submitted(reading, record) else reading.size,
                checkpoint=True,
            )
        except SizeChanged:
            continue
    raise GovernanceError("the ledger kept changing while signing; try again")


def _submitted(reading: Reading, record: SignOff) -> bool:
    """Whether `submit` itself appended this statement before; an entry that only claims the digest does not have its key."""
    idem = idempotency_key("sign_off", record.statement_digest)
    return reading.view.find(idem, f"model/{record.model}@{record.version}") is not None


@dataclass(frozen=True)
class _Attempt:
    """A sign-off that somebody wants to add to a reading."""

    reading: Reading
    record: SignOff
    predicate: SignOffPredicate
    people: Directory
    policy: Policy
    now: datetime

    @property
    def name(self) -> str:
        return self.people.name(self.predicate.person)


def _problems(reading: Reading, record: SignOff, predicate: SignOffPredicate) -> list[str]:
    """Return every reason why this sign-off must not enter the ledger."""
    if _submitted(reading, record):
        return []  # a retry: the append below returns the old receipt
    people = directory(reading)
    checked = check_sign_off(_as_next_entry(reading, record), reading, people)
    if isinstance(checked, str):
        return [checked]
    if people.person_at(record.person, reading.size) is None:
        return [f"{record.person} is not enrolled in this workspace"]
    in_force = policy_in_force(reading)
    attempt = _Attempt(reading, record, predicate, people, in_force.policy, datetime.now(timezone.utc))
    reasons: list[str] = []
    if predicate.decision != "withdraw":  # who lost a role may still take back what they said
        lacking = authority_problem(people, predicate, reading.size, attempt.now)
        reasons += [lacking] if lacking else []
    if predicate.policy_digest != in_force.digest:
        reasons.append("the statement names another policy than the one in force; sign again")
    age = attempt.now - parse_utc(predicate.signed_at)
    if not -timedelta(minutes=5) <= age <= MAX_STATEMENT_AGE:
        reasons.append(f"the statement is dated {predicate.signed_at}; check the clock and sign again")
    package = reading.latest(Package, f"model/{record.model}@{record.version}")
    if package is None:
        return [*reasons, f"{record.model} {record.version} has no package"]
    if predicate.decision not in ("withdraw", "block"):
        reasons += _about_package(predicate, package)
    return reasons + _by_decision(attempt)


def _about_package(predicate: SignOffPredicate, package: Recorded[Package]) -> list[str]:
    reasons = []
    if predicate.package.digest != package.record.package.digest or predicate.package.entry_leaf != package.leaf:
        reasons.append("the statement is about another package than the current one; read the current one and sign it")
    if predicate.model_digest != package.record.model_digest:
        reasons.append("the statement names other model bytes than the package")
    return reasons


def _by_decision(attempt: _Attempt) -> list[str]:
    predicate = attempt.predicate
    if predicate.decision == "withdraw":
        return _withdrawal(attempt)
    if predicate.decision == "block":
        allowed = predicate.role in attempt.policy.blockers
        return [] if allowed else [f"the role {predicate.role} may not block a release"]
    target = predicate.target_environments[0] if predicate.target_environments else DEFAULT_TARGET
    decision = decide(attempt.reading, predicate.model, predicate.version, target, attempt.now)
    state = next((item for item in decision.stages if item.name == predicate.stage), None)
    if state is None or state.stage.kind != "sign_off":
        return [f"tier {decision.tier!r} has no sign-off stage {predicate.stage!r}"]
    reasons = []
    if predicate.role not in state.stage.wanted:
        wanted = " or ".join(state.stage.wanted)
        reasons.append(f"stage {predicate.stage!r} is signed by a {wanted}, not by a {predicate.role}")
    if predicate.decision in APPROVALS:
        reasons += _approval(attempt, state) + _duties(attempt, decision) + _order(attempt, decision, state)
    return reasons


def _withdrawal(attempt: _Attempt) -> list[str]:
    predicate = attempt.predicate
    target = attempt.reading.find(SignOff, predicate.reference.entry_seq) if predicate.reference else None
    own = (
        target is not None
        and predicate.reference is not None
        and target.leaf == predicate.reference.entry_leaf
        and (target.record.person, target.record.model, target.record.version)
        == (predicate.person, predicate.model, predicate.version)
    )
    return [] if own else ["a withdrawal names an earlier sign-off of the same person on the same version"]


def _approval(attempt: _Attempt, state: StageState) -> list[str]:
    predicate, stage = attempt.predicate, state.stage
    reasons = []
    if predicate.meaning != stage.meaning:
        reasons.append("the meaning is not the one the policy states for this stage")
    if STRENGTHS.index(attempt.record.strength) < STRENGTHS.index(stage.min_strength):
        given = attempt.record.strength
        reasons.append(f"stage {state.name!r} needs a signature of strength {stage.min_strength}; this one has {given}")
    if predicate.decision == "approve_with_conditions" and not predicate.conditions:
        reasons.append("an approval with conditions names at least one condition")
    if not predicate.target_environments:
        reasons.append("an approval names at least one target environment")
    if predicate.expires is not None and parse_utc(predicate.expires) <= attempt.now:
        reasons.append(f"the approval would have expired already ({predicate.expires})")
    return reasons


def _duties(attempt: _Attempt, decision: Decision) -> list[str]:
    hand = attempt.predicate.people & excluded_people(attempt.policy, decision.lineage)
    return [
        f"{attempt.people.name(person)} had a hand in this version (launched or packaged it, wrote its code, adopted its thresholds or attested its data), or a conflict "
        "with somebody who had, and cannot approve it, in any role"
        for person in sorted(hand)
    ]


def _order(attempt: _Attempt, decision: Decision, state: StageState) -> list[str]:
    reasons = []
    for earlier in decision.stages[: decision.stages.index(state)]:
        if not earlier.done:
            reasons.append(f"stage {earlier.name!r} comes first and is not done")
    for other in decision.stages:
        signers = {person for signed in other.signed for person in signed.people}
        distinct = attempt.policy.separation_of_duties.distinct_people_across_stages
        if distinct and other is not state and attempt.predicate.people & signers:
            reasons.append(f"the same person signed stage {other.name!r}; stages need different people")
    return reasons


def _as_next_entry(reading: Reading, record: SignOff) -> Recorded[SignOff]:
    last = reading.view.entries[-1]
    return Recorded(reading.size, last.entry.time_us, "", record.person, record.key_id, record, last)


def _record_refusal(workspace: Workspace, record: SignOff, reasons: list[str]) -> None:
    refusal = SignOffRefused(
        model=record.model,
        version=record.version,
        stage=record.stage,
        decision=record.decision,
        role=record.role,
        person=record.person,
        statement_digest=record.statement_digest,
        reasons=tuple(reasons),
    )
    workspace.append(
        refusal,
        actor=record.person,
        idem=idempotency_key("sign_off_refused", record.statement_digest, *reasons),
        checkpoint=True,
    )
