"""`LedgerResource`: gives assets, checks and sensors the workspace.

Setting it up opens nothing and writes nothing: each use opens the workspace anew in its own process, so that step processes,
retries and forks never share a connection.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from cognify_dagster.workspace import Workspace


class LedgerResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The workspace that governed assets record to.

    Examples:
        .. code-block:: python

            defs = dg.Definitions(assets=[...], resources={"ledger": LedgerResource(workspace=".cognify")})
    """

    workspace: str = Field(
        default=".cognify",
        description=(
            "The project folder, its .cognify folder or its cognify.toml. A relative path is looked up from the working "
            "directory of the code location. The environment variable COGNIFY_WORKSPACE overrides it."
        ),
    )

    def open(self) -> Workspace:
        """Open the workspace.

        Raises:
            WorkspaceError: if there is none; the message says how to create one.
        """
        return Workspace.open(Path(os.environ.get("COGNIFY_WORKSPACE") or self.workspace))

    def record(
        self,
        context: dg.AssetExecutionContext,
        *,
        dataset: Any,
        name: str | None = None,
        provenance: Any = None,
        record_key: str | None = None,
        label: str | None = None,
        group_columns: Sequence[str] = (),
        change_reason: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> Iterator[dg.MaterializeResult]:
        """Record what an existing asset produced as a dataset snapshot; use it as `yield from ledger.record(context, …)`.

        Args:
            context: the asset's context.
            dataset: path, fsspec URL or table.
            name: dataset name; the asset's name unless given.
            provenance: a `Provenance`; an empty one records what is missing.
            record_key: column that names each record.
            label: label column.
            group_columns: columns to count groups by.
            change_reason: why this version differs from the one before.
            metadata: further metadata to show.
        """
        from cognify_dagster.datasets import Provenance
        from cognify_dagster.orchestration.datasets import SnapshotOptions, snapshot_result

        options = SnapshotOptions(
            name=name or context.asset_key.path[-1],
            provenance=provenance or Provenance(),
            record_key=record_key,
            label=label,
            group_columns=tuple(group_columns),
            change_reason=change_reason,
        )
        result = snapshot_result(context, self.open(), dataset, options)
        yield result._replace(metadata={**(result.metadata or {}), **(metadata or {})})
