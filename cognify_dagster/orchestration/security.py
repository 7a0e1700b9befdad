"""The security gate in Dagster: when dependencies are judged, and how the result shows."""

from pathlib import Path
from typing import Any

import dagster as dg

from cognify_dagster.evaluation import EvaluationError
from cognify_dagster.evaluation.security_recording import has_snapshot, record_security
from cognify_dagster.governance import PolicyError, classification_of, directory, policy_in_force
from cognify_dagster.orchestration.metadata import PREFIX, table
from cognify_dagster.records import Evaluation, GateResult, ModelRegistered, TrainingRun
from cognify_dagster.workspace import Reading, Recorded, Workspace

FAMILY = "security"
TITLE = "No package that the model was trained with has a known vulnerability that counts; judged offline."


def policy_asks(reading: Reading, model: str) -> bool:
    """Whether the policy in force demands gate `security` of the tier that applies to the model, as the release decision takes it."""
    if reading.latest(ModelRegistered, f"model/{model}") is None:
        return False
    policy = policy_in_force(reading).policy
    try:
        stages = policy.stages_of(classification_of(reading, directory(reading), policy, model).tier)
    except PolicyError:  # no such tier: the decision blocks on it, and says so
        return False
    return any(FAMILY in stage.gates for _, stage in stages)


def judge_dependencies(
    workspace: Workspace, evaluation: Recorded[Evaluation], *, wanted: bool, requirements: str | None
) -> Recorded[GateResult] | None:
    """Record the security gate of an evaluated version; None where nobody asks for it.

    It is asked for by the asset (`wanted`, or a requirements file), by the policy, or by advisories imported into the workspace.

    Raises:
        EvaluationError: the training run that was evaluated cannot be read.
    """
    reading = workspace.read()
    asked = (
        wanted or requirements is not None or has_snapshot(workspace) or policy_asks(reading, evaluation.record.model)
    )
    if not asked:
        return None
    subject = f"model/{evaluation.record.model}@{evaluation.record.version}"
    runs = [item for item in reading.all(TrainingRun, subject) if item.seq == evaluation.record.training_seq]
    if not runs:
        raise EvaluationError(f"evaluation entry {evaluation.seq} is of no training run that can be read")
    file = None if requirements is None else workspace.config.path.parent / Path(requirements).expanduser()
    return record_security(workspace, evaluation, runs[0], requirements=file)


def security_check(key: dg.AssetKey, recorded: Recorded[GateResult]) -> dg.AssetCheckResult:
    """The result as an asset check."""
    record = recorded.record
    passed = record.status == "pass"
    shown = record.outcomes if passed else [item for item in record.outcomes if not item.passed]
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=FAMILY,
        passed=passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=" ".join(item.message for item in shown),
        metadata=security_metadata(recorded),
    )


def security_metadata(recorded: Recorded[GateResult]) -> dict[str, Any]:
    """What the UI shows about the result: also the field `security_scan` of the approval workflow."""
    record = recorded.record
    snapshot = record.detail.get("snapshot") or {}
    shown: dict[str, Any] = {
        f"{PREFIX}security_scan": record.status,
        f"{PREFIX}security_gates": table(
            [
                {
                    "gate": item.id,
                    "value": item.value,
                    "must be": f"{item.op} {item.threshold:g}",
                    "result": item.status,
                    "why": item.message,
                }
                for item in record.outcomes
            ]
        ),
        f"{PREFIX}advisories": f"of {snapshot.get('date')}, {snapshot.get('digest')}" if snapshot else "not readable",
        f"{PREFIX}security_entry": f"entry {recorded.seq}",
    }
    if record.detail.get("note"):
        shown[f"{PREFIX}advisories_note"] = str(record.detail["note"])
    return shown
