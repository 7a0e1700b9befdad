"""Puts a governed model's definitions together."""

from collections.abc import Mapping, Sequence

import dagster as dg

from cognify_dagster.orchestration.calls import UsageError
from cognify_dagster.orchestration.deployment import TARGET_METADATA
from cognify_dagster.orchestration.model import GovernedModel
from cognify_dagster.orchestration.package import package_asset, sign_off_check
from cognify_dagster.orchestration.sensors import approval_sensor, reconciliation_sensor, sign_off_key
from cognify_dagster.orchestration.training import DATASETS_METADATA, MODEL_METADATA


def build_definitions(model: GovernedModel, assets: Sequence[dg.AssetsDefinition]) -> dg.Definitions:
    """See `GovernedModel.build_defs`."""
    by_role: dict[str, list[dg.AssetsDefinition]] = {}
    for asset in assets:
        spec = next(iter(asset.specs))
        role = str(spec.metadata.get("cognify/role", ""))
        if spec.metadata.get(MODEL_METADATA) != model.key:
            raise UsageError(
                f"asset {spec.key.to_user_string()!r} does not belong to model {model.key!r}; pass only assets made with "
                "training_run, eval_suite and governed_deployment of this model"
            )
        by_role.setdefault(role, []).append(asset)
    for role in ("training", "evaluation", "deployment"):
        if len(by_role.get(role, ())) > 1:
            raise UsageError(f"model {model.key!r} has more than one {role} asset")
    if "training" not in by_role:
        raise UsageError(f"model {model.key!r} has no training asset")
    upstream = by_role.get("evaluation") or by_role["training"]
    deployments = by_role.get("deployment", [])
    target = str(next(iter(deployments[0].specs)).metadata[TARGET_METADATA]) if deployments else model.target
    package = package_asset(model, [asset.key for asset in upstream], target)
    check = sign_off_check(model, package, target)
    sensors = [reconciliation_sensor(model, watched(by_role, package.key))]
    for deployment in deployments:
        sensors.append(approval_sensor(model, deployment, sign_off_key(package.key), target))
    return dg.Definitions(assets=[*assets, package], asset_checks=[check], sensors=sensors)


def watched(by_role: Mapping[str, Sequence[dg.AssetsDefinition]], package: dg.AssetKey) -> dict[dg.AssetKey, str]:
    """Return the assets whose materializations the ledger must account for, with their roles: the datasets too."""
    found = {package: "package"}
    for role, assets in by_role.items():
        for asset in assets:
            spec = next(iter(asset.specs))
            found[spec.key] = role
            for name in spec.metadata.get(DATASETS_METADATA, ()):
                found[dg.AssetKey([name])] = "dataset"
    return found
