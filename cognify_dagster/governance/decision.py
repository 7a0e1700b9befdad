"""The release decision: a pure function of verified entries, target and time.

Invariants: it reads only through subject heads in verified bytes; whatever it cannot read, verify or attribute makes it
refuse; "blocked" always carries every reason; the same reading, target and time always give the same decision, so anyone can
replay a release from the size and time that its entry names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cognify_dagster.governance.case import Case, Reason, StageState
from cognify_dagster.governance.enrol import check_gate_set
from cognify_dagster.governance.stages import judge_stages
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import (
    DatasetSnapshot,
    DeploymentCompleted,
    Evaluation,
    GateSetAdopted,
    ModelRegistered,
    Package,
    ReleaseGranted,
    TrainingRun,
    VersionOpened,
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
    package: Recorded[Package] | None
    training: Recorded[TrainingRun] | None
    evaluation: Recorded[Evaluation] | None
    gate_seqs: tuple[int, ...]
    relied_on: tuple[str, ...]
    round: str
    notes: tuple[str, ...]
    grant: Recorded[ReleaseGranted] | None
    completed: Recorded[DeploymentCompleted] | None

    @property
    def sign_off_seqs(self) -> tuple[int, ...]:
        """Entries of the sign-offs that count."""
        return tuple(sorted(signed.seq for stage in self.stages for signed in stage.signed))

    @property
    def next_stage(self) -> StageState | None:
        """The first stage that is not done."""
        return next((stage for stage in self.stages if not stage.done), None)


def decide(reading: Reading, model: str, version: str, target: str, now: datetime) -> Decision:
    """Decide whether a version may be released to a target.

    Args:
        reading: verified entries up to the size the decision is about.
        model: model key.
        version: model version.
        target: deployment target such as "production".
        now: the time the decision is made for, with time zone.

    Returns:
        The decision with every reason. It does not raise for what entries after the genesis entry hold.

    Raises:
        RecordError, PolicyError: if the ledger has no genesis entry that this release can read.
    """
    case = Case(reading, model, version, now)
    for seq, problem in (*case.people.problems, *case.in_force.problems):
        if seq == 0:
            case.block("genesis_unsigned", f"entry 0: {problem}", "the founders")
        case.notes.append(f"entry {seq} has no effect: {problem}")
    for seq, problem in case.in_force.unreadable:
        case.block("policy_unreadable", f"the policy of entry {seq} cannot be read: {problem}", "a workspace admin")
    registered = reading.latest(ModelRegistered, f"model/{model}")
    tier = registered.record.risk_tier if registered else ""
    _tier_kept(case, tier)
    training = _training(case)
    evaluation = _evaluation(case, training)
    package = _package(case, training, evaluation)
    if registered is None:
        case.block("model_unknown", f"no model {model!r} is registered in this ledger", "the model's engineer")
    _datasets(case, training, evaluation)
    stages, gate_seqs = judge_stages(case, tier, training, evaluation, package, target)
    _attribution(case, training, package)
    relied_on = _relied_on(case, training, evaluation, stages)
    round_id = _round(package, stages)
    grant, completed = _earlier(case, target, round_id, package, stages)
    _readable(case, relied_on)
    if completed is not None:
        case.block(
            "already_released",
            f"these approvals were used on {target} already (entry {completed.seq}); a new release needs a new version "
            "or new sign-offs",
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
        tier=tier,
        policy_digest=case.in_force.digest,
        package=package,
        training=training,
        evaluation=evaluation,
        gate_seqs=gate_seqs,
        relied_on=tuple(sorted(relied_on)),
        round=round_id,
        notes=tuple(case.notes),
        grant=grant,
        completed=completed,
    )


def _tier_kept(case: Case, tier: str) -> None:
    """Registering a model is no signed act, so it may add sign-off stages but not take any away."""
    tiers = case.policy.tiers

    def signed(name: str) -> set[str]:
        stages = tiers[name].stages if name in tiers else ()
        return {stage for stage in stages if case.policy.stages[stage].kind == "sign_off"}

    for item in case.reading.all(ModelRegistered, f"model/{case.model}"):
        lost = signed(item.record.risk_tier) - signed(tier)
        if lost:
            case.block(
                "tier_lowered",
                f"entry {item.seq} registered the model as {item.record.risk_tier!r}, now it is {tier!r}: that would skip "
                f"{', '.join(sorted(lost))}",
                "the model's engineer (register the former tier again)",
            )
            return


def _training(case: Case) -> Recorded[TrainingRun] | None:
    runs = case.reading.all(TrainingRun, case.subject)
    if not case.reading.all(VersionOpened, case.subject):
        case.block(
            "version_unknown", f"version {case.version} of {case.model} was never opened", "the model's engineer"
        )
        return None
    if not runs:
        case.block("not_trained", "the version has no sealed training run", "the model's engineer")
        return None
    if len(runs) > 1:
        seqs = ", ".join(str(item.seq) for item in runs)
        case.block("trained_twice", f"two sealed training runs claim this version (entries {seqs})", "a new version")
    return runs[0]


def _evaluation(case: Case, training: Recorded[TrainingRun] | None) -> Recorded[Evaluation] | None:
    evaluation = case.reading.latest(Evaluation, case.subject)
    if training is None:
        return None
    if evaluation is None:
        case.block("not_evaluated", "the version has no evaluation", "the model's engineer")
        return None
    record = evaluation.record
    if record.training_seq != training.seq or record.model_digest != training.record.model_file.digest:
        case.block("evaluation_of_other_model", f"evaluation entry {evaluation.seq} is about other model bytes")
    gate_set = case.reading.at(record.gate_set_seq) if record.gate_set_seq < case.reading.size else None
    if gate_set is None or not isinstance(gate_set.record, GateSetAdopted):
        case.block("no_gate_set", f"evaluation entry {evaluation.seq} names no adopted gate set", "a validator")
        return evaluation
    adopted = next(
        item for item in case.reading.all(GateSetAdopted, f"gates/{gate_set.record.name}") if item.seq == gate_set.seq
    )
    problem = check_gate_set(case.reading, adopted, case.people, case.policy)
    if problem:
        case.block("gate_set_invalid", problem, "a validator")
    started = min(training.record.started_after_seq, training.seq)
    if gate_set.seq >= started:
        case.block("gate_set_late", "the thresholds were adopted after training had started", "a new version")
    newer = [
        item.seq
        for item in case.reading.all(GateSetAdopted, f"gates/{gate_set.record.name}")
        if gate_set.seq < item.seq < started
        and item.record.model == case.model
        and check_gate_set(case.reading, item, case.people, case.policy) is None
    ]
    if newer:
        case.block("gate_set_superseded", f"entry {newer[-1]} had replaced the thresholds before training started")
    if gate_set.record.model != case.model or gate_set.record.digest != record.gate_set_digest:
        case.block("gate_set_other", "the evaluation used other thresholds than those adopted for this model")
    return evaluation


def _package(
    case: Case, training: Recorded[TrainingRun] | None, evaluation: Recorded[Evaluation] | None
) -> Recorded[Package] | None:
    package = case.reading.latest(Package, case.subject)
    if package is None:
        case.block("no_package", "no compliance package has been built for this version", "the model's engineer")
        return None
    record = package.record
    if training is not None and (
        record.training_seq != training.seq or record.model_digest != training.record.model_file.digest
    ):
        case.block("package_of_other_model", f"package entry {package.seq} is about other model bytes")
    if evaluation is not None and record.evaluation_seq != evaluation.seq:
        case.block("package_stale", "there is a newer evaluation than the one in the package", "rebuild the package")
    return package


def _datasets(case: Case, training: Recorded[TrainingRun] | None, evaluation: Recorded[Evaluation] | None) -> None:
    """Every dataset that the version names must be a snapshot entry with exactly that root, older than its use."""
    uses = [(item, training.seq) for item in training.record.datasets] if training else []
    uses += [(evaluation.record.dataset, evaluation.seq)] if evaluation else []
    for ref, used_at in uses:
        found = case.reading.at(ref.seq) if ref.seq < used_at else None
        if found is None or not isinstance(found.record, DatasetSnapshot):
            case.block(
                "dataset_unknown", f"dataset {ref.name} is not a snapshot in this ledger", "the model's engineer"
            )
        elif found.record.name != ref.name or found.record.root != ref.root:
            case.block("dataset_differs", f"dataset {ref.name}: entry {ref.seq} has another root than the one used")


def _attribution(case: Case, training: Recorded[TrainingRun] | None, package: Recorded[Package] | None) -> None:
    known = case.people.standings
    unknown = list(training.record.unattributed) if training else []
    if training is not None:
        unknown += [person for person in training.record.touched_by if person not in known]
        if training.record.launched_by not in known:
            unknown.append("the training run's launcher")
    if package is not None and package.record.built_by not in known:
        unknown.append("the package's builder")
    if not unknown:
        return
    text = f"not mapped to an enrolled person: {', '.join(sorted(set(unknown)))}"
    if case.policy.unattributed == "warn":
        case.notes.append(text)
        return
    case.block("unattributed", text, "a workspace admin (add the alias with `cognify people enrol`)")


def _relied_on(
    case: Case,
    training: Recorded[TrainingRun] | None,
    evaluation: Recorded[Evaluation] | None,
    stages: Sequence[StageState],
) -> set[str]:
    subjects = set(case.relied_on)
    if training is not None:
        subjects |= {f"dataset/{item.name}" for item in training.record.datasets}
    if evaluation is not None:
        subjects |= {f"dataset/{evaluation.record.dataset.name}", f"gates/{evaluation.record.gate_set}"}
    subjects |= {signed.person for stage in stages for signed in stage.signed}
    return subjects


def _round(package: Recorded[Package] | None, stages: Sequence[StageState]) -> str:
    """Identify an approval round: the package and the statements that count."""
    statements = sorted(signed.seq for stage in stages for signed in stage.signed)
    value = {"package": package.leaf if package else "", "sign_offs": statements}
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _earlier(
    case: Case, target: str, round_id: str, package: Recorded[Package] | None, stages: Sequence[StageState]
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
        and item.record.target == target
        and (item.record.round == round_id or approvals <= set(item.record.sign_off_seqs))
        and package is not None
        and item.record.package_seq == package.seq
        and item.record.package_digest == package.record.package.digest
        and item.record.model_digest == package.record.model_digest
    ]
    grants = [item for item in used if item.record.round == round_id]
    done = [
        item
        for item in case.reading.all(DeploymentCompleted, case.subject)
        if item.record.grant_seq in {grant.seq for grant in used}
    ]
    return grants[-1] if grants else None, done[-1] if done else None


def _readable(case: Case, relied_on: set[str]) -> None:
    """Refuse on entries of unknown kinds, erased ones that may have said no, and those by writers who may not write them."""
    seen: set[int] = set()
    erased = case.reading.erased(case.subject)
    erased += [item for item in case.reading.erased(f"model/{case.model}") if item.entry.kind == ModelRegistered.kind]
    for item in erased:
        case.block(
            "erased_entry", f"entry {item.entry.seq} ({item.entry.kind}) was erased, so nobody knows what it said"
        )
    for subject in sorted(relied_on):
        for seq, text in case.reading.unreadable(subject).items():
            if seq not in seen:
                case.block("unreadable_entry", f"entry {seq} cannot be judged: {text}", "upgrade this installation")
            seen.add(seq)
        for item in case.reading.view.history(subject):
            if item.entry.seq in seen:
                continue
            seen.add(item.entry.seq)
            problem = case.people.writer_problem(item.entry)
            if problem and item.entry.seq != 0:
                case.block("unproven_writer", problem, "a workspace admin")
