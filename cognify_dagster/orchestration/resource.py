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

from cognify_dagster.orchestration.names import UsageError
from cognify_dagster.workspace import Resident, Workspace, WorkspaceError, resident
from cognify_dagster.workspace.workspace import ENVIRONMENT_VARIABLE

_NOTHING = object()
_FORMS = (
    "ledger.record takes one of: dataset=…; model=…, file=…, trained_on=[…]; model=…, evaluation=…, evaluated_on=…. "
    "Call it once for each"
)


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
        dataset: Any = None,
        name: str | None = None,
        provenance: Any = None,
        record_key: str | None = None,
        label: str | None = None,
        group_columns: Sequence[str] = (),
        change_reason: str = "",
        model: Any = None,
        file: str | os.PathLike[str] | None = None,
        version: str | None = None,
        trained_on: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        selection_note: str = "",
        evaluation: Any = None,
        evaluated_on: str = "",
        gates: str | None = None,
        ignore: Sequence[str] = (),
        protected_attributes: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        value: Any = _NOTHING,
    ) -> Iterator[dg.MaterializeResult]:
        """Record what an existing asset made; use it as `yield from ledger.record(context, …)`, in one of three forms.

        `dataset=` records data as a snapshot, `model=` with `file=` and `trained_on=` seals a training, and `model=` with
        `evaluation=` and `evaluated_on=` an evaluation. A training is version `run-<id of the run>` of its model, or the partition
        where the asset is partitioned by the model's versions.

        Args:
            context: the asset's context.
            dataset: path, fsspec URL or table; or a mapping of dataset names to these, where the asset makes several.
            name: dataset name; the asset's name unless given, with the partition if it has one (`loans@2026-01`).
            provenance: a `Provenance`; an empty one records what is missing.
            record_key: column that names each record.
            label: label column.
            group_columns: columns to count groups by.
            change_reason: why this version differs from the one before.
            model: the `GovernedModel`, or the key of one that is registered.
            file: the saved model: of a training what it saved, of an evaluation what it evaluated. An evaluation without it is
                of the version that the same run trained.
            version: the version, where it is not to be found as above.
            trained_on: names of the snapshots it was trained on.
            config: settings of the training.
            metrics: final values of the training.
            selection_note: why this configuration was chosen.
            evaluation: an `EvalResult`, or a mapping of metric names to numbers.
            evaluated_on: name of the snapshot it was evaluated on. It is compared with the training data first, if it never was.
            gates: name of the gate set; the model's only one unless given.
            ignore: columns left out of that comparison; key and label unless given.
            protected_attributes: those that were evaluated, where the results do not say so.
            metadata: further metadata to show.
            value: what the asset passes on to others through its IO manager.

        Raises:
            UsageError: if the arguments are of none of the forms, or of several.
        """
        from cognify_dagster.orchestration.recording import Recording

        form = Recording(self, context)
        if (dataset is None) == (model is None):
            raise UsageError(_FORMS)
        if dataset is not None:
            options = {
                "provenance": provenance,
                "record_key": record_key,
                "label": label,
                "group_columns": tuple(group_columns),
                "change_reason": change_reason,
            }
            result = form.dataset(dataset, name, options)
        elif evaluation is not None and evaluated_on:
            result = form.evaluation(
                model,
                evaluation,
                evaluated_on,
                file=Path(file) if file is not None else None,
                version=version,
                gates=gates,
                ignore=tuple(ignore),
                protected_attributes=tuple(protected_attributes),
            )
        elif file is not None and evaluation is None:
            logged = {"config": config, "metrics": metrics, "selection_note": selection_note}
            result = form.training(model, Path(file), trained_on, version=version, logged=logged)
        else:
            raise UsageError(_FORMS)
        shown = {**(result.metadata or {}), **(metadata or {})}
        yield result._replace(metadata=shown, **({} if value is _NOTHING else {"value": value}))

    @contextmanager
    def attach(
        self,
        context: dg.AssetExecutionContext,
        *,
        model: Any,
        trained_on: Sequence[str],
        version: str | None = None,
    ) -> Iterator[Any]:
        """Govern the training inside the block; the asset's function goes on as it was and returns what it returned.

        The handle has the methods of a `TrainingRecorder` (`log_config`, `log_metric`, `save_model`, …) besides `version` and
        `datasets`; `cognify_dagster.sdk.run()` inside the block writes to the same record. The run is sealed when the block ends, and
        an error in it is recorded as a failed training.

        Args:
            context: the asset's context.
            model: the `GovernedModel`, or the key of one that is registered.
            trained_on: names of the snapshots it trains on.
            version: the version; see `record` unless given.

        Examples:
            .. code-block:: python

                with ledger.attach(context, model=digits, trained_on=["digits_train"]) as run:
                    run.log_metric("accuracy", 0.97)
                    run.save_model("model.joblib")
        """
        from cognify_dagster.orchestration.plain import attached
        from cognify_dagster.orchestration.refusal import refuse_on

        with refuse_on(context), attached(context, self.open(), model, trained_on, version) as handle:
            yield handle
