"""The tiny project with a model that is a folder, datasets with roles, seeds and checkpoints; the same asset names."""

import json
import os
import signal
import time
from pathlib import Path

import dagster as dg

import cognify_dagster as cg
from tests.orchestration import project


@cg.training_run(project.tiny, datasets={"tiny_train": "train", "tiny_holdout": "holdout"}, name="tiny_model")
def folder_model(run: cg.TrainingRecorder, tiny_train: cg.Snapshot, version: str) -> Path:
    """The mean amount, in a folder, with a checkpoint on the way."""
    amounts = tiny_train.table()["amount"].to_pylist()
    run.log_config({"version": version})
    run.log_seeds(python=7, data=7)
    for step in (1, 2):
        checkpoint = project.place() / "checkpoints" / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True, exist_ok=True)
        (checkpoint / "state.json").write_text(json.dumps({"step": step}))
        run.log_checkpoint(checkpoint, step=step)
    folder = project.place() / "models" / f"tiny-{version}"
    (folder / "weights").mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"version": version}))
    (folder / "weights" / "cut.json").write_text(json.dumps(sum(amounts) / len(amounts)))
    return run.save_model(folder)


@cg.eval_suite(project.tiny, dataset="tiny_holdout", gates="tiny_gates", name="tiny_eval")
def folder_eval(tiny_model: cg.ModelVersion, tiny_holdout: cg.Snapshot) -> cg.EvalResult:
    """Reads the folder as it was saved, and measures."""
    assert json.loads((tiny_model.path / "config.json").read_text()) == {"version": tiny_model.version}
    cut = json.loads((tiny_model.path / "weights" / "cut.json").read_text())
    rows = tiny_holdout.table().to_pylist()
    right = sum((row["amount"] > cut) == bool(row["late"]) for row in rows) / len(rows)
    metric = project.MetricValue("auc", right, right, right, len(rows), "probability", True, "ranking")
    return cg.EvalResult(
        metrics=(metric,), protected_attributes=("SEX",), data_checks={"fairness.SEX.ratio": 0.95}, n=len(rows)
    )


@cg.governed_deployment(project.tiny, target="production", name="tiny_service")
def folder_service(release: cg.Release) -> dict[str, str]:
    """Installs the folder."""
    import shutil

    live = project.place() / "live"
    shutil.copytree(release.model_path, live)
    return {"location": str(live)}


def definitions(*assets: dg.AssetsDefinition) -> dg.Definitions:
    """The project with these assets in place of its own."""
    return dg.Definitions.merge(
        dg.Definitions(
            assets=[project.tiny_train, project.tiny_holdout],
            asset_checks=[project.no_overlap],
            resources={"ledger": cg.LedgerResource()},
        ),
        project.tiny.build_defs(assets=list(assets)),
    )


defs = definitions(folder_model, folder_eval, folder_service)


@cg.training_run(project.tiny, datasets=["tiny_train"], name="tiny_model")
def endless_model(run: cg.TrainingRecorder, tiny_train: cg.Snapshot) -> Path:
    """Kills its own process if a switch says so, else waits to be killed."""
    run.log_config({"seed": 7})
    (project.place() / "began").write_text(str(os.getpid()))
    if project.switch("kill-itself").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(120)
    raise AssertionError("nobody killed this run")


endless = dg.Definitions.merge(
    definitions(endless_model),
    dg.Definitions(jobs=[dg.define_asset_job("endless", selection=dg.AssetSelection.assets("tiny_model"))]),
)


def endless_job() -> dg.JobDefinition:
    """The endless training as a job that child processes can rebuild."""
    return endless.resolve_job_def("endless")


if __name__ == "__main__":  # a run process of its own, on the instance of DAGSTER_HOME
    with dg.DagsterInstance.get() as instance:
        endless_job().execute_in_process(instance=instance, partition_key="v1", tags={"user": "ben"})
