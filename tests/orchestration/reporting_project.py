"""The tiny project with a training that reports its own evaluation through the SDK. Run as a module it dies right after sealing."""

import json
import os

import dagster as dg

import cognify_dagster as cg
from tests.orchestration import project

RESULTS = {"auc": 0.8, "fairness.SEX.ratio": 0.9}


@cg.training_run(project.tiny, datasets=["tiny_train"], name="tiny_model")
def reporting_model(tiny_train: cg.Snapshot, version: str) -> None:
    """Saves a number and says how good it is."""
    from cognify_dagster.instrument import sdk

    project.enter("training")
    path = project.place() / "models" / f"tiny-{version}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"rows": tiny_train.table().num_rows}))
    run = sdk.run(config={"rate": 0.5})
    run.save_model(path)
    run.eval(RESULTS, "holdout-v1", protected_attributes=("SEX",))
    run.complete()


defs = dg.Definitions(
    assets=[project.tiny_train, project.tiny_holdout, reporting_model], resources={"ledger": cg.LedgerResource()}
)


def die_after_sealing() -> None:
    """Make this process end without a word once the training is in the ledger, as a killed pod does."""
    from cognify_dagster.workspace import Workspace

    append = Workspace.append

    def dying(self, record, **options):
        receipt = append(self, record, **options)
        if record.kind == "training_run":
            os._exit(9)
        return receipt

    Workspace.append = dying  # type: ignore[method-assign]


if __name__ == "__main__":
    die_after_sealing()
    with dg.DagsterInstance.get() as instance:
        job = defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection={dg.AssetKey("tiny_model")})
        job.execute_in_process(instance=instance, partition_key="v1", tags={"user": "ben"})
