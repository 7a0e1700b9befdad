"""Puts a governed model's definitions together."""

from collections.abc import Sequence

import dagster as dg

from cognify_dagster.orchestration.calls import UsageError
from cognify_dagster.orchestration.model import GovernedModel
from cognify_dagster.orchestration.package import package_asset, sign_off_check
from cognify_dagster.orchestration.sensors import approval_sensor, reconciliation_sensor, sign_off_key
from cognify_dagster.orchestration.training import MODEL_METADATA


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
    package = package_asset(model, [asset.key for asset in upstream])
    check = sign_off_check(model, package)
    keys = [asset.key for asset in assets]
    sensors = [reconciliation_sensor(model, keys, package.key)]
    for deployment in by_role.get("deployment", ()):
        sensors.append(approval_sensor(model, deployment, sign_off_key(package.key)))
    return dg.Definitions(assets=[*assets, package], asset_checks=[check], sensors=sensors)
