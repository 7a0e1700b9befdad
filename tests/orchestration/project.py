"""A tiny governed project: 200 rows, a model that is one number, and switches that tests turn on to make steps fail.

Everything it reads and writes lies under the project folder that `COGNIFY_WORKSPACE` names, so that a test which copies the
folder owns all of its state, in child processes too.
"""

import json
import os
from pathlib import Path

import dagster as dg

import cognify_dagster as cg
from cognify_dagster.evaluation.metrics import MetricValue

FACTS = {
    "model_kind": "traditional",
    "industry": "banking",
    "jurisdiction": "US",
    "used_in_credit_decision": True,
    "generative": False,
}
PROVENANCE = cg.Provenance(
    source="made up for tests", owner="team:tests", licence="CC0 1.0", collected_unknown="made up", jurisdiction="none"
)

DATA = ("tiny_train", "tiny_holdout")
BUILD = ("tiny_model", "tiny_eval", "tiny_package")
SERVICE = "tiny_service"

tiny = cg.GovernedModel(
    key="tiny",
    title="Tiny model",
    owner="team:tests",
    risk_tier="high",
    frameworks=["sr26-2"],
    framework_facts=FACTS,
    intended_use="Show that the gate works",
    out_of_scope="Anything that is not a test",
    limitations="200 made-up rows",
    failure_modes="The mean says little about a record",
    protected_attributes=["SEX"],
    sensor_interval_seconds=5,
)


def place() -> Path:
    """The project folder of this test."""
    return Path(os.environ["COGNIFY_WORKSPACE"])


def switch(name: str) -> Path:
    """A file that changes what a step does."""
    return place() / "switches" / name


def enter(step: str) -> None:
    """Note that a user function was entered, and fail as often as its switch says."""
    with open(place() / "entered.txt", "a", encoding="utf-8") as stream:
        stream.write(f"{step}\n")
    path = switch(f"fail-{step}")
    left = int(path.read_text()) if path.exists() else 0
    if left:
        path.write_text(str(left - 1))
        raise RuntimeError(f"{step} fails on purpose")


def write_data(folder: Path, *, shared: int = 0, rows: int = 200) -> None:
    """Write training and holdout data; `shared` holdout rows are copies of training rows under other keys."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    for name, start in (("tiny_train", 0), ("tiny_holdout", rows)):
        numbers = list(range(start, start + rows))
        labels = [number % 4 == 0 for number in numbers]
        values = [float(number) + (1000.0 if label else 0.0) for number, label in zip(numbers, labels, strict=True)]
        if name == "tiny_holdout":
            for index in range(shared):
                values[index], labels[index] = (1000.0, True) if index == 0 else (float(4 * index + 1), False)
        table = pa.table(
            {
                "ID": numbers,
                "amount": values,
                "SEX": ["f" if number % 2 else "m" for number in values],
                "late": [int(label) for label in labels],
            }
        )
        pq.write_table(table, folder / f"{name}.parquet")


@cg.dataset_snapshot(
    record_key="ID",
    label="late",
    group_columns=["SEX"],
    provenance=PROVENANCE,
    owners=["team:tests"],
    change_reason="for this test",
)
def tiny_train() -> str:
    """The training data."""
    return str(place() / "data" / "tiny_train.parquet")


@cg.dataset_snapshot(
    record_key="ID",
    label="late",
    group_columns=["SEX"],
    provenance=PROVENANCE,
    owners=["team:tests"],
    change_reason="for this test",
)
def tiny_holdout() -> str:
    """The holdout data."""
    return str(place() / "data" / "tiny_holdout.parquet")


no_overlap = cg.overlap_check(train="tiny_train", holdout="tiny_holdout", ignore=["ID", "late"])


@cg.training_run(tiny, datasets=["tiny_train"], retry_policy=dg.RetryPolicy(max_retries=1))
def tiny_model(run: cg.TrainingRecorder, tiny_train: cg.Snapshot, version: str) -> Path:
    """The mean amount, which is a model of sorts."""
    enter("training")
    seed = int(switch("seed").read_text()) if switch("seed").exists() else 7
    run.log_config({"seed": seed, "version": version})
    if switch("mlflow").exists():
        run.log_extra("mlflow", json.loads(switch("mlflow").read_text()))
    amounts = tiny_train.table()["amount"].to_pylist()
    path = place() / "models" / f"tiny-{version}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"cut": sum(amounts) / len(amounts), "version": version}))
    run.log_metric("rows", len(amounts))
    return run.save_model(path)


@cg.eval_suite(tiny, dataset="tiny_holdout", gates="tiny_gates", retry_policy=dg.RetryPolicy(max_retries=1))
def tiny_eval(tiny_model: cg.ModelVersion, tiny_holdout: cg.Snapshot) -> cg.EvalResult:
    """How well the mean separates, by pairs."""
    enter("evaluation")
    json.loads(tiny_model.path.read_text())
    rows = tiny_holdout.table().to_pylist()
    late = [row["amount"] for row in rows if row["late"]]
    paid = [row["amount"] for row in rows if not row["late"]]
    auc = sum(a > b for a in late for b in paid) / (len(late) * len(paid))
    metric = MetricValue("auc", auc, auc - 0.01, min(1.0, auc + 0.01), len(rows), "probability", True, "ranking")
    ratio = 0.5 if switch("unfair").exists() else 0.95
    return cg.EvalResult(
        metrics=(metric,), protected_attributes=("SEX",), data_checks={"fairness.SEX.ratio": ratio}, n=len(rows)
    )


@cg.governed_deployment(tiny, target="production", retry_policy=dg.RetryPolicy(max_retries=2))
def tiny_service(release: cg.Release) -> dict[str, str]:
    """Copies the released file to where a service would read it."""
    enter("deployment")
    path = place() / "live" / "tiny.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(release.model_path.read_bytes())
    return {"location": str(path), "digest": release.model_digest}


defs = dg.Definitions.merge(
    dg.Definitions(
        assets=[tiny_train, tiny_holdout],
        asset_checks=[no_overlap],
        jobs=[
            dg.define_asset_job("tiny_data", selection=dg.AssetSelection.assets(*DATA)),
            dg.define_asset_job("tiny_version", selection=dg.AssetSelection.assets(*BUILD, SERVICE)),
        ],
        resources={"ledger": cg.LedgerResource()},
    ),
    tiny.build_defs(assets=[tiny_model, tiny_eval, tiny_service]),
)


def version_job() -> dg.JobDefinition:
    """Everything about one version, as a job that child processes can rebuild."""
    return defs.resolve_job_def("tiny_version")
