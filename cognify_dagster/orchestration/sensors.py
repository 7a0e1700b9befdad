"""The approval sensor asks for release runs; the reconciliation sensor reports what bypassed the ledger.

The approval sensor is a convenience, not the gate: the deployment's body decides again. It is right after a restart, after a
deleted run and after a rename, because it asks the ledger whether a release was completed, not Dagster.
"""

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import dagster as dg

from cognify_dagster.governance import Decision, decide
from cognify_dagster.orchestration._compat import latest_materializations
from cognify_dagster.orchestration.model import GovernedModel
from cognify_dagster.orchestration.package import SIGN_OFF
from cognify_dagster.orchestration.resource import LedgerResource
from cognify_dagster.records import (
    DatasetSnapshot,
    DeploymentCompleted,
    Evaluation,
    Package,
    Reconciliation,
    TrainingRun,
)
from cognify_dagster.workspace import Reading, Workspace, idempotency_key

VERSIONS_A_TICK = 50
EVENTS_A_TICK = 100
KIND_OF_ROLE = {
    "dataset": DatasetSnapshot.kind,
    "training": TrainingRun.kind,
    "evaluation": Evaluation.kind,
    "package": Package.kind,
    "deployment": DeploymentCompleted.kind,
}


def approval_sensor(
    model: GovernedModel, deployment: dg.AssetsDefinition, check: dg.AssetCheckKey, target: str
) -> dg.SensorDefinition:
    """Return the sensor that requests the release run of every version whose approvals are complete."""

    @dg.sensor(
        name=f"{model.key}_approval_sensor",
        target=dg.AssetSelection.assets(deployment.key) | dg.AssetSelection.checks(check),
        minimum_interval_seconds=model.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Requests the release of a version of {model.key} once every stage of its tier is signed.",
    )
    def sensor(context: dg.SensorEvaluationContext, ledger: LedgerResource) -> dg.SensorResult | dg.SkipReason:
        workspace = ledger.open()
        reading = workspace.read()
        cursor = _cursor(context.cursor)
        now = datetime.now(timezone.utc)
        versions = _open_versions(reading, model)
        if not versions:
            return dg.SkipReason(f"no version of {model.key} waits for a release")
        start = cursor.get("offset", 0) % len(versions)
        batch = (versions[start:] + versions[:start])[:VERSIONS_A_TICK]
        decisions = [decide(reading, model.key, version, target, now) for version in batch]
        known = set(context.instance.get_dynamic_partitions(model.partitions.name or ""))
        ready = [decision for decision in decisions if decision.released]
        missing = [decision.version for decision in ready if decision.version not in known]
        offset = (start + len(batch)) % len(versions)
        if not ready:
            context.update_cursor(json.dumps({"offset": offset, "size": reading.size}))
            return dg.SkipReason("; ".join(_waiting(decision) for decision in decisions))
        return dg.SensorResult(
            run_requests=[_request(model, decision, deployment, check) for decision in ready],
            dynamic_partitions_requests=[model.partitions.build_add_request(missing)] if missing else [],
            cursor=json.dumps({"offset": offset, "size": reading.size}),
        )

    return sensor


def _open_versions(reading: Reading, model: GovernedModel) -> list[str]:
    """Versions with a package, newest first; those already released are told apart by the decision."""
    found: dict[str, None] = {}
    for item in reversed(reading.all(Package, f"model/{model.key}")):
        found.setdefault(item.record.version)
    return list(found)


def _waiting(decision: Decision) -> str:
    stage = decision.next_stage
    if decision.completed is not None:
        return f"{decision.version}: released (entry {decision.completed.seq})"
    if stage is not None and stage.waiting_for:
        return f"{decision.version}: {stage.stage.title or stage.name} waits for {', '.join(stage.waiting_for)}"
    return f"{decision.version}: {decision.reasons[0].text if decision.reasons else 'ready'}"


def _request(
    model: GovernedModel, decision: Decision, deployment: dg.AssetsDefinition, check: dg.AssetCheckKey
) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{model.key}/{decision.version}/{decision.target}/{decision.round}",
        partition_key=decision.version,
        asset_selection=[deployment.key],
        asset_check_keys=[check],
        tags={
            "cognify/release_round": decision.round[:16],
            "cognify/package": str(decision.package and decision.package.seq),
        },
    )


def reconciliation_sensor(model: GovernedModel, watched: Mapping[dg.AssetKey, str]) -> dg.SensorDefinition:
    """Return the sensor that compares materializations with the ledger and records findings. `watched`: assets and roles."""

    @dg.sensor(
        name=f"{model.key}_reconciliation_sensor",
        minimum_interval_seconds=max(model.sensor_interval_seconds, 30),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Reports materializations of {model.key}'s assets that the ledger does not account for.",
    )
    def sensor(context: dg.SensorEvaluationContext, ledger: LedgerResource) -> dg.SkipReason:
        workspace = ledger.open()
        cursor = _cursor(context.cursor)
        events = [
            (key.to_user_string(), role, record)
            for key, role in watched.items()
            for record in _new_events(context.instance, key, cursor.get(key.to_user_string()))
        ]
        reading = (
            workspace.read()
        )  # after the events: a step appends its entry before Dagster stores the materialization
        found = 0
        for name, role, record in events:
            problem = _unaccounted(reading, model, name, role, record)
            if problem is not None:
                _report(workspace, model, name, record, problem)
                found += 1
            cursor[name] = [record.storage_id, record.timestamp]
        context.update_cursor(json.dumps(cursor))
        if found:
            return dg.SkipReason(f"{found} new findings were recorded; see `cognify ledger show --kind finding`")
        return dg.SkipReason("every materialization is accounted for by a ledger entry")

    return sensor


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


def _unaccounted(reading: Reading, model: GovernedModel, asset: str, role: str, record: Any) -> str | None:
    """Say why a materialization is not backed by a ledger entry about just this asset and version, or None."""
    metadata = record.asset_materialization.metadata if record.asset_materialization else {}
    if not record.run_id:
        return "it was reported without a run (by hand in the UI or through the REST interface)"
    seq, leaf = metadata.get("cognify/ledger_entry"), metadata.get("cognify/entry_leaf")
    if seq is None or leaf is None:
        return "it names no ledger entry"
    number = seq.value
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < reading.size:
        return f"it names entry {number}, which the ledger does not have"
    entry = reading.view.entries[number].entry
    if entry.leaf.hex() != leaf.value:
        return f"it names entry {number} with another leaf hash"
    subject = f"dataset/{asset}" if role == "dataset" else f"model/{model.key}@{record.partition_key}"
    if entry.kind != KIND_OF_ROLE[role] or subject not in entry.subjects:
        return f"it names entry {number}, which is a {entry.kind} of {', '.join(entry.subjects)}, not of {subject}"
    return None


def _report(workspace: Workspace, model: GovernedModel, asset: str, record: Any, problem: str) -> None:
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


def _cursor(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def sign_off_key(package: dg.AssetKey) -> dg.AssetCheckKey:
    """Return the key of the sign-off check."""
    return dg.AssetCheckKey(package, SIGN_OFF)
