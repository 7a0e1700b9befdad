"""`python -m cognify_dagster.orchestration.rerun`: materializes one asset again, in a scratch workspace. `cognify reproduce` runs it.

Invariants: it refuses any ledger but a scratch one (origin `reproduce.local/…`), so it never writes to a real ledger; the Dagster instance
lives in memory; every `LedgerResource` of the project is replaced by one of the scratch workspace.
"""

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg

from cognify_dagster.orchestration._compat import assets_of
from cognify_dagster.orchestration.names import UsageError
from cognify_dagster.orchestration.resource import LedgerResource
from cognify_dagster.training.reproducing import SCRATCH_ORIGIN
from cognify_dagster.workspace import Workspace
from cognify_dagster.workspace.workspace import ENVIRONMENT_VARIABLE


def load(module: str, file: Path) -> ModuleType:
    """Import the module that an asset was defined in: by its name, or from its file where no such module can be found.

    Raises:
        UsageError: if neither is there.
    """
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is not None and module != "__main__":
        return importlib.import_module(module)
    if not file.is_file():
        raise UsageError(f"neither module {module!r} nor file {file} is in {Path.cwd()}")
    sys.path.insert(0, str(file.parent.absolute()))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file}: not a Python file")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def find(module: ModuleType) -> tuple[list[dg.AssetsDefinition], dict[str, Any]]:
    """Return the assets and resources of a module: those of its `Definitions`, and assets that it holds besides."""
    assets: dict[str, dg.AssetsDefinition] = {}
    resources: dict[str, Any] = {}
    for value in list(vars(module).values()):
        if isinstance(value, dg.Definitions):
            resources |= dict(value.resources or {})
            for item in assets_of(value):
                assets.setdefault(str(item.key if len(item.keys) == 1 else sorted(item.keys)), item)
    for value in list(vars(module).values()):
        if isinstance(value, dg.AssetsDefinition):
            assets.setdefault(str(value.key if len(value.keys) == 1 else sorted(value.keys)), value)
    return list(assets.values()), resources


def scratch_resources(resources: Mapping[str, Any], workspace: Path) -> dict[str, Any]:
    """Return the resources with every ledger replaced by the scratch one; the key "ledger" is always there."""
    made: dict[str, Any] = {"ledger": LedgerResource(workspace=str(workspace))}
    for key, value in resources.items():
        made[key] = (
            LedgerResource(workspace=str(workspace), space=value.space) if isinstance(value, LedgerResource) else value
        )
        if isinstance(value, LedgerResource) and value.space:
            os.environ[f"{ENVIRONMENT_VARIABLE}_{value.space.upper()}"] = str(workspace)
    return made


def materialize(
    assets: Sequence[dg.AssetsDefinition],
    resources: Mapping[str, Any],
    key: dg.AssetKey,
    partition: str | None,
    upstream: bool,
) -> bool:
    """Materialize an asset, or it and what it is made from, on an instance in memory; return whether that went well.

    Raises:
        UsageError: if there is no such asset.
    """
    target = next((item for item in assets if key in item.keys), None)
    if target is None:
        known = ", ".join(sorted(one.to_user_string() for item in assets for one in item.keys)) or "none"
        raise UsageError(f"there is no asset {key.to_user_string()!r} in the module; it has: {known}")
    selection = dg.AssetSelection.assets(key)
    chosen = selection.upstream() if upstream else selection
    with dg.DagsterInstance.ephemeral() as instance:
        definition = target.partitions_def
        if partition is not None and isinstance(definition, dg.DynamicPartitionsDefinition) and definition.name:
            instance.add_dynamic_partitions(definition.name, [partition])
        done = dg.materialize(
            list(assets),
            selection=chosen,
            resources=dict(resources),
            instance=instance,
            partition_key=partition,
            raise_on_error=False,
            tags={"user": "reproduction"},
        )
    return done.success


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m cognify_dagster.orchestration.rerun", description=__doc__)
    parser.add_argument("--module", required=True)
    parser.add_argument("--file", required=True, type=Path)
    parser.add_argument("--asset", required=True)
    parser.add_argument("--partition")
    parser.add_argument("--upstream", action="store_true")
    given = parser.parse_args(arguments)
    place = os.environ.get(ENVIRONMENT_VARIABLE)
    if not place or not Workspace.open(place).origin.startswith(SCRATCH_ORIGIN):
        print(
            f"refused: ${ENVIRONMENT_VARIABLE} must name a scratch workspace; use `cognify reproduce MODEL VERSION`",
            file=sys.stderr,
        )
        return 5
    try:
        assets, resources = find(load(given.module, given.file))
        key = dg.AssetKey(given.asset.split("/"))
        done = materialize(assets, scratch_resources(resources, Path(place)), key, given.partition, given.upstream)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 5
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
