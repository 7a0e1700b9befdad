"""Who may sign what off: the rules of role, order, package and separation of duties, asked before signing and when submitting.

Invariant: what is shown to people before they sign and what `submit` refuses come from the same rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cognify_dagster.governance.people.authority import PolicyInForce
from cognify_dagster.governance.people.directory import Directory, directory
from cognify_dagster.governance.people.enrol import policy_in_force
from cognify_dagster.governance.policy.document import STRENGTHS, Policy
from cognify_dagster.governance.release.approvals import authority_problem
from cognify_dagster.governance.release.case import StageState
from cognify_dagster.governance.release.decision import Decision, decide
from cognify_dagster.governance.release.involvement import excluded_people
from cognify_dagster.governance.signing.proposing import APPROVALS, DEFAULT_TARGET, Choice, propose
from cognify_dagster.governance.signing.statements import SignOffPredicate, read_sign_off
from cognify_dagster.records import Package, SignOff, parse_utc
from cognify_dagster.workspace import Reading, Recorded

MAX_STATEMENT_AGE = timedelta(days=14)


@dataclass(frozen=True)
class Attempt:
    """A sign-off that somebody wants to add to a reading, with a signature of this strength."""

    reading: Reading
    predicate: SignOffPredicate
    strength: str
    people: Directory
    in_force: PolicyInForce
    at: datetime

    @classmethod
    def now(cls, reading: Reading, predicate: SignOffPredicate, strength: str) -> Attempt:
        """Return the attempt as of now."""
        now = datetime.now(timezone.utc)
        return cls(reading, predicate, strength, directory(reading), policy_in_force(reading), now)

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.in_force.policy


def obstacles(
    reading: Reading, model: str, version: str, person: str, choice: Choice, *, strength: str | None = None
) -> list[str]:
    """Say why a person could not sign this off now, before they try; empty if they could. Nothing is recorded.

    Args:
        reading: verified entries.
        model: model key.
        version: version id.
        person: who would sign.
        choice: what they would decide.
        strength: of the signature they would give; that of their strongest valid key unless given.

    Raises:
        GovernanceError: if there is nothing to sign, or the person is not enrolled.
    """
    predicate = read_sign_off(propose(reading, model, version, person, "", choice))
    if strength is None:
        keys = directory(reading).valid_keys(person, reading.size).values()
        strength = max((key.strength for key in keys), key=STRENGTHS.index, default=STRENGTHS[0])
    return rule_problems(Attempt.now(reading, predicate, strength))


def rule_problems(attempt: Attempt) -> list[str]:
    """Return every reason why a statement must not become a sign-off, its signature aside."""
    reading, predicate, people = attempt.reading, attempt.predicate, attempt.people
    if people.person_at(predicate.person, reading.size) is None:
        return [f"{predicate.person} is not enrolled in this workspace"]
    reasons: list[str] = []
    if predicate.decision != "withdraw":  # who lost a role may still take back what they said
        lacking = authority_problem(people, predicate, reading.size, attempt.at)
        reasons += [lacking] if lacking else []
    if predicate.policy_digest != attempt.in_force.digest:
        reasons.append("the statement names another policy than the one in force; sign again")
    age = attempt.at - parse_utc(predicate.signed_at)
    if not -timedelta(minutes=5) <= age <= MAX_STATEMENT_AGE:
        reasons.append(f"the statement is dated {predicate.signed_at}; check the clock and sign again")
    package = reading.latest(Package, f"model/{predicate.model}@{predicate.version}")
    if package is None:
        return [*reasons, f"{predicate.model} {predicate.version} has no package"]
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


def _by_decision(attempt: Attempt) -> list[str]:
    predicate = attempt.predicate
    if predicate.decision == "withdraw":
        return _withdrawal(attempt)
    if predicate.decision == "block":
        allowed = predicate.role in attempt.policy.blockers
        return [] if allowed else [f"the role {predicate.role} may not block a release"]
    target = predicate.target_environments[0] if predicate.target_environments else DEFAULT_TARGET
    decision = decide(attempt.reading, predicate.model, predicate.version, target, attempt.at)
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


def _withdrawal(attempt: Attempt) -> list[str]:
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


def _approval(attempt: Attempt, state: StageState) -> list[str]:
    predicate, stage = attempt.predicate, state.stage
    reasons = []
    if predicate.meaning != stage.meaning:
        reasons.append("the meaning is not the one the policy states for this stage")
    if STRENGTHS.index(attempt.strength) < STRENGTHS.index(stage.min_strength):
        given = attempt.strength
        reasons.append(f"stage {state.name!r} needs a signature of strength {stage.min_strength}; this one has {given}")
    if predicate.decision == "approve_with_conditions" and not predicate.conditions:
        reasons.append("an approval with conditions names at least one condition")
    if not predicate.target_environments:
        reasons.append("an approval names at least one target environment")
    if predicate.expires is not None and parse_utc(predicate.expires) <= attempt.at:
        reasons.append(f"the approval would have expired already ({predicate.expires})")
    return reasons


def _duties(attempt: Attempt, decision: Decision) -> list[str]:
    hand = attempt.predicate.people & excluded_people(attempt.policy, decision.lineage)
    return [
        f"{attempt.people.name(person)} had a hand in this version (launched or packaged it, wrote its code, adopted its thresholds or attested its data), or a conflict "
        "with somebody who had, and cannot approve it, in any role"
        for person in sorted(hand)
    ]


def _order(attempt: Attempt, decision: Decision, state: StageState) -> list[str]:
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
