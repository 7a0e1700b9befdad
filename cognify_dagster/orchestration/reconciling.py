"""The reconciliation sensor: what Dagster shows and the ledger does not account for becomes a finding entry.

Invariants: a finding is recorded once, whatever became of the cursor; an open one holds back releases until a person signed
what became of it, so nothing that an honest step, a rebuilding or an observation leaves behind may raise one; what Dagster
has lost (wiped assets, deleted runs) is said and is no finding, because it changes nothing about any model. A training whose process
was killed is recorded as failed (`ended`), which is no finding either.
"""

import json
import re
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from cognify_dagster.governance import decide
from cognify_dagster.instrument.sdk.reported import waiting
from cognify_dagster.orchestration._compat import check_evaluations, latest_materializations, run_is_over
from cognify_dagster.orchestration.accounting import KIND_OF_ROLE, Watched, subject_of, told_before, unaccounted
from cognify_dagster.orchestration.ended import record_ended_trainings
from cognify_dagster.orchestration.lanes import Lane
from cognify_dagster.orchestration.metadata import PREFIX
from cognify_dagster.orchestration.model import GovernedModel
from cognify_dagster.orchestration.names import RECONCILIATION, SENSOR_ROLE, sensor_name
from cognify_dagster.orchestration.sensors import read_cursor
from cognify_dagster.orchestration.spaces import ledger_of
from cognify_dagster.orchestration.watching import catching_up
from cognify_dagster.records import (
    DeploymentCompleted,
    Evaluation,
    Package,
    Reconciliation,
    Record,
    RecordError,
    TrainingRun,
    VersionOpened,
    parse_utc,
)
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key

EVENTS_A_TICK = 100
ENTRIES_LOOKED_AT = 800
# a replayed decision is compared only while nothing but time can have come between: an erased payload or another release of
# this package may judge an old one differently
REPLAYED_WITHIN_S = 86_400.0
_CLOCKS_DIFFER = timedelta(hours=1)
_CHECKS = "checks"
_PAGES = 20


