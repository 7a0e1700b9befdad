"""Change plans in force and whether one covers a version (predetermined change control).

Invariants: a plan counts only with a valid signature for every sign-off stage of the tier, by different people who had no hand
in the base version; its base version went live with all its sign-offs; whatever differs from the base version and is not
allowed by the plan leaves the version uncovered; an event that voids approvals, about the base version, a version under the plan or
all of them, ends the plan's use for new releases until it is adopted anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cognify_dagster.governance.changes.plan import Coverage, VersionFacts, compare, facts_of, read_bounds
from cognify_dagster.governance.oversight.classification import signed_stages
from cognify_dagster.governance.oversight.voids import Void, voids
from cognify_dagster.governance.people.directory import Directory
from cognify_dagster.governance.policy.document import Policy
from cognify_dagster.governance.release.case import Case, Lineage
from cognify_dagster.governance.release.history import grant_of
from cognify_dagster.governance.release.involvement import base_lineage, excluded_people, hand_problem
from cognify_dagster.governance.signing.acts import act_problem, first_use, people_needed
from cognify_dagster.records import (
    ChangePlanAdopted,
    ChangePlanEnded,
    DeploymentCompleted,
    ReleaseGranted,
    parse_utc,
)
from cognify_dagster.workspace import Reading, Recorded, started_of


@dataclass(frozen=True)
class PlanCover:
    """A plan in force and what comparing the version with it gave. `lines` name every difference and what allows it.

    `coverage` is None where nothing could be compared; the lines then say why.
    """

    item: Recorded[ChangePlanAdopted]
    covered: bool
    lines: tuple[str, ...]
    coverage: Coverage | None = None


def covering_plan(case: Case, tier: str, lineage: Lineage) -> PlanCover | None:
    """Return the newest plan in force that covers the version; if none does, the newest one with what lies outside it."""
    if tier not in case.policy.tiers or not case.policy.tiers[tier].change_plans:
        return None
    plans = plans_in_force(case, tier)
    covers = [cover for item in reversed(plans) if (cover := _cover(case, item, lineage)) is not None]
    found = next((cover for cover in covers if cover.covered), covers[0] if covers else None)
    if found is not None and not found.covered:
        plan = found.item.record
        case.notes.append(f"the change plan {plan.plan} (entry {found.item.seq}) does not cover {case.version}:")
        case.notes.extend(found.lines)
    return found


def plans_in_force(case: Case, tier: str) -> list[Recorded[ChangePlanAdopted]]:
    """Return the plans of the model that count now, oldest first; note those that have no effect."""
    subject = f"oversight/{case.model}"
    plans = case.reading.all(ChangePlanAdopted, subject)
    if not plans:
        return []
    ended = _ended(case, subject)
    found: list[Recorded[ChangePlanAdopted]] = []
    used: set[str] = set()
    for item in plans:
        problem = plan_problem(case.reading, item, case.people, case.policy, tier)
        problem = problem or first_use(item.record.envelopes, used)  # one that ended is not revived by a copy of it
        if problem:
            case.notes.append(f"entry {item.seq}: the change plan {item.record.plan} does not count: {problem}")
        elif item.seq not in ended and parse_utc(item.record.expires) > case.now:
            stopped = stopped_by(case, item)
            if stopped:
                case.notes.append(
                    f"entry {item.seq}: the change plan {item.record.plan} is not used: {stopped}; adopt it anew if it still holds"
                )
            else:
                found.append(item)
    return found


def stopped_by(case: Case, item: Recorded[ChangePlanAdopted]) -> str | None:
    """Say what happened since a plan was adopted and voids what people approved by it, or None.

    As with approvals, the policy in force says what does.
    """
    policy, versions = case.policy, {item.record.base_version, case.version, *_granted_under(case, item)}
    if "policy_change" in policy.voids and case.people.policy_digest_at(item.seq) != case.in_force.digest:
        return "it was adopted under another policy"
    found: list[Void] = []
    for version in sorted(versions - {""}):
        reported, _ = voids(case.reading, case.people, policy, case.model, version)
        found += [void for void in reported if void.seq > item.seq]
    return min(found, key=lambda void: void.seq).text if found else None


def _granted_under(case: Case, item: Recorded[ChangePlanAdopted]) -> list[str]:
    """Return the versions that a plan let go live, on any target, each once."""
    grants = case.reading.all(ReleaseGranted, f"oversight/{case.model}")
    return list(dict.fromkeys(grant.record.version for grant in grants if grant.record.plan_seq == item.seq))


def _ended(case: Case, subject: str) -> set[int]:
    ended: set[int] = set()
    for item in case.reading.all(ChangePlanEnded, subject):
        problem = end_problem(case.reading, item, case.people, case.policy)
        if problem:
            case.notes.append(f"entry {item.seq}: the end of a change plan does not count: {problem}")
        else:
            ended.add(item.record.plan_seq)
    return ended


def end_problem(reading: Reading, item: Recorded[ChangePlanEnded], people: Directory, policy: Policy) -> str | None:
    """Say why the end of a change plan does not count, or None. Anybody who acts on models may end one: that only asks for more."""
    record = item.record
    plan = reading.find(ChangePlanAdopted, record.plan_seq, item.seq)
    if plan is None or plan.record.model != record.model:
        return f"entry {record.plan_seq} is no change plan of {record.model} before it"
    return act_problem(
        reading, item, (record.envelope,), people, policy.acting_roles, needed=1, claimed=(record.ended_by,)
    )


def plan_problem(
    reading: Reading, item: Recorded[ChangePlanAdopted], people: Directory, policy: Policy, tier: str
) -> str | None:
    """Say why a change plan does not count for a tier, or None."""
    record = item.record
    wanted = signed_stages(policy, tier)
    unknown = set(record.stages) - wanted
    if unknown:
        return f"tier {tier!r} has no sign-off stage {sorted(unknown)[0]!r}"
    base = base_lineage(reading, record.model, record.base_version)
    if base.training is None or base.evaluation is None:
        return f"the base version {record.base_version} has no training run and evaluation"
    hand = hand_problem(people, record.signers, excluded_people(policy, base), "the base version")
    if hand:
        return hand
    if _full_grant(reading, record.model, record.base_version, item.seq) is None:
        return f"the base version {record.base_version} did not go live with all its sign-offs before"
    needed = people_needed(reading) if reading.trial else max(1, len(wanted))
    roles = sorted({policy.stages[stage].role for stage in wanted})
    problem = act_problem(
        reading, item, record.envelopes, people, roles, needed=needed, claimed=record.signers, allows=True
    )
    if problem:
        return problem
    held = {person: people.roles_at(person, item.seq, item.time_us) for person in record.signers}
    return _missing_roles(policy, held, sorted(wanted))


def _missing_roles(policy: Policy, held: Mapping[str, Collection[str]], stages: Sequence[str]) -> str | None:
    """Every stage needs a signer of its own role, and no person stands for two stages unless the policy lets them."""
    distinct = policy.separation_of_duties.distinct_people_across_stages
    stands_for: dict[str, str] = {}

    def place(stage: str, asked: set[str]) -> bool:
        """Find a signer for a stage, moving those who stand for another one where somebody else can take that."""
        for person in sorted(held):
            if policy.stages[stage].role not in held[person] or person in asked:
                continue
            asked.add(person)
            if not distinct or person not in stands_for or place(stands_for[person], asked):
                stands_for[person] = stage
                return True
        return False

    for stage in stages:
        if not place(stage, set()):
            return f"nobody with the role {policy.stages[stage].role} signed it for the stage {stage!r}"
    return None


def _full_grant(reading: Reading, model: str, version: str, before: int) -> Recorded[ReleaseGranted] | None:
    """Return the newest grant of a version with all its sign-offs under which it went live before an entry."""
    for item in reversed(reading.all(DeploymentCompleted, f"model/{model}@{version}")):
        grant = grant_of(reading, item)
        if item.seq < before and grant is not None and not grant.record.waived:
            return grant
    return None


def _covered_before(case: Case, item: Recorded[ChangePlanAdopted]) -> list[VersionFacts]:
    """Return the other versions that were granted a release to this target under a plan, oldest first."""
    found: dict[str, VersionFacts] = {}
    for grant in case.reading.all(ReleaseGranted, f"release/{case.model}.{case.target}"):
        version = grant.record.version
        if grant.record.plan_seq != item.seq or version in (case.version, *found):
            continue
        lineage = base_lineage(case.reading, case.model, version)
        if lineage.training is not None and lineage.evaluation is not None:
            found[version] = facts_of(case.reading, lineage.training, lineage.evaluation)
    return list(found.values())


def _cover(case: Case, item: Recorded[ChangePlanAdopted], lineage: Lineage) -> PlanCover | None:
    if lineage.training is None or lineage.evaluation is None:
        return None
    if item.seq >= started_of(case.reading, lineage.training):
        line = "the plan was adopted after the version's training had started"
        return PlanCover(item, False, (line,))
    base = base_lineage(case.reading, case.model, item.record.base_version)
    if base.training is None or base.evaluation is None or case.version == item.record.base_version:
        return None
    try:
        bounds = read_bounds(item.record.bounds)
    except ValueError as error:
        return PlanCover(item, False, (f"its bounds cannot be read: {error}",))
    grant = _full_grant(case.reading, case.model, item.record.base_version, item.seq)
    approved = grant.record.package_seq if grant is not None else 0
    coverage = compare(
        bounds,
        facts_of(case.reading, base.training, base.evaluation, before=approved),
        facts_of(case.reading, lineage.training, lineage.evaluation),
        earlier=_covered_before(case, item),
        now=case.now,
    )
    return PlanCover(item, coverage.covered, tuple(line.text for line in coverage.lines), coverage)
