"""`@eval_suite`: an asset that evaluates a sealed version on a snapshot, against gates adopted before training."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg

from cognify_dagster.datasets import demand_hashed as refuse_unless_hashed
from cognify_dagster.datasets.recording import dataset_ref
from cognify_dagster.evaluation import EvalResult, EvaluationError, as_eval_result, compare_on_snapshot
from cognify_dagster.evaluation.recording import (
    FAMILIES,
    adopted_gates,
    ensure_gates,
    family_status,
    record_evaluation,
)
from cognify_dagster.governance import live
from cognify_dagster.orchestration._compat import partition_key, root_run_id, run_id
from cognify_dagster.orchestration.attribution import launcher_alias
from cognify_dagster.orchestration.calls import UsageError, compute_function, read_function
from cognify_dagster.orchestration.inputs import ModelVersion, Snapshot, resolve_snapshot
from cognify_dagster.orchestration.metadata import PREFIX, dataset_links, entry_metadata, table
from cognify_dagster.orchestration.model import GovernedModel
from cognify_dagster.orchestration.refusal import refuse_on
from cognify_dagster.orchestration.resource import LedgerResource
from cognify_dagster.orchestration.security import FAMILY as SECURITY
from cognify_dagster.orchestration.security import TITLE as SECURITY_TITLE
from cognify_dagster.orchestration.security import judge_dependencies, security_check, security_metadata
from cognify_dagster.orchestration.spaces import Space
from cognify_dagster.orchestration.training import DATASETS_METADATA, MODEL_METADATA, check_data, full_snapshot
from cognify_dagster.records import (
    Comparison,
    DatasetSnapshot,
    DeploymentCompleted,
    Evaluation,
    SliceMetric,
    TrainingRun,
)
from cognify_dagster.training import capture_code
from cognify_dagster.training.recording import code_ref
from cognify_dagster.workspace import Reading, Recorded, Workspace

_ROWS = 200
_TITLES = {
    "performance": "Every performance gate that was adopted before training is met.",
    "fairness": "Every fairness gate is met; the numbers are a screen, not a legal test.",
    "data_quality": "The evaluation data are apart from the training data, and the data gates are met.",
}


def eval_suite(
    model: GovernedModel,
    *,
    dataset: str,
    gates: str,
    trained_by: str | None = None,
    blocking: bool = True,
    security: bool = False,
    requirements: str | None = None,
    retry_policy: dg.RetryPolicy | None = None,
    name: str | None = None,
    demand_hashed: bool = False,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Make an evaluation asset of a function that returns an `EvalResult`, or a mapping of metrics (see `as_eval_result`).

    The function may ask for the dataset by its name (a `Snapshot`), for the training asset by its name, or for `model`
    (a `ModelVersion`), and for `champion`: the version that is live now (a `ModelVersion`), None where none is, to compare
    with by `compare_with_champion`. Each family of gates shows as an asset check.

    Args:
        model: the governed model.
        dataset: name of the evaluation snapshot.
        gates: name of the gate set, adopted by a person's signature before training.
        trained_by: name of the training asset; found from the function's parameters unless given.
        blocking: whether a failed check stops package and deployment in the same run.
        security: show the gate `security` (known vulnerabilities of the packages trained with) as an asset check. It is judged
            and recorded anyway where the policy asks for it or advisories were imported, see docs/security-gate.md.
        requirements: a requirements or constraints file whose pins are judged too, relative to the workspace's folder.
        retry_policy: for failures of the evaluation itself; refusals are never retried.
        name: asset name; the function's name unless given.
        demand_hashed: refuse a snapshot of which files were taken over as unchanged without being read for it.
    """

    def wrap(function: Callable[..., Any]) -> dg.AssetsDefinition:
        training_asset = trained_by or _training_parameter(function, dataset)
        user = read_function(function, dict.fromkeys(("model", "version", "champion", dataset, training_asset)))
        asset = name or user.name
        spec = model.spec(
            "evaluation",
            asset,
            description=user.description,
            code_version=user.code_version,
            deps=[model.where.key(training_asset), model.where.key(dataset)],
            partitions_def=model.partitions,
            metadata={MODEL_METADATA: model.key, DATASETS_METADATA: [dataset]},
        )
        checks = [
            dg.AssetCheckSpec(name=family, asset=spec.key, blocking=blocking, description=_TITLES[family])
            for family in FAMILIES
        ]
        if security:
            checks.append(
                dg.AssetCheckSpec(name=SECURITY, asset=spec.key, blocking=blocking, description=SECURITY_TITLE)
            )
        source = Path(function.__code__.co_filename).parent

        def body(context: Any, ledger: LedgerResource, passed: Mapping[str, Any]) -> Any:
            with refuse_on(context):
                workspace = ledger.open()
                recorded = _evaluate(
                    context,
                    workspace,
                    model,
                    user,
                    passed,
                    dataset,
                    gates,
                    training_asset,
                    source,
                    asset,
                    demand_hashed,
                )
                judged = judge_dependencies(workspace, recorded, wanted=security, requirements=requirements)
            reading = workspace.read()
            results = [_check(spec.key, reading, recorded, family) for family in FAMILIES]
            if security and judged is not None:
                results.append(security_check(spec.key, judged))
            yield dg.MaterializeResult(
                data_version=dg.DataVersion(recorded.leaf),
                metadata={
                    **evaluation_metadata(workspace, recorded, model.where),
                    **(security_metadata(judged) if judged is not None else {}),
                },
                check_results=results,
            )

        step = model.where.named(asset)
        return dg.multi_asset(name=step, specs=[spec], check_specs=checks, retry_policy=retry_policy)(
            compute_function(user, body, name=step, space=model.where)
        )

    return wrap


