"""`GovernedModelComponent`: a governed model in YAML. It calls the same factory as Python code does."""

import importlib

import dagster as dg

from cognify_dagster.orchestration.calls import UsageError
from cognify_dagster.orchestration.model import GovernedModel


class GovernedModelComponent(dg.Component, dg.Model, dg.Resolvable):
    """Builds the definitions of the governed model that a Python module declares.

    The module holds one `GovernedModel` and the assets made with it; YAML names it, so that a project in the `dg` layout finds
    it. The `ledger` resource is defined elsewhere in the project.

    Examples:
        .. code-block:: yaml

            type: cognify_dagster.components.GovernedModelComponent
            attributes:
              module: my_project.credit
    """

    module: str

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Import the module and return what `GovernedModel.build_defs` returns, plus its datasets and checks."""
        module = importlib.import_module(self.module)
        models = [value for value in vars(module).values() if isinstance(value, GovernedModel)]
        if len(models) != 1:
            raise UsageError(f"module {self.module!r} must hold exactly one GovernedModel, found {len(models)}")
        model = models[0]
        own: list[dg.AssetsDefinition] = []
        others: list[dg.AssetsDefinition] = []
        checks: list[dg.AssetChecksDefinition] = []
        for value in vars(module).values():
            if isinstance(value, dg.AssetChecksDefinition):
                checks.append(value)
            elif isinstance(value, dg.AssetsDefinition):
                spec = next(iter(value.specs))
                (own if spec.metadata.get("cognify/model") == model.key else others).append(value)
        return dg.Definitions.merge(dg.Definitions(assets=others, asset_checks=checks), model.build_defs(assets=own))
