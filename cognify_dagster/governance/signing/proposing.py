"""Building the statement that a person would sign now; nothing is written and nothing is signed here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from cognify_dagster.governance.errors import GovernanceError
from cognify_dagster.governance.people.authority import Authority
from cognify_dagster.governance.people.directory import Directory, directory
from cognify_dagster.governance.people.enrol import policy_in_force
from cognify_dagster.governance.policy.document import Policy
from cognify_dagster.governance.release.decision import Decision as ReleaseDecision
from cognify_dagster.governance.release.decision import decide
from cognify_dagster.governance.signing.statements import (
    Condition,
    Decision,
    EntryRef,
    Head,
    OnBehalf,
    PackageRef,
    SignOffPredicate,
    Viewed,
    sign_off_statement,
)
from cognify_dagster.records import Package, utc
from cognify_dagster.workspace import Reading, Recorded

DEFAULT_TARGET = "production"
APPROVALS = ("approve", "approve_with_conditions")
_MEANINGS = {
    "reject": "I reject this package.",
    "withdraw": "I withdraw my earlier sign-off.",
    "acknowledge": "I have taken note of this package and its findings.",
    "block": "I block the release of this model version.",
}


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

    Where the person does not hold the stage's role but somebody delegated it to them, the statement is made on behalf of that one.

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
    now = datetime.now(timezone.utc)
    decision = decide(reading, model, version, choice.targets[0] if choice.targets else DEFAULT_TARGET, now)
    signing = _Signing(people, in_force.policy, decision, person, standing.roles, now)
    stage = choice.stage or signing.stage()
    authority = signing.authority(stage, choice.decision)
    predicate = SignOffPredicate(
        ledger=reading.origin,
        model=model,
        version=version,
        package=PackageRef(digest=package.record.package.digest, entry_seq=package.seq, entry_leaf=package.leaf),
        model_digest=package.record.model_digest,
        decision=choice.decision,
        stage=stage,
        role=authority.role,
        meaning=_MEANINGS.get(choice.decision) or in_force.policy.stages[stage].meaning,
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
        on_behalf_of=_on_behalf(authority),
    )
    return sign_off_statement(predicate)


def _viewed(package: Recorded[Package]) -> Viewed:
    shown = package.record.review_copy or package.record.package
    return Viewed(digest=shown.digest, media_type=shown.media_type)


def _on_behalf(authority: Authority) -> OnBehalf | None:
    item = authority.delegation
    if item is None:
        return None
    return OnBehalf(person=item.delegator, delegation=EntryRef(entry_seq=item.seq, entry_leaf=item.leaf))


@dataclass(frozen=True)
class _Signing:
    """What a person may sign of one decision."""

    people: Directory
    policy: Policy
    decision: ReleaseDecision
    person: str
    roles: tuple[str, ...]
    now: datetime

    def _may(self, stage: str, role: str) -> Authority | None:
        model, size = self.decision.model, self.decision.size
        return self.people.may_sign_as(self.person, role, model, stage, size, self.now)

    def stage(self) -> str:
        """Return the stage to sign: the first open one that the person may sign, else the first one they may."""
        signable = [state for state in self.decision.stages if state.stage.kind == "sign_off"]
        own = [state for state in signable if any(self._may(state.name, role) for role in state.stage.wanted)]
        choices = [state for state in own if not state.done] or own
        choices = choices or [state for state in signable if not state.done] or signable
        if not choices:
            raise GovernanceError(f"tier {self.decision.tier!r} has no stage that people sign")
        return choices[0].name

    def authority(self, stage: str, choice: Decision) -> Authority:
        """Return the role to sign in. Who has no right to sign gets a role all the same: submitting refuses and records it."""
        if choice == "block":
            held = [role for role in self.policy.blockers if role in self.roles]
            return Authority(self.person, held[0] if held else self.roles[0] if self.roles else "none")
        if stage not in self.policy.stages:
            raise GovernanceError(f"the policy has no stage {stage!r}; it has {', '.join(self.policy.stages)}")
        if self.policy.stages[stage].kind != "sign_off":
            raise GovernanceError(f"stage {stage!r} is met by automated gates; nobody signs it")
        wanted = self.policy.stages[stage].wanted
        state = next((item for item in self.decision.stages if item.name == stage), None)
        given = [signed.predicate.role for signed in state.signed] if state else []
        still = [role for role, count in wanted.items() if given.count(role) < count]
        found = (self._may(stage, role) for role in (*still, *wanted))
        usual = self.roles[0] if self.roles else "none"
        return next((item for item in found if item is not None), Authority(self.person, usual))