def _training_parameter(function: Callable[..., Any], dataset: str) -> str:
    """Return the one parameter annotated as `ModelVersion`, which is named after the training asset."""
    import inspect
    import typing

    try:
        hints = typing.get_type_hints(function)
    except Exception:
        hints = dict(function.__annotations__)
    found = [name for name in inspect.signature(function).parameters if hints.get(name) is ModelVersion]
    named = [name for name in found if name not in ("model", "champion")]
    if len(named) == 1:
        return named[0]
    raise UsageError(
        f"{function.__name__}: name the training asset, either as a parameter annotated with ModelVersion or by trained_by="
    )


def _evaluate(
    context: Any,
    workspace: Workspace,
    model: GovernedModel,
    user: Any,
    passed: Mapping[str, Any],
    dataset: str,
    gates: str,
    training_asset: str,
    source: Path,
    asset_name: str,
    demand_hashed: bool,
) -> Recorded[Evaluation]:
    version = partition_key(context)
    if version is None:
        raise UsageError(f"{model.key} is evaluated one version at a time: launch it with a partition, the version")
    subject = f"model/{model.key}@{version}"
    reading = workspace.read()
    training = reading.latest(TrainingRun, subject)
    if training is None:
        raise EvaluationError(f"{model.key} {version} has no sealed training run; train it first")
    run = root_run_id(context)
    done = [item for item in reading.all(Evaluation, subject) if item.record.observed.get("run") == run]
    if done and done[-1].record.training_seq == training.seq:
        context.log.info(f"this run recorded its evaluation before (entry {done[-1].seq})")
        ensure_gates(workspace, done[-1], training)
        return done[-1]
    gate_set = adopted_gates(reading, model.key, gates, training)
    asset = model.where.key(asset_name)
    snapshot = resolve_snapshot(context, workspace, dataset, asset, model.where.key(dataset))
    if demand_hashed:
        refuse_unless_hashed(snapshot.record, dataset, how=full_snapshot(workspace, snapshot))
    check_data(workspace, model.key, [snapshot], f"evaluating {model.key} {version}")
    with ExitStack() as stack:
        handed = stack.enter_context(ModelVersion(workspace, training))
        released = _live_version(workspace, reading, training)
        champion = stack.enter_context(released) if released is not None else None
        inputs = {"model": handed, training_asset: handed, "version": version, "champion": champion}
        result = user.call(context, passed, {**inputs, dataset: Snapshot(workspace, snapshot)})
    result = _eval_result(result, user.name, snapshot)
    seq, _ = record_evaluation(
        workspace,
        result,
        training=training,
        gate_set=gate_set,
        dataset=dataset_ref(snapshot, "evaluation"),
        code=code_ref(capture_code(source)),
        evaluator=launcher_alias(context),
        run=run,
        observed={"dagster_run": run_id(context)},
    )
    return next(item for item in workspace.read().all(Evaluation, subject) if item.seq == seq)


def _eval_result(returned: Any, name: str, snapshot: Recorded[DatasetSnapshot]) -> EvalResult:
    if isinstance(returned, EvalResult):
        return returned
    if not isinstance(returned, Mapping):
        raise EvaluationError(f"{name}: return an EvalResult, not a {type(returned).__name__}")
    return as_eval_result(returned, n=snapshot.record.record_count)


def _live_version(workspace: Workspace, reading: Reading, training: Recorded[TrainingRun]) -> ModelVersion | None:
    """The version of the model that went live last on any target, unless it is this one."""
    model = training.record.model
    for item in reversed(reading.all(DeploymentCompleted, f"model/{model}")):
        if item.record.model != model or item.record.version == training.record.version:
            continue
        sealed = reading.latest(TrainingRun, f"model/{model}@{item.record.version}")
        current = live(reading, model, item.record.target)
        if sealed is not None and current is not None and current.record.version == item.record.version:
            return ModelVersion(workspace, sealed)
    return None


