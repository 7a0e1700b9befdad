"""What was changed in MLflow after a record was sealed is found, each kind of change, and nothing else is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from cognify_dagster.instrument.mlflow import Comparison, compare, mirror, sync
from cognify_dagster.instrument.trackers import TrackerError
from cognify_dagster.records import TrainingRun
from tests.adapters.mlflow.conftest import MODEL_FILES, Bank, Server, log_run
from tests.governance.world import MODEL


def mirrored(bank: Bank, server: Server) -> str:
    run_id = log_run(
        server.uri,
        params={"lr": 0.1, "depth": 3},
        metrics={"loss": [0.9, 0.5], "auc": [0.7]},
        tags={"team": "risk", "stage": "dev"},
        files=MODEL_FILES,
    )
    mirror(run_id, workspace=bank.workspace, tracking_uri=server.uri, model=MODEL, datasets=bank.datasets)
    return run_id


def found(bank: Bank, server: Server, run_id: str, **options: bool) -> Comparison:
    return compare(workspace=bank.workspace, run_id=run_id, tracking_uri=server.uri, **options)


def test_every_change_after_sealing_is_listed_and_nothing_else(server: Server, bank: Bank, tmp_path: Path) -> None:
    import mlflow
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

    run_id = mirrored(bank, server)
    assert found(bank, server, run_id).equal

    client = MlflowClient(server.uri)
    client.log_metric(run_id, "loss", 0.1, step=2)  # appended
    client.log_metric(run_id, "f1", 0.99, step=0)  # new
    client.log_param(run_id, "later", "x")  # new
    client.set_tag(run_id, "team", "sales")  # changed
    client.delete_tag(run_id, "stage")  # removed
    client.update_run(run_id, name="renamed")
    changed = tmp_path / "roc.txt"
    changed.write_bytes(b"another plot")
    client.log_artifact(run_id, str(changed), "plots")  # replaced
    weights = tmp_path / "model.bin"
    weights.write_bytes(b"other weights")
    client.log_artifact(run_id, str(weights), "model")  # replaced
    client.log_text(run_id, "x", "new.txt")  # new
    data = mlflow.data.from_pandas(pd.DataFrame({"a": [1.0]}), name="other")
    client.log_inputs(run_id, [DatasetInput(data._to_mlflow_entity(), [])])
    # what MLflow itself would refuse, done in its database
    assert server.edit("UPDATE params SET value = '0.2' WHERE run_uuid = ? AND key = 'lr'", run_id) == 1
    assert server.edit("UPDATE metrics SET value = 0.95 WHERE run_uuid = ? AND key = 'auc'", run_id) == 1
    server.edit("UPDATE latest_metrics SET value = 0.95 WHERE run_uuid = ? AND key = 'auc'", run_id)

    result = found(bank, server, run_id)
    assert sorted((one.kind, one.name) for one in result.differences) == [
        ("artifact", "new.txt"),
        ("artifact", "plots/roc.txt"),
        ("dataset", "other"),
        ("metric", "auc"),
        ("metric", "f1"),
        ("metric", "loss"),
        ("model", "model.bin"),
        ("param", "later"),
        ("param", "lr"),
        ("run", "name"),
        ("tag", "mlflow.runName"),
        ("tag", "stage"),
        ("tag", "team"),
    ]
    assert all(one.edited for one in result.differences)
    by_name = {(one.kind, one.name): one for one in result.differences}
    lr = by_name["param", "lr"]
    assert (lr.record, lr.sealed, lr.now) == ("0.1", "0.1", "0.2")
    assert by_name["metric", "loss"].now.startswith("3 points, last 0.1 at step 2")
    assert by_name["tag", "stage"].now == "absent"


def test_a_value_inside_a_curve_that_leaves_its_last_one_alone_is_found(server: Server, bank: Bank) -> None:
    run_id = mirrored(bank, server)
    assert server.edit("UPDATE metrics SET value = 0.8 WHERE run_uuid = ? AND key = 'loss' AND step = 0", run_id) == 1
    assert [(one.kind, one.name) for one in found(bank, server, run_id).differences] == [("metric", "loss")]


def test_a_run_that_was_deleted_or_purged_is_found(server: Server, bank: Bank) -> None:
    from mlflow import MlflowClient

    run_id = mirrored(bank, server)
    MlflowClient(server.uri).delete_run(run_id)
    told = found(bank, server, run_id).differences
    assert [(one.kind, one.name, one.now) for one in told] == [("run", "lifecycle", "deleted")]
    for table in ("params", "metrics", "latest_metrics", "tags", "runs"):
        server.edit(f"DELETE FROM {table} WHERE run_uuid = ?", run_id)
    told = found(bank, server, run_id).differences
    assert [(one.kind, one.now) for one in told] == [("run", "not there")]


def test_a_logged_model_whose_file_was_replaced_is_found(server: Server, bank: Bank, tmp_path: Path) -> None:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModelOutput

    client = MlflowClient(server.uri)
    run_id = log_run(server.uri, status="RUNNING")
    ids = []
    for name, weights in (("net", b"weights"), ("other", b"x")):
        model = client.create_logged_model("0", name=name, source_run_id=run_id)
        folder = tmp_path / name
        folder.mkdir()
        (folder / "MLmodel").write_bytes(MODEL_FILES["model/MLmodel"])
        (folder / "model.bin").write_bytes(weights)
        client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        ids.append(model.model_id)
    client.set_terminated(run_id)
    call = {"workspace": bank.workspace, "tracking_uri": server.uri, "model": MODEL, "datasets": bank.datasets}
    with pytest.raises(TrackerError, match="logged 2 models"):
        mirror(run_id, **call)
    mirror(run_id, **call, artifact="net")
    assert found(bank, server, run_id).equal

    (tmp_path / "net" / "model.bin").write_bytes(b"other weights")
    client.log_model_artifacts(ids[0], str(tmp_path / "net"))
    told = found(bank, server, run_id)
    assert [(one.kind, one.name) for one in told.differences] == [("model", "model.bin")]
    without = found(bank, server, run_id, files=False)
    assert without.equal
    assert any("not compared" in note for note in without.notes)
    client.delete_logged_model(ids[0])
    gone = found(bank, server, run_id).differences
    assert [(one.kind, one.name, one.sealed, one.now) for one in gone] == [("model", ids[0], "net", "absent")]


def test_tags_say_where_a_version_stands_and_twice_is_no_difference(server: Server, bank: Bank) -> None:
    from mlflow import MlflowClient

    run_id = mirrored(bank, server)
    client = MlflowClient(server.uri)
    (planned,) = sync(MODEL, workspace=bank.workspace, tracking_uri=server.uri, dry_run=True)
    assert not any(name.startswith("cognify.") for name in client.get_run(run_id).data.tags)

    (first,) = sync(MODEL, workspace=bank.workspace, tracking_uri=server.uri)
    (second,) = sync(MODEL, "1", workspace=bank.workspace, tracking_uri=server.uri)
    assert first.written == planned.written == tuple(sorted(first.tags))
    assert second.written == ()
    tags = client.get_run(run_id).data.tags
    item = bank.workspace.read().latest(TrainingRun, f"model/{MODEL}@1")
    assert item is not None
    assert tags["cognify.ledger"] == bank.workspace.origin
    assert (tags["cognify.entry"], tags["cognify.leaf"]) == (str(item.seq), item.leaf)
    assert (tags["cognify.model"], tags["cognify.version"], tags["cognify.package"]) == (MODEL, "1", "none")
    assert tags["cognify.status"].startswith("production: blocked | open ")
    assert "no_package" in tags["cognify.status"]
    assert found(bank, server, run_id).equal, "our own tags are no difference"

    bank.world.evaluate("1")
    bank.world.package("1")
    (later,) = sync(MODEL, workspace=bank.workspace, tracking_uri=server.uri)
    assert later.written == ("cognify.package", "cognify.status")
    assert later.tags["cognify.package"].startswith("sha256:")

    client.set_tag(run_id, "cognify.leaf", "0" * 64)
    client.set_tag(run_id, "cognify.status", "production: live")
    told = found(bank, server, run_id).differences
    assert [(one.kind, one.name, one.now) for one in told] == [("link", "cognify.leaf", "0" * 64)]
    (mended,) = sync(MODEL, workspace=bank.workspace, tracking_uri=server.uri)
    assert mended.written == ("cognify.leaf", "cognify.status")


def test_what_cannot_be_compared_or_tagged_is_said(server: Server, bank: Bank) -> None:
    from mlflow import MlflowClient

    run_id = log_run(server.uri, files=MODEL_FILES)
    with pytest.raises(TrackerError, match="no record of this workspace names MLflow run"):
        found(bank, server, run_id)
    bank.world.train("1")
    with pytest.raises(TrackerError, match="names no MLflow run"):
        compare(workspace=bank.workspace, model=MODEL, version="1", tracking_uri=server.uri)
    with pytest.raises(TrackerError, match="no version '5'"):
        compare(workspace=bank.workspace, model=MODEL, version="5", tracking_uri=server.uri)
    with pytest.raises(TrackerError, match="mirror one with"):
        sync(MODEL, workspace=bank.workspace, tracking_uri=server.uri)
    with pytest.raises(TrackerError, match="no model 'other'"):
        sync("other", workspace=bank.workspace, tracking_uri=server.uri)
    mirror(run_id, workspace=bank.workspace, tracking_uri=server.uri, model=MODEL, datasets=bank.datasets)
    MlflowClient(server.uri).delete_run(run_id)
    with pytest.raises(TrackerError, match="is deleted in MLflow"):
        sync(MODEL, workspace=bank.workspace, tracking_uri=server.uri)
