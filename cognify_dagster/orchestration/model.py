"""`GovernedModel`: a model under governance, and the Dagster definitions that come with it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import dagster as dg

from cognify_dagster.orchestration.names import UsageError
from cognify_dagster.orchestration.spaces import Space
from cognify_dagster.orchestration.translator import GovernedAssetData, GovernedModelTranslator
from cognify_dagster.records import ModelRegistered

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}")


@dataclass(frozen=True)
class GovernedModel:
    """A model under governance.

    Args:
        key: short name of letters, digits and underscores; names the partitions `<key>_versions`.
        owner: `team:…` or an e-mail address.
        risk_tier: a tier of the policy, such as "low", "medium" or "high".
        frameworks: ids of the frameworks in scope, such as "sr26-2".
        intended_use: what the model is for; most policies demand it.
        title: name for people.
        out_of_scope, limitations, failure_modes: further human-authored sections of package and model card.
        sections: folder of Markdown files, one a section, relative to the folder of `cognify.toml`; the package asset records them for
            the version that it builds.
        protected_attributes: attributes whose groups are compared.
        framework_facts: facts that decide which requirements apply, such as `{"jurisdiction": "US"}`.
        target: deployment target that the approval sensor releases to.
        translator: override point for names, groups, tags and descriptions of the assets.
        sensor_interval_seconds: how often the approval sensor looks.
        space: where several workspaces share a Dagster instance, the short name of this model's. Asset keys, groups, partitions,
            sensors and pools then carry it, and the ledger is that of the resource `ledger_<space>`.

    Examples:
        .. code-block:: python

            credit = GovernedModel(key="credit_default", owner="team:credit-risk", risk_tier="high",
                                   frameworks=["sr26-2", "fair-lending"], intended_use="Rank applications by risk")
    """

    key: str
    owner: str
    risk_tier: str
    frameworks: Sequence[str] = ()
    intended_use: str = ""
    title: str = ""
    out_of_scope: str = ""
    limitations: str = ""
    failure_modes: str = ""
    sections: str = ""
    protected_attributes: Sequence[str] = ()
    framework_facts: dict[str, Any] = field(default_factory=dict)
    target: str = "production"
    translator: GovernedModelTranslator = field(default_factory=GovernedModelTranslator)
    sensor_interval_seconds: int = 30
    space: str = ""

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise UsageError(
                f"model key {self.key!r}: use letters, digits and underscores, beginning with a letter, at most 80"
            )
        Space(self.space)

    @property
    def where(self) -> Space:
        """The space, which names everything in Dagster."""
        return Space(self.space)

    @property
    def name(self) -> str:
        """What partitions and sensors are named after: the key, and before it the space if there is one."""
        return self.where.named(self.key)

    @property
    def ledger(self) -> str:
        """The key of the resource that holds the workspace."""
        return self.where.ledger

    @property
    def partitions(self) -> dg.DynamicPartitionsDefinition:
        """The versions as Dagster partitions: a projection of the ledger, rebuilt by `cognify dagster resync`."""
        return dg.DynamicPartitionsDefinition(name=f"{self.name}_versions")

    @property
    def group(self) -> str:
        """The asset group."""
        return self.where.group(self.key)

    @property
    def package_key(self) -> dg.AssetKey:
        """Asset key of the compliance package."""
        return self.spec("package", f"{self.key}_package").key

    def definition(self) -> ModelRegistered:
        """The model's definition as a record."""
        return ModelRegistered(
            model=self.key,
            title=self.title or self.key,
            owner=self.owner,
            risk_tier=self.risk_tier,
            frameworks=tuple(self.frameworks),
            framework_facts=dict(self.framework_facts),
            intended_use=self.intended_use,
            out_of_scope=self.out_of_scope,
            limitations=self.limitations,
            failure_modes=self.failure_modes,
            protected_attributes=tuple(self.protected_attributes),
        )

    def spec(self, role: str, name: str, **defaults: Any) -> dg.AssetSpec:
        """Return the asset spec of one of the model's assets, after the translator had its say."""
        data = GovernedAssetData(
            model_key=self.key,
            owner=self.owner,
            group=self.group,
            role=role,
            name=name,
            **{**defaults, "space": self.space},
        )
        return self.translator.get_asset_spec(data)

    def build_defs(
        self,
        *,
        assets: Sequence[dg.AssetsDefinition],
        release_by: Literal["sensor", "automation"] = "sensor",
        recorded_by: Sequence[Any] = (),
    ) -> dg.Definitions:
        """Return everything that governs the given assets.

        Adds the package asset with its sign-off check, the approval, reconciliation and notification sensors (all running by
        default). The result holds no `ledger` resource: a project that forgets it fails at load, and several models merge.

        Args:
            assets: the model's training, evaluation and deployment assets, made by this package's decorators. There may be
                several deployments, each with a target of its own.
            release_by: who requests the release run: "sensor" is the approval sensor; with "automation" the deployment asset
                carries an automation condition that fires once the blocking sign-off check passed. Either only asks: the
                deployment's body decides.
            recorded_by: plain assets (definitions, keys or names) that record training and evaluation themselves with
                `ledger.record`; the package comes after them, and `assets` then needs no training.

        Raises:
            UsageError: if an asset belongs to another model, or there is more than one of a kind or for a target.
        """
        from cognify_dagster.orchestration.build import build_definitions

        return build_definitions(self, assets, release_by, recorded_by)
