"""Sign-off: the one function through which every surface submits a signed statement.

Invariants: nothing becomes a `sign_off` entry that does not verify, is not about the current package, or breaks role, order
or separation of duties; a refused attempt becomes a `sign_off_refused` entry with its reasons.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cognify_dagster.governance.case import StageState
from cognify_dagster.governance.decision import Decision as ReleaseDecision
from cognify_dagster.governance.decision import decide
from cognify_dagster.governance.enrol import policy_in_force
from cognify_dagster.governance.errors import GovernanceError, SignatureError, SignOffDenied
from cognify_dagster.governance.keys import PersonalKey
from cognify_dagster.governance.people import Directory, directory
from cognify_dagster.governance.policy import Policy
from cognify_dagster.governance.stages import check_sign_off, excluded_people
from cognify_dagster.governance.statements import (
    Condition,
    Decision,
    EntryRef,
    Head,
    PackageRef,
    SignOffPredicate,
    Viewed,
    envelope_statement,
    read_sign_off,
    seal,
    sign_off_statement,
)
from cognify_dagster.ledger import Receipt, SizeChanged
from cognify_dagster.records import Envelope, Package, SignOff, SignOffRefused, parse_utc, utc
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key

DEFAULT_TARGET = "production"
MAX_STATEMENT_AGE = timedelta(days=14)
_RETRIES = 5


@dataclass(frozen=True)
class Choice:
    """What a person decides, before it becomes a statement."""

    decision: Decision
    stage: str | None = None
    comments: str = ""
    conditions: tuple[Condition, ...] = ()
    links: tuple[str, ...] = ()
    targets: tuple[str, ...] = (DEFAULT_TARGET,)
    expires: str | None = None
    reference: EntryRef | None = None


def propose(reading: Reading, model: str, version: str, person: str, key_id: str, choice: Choice) -> bytes:
    """Build the statement a person would sign now; nothing is written.

    Raises:
        GovernanceError: if there is no package, the stage is unknown or the person is not enrolled.
    """
    people = directory(reading)
    standing = people.person_at(person, reading.size)
    if standing is None:
        raise GovernanceError(f"{person} is not enrolled in this workspace; see `cognify people list`")
    package = reading.latest(Package, f"model/{model}@{version}")
    if package is None:
        raise GovernanceError(f"{model} {version} has no package yet; there is nothing to sign")
    in_force = policy_in_force(reading)
    policy = in_force.policy
    now = datetime.now(timezone.utc)
    decision = decide(reading, model, version, choice.targets[0] if choice.targets else DEFAULT_TARGET, now)
    stage = choice.stage or _stage_for(decision, standing.roles)
    role, meaning = _role_and_meaning(policy, stage, choice.decision, standing.roles)
    predicate = SignOffPredicate(
        ledger=reading.origin,
        model=model,
        version=version,
        package=PackageRef(digest=package.record.package.digest, entry_seq=package.seq, entry_leaf=package.leaf),
        model_digest=package.record.model_digest,
        decision=choice.decision,
        stage=stage,
        role=role,
        meaning=meaning,
        comments=choice.comments,
        conditions=choice.conditions,
        links=choice.links,
        target_environments=choice.targets,
        expires=choice.expires,
        viewed=_viewed(package),
        checkpoint=Head(size=reading.size, root=reading.view.root.hex()),
        policy_digest=in_force.digest,
        person=person,
        printed_name=standing.name,
        key_id=key_id,
        signed_at=utc(now),
        reference=choice.reference,
    )
    return sign_off_statement(predicate)


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
    record = SignOff(
        model=predicate.model,
        version=predicate.version,
        stage=predicate.stage,
        decision=predicate.decision,
        role=predicate.role,
        person=predicate.person,
        key_id=predicate.key_id,
        strength="S3",
        package_digest=predicate.package.digest,
        package_seq=predicate.package.entry_seq,
        statement_digest=digest,
        signed_at=predicate.signed_at,
        envelope=envelope,
    )
    for _ in range(_RETRIES):
        reading = workspace.read()
        reasons = _problems(reading, record, predicate)
        if reasons:
            _record_refusal(workspace, record, reasons)
            raise SignOffDenied(reasons)
        try:
            return workspace.append(
                record,
                actor=predicate.person,
                idem=idempotency_key("sign_off", digest),
                expected_size=None if _submitted(reading, digest) else reading.size,
                checkpoint=True,
            )
        except SizeChanged:
            continue
    raise GovernanceError("the ledger kept changing while signing; try again")


def _submitted(reading: Reading, digest: str) -> bool:
    """Whether `submit` itself appended this statement before; an entry that only claims the digest does not have its key."""
    idem = idempotency_key("sign_off", digest)
    return any(found.entry.idem == idem for found in reading.view.entries)


def _problems(reading: Reading, record: SignOff, predicate: SignOffPredicate) -> list[str]:
    """Return every reason why this sign-off must not enter the ledger."""
    if _submitted(reading, record.statement_digest):
        return []  # a retry: the append below returns the old receipt
    people = directory(reading)
    checked = check_sign_off(_as_next_entry(reading, record), reading, people)
    if isinstance(checked, str):
        return [checked]
    standing = people.person_at(record.person, reading.size)
    if standing is None:
        return [f"{record.person} is not enrolled in this workspace"]
    in_force = policy_in_force(reading)
    policy = in_force.policy
    subject = f"model/{record.model}@{record.version}"
    reasons: list[str] = []
    if record.role not in standing.roles:
        reasons.append(f"{standing.name} does not hold the role {record.role}; held: {', '.join(standing.roles)}")
    if predicate.policy_digest != in_force.digest:
        reasons.append("the statement names another policy than the one in force; sign again")
    age = datetime.now(timezone.utc) - parse_utc(predicate.signed_at)
    if not -timedelta(minutes=5) <= age <= MAX_STATEMENT_AGE:
        reasons.append(f"the statement is dated {predicate.signed_at}; check the clock and sign again")
    package = reading.latest(Package, subject)
    if package is None:
        return [*reasons, f"{record.model} {record.version} has no package"]
    if predicate.decision not in ("withdraw", "block"):
        if predicate.package.digest != package.record.package.digest or predicate.package.entry_leaf != package.leaf:
            reasons.append(
                "the statement is about another package than the current one; read the current one and sign it"
            )
        if predicate.model_digest != package.record.model_digest:
            reasons.append("the statement names other model bytes than the package")
    reasons += _authority(reading, predicate, policy, people, package)
    return reasons


def _authority(
    reading: Reading, predicate: SignOffPredicate, policy: Policy, people: Directory, package: Recorded[Package]
) -> list[str]:
    if predicate.decision == "withdraw":
        target = reading.at(predicate.reference.entry_seq) if predicate.reference else None
        own = (
            target is not None
            and predicate.reference is not None
            and isinstance(target.record, SignOff)
            and target.leaf == predicate.reference.entry_leaf
            and (target.record.person, target.record.model, target.record.version)
            == (predicate.person, predicate.model, predicate.version)
        )
        return [] if own else ["a withdrawal names an earlier sign-off of the same person on the same version"]
    if predicate.decision == "block":
        return [] if predicate.role in policy.blockers else [f"the role {predicate.role} may not block a release"]
    target_name = predicate.target_environments[0] if predicate.target_environments else DEFAULT_TARGET
    decision = decide(reading, predicate.model, predicate.version, target_name, datetime.now(timezone.utc))
    stage = next((item for item in decision.stages if item.name == predicate.stage), None)
    if stage is None or stage.stage.kind != "sign_off":
        return [f"tier {decision.tier!r} has no sign-off stage {predicate.stage!r}"]
    reasons = []
    if predicate.role != stage.stage.role:
        reasons.append(f"stage {predicate.stage!r} is signed by a {stage.stage.role}, not by a {predicate.role}")
    if predicate.meaning != stage.stage.meaning and predicate.decision in ("approve", "approve_with_conditions"):
        reasons.append("the meaning is not the one the policy states for this stage")
    if predicate.decision == "approve_with_conditions" and not predicate.conditions:
        reasons.append("an approval with conditions names at least one condition")
    if predicate.decision not in ("approve", "approve_with_conditions"):
        return reasons
    if not predicate.target_environments:
        reasons.append("an approval names at least one target environment")
    if predicate.expires is not None and parse_utc(predicate.expires) <= datetime.now(timezone.utc):
        reasons.append(f"the approval would have expired already ({predicate.expires})")
    excluded = excluded_people(policy, decision.training, package)
    if predicate.person in excluded:
        reasons.append(
            f"{people.name(predicate.person)} had a hand in this version (launched, wrote code for, or packaged it) "
            "and cannot approve it, in any role"
        )
    reasons += _order(decision, stage, predicate.person, policy)
    return reasons


def _order(decision: ReleaseDecision, stage: StageState, person: str, policy: Policy) -> list[str]:
    reasons = []
    for earlier in decision.stages[: decision.stages.index(stage)]:
        if not earlier.done:
            reasons.append(f"stage {earlier.name!r} comes first and is not done")
    for other in decision.stages:
        signers = {signed.person for signed in other.signed}
        if policy.separation_of_duties.distinct_people_across_stages and other is not stage and person in signers:
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


def _viewed(package: Recorded[Package]) -> Viewed:
    shown = package.record.review_copy or package.record.package
    return Viewed(digest=shown.digest, media_type=shown.media_type)


def _stage_for(decision: ReleaseDecision, roles: tuple[str, ...]) -> str:
    """Return the stage to sign: the first open one for a role held, else the first one of such a role."""
    own = [stage for stage in decision.stages if stage.stage.kind == "sign_off" and stage.stage.role in roles]
    open_stages = [stage for stage in own if not stage.done]
    if open_stages:
        return open_stages[0].name
    if own:
        return own[0].name
    waiting = decision.next_stage
    signable = [stage for stage in decision.stages if stage.stage.kind == "sign_off"]
    if waiting is not None and waiting.stage.kind == "sign_off":
        return waiting.name
    if signable:
        return signable[0].name
    raise GovernanceError(f"tier {decision.tier!r} has no stage that people sign")


def _role_and_meaning(policy: Policy, stage: str, decision: Decision, roles: tuple[str, ...]) -> tuple[str, str]:
    if decision == "block":
        held = [role for role in policy.blockers if role in roles]
        return (held[0] if held else roles[0] if roles else "none", "I block the release of this model version.")
    if stage not in policy.stages:
        raise GovernanceError(f"the policy has no stage {stage!r}; it has {', '.join(policy.stages)}")
    wanted = policy.stages[stage]
    role = wanted.role if wanted.role in roles else (roles[0] if roles else "none")
    meanings = {
        "reject": "I reject this package.",
        "withdraw": "I withdraw my earlier sign-off.",
        "acknowledge": "I have taken note of this package and its findings.",
    }
    return role, meanings.get(decision, wanted.meaning)