def reconciliation_sensor(
    model: GovernedModel,
    watched: Mapping[dg.AssetKey, Watched],
    checks: Sequence[dg.AssetCheckKey],
    lanes: Sequence[Lane],
) -> dg.SensorDefinition:
    """Return the sensor that compares materializations and check evaluations with the ledger and records findings.

    Args:
        model: the governed model.
        watched: assets and what they are for.
        checks: the checks of these assets, which only runs may evaluate.
        lanes: the sign-off checks, whose passes are judged again.
    """
    guards = {lane.check: lane for lane in lanes}

    @dg.sensor(
        name=sensor_name(model.name, RECONCILIATION),
        minimum_interval_seconds=max(model.sensor_interval_seconds, 30),
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={model.ledger},
        tags={SENSOR_ROLE: RECONCILIATION},
        description=f"Reports materializations and checks of {model.key}'s assets that the ledger does not account for.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        with ledger_of(context, model).resident() as place:
            return dg.SkipReason(_evaluate(context, place.workspace, model, watched, checks, guards))

    return sensor


def _evaluate(
    context: dg.SensorEvaluationContext,
    workspace: Workspace,
    model: GovernedModel,
    watched: Mapping[dg.AssetKey, Watched],
    checks: Sequence[dg.AssetCheckKey],
    guards: Mapping[dg.AssetCheckKey, Lane],
) -> str:
    behind = catching_up(workspace)
    if behind is not None:
        return behind
    cursor: dict[str, Any] = {"ledger": workspace.origin, **read_cursor(context.cursor, workspace.origin)}
    events = [
        (key, item, record)
        for key, item in watched.items()
        for record in _new_events(context.instance, key, cursor.get(key.to_user_string()))
    ]
    judged: dict[str, list[str]] = {}
    stored = cursor.get(_CHECKS)
    evaluations = [
        (key, record)
        for key in checks
        for record in _new_evaluations(context.instance, key, stored if isinstance(stored, dict) else {}, judged)
    ]
    # after the events: a step appends its entry before Dagster stores the materialization
    reading = workspace.read()
    found = 0
    for key, item, record in events:
        name = key.to_user_string()
        problem = _unaccounted(context.instance, reading, model, key, item, record)
        if problem is not None:
            _record_materialization(workspace, model, name, record, problem)
            found += 1
        cursor[name] = [record.storage_id, record.timestamp]
    for check, record in evaluations:
        problem = _unattested_check(workspace, reading, model, guards.get(check), record)
        if problem is not None:
            _record_check(workspace, model, check, record, problem)
            found += 1
    cursor[_CHECKS] = judged
    context.update_cursor(json.dumps(cursor))
    newest = _newest(reading, model, watched)
    lost = _no_longer_shown(context.instance, newest, watched)
    steps = {model.where.named(key.path[-1]) for key, item in watched.items() if item.role == "training"}
    killed = record_ended_trainings(context.instance, workspace, model.key, steps, newest)
    ended = f"{killed} trainings that ended without a word were recorded as failed" if killed else None
    kept = _kept_results(context.instance, workspace, model.key)
    return "; ".join([_said(found), *(text for text in (lost, ended, kept) if text)])


def _kept_results(instance: dg.DagsterInstance, workspace: Workspace, model: str) -> str | None:
    """What a training measured and did not come to record. Only said here: an overlap check may take longer than a tick."""
    over = [folder.parent.name for folder in waiting(workspace, model) if run_is_over(instance, folder.name)]
    if not over:
        return None
    return f"results of {', '.join(over)} wait to be recorded: run `cognify spool flush`"


def _said(found: int) -> str:
    if found:
        return f"{found} new findings were recorded; see `cognify finding list`"
    return "every materialization is accounted for by a ledger entry"


def _unaccounted(
    instance: dg.DagsterInstance, reading: Reading, model: GovernedModel, key: dg.AssetKey, item: Watched, record: Any
) -> str | None:
    subject = subject_of(item.role, model.key, key.path[-1], record.partition_key)
    release = (model.key, item.target) if item.target is not None else None
    problem = unaccounted(reading, item.role, subject, record, release)
    if problem is None and not record.run_id:
        problem = told_before(instance, reading, item.role, subject, record, release)
    return problem


def _new_events(instance: dg.DagsterInstance, key: dg.AssetKey, seen: Any) -> list[Any]:
    """Return the materializations after the one seen last, oldest first.

    Storage ids start again when runs are deleted (SQLite), so an id alone could hide an event: if the one seen last is no
    longer there, all are looked at again. Findings are recorded once each, whatever the cursor says.
    """
    if isinstance(seen, list) and len(seen) == 2 and isinstance(seen[0], int):
        records = latest_materializations(instance, key, seen[0] - 1, EVENTS_A_TICK + 1)
        if records and [records[0].storage_id, records[0].timestamp] == seen:
            return records[1:]
    return latest_materializations(instance, key, None, EVENTS_A_TICK)


def _new_evaluations(
    instance: dg.DagsterInstance, key: dg.AssetCheckKey, stored: Mapping[str, Any], judged: dict[str, list[str]]
) -> list[Any]:
    """Return the evaluations of a check that were not judged yet, oldest first; note in `judged` all that are known then.

    An evaluation takes the id of its run's plan, so a later one may have a lower id; the newest ones are compared one by one.
    """
    name = key.to_user_string()
    before = stored.get(name)
    known = set(before) if isinstance(before, list) else set()
    found: list[Any] = []
    for page in check_evaluations(instance, key, EVENTS_A_TICK, _PAGES):
        found += page
        if known & {_mark(record) for record in page}:
            break
    judged[name] = [_mark(record) for record in found[:EVENTS_A_TICK]]
    return [record for record in reversed(found) if _mark(record) not in known]


def _mark(record: Any) -> str:
    return f"{record.id}:{record.event.timestamp:.3f}"


def _unattested_check(
    workspace: Workspace, reading: Reading, model: GovernedModel, lane: Lane | None, record: Any
) -> str | None:
    """Say why an evaluation of a check is none that this model's code made, or None."""
    evaluation = record.event.asset_check_evaluation
    if not record.run_id:
        return "it was reported without a run (by hand in the UI or through the REST interface)"
    if lane is None or evaluation is None or not evaluation.passed:
        return None
    if time.time() - record.event.timestamp > REPLAYED_WITHIN_S:
        return None
    return _false_pass(workspace, reading, model, lane, evaluation, record.event.timestamp)


def _false_pass(
    workspace: Workspace, reading: Reading, model: GovernedModel, lane: Lane, evaluation: Any, at_s: float
) -> str | None:
    """Decide again on the ledger's size and time that a passed sign-off check names."""
    written = getattr(evaluation.metadata.get(f"{PREFIX}decided_on_size"), "value", None)
    size = int(written) if isinstance(written, str) and re.fullmatch(r"[0-9]{1,18}", written) else None
    said = getattr(evaluation.metadata.get(f"{PREFIX}decided_at"), "value", None)
    if size is None or not 0 < size <= reading.size or not isinstance(said, str):
        return "it passed without naming the ledger entries it was decided on"
    try:
        now = parse_utc(said)
    except (RecordError, ValueError):
        return "it passed and names no time at which it was decided"
    if abs(now.timestamp() - at_s) > _CLOCKS_DIFFER.total_seconds():
        return f"it says that it was decided at {said}, which is not when it was evaluated"
    if (
        size < reading.size
        and reading.view.entries[size].entry.time_us / 1e6 < now.timestamp() - _CLOCKS_DIFFER.seconds
    ):
        return f"it says that it was decided on {size} entries, when there had been more for long"
    decision = decide(
        workspace.read(size), model.key, str(evaluation.partition), lane.target, now, enforces=lane.enforces
    )
    reasons = [reason.text for reason in decision.reasons if reason.code != "already_released"]
    return f"it passed, though the ledger says: {reasons[0]}" if reasons else None


def _record_materialization(workspace: Workspace, model: GovernedModel, asset: str, record: Any, problem: str) -> None:
    version = record.partition_key
    workspace.append(
        Reconciliation(
            code="unattested_materialization",
            model=model.key,
            version=version,
            asset=asset,
            storage_id=record.storage_id,
            text=f"A materialization of {asset}"
            + (f" ({version})" if version else "")
            + f" is not accounted for: {problem}.",
        ),
        idem=idempotency_key("finding", model.key, asset, record.storage_id, record.timestamp),
    )


def _record_check(workspace: Workspace, model: GovernedModel, key: dg.AssetCheckKey, record: Any, problem: str) -> None:
    evaluation, asset = record.event.asset_check_evaluation, key.asset_key.to_user_string()
    version = evaluation.partition if evaluation is not None else None
    workspace.append(
        Reconciliation(
            code="unattested_check",
            model=model.key,
            version=version,
            asset=asset,
            storage_id=record.id,
            text=f"An evaluation of the check {key.name} of {asset}"
            + (f" ({version})" if version else "")
            + f" is not accounted for: {problem}.",
        ),
        idem=idempotency_key("finding_check", model.key, asset, key.name, _mark(record)),
    )


def _newest(reading: Reading, model: GovernedModel, watched: Mapping[dg.AssetKey, Watched]) -> list[Recorded[Record]]:
    """The model's newest entries of the kinds that the watched assets leave."""
    kinds = {KIND_OF_ROLE[item.role] for item in watched.values() if item.role != "dataset"}
    return reading.recent(f"model/{model.key}", ENTRIES_LOOKED_AT, {VersionOpened.kind, *kinds})


def _no_longer_shown(
    instance: dg.DagsterInstance, newest: Sequence[Recorded[Record]], watched: Mapping[dg.AssetKey, Watched]
) -> str | None:
    """Say what the ledger records and Dagster does not show any more: assets were wiped, or runs deleted."""
    lost = []
    for key, item in watched.items():
        recorded = _recorded(newest, item)
        shown = instance.get_materialized_partitions(key) if recorded else set()
        # a run that has not ended tells of its entry itself
        missing = [version for version, run in recorded.items() if version not in shown and run_is_over(instance, run)]
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            lost.append(f"{', '.join(missing[:3])}{more} of {key.to_user_string()}")
    if not lost:
        return None
    return f"Dagster no longer shows {'; '.join(lost)} (`cognify dagster resync` rebuilds what the ledger records)"


def _recorded(newest: Sequence[Recorded[Record]], item: Watched) -> dict[str, str]:
    """Return the versions among the newest entries that have one for an asset, each with the run that wrote it last."""
    found: dict[str, str] = {}
    for entry in newest:
        record = entry.record
        if not isinstance(record, (TrainingRun, Evaluation, Package, DeploymentCompleted)):
            continue
        if record.kind != KIND_OF_ROLE.get(item.role):
            continue
        if isinstance(record, DeploymentCompleted) and record.target != item.target:
            continue
        told = record.detail if isinstance(record, DeploymentCompleted) else record.observed
        found[record.version] = str(told.get("dagster_run") or told.get("run") or "")
    return found
