"""Puts a governed model's definitions together."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import dagster as dg

from cognify_dagster.orchestration.accounting import Watched
from cognify_dagster.orchestration.calls import UsageError
from cognify_dagster.orchestration.coverage_check import coverage_checks
from cognify_dagster.orchestration.deployment import TARGET_METADATA
from cognify_dagster.orchestration.lanes import Lane, lanes_of, sign_off_key
from cognify_dagster.orchestration.model import GovernedModel
from cognify_dagster.orchestration.names import AUTOMATION, SENSOR_ROLE, sensor_name
from cognify_dagster.orchestration.notifying import notification_sensor
from cognify_dagster.orchestration.package import package_asset, sign_off_check
from cognify_dagster.orchestration.reconciling import reconciliation_sensor
from cognify_dagster.orchestration.registry import registry_is_set, registry_sensor
from cognify_dagster.orchestration.sensors import approval_sensor
from cognify_dagster.orchestration.spaces import Space
from cognify_dagster.orchestration.training import DATASETS_METADATA, MODEL_METADATA

ReleaseBy = Literal["sensor", "automation"]


def build_definitions(
    model: GovernedModel,
    assets: Sequence[dg.AssetsDefinition],
    release_by: ReleaseBy = "sensor",
    recorded_by: Sequence[Any] = (),
) -> dg.Definitions:
    """See `GovernedModel.build_defs`."""
    if release_by not in get_args(ReleaseBy):
        raise UsageError(f'release_by={release_by!r}: use "sensor" or "automation"')
    by_role = _by_role(model, assets, plain=bool(recorded_by))
    upstream = [item.key for item in by_role.get("evaluation") or by_role.get("training", [])]
    upstream += [model.where.upstream(item) for item in recorded_by]
    deployments = by_role.get("deployment", [])
    package_key = model.package_key
    lanes = lanes_of(model.key, package_key, deployments, model.target)
    first = lanes[0] if lanes else Lane(model.target, package_key, sign_off_key(package_key))
    package = package_asset(model, upstream, first.target, first.enforces)
    guards = [sign_off_check(model, package, lane) for lane in lanes or [first]]
    guards += coverage_checks(model, lenient=release_by == "automation")
    checks = [key for item in (*assets, *guards) for key in item.check_keys]
    sensors: list[dg.SensorDefinition] = [
        reconciliation_sensor(model, watched(by_role, package.key, model.where), checks, lanes or [first])
    ]
    if lanes:
        sensors.append(approval_sensor(model, lanes, request_releases=release_by == "sensor"))
    sensors.append(notification_sensor(model, lanes or [first]))
    if registry_is_set():
        sensors.append(registry_sensor(model, lanes or [first]))
    governed = list(assets)
    if release_by == "automation":
        governed = _automated(model, governed, lanes)
        sensors.append(_automation_sensor(model, lanes))
    return dg.Definitions(assets=[*governed, package], asset_checks=guards, sensors=sensors)


def _by_role(
    model: GovernedModel, assets: Sequence[dg.AssetsDefinition], *, plain: bool
) -> dict[str, list[dg.AssetsDefinition]]:
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
    for role in ("training", "evaluation"):
        if len(by_role.get(role, ())) > 1:
            raise UsageError(f"model {model.key!r} has more than one {role} asset")
    if "training" not in by_role and not plain:
        raise UsageError(f"model {model.key!r} has no training asset")
    return by_role


def release_condition() -> dg.AutomationCondition:
    """Return the condition that asks for a version's first deployment, once, after the blocking check passed on its package.

    It fails closed: a check that never ran, or ran on an earlier package, has not passed. A version that was deployed before
    is none of its business: nothing that Dagster sees tells a release that is due again from one that is done, so the
    approval sensor, which asks the ledger, requests those.
    """
    passed = dg.AutomationCondition.all_deps_blocking_checks_passed()
    return (
        passed.newly_true().since_last_handled()
        & passed
        & dg.AutomationCondition.missing()
        & ~dg.AutomationCondition.in_progress()
        & ~dg.AutomationCondition.any_deps_missing()
        & ~dg.AutomationCondition.any_deps_in_progress()
    ).with_label("sign_off passed")


def _automated(
    model: GovernedModel, assets: Sequence[dg.AssetsDefinition], lanes: Sequence[Lane]
) -> list[dg.AssetsDefinition]:
    """Return the assets with the release condition on the deployment."""
    if len(lanes) != 1:
        raise UsageError(
            f'model {model.key!r}: release_by="automation" needs exactly one deployment asset; with several targets every '
            'blocking check of the package would have to pass for each. Use release_by="sensor"'
        )

    def changed(spec: dg.AssetSpec) -> dg.AssetSpec:
        wanted = spec.key == lanes[0].deployment
        return spec.replace_attributes(automation_condition=release_condition()) if wanted else spec

    return [asset.map_asset_specs(changed) for asset in assets]


def _automation_sensor(model: GovernedModel, lanes: Sequence[Lane]) -> dg.SensorDefinition:
    """Dagster's own automation sensor is stopped by default, so the model brings one that runs."""
    return dg.AutomationConditionSensorDefinition(
        name=sensor_name(model.name, AUTOMATION),
        target=dg.AssetSelection.assets(*[lane.deployment for lane in lanes]),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=model.sensor_interval_seconds,
        tags={SENSOR_ROLE: AUTOMATION},
        description=f"Requests the deployment of {model.key} once the sign-off check passed.",
    )


def watched(
    by_role: Mapping[str, Sequence[dg.AssetsDefinition]], package: dg.AssetKey, space: Space
) -> dict[dg.AssetKey, Watched]:
    """Return the assets whose materializations the ledger must account for, with their roles: the datasets too."""
    found = {package: Watched("package")}
    for role, assets in by_role.items():
        for asset in assets:
            spec = next(iter(asset.specs))
            target = spec.metadata.get(TARGET_METADATA)
            found[spec.key] = Watched(role, str(target) if target else None)
            for name in spec.metadata.get(DATASETS_METADATA, ()):
                found[space.key(name)] = Watched("dataset")
    return found
