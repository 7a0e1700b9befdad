"""`LedgerResource`: gives assets, checks and sensors the workspace.

Setting it up opens nothing and writes nothing: each use opens the workspace anew in its own process, so that step processes,
retries and forks never share a connection.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from cognify_dagster.workspace import Resident, Workspace, WorkspaceError, resident
from cognify_dagster.workspace.workspace import ENVIRONMENT_VARIABLE


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
            "directory of the code location. The environment variable COGNIFY_WORKSPACE overrides it (of a space, see there)."
        ),
    )

    space: str = Field(
        default="",
        description=(
            "Where a code location has several workspaces: the name of the space that this one serves, as in "
            'GovernedModel(space="emea"). Its resource key is then ledger_emea, and the environment variable is COGNIFY_WORKSPACE_EMEA.'
        ),
    )
    origin: str = Field(
        default="",
        description="The ledger's origin. If it is given, a workspace with any other ledger is refused.",
    )

    @property
    def place(self) -> Path:
        """Where the workspace is looked up."""
        variable = f"{ENVIRONMENT_VARIABLE}_{self.space.upper()}" if self.space else ENVIRONMENT_VARIABLE
        return Path(os.environ.get(variable) or self.workspace)

    def open(self) -> Workspace:
        """Open the workspace.

        Raises:
            WorkspaceError: if there is none, or its ledger is not the one that `origin` names; the message says what to do.
        """
        return self._required(Workspace.open(self.place))

    @contextmanager
    def resident(self) -> Iterator[Resident]:
        """Lend the workspace as this process keeps it open between the ticks of its sensors; raises as `open`."""
        with resident(self.place) as found:
            self._required(found.workspace)
            yield found

    def _required(self, workspace: Workspace) -> Workspace:
        if self.origin and workspace.origin != self.origin:
            raise WorkspaceError(
                f"{workspace.config.path}: this is the ledger {workspace.origin}, but the resource is for {self.origin}. Set its "
                "workspace, or the environment variable that overrides it, to the right folder"
            )
        return workspace

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
            name: dataset name; the asset's name unless given, with the partition if it has one (`loans@2026-01`).
            provenance: a `Provenance`; an empty one records what is missing.
            record_key: column that names each record.
            label: label column.
            group_columns: columns to count groups by.
            change_reason: why this version differs from the one before.
            metadata: further metadata to show.
        """
        from cognify_dagster.datasets import Provenance
        from cognify_dagster.datasets.partitions import partition_name
        from cognify_dagster.orchestration._compat import partition_key
        from cognify_dagster.orchestration.datasets import SnapshotOptions, snapshot_result

        own, key = context.asset_key.path[-1], partition_key(context)
        options = SnapshotOptions(
            name=name or (own if key is None else partition_name(own, key)),
            provenance=provenance or Provenance(),
            record_key=record_key,
            label=label,
            group_columns=tuple(group_columns),
            change_reason=change_reason,
        )
        result = snapshot_result(context, self.open(), dataset, options, context.asset_key)
        yield result._replace(metadata={**(result.metadata or {}), **(metadata or {})})
