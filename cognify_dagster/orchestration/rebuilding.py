"""One materialization as it is rebuilt from the ledger: what the asset itself shows, and the tags Dagster needs.

Dagster compares an asset's inputs by tags on its materialization. A rebuilt one names the data versions that the ledger says
it was made from, so an asset shows as stale exactly where its inputs are newer. Without these tags Dagster would compare
times, which are those of the rebuilding. The ledger does not keep Dagster's code versions, so the present one is taken.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

from cognify_dagster.evidence import EvidenceError
from cognify_dagster.ledger import Receipt
from cognify_dagster.orchestration.datasets import snapshot_metadata
from cognify_dagster.orchestration.deployment import deployment_result
from cognify_dagster.orchestration.evaluation import evaluation_metadata
from cognify_dagster.orchestration.metadata import PREFIX, REBUILT, data_version, entry_metadata, readable_copy
from cognify_dagster.orchestration.package import coverage_row, package_metadata
from cognify_dagster.orchestration.standing import final_copy_path
from cognify_dagster.orchestration.training import training_metadata
from cognify_dagster.records import (
    DatasetSnapshot,
    DeploymentCompleted,
    Evaluation,
    FinalCopy,
    Package,
    Record,
    TrainingRun,
)
from cognify_dagster.workspace import Reading, Recorded, Workspace

Inputs = dict[dg.AssetKey, tuple[Recorded[Record], bool, int | None] | None]
"""Upstream asset → its record, whether it is partitioned, the storage id of its materialization; None if unknown."""


@dataclass(frozen=True)
class Where:
    """The asset and partition that a materialization is of; `target` is the deployment target of its model, `enforces` what it enforces."""

    key: dg.AssetKey
    partition: str | None
    code_version: str | None
    target: str
    enforces: tuple[str, ...] = ()


class Then(Workspace):
    """The workspace as it was when an entry was written. It only reads."""

    def __init__(self, workspace: Workspace, reading: Reading) -> None:
        super().__init__(workspace.config, workspace.ledger, workspace.evidence, workspace.writer)
        self._reading = reading

    def read(self, size: int | None = None) -> Reading:
        return self._reading

    def append(self, *args: Any, **kwargs: Any) -> Receipt:
        raise AssertionError("rebuilding writes nothing to the ledger")


def materialization(
    workspace: Workspace,
    reading: Reading,
    item: Recorded[Record],
    present: Reading,
    where: Where,
    inputs: Inputs,
) -> dg.AssetMaterialization:
    """Return the event for a record; `reading` ends with its entry, `present` is the whole ledger."""
    then = Then(workspace, reading)
    metadata: dict[str, Any] = {
        REBUILT: True,
        f"{PREFIX}recorded_at": dg.MetadataValue.timestamp(item.time_us / 1e6),
    }
    try:
        metadata |= _shown(then, item, present, where)
    except (EvidenceError, OSError, ValueError) as error:
        metadata[f"{PREFIX}incomplete"] = f"its evidence cannot be read: {error}"
        metadata |= entry_metadata(then, item.seq, item.leaf)
    return dg.AssetMaterialization(
        asset_key=where.key,
        partition=where.partition,
        description=f"Rebuilt from ledger entry {item.seq}",
        metadata=metadata,
        tags=tags(item, where.code_version, inputs),
    )


def tags(item: Recorded[Record], code_version: str | None, inputs: Inputs) -> dict[str, str]:
    """Return the tags by which Dagster tells whether an asset is stale."""
    found = {
        "dagster/data_version": str(data_version(item)),
        "dagster/data_version_is_user_provided": "true",
        "dagster/code_version": code_version or "unknown",
    }
    for key, source in inputs.items():
        version, pointer = "INITIAL", "NULL"  # as Dagster notes an input that has no materialization
        if source is not None:
            upstream, partitioned, storage_id = source
            version = str(data_version(upstream))
            if partitioned:  # Dagster notes a digest over the partitions that were read; here it is one
                version = hashlib.sha256(version.encode()).hexdigest()
            pointer = "NULL" if storage_id is None else str(storage_id)
        found[f"dagster/input_data_version/{key.to_user_string()}"] = version
        found[f"dagster/input_event_pointer/{key.to_user_string()}"] = pointer
    return found


def _shown(then: Then, item: Recorded[Record], present: Reading, where: Where) -> Mapping[str, Any]:
    """What the asset itself shows of its record."""
    record = item.record
    if isinstance(record, DatasetSnapshot):
        profile = json.loads(then.evidence.get(record.profile.digest))
        return snapshot_metadata(then, _typed(item, record), profile, present)
    if isinstance(record, TrainingRun):
        return training_metadata(then, _typed(item, record))
    if isinstance(record, Evaluation):
        return evaluation_metadata(then, _typed(item, record))
    if isinstance(record, Package):
        rows = [
            coverage_row(summary.framework.partition("@")[0], force, counts)
            for summary in record.coverage
            for force, counts in (("law", summary.law), ("guidance", summary.guidance))
            if counts
        ]
        now = datetime.fromtimestamp(item.time_us / 1e6, timezone.utc)
        return package_metadata(
            then, _typed(item, record), where.target, coverage=rows, enforces=where.enforces, now=now
        )
    if isinstance(record, DeploymentCompleted):
        return deployment_result(then, then.read(), item.seq, _final_copy(then, present, record)).metadata or {}
    raise AssertionError(f"no asset materializes a {record.kind}")


R = TypeVar("R", bound=Record)


def _typed(item: Recorded[Record], record: R) -> Recorded[R]:
    return Recorded(item.seq, item.time_us, item.leaf, item.actor, item.key_id, record, item.entry)


def _final_copy(then: Then, present: Reading, record: DeploymentCompleted) -> Path | None:
    """The copy with the signature page: the file that is there, or made again from the evidence."""
    path = final_copy_path(then, record.model, record.version)
    if path.is_file():
        return path
    copies = present.all(FinalCopy, f"model/{record.model}@{record.version}")
    if not copies:
        return None
    data = then.evidence.get(copies[-1].record.final_copy.digest)
    return readable_copy(then, record.model, record.version, path.name, data)
