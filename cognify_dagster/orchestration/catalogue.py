"""Which asset a record was materialized as, by the project's definitions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from cognify_dagster.orchestration.accounting import KIND_OF_ROLE
from cognify_dagster.records import DatasetSnapshot, DeploymentCompleted, Evaluation, Package, Record, TrainingRun

DEFAULT_TARGET = "production"
ROLE_OF_KIND = {kind: role for role, kind in KIND_OF_ROLE.items()}


@dataclass(frozen=True)
class Asset:
    """An asset of the project's definitions, or what stands in for one. `versions` names its dynamic partitions."""

    key: dg.AssetKey
    role: str
    model: str = ""
    target: str = ""
    code_version: str | None = None
    deps: tuple[dg.AssetKey, ...] = ()
    partitioned: bool = False
    versions: str | None = None
    enforces: tuple[str, ...] = ()


class Catalogue:
    """Finds the asset of a record: in the project's definitions, as `health.load_location` describes them.

    Where the definitions do not have it, a dataset's asset has the dataset's name and a package's is `<model>_package`;
    other names cannot be known. Where they have spaces, only the assets of the spaces of this very workspace count, and nothing is
    guessed: what one ledger records is never shown as an asset of another.

    Args:
        described: the assets.
        config: the configuration file of the workspace whose records are placed.
    """

    def __init__(self, described: Iterable[Mapping[str, Any]], config: Path) -> None:
        described = list(described)
        self.several = any(item.get("space") for item in described)
        if self.several:
            described = [item for item in described if item.get("workspace") == str(config.resolve())]
        self.assets = [
            Asset(
                key=dg.AssetKey(list(item["key"])),
                role=item["role"],
                model=item["model"],
                target=item["target"],
                code_version=item["code_version"],
                deps=tuple(dg.AssetKey(list(path)) for path in item["deps"]),
                partitioned=item["partitioned"],
                versions=item["versions"],
                enforces=tuple(item.get("enforces", ())),
            )
            for item in described
        ]

    def dataset(self, name: str) -> Asset | None:
        """The asset of a dataset; one that an asset of the user's own recorded may have no role."""
        named = [item for item in self.assets if item.key.path[-1] == name and item.role in ("dataset", "")]
        named.sort(key=lambda item: (item.role != "dataset", len(item.key.path)))
        if named:
            return named[0]
        return None if self.several else Asset(dg.AssetKey([name]), "dataset")

    def of_model(self, model: str, role: str, target: str | None = None) -> Asset | None:
        """The asset of a model's role, None if it cannot be known."""
        for item in self.assets:
            if (item.model, item.role) == (model, role) and target in (None, item.target):
                return item
        if role == "package" and not self.several and not any(item.model == model for item in self.assets):
            return Asset(dg.AssetKey([f"{model}_package"]), role, model, partitioned=True)
        return None

    def target(self, model: str) -> str:
        """The deployment target that the pages of a model's package tell of."""
        found = (self.of_model(model, role) for role in ("package", "deployment"))
        return next((item.target for item in found if item is not None and item.target), DEFAULT_TARGET)

    def enforces(self, model: str, target: str) -> tuple[str, ...]:
        """The kinds of condition that a model's deployment to a target enforces."""
        deployment = self.of_model(model, "deployment", target)
        return deployment.enforces if deployment is not None else ()

    def versions(self, model: str) -> str | None:
        """The name of the model's partitions, None if it cannot be known."""
        named = (item.versions for item in self.assets if item.model == model and item.versions)
        return next(named, None if self.several else f"{model}_versions")

    def place(self, record: Record) -> tuple[Asset, str | None] | None:
        """The asset and partition that a record was materialized as, None if it cannot be known."""
        if isinstance(record, DatasetSnapshot):
            asset = self.dataset(record.name)
            return None if asset is None or asset.partitioned else (asset, None)
        if isinstance(record, (TrainingRun, Evaluation, Package, DeploymentCompleted)):
            target = record.target if isinstance(record, DeploymentCompleted) else None
            found = self.of_model(record.model, ROLE_OF_KIND[record.kind], target)
            return None if found is None else (found, record.version)
        return None
