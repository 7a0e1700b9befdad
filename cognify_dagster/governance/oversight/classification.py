"""Which tier a model is in: what people signed outranks what code registered, and never fewer sign-offs by accident.

Invariants: a registration, which nobody signs, may add sign-off stages to the strictest tier but take none away; a signed
classification that takes stages away from the tier in force needs two different people; what does not count is reported.
"""

from __future__ import annotations

from dataclasses import dataclass

from cognify_dagster.governance.people.directory import Directory
from cognify_dagster.governance.policy.document import Policy
from cognify_dagster.governance.signing.acts import act_problem, first_use, people_needed
from cognify_dagster.records import ModelClassified, ModelRegistered
from cognify_dagster.workspace import Reading, Recorded


@dataclass(frozen=True)
class Classification:
    """The tier in force for a model. `signed` is the classification that set it, None where nobody classified the model.

    `registered_tier` is what the model's code says; `problems` are classifications without effect, by entry.
    """

    tier: str
    signed: Recorded[ModelClassified] | None
    registered: Recorded[ModelRegistered] | None
    problems: tuple[tuple[int, str], ...] = ()

    @property
    def registered_tier(self) -> str:
        """The tier that the newest registration names, empty if the model is not registered."""
        return self.registered.record.risk_tier if self.registered else ""

    @property
    def gate_set(self) -> str | None:
        """The set of thresholds that a signed classification names."""
        return self.signed.record.gate_set if self.signed else None


def signed_stages(policy: Policy, tier: str) -> frozenset[str]:
    """Return the stages of a tier that people sign; none for a tier that the policy does not have."""
    stages = policy.tiers[tier].stages if tier in policy.tiers else ()
    return frozenset(name for name in stages if policy.stages[name].kind == "sign_off")


def lost_stages(policy: Policy, before: str, after: str) -> frozenset[str]:
    """Return the sign-off stages that a move from one tier to another would take away."""
    return signed_stages(policy, before) - signed_stages(policy, after)


def classification_of(reading: Reading, people: Directory, policy: Policy, model: str) -> Classification:
    """Return the tier in force at the end of a reading."""
    subject = f"oversight/{model}"
    registered = reading.latest(ModelRegistered, subject)
    tier = _unsigned_tier(policy, registered)
    signed: Recorded[ModelClassified] | None = None
    problems: list[tuple[int, str]] = []
    used: set[str] = set()
    for item in reading.all(ModelClassified, subject):
        problem = _problem(reading, item, people, policy, tier) or first_use(item.record.envelopes, used)
        if problem:
            problems.append((item.seq, f"the classification of {model} does not count: {problem}"))
            continue
        tier, signed = item.record.tier, item
    if registered is not None and _adds_stages(policy, tier, registered.record.risk_tier):
        tier = registered.record.risk_tier
    return Classification(tier, signed, registered, tuple(problems))


def classification_problem(
    reading: Reading, item: Recorded[ModelClassified], people: Directory, policy: Policy
) -> str | None:
    """Say why a classification would not count as the next entry of a reading, or None."""
    before = classification_of(reading, people, policy, item.record.model).tier
    return _problem(reading, item, people, policy, before)


def signers_needed(reading: Reading, policy: Policy, before: str, after: str) -> int:
    """How many people sign a classification: two where it takes sign-off stages away."""
    return people_needed(reading) if lost_stages(policy, before, after) else 1


def _adds_stages(policy: Policy, tier: str, registered: str) -> bool:
    """Whether code asks for more sign-offs than the tier in force, and for all of those too."""
    return bool(lost_stages(policy, registered, tier)) and not lost_stages(policy, tier, registered)


def _unsigned_tier(policy: Policy, registered: Recorded[ModelRegistered] | None) -> str:
    strictest = policy.strictest_tier
    if registered is None:
        return strictest
    wanted = registered.record.risk_tier
    return wanted if wanted in policy.tiers and not lost_stages(policy, strictest, wanted) else strictest


def _problem(
    reading: Reading, item: Recorded[ModelClassified], people: Directory, policy: Policy, before: str
) -> str | None:
    record = item.record
    if record.tier not in policy.tiers:
        return f"the policy has no tier {record.tier!r}"
    return act_problem(
        reading,
        item,
        record.envelopes,
        people,
        policy.classifiers,
        needed=signers_needed(reading, policy, before, record.tier),
        claimed=record.signers,
        allows=not _adds_stages(policy, before, record.tier),
    )
