"""A lane: one deployment asset of a model, the target it installs to, and the check that guards it.

A model may have several, such as a canary and production; each takes its own grant.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from cognify_dagster.orchestration.calls import UsageError
from cognify_dagster.orchestration.deployment import ENFORCES_METADATA, TARGET_METADATA

SIGN_OFF = "sign_off"


@dataclass(frozen=True)
class Lane:
    """Where a version may go. `enforces` are the kinds of condition that the deployment says it enforces."""

    target: str
    deployment: dg.AssetKey
    check: dg.AssetCheckKey
    enforces: tuple[str, ...] = ()


def lanes_of(model: str, package: dg.AssetKey, deployments: Sequence[dg.AssetsDefinition], first: str) -> list[Lane]:
    """Return the lanes of a model, that of the target `first` (or else of the first deployment) in front.

    The first lane's check is `sign_off`, that of another `sign_off_<target>`.

    Raises:
        UsageError: if two deployments have one target.
    """
    specs = [next(iter(item.specs)) for item in deployments]
    targets = [str(spec.metadata[TARGET_METADATA]) for spec in specs]
    for target in targets:
        if targets.count(target) > 1:
            raise UsageError(f"model {model!r} has more than one deployment asset for target {target!r}")
    order = sorted(range(len(specs)), key=lambda index: targets[index] != first)
    return [
        Lane(
            targets[index],
            specs[index].key,
            sign_off_key(package, targets[index] if place else None),
            tuple(specs[index].metadata.get(ENFORCES_METADATA, ())),
        )
        for place, index in enumerate(order)
    ]


def sign_off_key(package: dg.AssetKey, target: str | None = None) -> dg.AssetCheckKey:
    """Return the key of the sign-off check: of the first lane, or of the lane of a target besides it."""
    return dg.AssetCheckKey(package, SIGN_OFF + (f"_{re.sub('[^A-Za-z0-9_]', '_', target)}" if target else ""))
