"""One governed model declared twice, for two workspaces that share a Dagster instance: the same names in both."""

import json
from pathlib import Path

import dagster as dg

import cognify_dagster as cg
from cognify_dagster.evaluation.metrics import MetricValue

SPACES = ("emea", "us")


def build(space: str) -> dg.Definitions:
    """A model `tiny` with assets of fixed names, in a space."""
    tiny = cg.GovernedModel(
        key="tiny",
        owner="team:tests",
        risk_tier="high",
        intended_use="Show that two workspaces stay apart",
        out_of_scope="Anything else",
        limitations="200 made-up rows",
        failure_modes="Says little about a record",
        space=space,
    )

    @cg.dataset_snapshot(record_key="ID", label="late", space=space)
    def rows_train(ledger: cg.LedgerResource) -> str:
        return str(folder(ledger) / "data" / "tiny_train.parquet")

    @cg.dataset_snapshot(record_key="ID", label="late", space=space)
    def rows_holdout(ledger: cg.LedgerResource) -> str:
        return str(folder(ledger) / "data" / "tiny_holdout.parquet")

    @cg.training_run(tiny, datasets=["rows_train"])
    def scorer(run: cg.TrainingRecorder, rows_train: cg.Snapshot, ledger: cg.LedgerResource) -> Path:
        run.log_config({"seed": 7})
        path = folder(ledger) / "model.json"
        path.write_text(json.dumps({"rows": rows_train.table().num_rows}))
        return run.save_model(path)

    @cg.eval_suite(tiny, dataset="rows_holdout", gates="tiny_gates")
    def evaluation(scorer: cg.ModelVersion, rows_holdout: cg.Snapshot) -> cg.EvalResult:
        auc = MetricValue("auc", 0.9, 0.85, 0.95, rows_holdout.table().num_rows, "probability", True, "ranking")
        checks = {"fairness.SEX.ratio": 0.95, "data.overlap_records": 0}
        return cg.EvalResult(metrics=(auc,), protected_attributes=("SEX",), data_checks=checks, n=200)

    @cg.governed_deployment(tiny)
    def service(release: cg.Release, ledger: cg.LedgerResource) -> str:
        path = folder(ledger) / "live.json"
        path.write_bytes(release.model_path.read_bytes())
        return str(path)

    apart = cg.overlap_check(train="rows_train", holdout="rows_holdout", ignore=["ID", "late"], space=space)
    return dg.Definitions.merge(
        dg.Definitions(
            assets=[rows_train, rows_holdout],
            asset_checks=[apart],
            resources={f"ledger_{space}": cg.LedgerResource(space=space)},
        ),
        tiny.build_defs(assets=[scorer, evaluation, service]),
    )


def folder(ledger: cg.LedgerResource) -> Path:
    """The project folder of a workspace."""
    return ledger.open().config.path.parent


defs = dg.Definitions.merge(*(build(space) for space in SPACES))
