"""The three forms of `LedgerResource.record`. Apart from the resource, since every module of this room imports that one."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg

from cognify_dagster.datasets import Provenance
from cognify_dagster.datasets.partitions import partition_name
from cognify_dagster.orchestration._compat import partition_key
from cognify_dagster.orchestration.datasets import SnapshotOptions, snapshot_result
from cognify_dagster.orchestration.metadata import PREFIX
from cognify_dagster.orchestration.plain import evaluation_result, training_result
from cognify_dagster.orchestration.refusal import refuse_on
from cognify_dagster.orchestration.resource import LedgerResource


class Recording:
    """Records what one step of a plain asset made."""

    def __init__(self, ledger: LedgerResource, context: Any) -> None:
        self.ledger, self.context = ledger, context

    def dataset(self, given: Any, name: str | None, options: Mapping[str, Any]) -> dg.MaterializeResult:
        """Snapshot one dataset, or several that one asset makes."""
        context, key = self.context, partition_key(self.context)

        def named(own: str) -> SnapshotOptions:
            found = own if key is None else partition_name(own, key)
            return SnapshotOptions(**{**options, "name": found, "provenance": options["provenance"] or Provenance()})

        with refuse_on(context):
            if not isinstance(given, Mapping):
                chosen = named(context.asset_key.path[-1])
                chosen = replace(chosen, name=name) if name else chosen
                return snapshot_result(context, self.ledger.open(), given, chosen, context.asset_key)
            workspace = self.ledger.open()
            results = {
                own: snapshot_result(context, workspace, source, named(own), context.asset_key)
                for own, source in sorted(given.items())
            }
        shown: dict[str, Any] = {}
        digest = hashlib.sha256()
        for own, result in results.items():
            version = result.data_version.value if result.data_version else ""
            digest.update(f"{own}\0{version}\n".encode())
            shown |= {
                label.replace(PREFIX, f"{PREFIX}{own}/", 1) if label.startswith(PREFIX) else f"{own}/{label}": value
                for label, value in (result.metadata or {}).items()
            }
        return dg.MaterializeResult(metadata=shown, data_version=dg.DataVersion(digest.hexdigest()))

    def training(self, model: Any, file: Path, trained_on: Sequence[str], **more: Any) -> dg.MaterializeResult:
        """Seal a training."""
        with refuse_on(self.context):
            return training_result(self.context, self.ledger.open(), model, file, trained_on, **more)

    def evaluation(self, model: Any, results: Any, evaluated_on: str, **more: Any) -> dg.MaterializeResult:
        """Record an evaluation."""
        with refuse_on(self.context):
            return evaluation_result(self.context, self.ledger.open(), model, results, evaluated_on, **more)
