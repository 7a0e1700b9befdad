"""The one override point for how governed assets look in Dagster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from cognify_dagster.orchestration.names import SPACE_METADATA
from cognify_dagster.orchestration.spaces import Space

KINDS = {
    "dataset": {"dataset"},
    "training": {"python", "model"},
    "evaluation": {"python", "evaluation"},
    "package": {"pdf", "compliance"},
    "deployment": {"deployment"},
}


@dataclass(frozen=True)
class GovernedAssetData:
    """What is known about a governed asset before its spec is made. `role` is a key of `KINDS`."""

    role: str
    name: str
    model_key: str | None = None
    owner: str | None = None
    group: str | None = None
    description: str | None = None
    code_version: str | None = None
    deps: Sequence[dg.AssetKey | dg.AssetDep] = ()
    partitions_def: dg.PartitionsDefinition[Any] | None = None
    skippable: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    kinds: frozenset[str] = frozenset()
    tags: Mapping[str, str] = field(default_factory=dict)
    space: str = ""

    @property
    def key(self) -> dg.AssetKey:
        """The asset's key: its name, and before it the space if there is one."""
        return Space(self.space).key(self.name)


class GovernedModelTranslator:
    """Turns `GovernedAssetData` into a `dagster.AssetSpec`. Subclass it and override `get_asset_spec`.

    Examples:
        .. code-block:: python

            class Ours(GovernedModelTranslator):
                def get_asset_spec(self, data):
                    return super().get_asset_spec(data).replace_attributes(group_name="risk")
    """

    def get_asset_spec(self, data: GovernedAssetData) -> dg.AssetSpec:
        """Return the spec. Keep `deps`, `partitions_def` and `skippable`: the gate relies on them."""
        return dg.AssetSpec(
            key=data.key,
            deps=list(data.deps),
            description=data.description,
            group_name=data.group,
            owners=[data.owner] if data.owner else None,
            code_version=data.code_version,
            kinds=set(data.kinds) or KINDS.get(data.role, set()),
            partitions_def=data.partitions_def,
            skippable=data.skippable,
            metadata={
                "cognify/role": data.role,
                **({SPACE_METADATA: data.space} if data.space else {}),
                **data.metadata,
            },
            tags={"cognify/role": data.role, **data.tags},
        )
