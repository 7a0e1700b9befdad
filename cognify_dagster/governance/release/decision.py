"""The release decision: a pure function of verified entries, target and time.

Invariants: it reads only through subject heads in verified bytes; whatever it cannot read, verify or attribute makes it
refuse; "blocked" always carries every reason; the same reading, target and time always give the same decision, so anyone can
replay a release from the size and time that its entry names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from cognify_dagster.governance.changes.adopted import PlanCover, covering_plan
from cognify_dagster.governance.oversight.classification import Classification, classification_of
from cognify_dagster.governance.oversight.conditions import OpenCondition, conditions, given_by, unenforced
from cognify_dagster.governance.oversight.exceptions import broken_glass, rollback_order
from cognify_dagster.governance.oversight.findings import Finding, findings_about, freed_by
from cognify_dagster.governance.oversight.reviews import Review, Reviews, restrictions, review, reviews_of
from cognify_dagster.governance.oversight.voids import changed_data, voids
from cognify_dagster.governance.release.approvals import Terms, counting_approvals
from cognify_dagster.governance.release.attestation_terms import check_attestations
from cognify_dagster.governance.release.case import Case, Lineage, Reason, StageState
from cognify_dagster.governance.release.history import (
    completed_on,
    live,
    requirement_problem,
    said_again,
    was_live,
)
from cognify_dagster.governance.release.involvement import excluded_people
from cognify_dagster.governance.release.lineage_checks import check_lineage
from cognify_dagster.governance.release.provable import unproven
from cognify_dagster.governance.release.stages import Waiver, judge_stages
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import (
    DeploymentCompleted,
    Evaluation,
    Package,
    ReleaseGranted,
    RollbackOrdered,
    TrainingRun,
)
from cognify_dagster.workspace import Reading, Recorded


@dataclass(frozen=True)
class Decision:
    """The outcome for one version and target. `round` identifies the approvals a release would use."""

    model: str
    version: str
    target: str
    size: int
    at: datetime
    released: bool
    reasons: tuple[Reason, ...]
    stages: tuple[StageState, ...]
    tier: str
    policy_digest: str
    lineage: Lineage
    classified: Classification
    gate_seqs: tuple[int, ...]
    relied_on: tuple[str, ...]
    round: str
    notes: tuple[str, ...]
    conditions: tuple[OpenCondition, ...]
    findings: tuple[Finding, ...]
    review: Review
    plan: PlanCover | None
    rollback: Recorded[RollbackOrdered] | None
    glass_seq: int | None
    grant: Recorded[ReleaseGranted] | None
    completed: Recorded[DeploymentCompleted] | None

    @property
    def package(self) -> Recorded[Package] | None:
        """The version's newest package."""
        return self.lineage.package

    @property
    def training(self) -> Recorded[TrainingRun] | None:
        """The version's sealed training run."""
        return self.lineage.training

    @property
    def evaluation(self) -> Recorded[Evaluation] | None:
        """The version's newest evaluation."""
        return self.lineage.evaluation

    @property
    def sign_off_seqs(self) -> tuple[int, ...]:
        """Entries of the sign-offs that count."""
        return tuple(sorted(signed.seq for stage in self.stages for signed in stage.signed))

    @property
    def next_stage(self) -> StageState | None:
        """The first stage that is not done."""
        return next((stage for stage in self.stages if not stage.done), None)

    @property
    def waived(self) -> tuple[str, ...]:
        """The stages that are done without the signatures they usually need."""
        return tuple(stage.name for stage in self.stages if stage.waived)


