"""Whether the ledger accounts for a materialization; shared by the sensor that looks for those it does not, and by `resync`.

A materialization without a run counts only if it says that it was rebuilt from the ledger and says no more than the ledger
does: its entry, leaf hash and data version must be right, and it may neither repeat an entry nor put an older one over a newer.
"""

from dataclasses import dataclass
from typing import Any

import dagster as dg

from cognify_dagster.orchestration.metadata import LEDGER, PREFIX, REBUILT, data_version
from cognify_dagster.records import DatasetSnapshot, DeploymentCompleted, Evaluation, Package, TrainingRun
from cognify_dagster.workspace import Reading

KIND_OF_ROLE = {
    "dataset": DatasetSnapshot.kind,
    "training": TrainingRun.kind,
    "evaluation": Evaluation.kind,
    "package": Package.kind,
    "deployment": DeploymentCompleted.kind,
}
_LOOKED_BACK = 100


@dataclass(frozen=True)
class Watched:
    """What an asset is for. `target` is that of a deployment asset."""

    role: str
    target: str | None = None


def subject_of(role: str, model: str, asset: str, partition: str | None) -> str:
    """Return what an entry behind a materialization must be about; `asset` is the dataset's name for a dataset."""
    return f"dataset/{asset}" if role == "dataset" else f"model/{model}@{partition}"


def entry_of(record: Any) -> Any:
    """Return the entry that a materialization names, whatever stands there."""
    event = record.asset_materialization
    return getattr(event.metadata.get(f"{PREFIX}ledger_entry"), "value", None) if event else None


def unaccounted(
    reading: Reading, role: str, subject: str, record: Any, release: tuple[str, str] | None = None
) -> str | None:
    """Say why a materialization is not backed by a ledger entry about just this asset and version, or None.

    `release`: model and target of a deployment asset; the entry must be of a deployment to just that target.
    """
    metadata = record.asset_materialization.metadata if record.asset_materialization else {}
    if not record.run_id and getattr(metadata.get(REBUILT), "value", None) is not True:
        return "it was reported without a run (by hand in the UI or through the REST interface)"
    ledger = getattr(metadata.get(LEDGER), "value", None)
    if ledger is not None and ledger != reading.origin:
        return (
            f"it names an entry of the ledger {ledger}, not of {reading.origin}: workspaces that share a Dagster instance need a "
            "space each, see GovernedModel(space=…)"
        )
    seq, leaf = metadata.get(f"{PREFIX}ledger_entry"), metadata.get(f"{PREFIX}entry_leaf")
    if seq is None or leaf is None:
        return "it names no ledger entry"
    number = seq.value
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < reading.size:
        return f"it names entry {number}, which the ledger does not have"
    entry = reading.view.entries[number].entry
    if entry.leaf.hex() != leaf.value:
        return f"it names entry {number} with another leaf hash"
    if entry.kind != KIND_OF_ROLE[role] or subject not in entry.subjects:
        return f"it names entry {number}, which is a {entry.kind} of {', '.join(entry.subjects)}, not of {subject}"
    where = f"release/{release[0]}.{release[1]}" if release is not None else subject
    if where not in entry.subjects:
        return f"it names entry {number}, which is a deployment to another target, not to {where.partition('.')[2]}"
    if not record.run_id:
        recorded = reading.at(number)  # None: its payload was erased since, and nothing of it can be compared any more
        told = (record.asset_materialization.tags or {}).get("dagster/data_version")
        if recorded is not None and told != data_version(recorded):
            return f"it was reported without a run, and its data version is not that of entry {number}"
    return None


def told_before(
    instance: dg.DagsterInstance,
    reading: Reading,
    role: str,
    subject: str,
    record: Any,
    release: tuple[str, str] | None = None,
) -> str | None:
    """Say that a rebuilt materialization repeats an entry that Dagster told of, or hides a newer one; else None."""
    number, event = entry_of(record), record.asset_materialization
    earlier = instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset_key=event.asset_key,
            asset_partitions=[record.partition_key] if record.partition_key else None,
            before_storage_id=record.storage_id,
        ),
        limit=_LOOKED_BACK,
    ).records
    for item in earlier:
        if unaccounted(reading, role, subject, item, release) is None and entry_of(item) >= number:
            return (
                f"it was reported without a run, and an earlier materialization told of entry {entry_of(item)} already"
            )
    return None