def compare_with_champion(
    champion: ModelVersion,
    model: ModelVersion,
    snapshot: Snapshot,
    *,
    labels: Any,
    champion_scores: Any,
    scores: Any,
    **settings: Any,
) -> Comparison:
    """Compare a version with another one, both scored on the same snapshot; the result belongs into `EvalResult.comparisons`.

    Args:
        champion: the version to compare with, such as the one that an evaluation function gets as `champion`.
        model: the version that is evaluated.
        snapshot: the evaluation data.
        labels: what happened, in the snapshot's order.
        champion_scores: the champion's output for the same records.
        scores: the output of `model`.
        settings: further ones of `compare_on_snapshot`: metrics, thresholds, n_boot, confidence, seed.

    Raises:
        EvaluationError: another number of records than the snapshot has, or unusable input.
    """
    sides = [(item.recorded.record.model, item.recorded.record.version) for item in (champion, model)]
    return compare_on_snapshot(
        snapshot.workspace.read(),
        challenger=sides[1],
        champion=sides[0],
        dataset=dataset_ref(snapshot.recorded, "evaluation"),
        labels=labels,
        champion_scores=champion_scores,
        challenger_scores=scores,
        **settings,
    )


def _check(key: dg.AssetKey, reading: Reading, recorded: Recorded[Evaluation], family: str) -> dg.AssetCheckResult:
    passed, text = family_status(reading, recorded, family)
    own = [item for item in recorded.record.outcomes if item.family == family]
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=family,
        passed=passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=text,
        metadata={
            f"{PREFIX}gates": table(
                [
                    {
                        "gate": item.id,
                        "metric": item.metric,
                        "value": item.value,
                        "must be": f"{item.op} {item.threshold:g}",
                        "result": item.status,
                    }
                    for item in own
                ]
            ),
            f"{PREFIX}gate_set": f"{recorded.record.gate_set}, adopted in entry {recorded.record.gate_set_seq}",
        },
    )


def evaluation_metadata(
    workspace: Workspace, recorded: Recorded[Evaluation], space: Space | None = None
) -> dict[str, Any]:
    """What the UI shows about an evaluation. `space`: where its dataset's asset is."""
    record = recorded.record
    return {
        f"{PREFIX}status": record.status,
        f"{PREFIX}metrics": table(
            [
                {"metric": item.name, "value": item.value, "from": item.ci_low, "to": item.ci_high, "n": item.n}
                for item in record.metrics
            ]
        ),
        f"{PREFIX}groups": table(_groups(record)),
        **_further(record),
        f"{PREFIX}gate_set": f"{record.gate_set}, adopted in entry {record.gate_set_seq}",
        **dataset_links(workspace, "evaluated_on", [record.dataset], space),
        f"{PREFIX}model_digest": record.model_digest,
        **entry_metadata(workspace, recorded.seq, recorded.leaf),
    }


def _further(record: Evaluation) -> dict[str, Any]:
    """Tables of what an evaluation may hold besides metrics and groups; nothing for what it does not hold."""
    rows: dict[str, list[dict[str, Any]]] = {
        "slices": [
            {"kind": one.kind, "attribute": one.attribute, "value": one.value, "n": one.n, "metric": item.name}
            | {"result": item.value, "from": item.ci_low, "to": item.ci_high, "status": item.status}
            for one in record.slices[:_ROWS]
            for item in (one.metrics or (SliceMetric(name="", n=one.n, status=one.status),))
        ],
        "comparisons": [
            {"champion": one.champion.name, "metric": item.name, "difference": item.difference}
            | {"from": item.ci_low, "to": item.ci_high, "verdict": item.verdict}
            for one in record.comparisons
            for item in one.metrics
        ],
        "sensitivity": [
            {
                "feature": one.feature,
                "change": one.transformation,
                "size": one.size,
                "unit": one.unit,
                "metric": one.metric,
            }
            | {"before": one.before, "after": one.after, "status": one.status}
            for one in record.perturbations[:_ROWS]
        ],
        "benchmarks": [
            {"task": one.task, "version": one.version, "shots": one.n_shot, "metric": one.metric, "value": one.value}
            | {"from": one.ci_low, "to": one.ci_high, "n": one.n, "evidence for": one.objective or "unmapped"}
            for one in record.benchmarks[:_ROWS]
        ],
        "explanations": [
            {
                "scope": one.scope,
                "method": one.method,
                "count": one.count,
                "file": one.item.name,
                "digest": one.item.digest,
            }
            for one in record.explanations
        ],
    }
    found: dict[str, Any] = {f"{PREFIX}{name}": table(part) for name, part in rows.items() if part}
    worst = record.worst_site
    if worst is not None:
        found[f"{PREFIX}worst_site"] = f"{worst.attribute} {worst.value} (n = {worst.n})"
    if record.unmapped:
        found[f"{PREFIX}unmapped_metrics"] = ", ".join(record.unmapped)
    return found


def _groups(record: Evaluation) -> list[dict[str, Any]]:
    rows = []
    for attribute in record.fairness:
        for group in attribute.get("groups", ()):
            rate = group.get("selection_rate") or {}
            rows.append(
                {
                    "attribute": attribute.get("attribute"),
                    "group": group.get("group"),
                    "n": group.get("n"),
                    "selection rate": rate.get("value"),
                    "from": rate.get("ci_low"),
                    "to": rate.get("ci_high"),
                }
            )
    return rows