def decide(
    reading: Reading, model: str, version: str, target: str, now: datetime, *, enforces: Collection[str] = ()
) -> Decision:
    """Decide whether a version may be released to a target.

    Args:
        reading: verified entries up to the size the decision is about.
        model: model key.
        version: model version.
        target: deployment target such as "production".
        now: the time the decision is made for, with time zone.
        enforces: kinds of condition that the deployment says it enforces (`use_cap`, `population`).

    Returns:
        The decision with every reason. It does not raise for what entries after the genesis entry hold.

    Raises:
        RecordError, PolicyError: if the ledger has no genesis entry that this release can read.
    """
    case = Case(reading, model, version, now, target, enforces)
    _foundations(case)
    classified = classification_of(reading, case.people, case.policy, model)
    _classified(case, classified)
    lineage = check_lineage(case, classified.gate_set, classified.tier)
    excluded = excluded_people(case.policy, lineage)
    waived, plan, glass_seq = _waivers(case, classified.tier, lineage, excluded)
    counted = counting_approvals(case, _terms(case, classified.tier, lineage, excluded))
    stages, gate_seqs = judge_stages(case, classified.tier, lineage, counted, excluded, waived)
    reviews = reviews_of(reading, case.people, case.policy, model)
    open_conditions = _conditions(case, stages, reviews, excluded)
    found = _findings(case)
    reviewed = _review(case, classified.tier, reviews)
    _target(case)
    check_attestations(case, classified, lineage)
    relied_on = _relied_on(case, lineage, stages)
    current = live(reading, model, target)
    order = _order(case, current)
    round_id = _round(lineage.package, stages, plan, glass_seq, order)
    grant, completed = _earlier(case, round_id, lineage.package, stages)
    _readable(case, relied_on, lineage)
    if completed is not None and order is None and all(stage.done for stage in stages):
        case.block(
            "already_released",
            f"these approvals were used on {target} already (entry {completed.seq}); a new release needs a new version "
            "or new sign-offs, going back to this one an order (`cognify model rollback`)",
            f"the model's engineer, or for an order one of the roles {', '.join(case.policy.rollback_roles)}",
        )
    return Decision(
        model=model,
        version=version,
        target=target,
        size=reading.size,
        at=now,
        released=not case.reasons,
        reasons=tuple(case.reasons),
        stages=tuple(stages),
        tier=classified.tier,
        policy_digest=case.in_force.digest,
        lineage=lineage,
        classified=classified,
        gate_seqs=gate_seqs,
        relied_on=tuple(sorted(relied_on)),
        round=round_id,
        notes=tuple(case.notes),
        conditions=tuple(open_conditions),
        findings=tuple(found),
        review=reviewed,
        plan=plan,
        rollback=order,
        glass_seq=glass_seq,
        grant=grant,
        completed=completed,
    )


def _foundations(case: Case) -> None:
    for seq, problem in (*case.people.problems, *case.in_force.problems):
        if seq == 0:
            case.block("genesis_unsigned", f"entry 0: {problem}", "the founders")
        case.notes.append(f"entry {seq} has no effect: {problem}")
    for seq, problem in case.in_force.unreadable:
        case.block("policy_unreadable", f"the policy of entry {seq} cannot be read: {problem}", "a workspace admin")


def _classified(case: Case, found: Classification) -> None:
    case.without_effect(found.problems)
    if found.registered is None:
        case.block("model_unknown", f"no model {case.model!r} is registered in this ledger", "the model's engineer")
    elif found.registered_tier not in case.policy.tiers and found.signed is None:
        tiers = ", ".join(sorted(case.policy.tiers))
        text = f"the policy has no tier {found.registered_tier!r}; it has {tiers}"
        case.block("tier_unknown", text, "the model's engineer")
    elif found.signed is None and found.tier != found.registered_tier:
        case.notes.append(
            f"the code says tier {found.registered_tier!r}, but nobody signed that: the stages of tier {found.tier!r} apply until "
            "the model is classified (`cognify model classify`)"
        )
    elif found.signed is not None and found.tier != found.registered_tier:
        case.notes.append(f"the code says tier {found.registered_tier!r}; the classification {found.tier!r} applies")


