"""Whether a version's own record holds together: training, evaluation, thresholds, package, data, and who did it.

Each check blocks the case with a reason; none trusts what another entry merely claims.
"""

from __future__ import annotations

from cognify_dagster.governance.oversight.dataset_changes import change_of, demands_on
from cognify_dagster.governance.oversight.dataset_demands import missing_for
from cognify_dagster.governance.people.enrol import check_gate_set
from cognify_dagster.governance.release.case import Case, Lineage
from cognify_dagster.governance.release.involvement import dataset_approvers
from cognify_dagster.records import (
    DatasetRef,
    DatasetSnapshot,
    Evaluation,
    GateSetAdopted,
    Package,
    TrainingRun,
    VersionOpened,
)
from cognify_dagster.workspace import Recorded, started_of

ENGINEER = "the model's engineer (evaluate and package again, or train a new version)"


def check_lineage(case: Case, gate_set_name: str | None, tier: str | None = None) -> Lineage:
    """Check a version's record and return it.

    Args:
        case: where reasons go.
        gate_set_name: the thresholds that a signed classification names for the model, if any.
        tier: the model's tier, which may ask for more of its data; None for what any tier asks for.
    """
    training = _training(case)
    evaluation, gate_set = _evaluation(case, training, gate_set_name)
    package = _package(case, training, evaluation)
    _datasets(case, training, evaluation, tier)
    _attribution(case, training, package)
    approvers = dataset_approvers(case.reading, case.policy, training, evaluation)
    return Lineage(training, evaluation, package, gate_set, approvers)


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


def _evaluation(
    case: Case, training: Recorded[TrainingRun] | None, wanted: str | None
) -> tuple[Recorded[Evaluation] | None, Recorded[GateSetAdopted] | None]:
    evaluation = case.reading.latest(Evaluation, case.subject)
    if training is None:
        return None, None
    if evaluation is None:
        case.block("not_evaluated", "the version has no evaluation", "the model's engineer")
        return None, None
    record = evaluation.record
    if record.training_seq != training.seq or record.model_digest != training.record.model_file.digest:
        case.block(
            "evaluation_of_other_model", f"evaluation entry {evaluation.seq} is about other model bytes", ENGINEER
        )
    gate_set = case.reading.find(GateSetAdopted, record.gate_set_seq)
    if gate_set is None:
        case.block("no_gate_set", f"evaluation entry {evaluation.seq} names no adopted gate set", "a validator")
        return evaluation, None
    name = gate_set.record.name
    adopted = case.reading.all(GateSetAdopted, f"gates/{name}")
    _thresholds(case, training, evaluation, gate_set, adopted)
    if wanted is not None and name != wanted:
        text = f"the evaluation used the thresholds {name!r}; the model's classification names {wanted!r}"
        case.block("gate_set_other", text, "the model's engineer")
    return evaluation, gate_set


def _thresholds(
    case: Case,
    training: Recorded[TrainingRun],
    evaluation: Recorded[Evaluation],
    gate_set: Recorded[GateSetAdopted],
    adopted: list[Recorded[GateSetAdopted]],
) -> None:
    """The thresholds were signed for this model before training started, and none had replaced them by then."""
    problem = check_gate_set(case.reading, gate_set, case.people, case.policy)
    if problem:
        case.block("gate_set_invalid", problem, "a validator")
    started = started_of(case.reading, training)
    if gate_set.seq >= started:
        case.block("gate_set_late", "the thresholds were adopted after training had started", "a new version")
    newer = [
        item.seq
        for item in adopted
        if gate_set.seq < item.seq < started
        and item.record.model == case.model
        and check_gate_set(case.reading, item, case.people, case.policy) is None
    ]
    if newer:
        case.block(
            "gate_set_superseded", f"entry {newer[-1]} had replaced the thresholds before training started", ENGINEER
        )
    if gate_set.record.model != case.model or gate_set.record.digest != evaluation.record.gate_set_digest:
        case.block("gate_set_other", "the evaluation used other thresholds than those adopted for this model", ENGINEER)


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
        case.block("package_of_other_model", f"package entry {package.seq} is about other model bytes", ENGINEER)
    if evaluation is not None and record.evaluation_seq != evaluation.seq:
        case.block("package_stale", "there is a newer evaluation than the one in the package", "rebuild the package")
    return package


def _datasets(
    case: Case, training: Recorded[TrainingRun] | None, evaluation: Recorded[Evaluation] | None, tier: str | None
) -> None:
    """Every dataset that the version names must be a snapshot entry with exactly that root, older than its use."""
    uses = [(item, training.seq) for item in training.record.datasets] if training else []
    uses += [(evaluation.record.dataset, evaluation.seq)] if evaluation else []
    for ref, used_at in uses:
        found = case.reading.find(DatasetSnapshot, ref.seq, used_at)
        if found is None:
            case.block(
                "dataset_unknown", f"dataset {ref.name} is not a snapshot in this ledger", "the model's engineer"
            )
        elif found.record.name != ref.name or found.record.root != ref.root:
            case.block(
                "dataset_differs", f"dataset {ref.name}: entry {ref.seq} has another root than the one used", ENGINEER
            )
        else:
            _declared(case, ref, used_at, tier)


def _declared(case: Case, ref: DatasetRef, used_at: int, tier: str | None) -> None:
    """When the data were used, everything was there that the policy of then asked for; and nobody has rejected them since."""
    policy = case.people.policy_at(used_at) or case.policy
    if not policy.datasets:
        return
    for one in missing_for(case.reading, case.people, policy, ref.name, ref.seq, tier, used_at):
        case.block(one.code, f"{one.text}, and entry {used_at} used it all the same", ENGINEER)
    if not demands_on(policy, ref.name, tier).approvals:
        return
    change = change_of(case.reading, case.people, ref.name, ref.seq)
    if change is not None:
        for judged in change.rejections:
            if judged.item.seq > used_at:
                who = case.people.name(judged.item.record.decided_by)
                text = f"dataset {ref.name}, root {ref.root[:16]}…: {who} rejected its change (entry {judged.item.seq}) after it was used"
                case.block("dataset_rejected", text, ENGINEER)


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