def _terms(case: Case, tier: str, lineage: Lineage, excluded: frozenset[str]) -> Terms:
    reported, problems = voids(case.reading, case.people, case.policy, case.model, case.version)
    case.without_effect(problems)
    days = case.policy.tiers[tier].approval_days if tier in case.policy.tiers else 0
    changed = changed_data(case.reading, lineage.training, case.policy)
    return Terms(lineage.package, days, excluded, tuple(sorted([*reported, *changed], key=lambda item: item.seq)))


def _waivers(
    case: Case, tier: str, lineage: Lineage, excluded: frozenset[str]
) -> tuple[dict[str, Waiver], PlanCover | None, int | None]:
    """Return which sign-off stages are waived by a change plan or by broken glass."""
    waived: dict[str, Waiver] = {}
    plan = covering_plan(case, tier, lineage)
    if plan is not None and plan.covered:
        waived |= dict.fromkeys(plan.item.record.stages, "plan")
    version = (case.model, case.version)
    glass, problems = broken_glass(case.reading, case.people, case.policy, version, case.target, case.now, excluded)
    case.without_effect(problems)
    if glass is None or not glass.active:
        return waived, plan, None
    case.notes.append(f"the glass was broken (entry {glass.item.seq}): {glass.item.record.reason}")
    return {**dict.fromkeys(glass.item.record.waived, "break_glass"), **waived}, plan, glass.item.seq


def _conditions(
    case: Case, stages: Sequence[StageState], reviews: Reviews, excluded: frozenset[str]
) -> list[OpenCondition]:
    limits = restrictions(reviews, case.people, case.policy, case.version)
    given = [*given_by([item for stage in stages for item in stage.signed]), *limits]
    found, problems = conditions(case.reading, case.people, case.subject, given, excluded)
    case.without_effect(problems)
    for item in found:
        if text := item.against(case.now):
            case.block("condition_overdue", text, f"{item.name} (`cognify model close-condition`)")
    for item in unenforced(found, case.enforces):
        text = f"{item.name} approved with a {item.condition.kind} condition, which this deployment does not say it enforces"
        case.block("condition_unenforced", f"{text}: {item.condition.text}", "the model's engineer")
    return [item for item in found if item.open]


def _findings(case: Case) -> list[Finding]:
    found = findings_about(case.reading, case.people, case.policy, case.model, case.version, case.now)
    case.without_effect(found.problems)
    for item in found.blocking(case.policy):
        text = f"finding {item.seq} ({item.severity}) is open: {item.title}"
        case.block("finding_open", text, freed_by(item, case.policy))
    return [item for item in found.items if item.open or item.accepted_until]


def _review(case: Case, tier: str, reviews: Reviews) -> Review:
    case.without_effect(reviews.problems)
    found = review(case.reading, case.policy, case.model, case.target, tier, case.now, reviews)
    if found.blocking:
        case.block("review_overdue", f"the periodic review of {case.model} was due {found.due}", "a model validator")
    case.retired(reviews.retired)
    return found


def _target(case: Case) -> None:
    case.without_effect(said_again(case.reading, case.model, case.version, case.target))
    for code, text in requirement_problem(case.reading, case.policy, case.model, case.version, case.target, case.now):
        case.block(code, text, "the model's engineer")


def _order(case: Case, current: Recorded[DeploymentCompleted] | None) -> Recorded[RollbackOrdered] | None:
    """Return the order to go back to this version; it can only name one that was live on the target before."""
    if not was_live(case.reading, case.model, case.version, case.target):
        return None
    version = (case.model, case.version)
    order, problems = rollback_order(case.reading, case.people, case.policy, version, case.target, current)
    case.without_effect(problems)
    return order


def _relied_on(case: Case, lineage: Lineage, stages: Sequence[StageState]) -> set[str]:
    subjects = set(case.relied_on)
    if lineage.training is not None:
        subjects |= {f"dataset/{item.name}" for item in lineage.training.record.datasets}
    if lineage.evaluation is not None:
        record = lineage.evaluation.record
        subjects |= {f"dataset/{record.dataset.name}", f"gates/{record.gate_set}"}
    subjects |= {person for stage in stages for signed in stage.signed for person in signed.people}
    return subjects


def _round(
    package: Recorded[Package] | None,
    stages: Sequence[StageState],
    plan: PlanCover | None,
    glass_seq: int | None,
    order: Recorded[RollbackOrdered] | None,
) -> str:
    """Identify an approval round: the package, the statements that count, and the exceptions it rests on."""
    statements = sorted(signed.seq for stage in stages for signed in stage.signed)
    value: dict[str, object] = {"package": package.leaf if package else "", "sign_offs": statements}
    if any(stage.by == "plan" for stage in stages) and plan is not None:
        value["plan"] = plan.item.seq
    if any(stage.by == "break_glass" for stage in stages):
        value["break_glass"] = glass_seq
    if order is not None:
        value["rollback"] = order.seq
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _earlier(
    case: Case, round_id: str, package: Recorded[Package] | None, stages: Sequence[StageState]
) -> tuple[Recorded[ReleaseGranted] | None, Recorded[DeploymentCompleted] | None]:
    """Return the grant that this round continues, and the deployment that used these approvals up.

    Approvals are used up also where a release relied on more of them: with one of those revoked since, the rest would form
    another round, but nobody approved anything anew.
    """
    approvals = {signed.seq for stage in stages for signed in stage.signed}
    used = [
        item
        for item in case.reading.all(ReleaseGranted, case.subject)
        if (item.record.model, item.record.version) == (case.model, case.version)
        and item.record.target == case.target
        and (item.record.round == round_id or approvals <= set(item.record.sign_off_seqs))
        and package is not None
        and item.record.package_seq == package.seq
        and item.record.package_digest == package.record.package.digest
        and item.record.model_digest == package.record.model_digest
    ]
    grants = [item for item in used if item.record.round == round_id]
    done = completed_on(case.reading, case.subject, {item.seq for item in used})
    return grants[-1] if grants else None, done[-1] if done else None


# what changes a person's authority has the subject `people`, what concerns a model as a whole `oversight/…`: the histories of a
# person or of a model, which grow with every version, need not be walked
_WHOLE_HISTORY = ("oversight/", "gates/", "policy", "people", "ledger")


def _readable(case: Case, relied_on: set[str], lineage: Lineage) -> None:
    """Refuse on entries of unknown kinds, erased ones that may have said no, and those by writers who may not write them."""
    for item in (*case.reading.erased(case.subject), *case.reading.erased(f"oversight/{case.model}")):
        case.block(
            "erased_entry",
            f"entry {item.entry.seq} ({item.entry.kind}) was erased, so nobody knows what it said",
            "the model's engineer (a new version)"
            if case.subject in item.entry.subjects
            else "the model's engineer (the model under another key)",
        )
    seen: set[int] = set()
    whole = {subject for subject in relied_on if subject.startswith(_WHOLE_HISTORY)} | {case.subject}
    for subject in sorted(whole):
        _provable(case, subject, 0, seen)
    for ref in lineage.training.record.datasets if lineage.training else ():
        _provable(case, f"dataset/{ref.name}", ref.seq, seen)


def _provable(case: Case, subject: str, since: int, seen: set[int]) -> None:
    """Block on each entry about a subject, from `since` on, that cannot be read or whose writer may not have written it."""
    for item in unproven(case.reading, case.people, subject):
        if item.seq < since or item.seq in seen or case.people.lifted(subject, item.seq):
            continue
        seen.add(item.seq)
        if item.unreadable:
            who = "upgrade this installation, or disregard it: `cognify people disregard --help`"
            case.block("unreadable_entry", f"entry {item.seq} cannot be judged: {item.unreadable}", who)
        else:
            case.block("unproven_writer", item.writer, "a workspace admin")
