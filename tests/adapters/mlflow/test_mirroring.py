"""An MLflow run becomes a record: what it holds, what is refused, and that the same run is sealed once."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.instrument.mlflow import compare, mirror
from cognify_dagster.instrument.sdk.errors import SdkError
from cognify_dagster.instrument.trackers import RunNotFound, TrackerError, TrackerUnreachable
from cognify_dagster.records import ExperimentRun, TrainingFailed, TrainingRun, VersionOpened
from tests.adapters.mlflow.conftest import MODEL_FILES, Bank, Server, log_run
from tests.governance.world import MODEL


def sealed(bank: Bank, seq: int) -> TrainingRun:
    item = bank.workspace.read().find(TrainingRun, seq)
    assert item is not None
    return item.record


def evidence(bank: Bank, digest: str) -> Any:
    return json.loads(bank.workspace.evidence.get(digest))


def test_a_run_of_a_real_script_becomes_a_record_with_everything_it_logged(server: Server, bank: Bank) -> None:
    import mlflow
    import numpy as np
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

    mlflow.set_tracking_uri(server.uri)
    try:
        mlflow.set_experiment("credit")
        with mlflow.start_run(run_name="first") as run:
            mlflow.log_params({"C": 0.5, "fit_intercept": True, "random_state": 7})
            for step, loss in enumerate((0.9, 0.4, 0.3)):
                mlflow.log_metric("train loss", loss, step=step)
            mlflow.log_text("a curve", "plots/roc.txt")
            mlflow.log_input(mlflow.data.from_pandas(pd.DataFrame({"a": [1.0]}), name="loans"), context="training")
            fitted = LogisticRegression(C=0.5).fit(np.array([[0.0], [1.0]]), [0, 1])
            mlflow.sklearn.log_model(fitted, name="model", pip_requirements=["scikit-learn==1.9.1"])
    finally:
        mlflow.set_tracking_uri(None)

    run_id = run.info.run_id
    done = mirror(run_id, workspace=bank.workspace, tracking_uri=server.uri, model=MODEL, datasets=bank.datasets)

    assert (done.version, done.kind, done.again) == ("1", "training_run", False)
    record = sealed(bank, done.entry)
    assert record.config == {"C": "0.5", "fit_intercept": "True", "random_state": "7"}
    assert record.seeds == {"random_state": 7}
    assert evidence(bank, record.metric_series.digest) == {"train_loss": [[0, 0.9], [1, 0.4], [2, 0.3]]}
    assert record.extra["metric_names"] == {"train_loss": "train loss"}
    assert record.metrics == {"train_loss": 0.3}
    assert [(ref.name, ref.role) for ref in record.datasets] == [("loans_train", "train"), ("loans_holdout", "holdout")]
    assert {item.name for item in record.model_files} == {
        "MLmodel", "conda.yaml", "model.skops", "python_env.yaml", "requirements.txt"
    }  # fmt: skip
    assert record.architecture["framework"] == "sklearn"
    assert [item.name for item in record.artefacts] == ["plots__roc.txt"]
    assert record.captured_by == "import"
    assert record.started_after_seq == bank.world.data["gates"] + 1
    link = record.external[0]
    assert (link.system, link.run, link.experiment, link.uri) == ("mlflow", run_id, "credit", server.uri)
    state = evidence(bank, link.snapshot.digest)
    assert [(one["name"], one["tags"]) for one in state["inputs"]] == [("loans", {"mlflow.data.context": "training"})]
    assert any("prove nothing" in note for note in done.notes)
    assert compare(workspace=bank.workspace, run_id=run_id, tracking_uri=server.uri).differences == ()


def test_the_same_run_is_sealed_once(server: Server, bank: Bank) -> None:
    run_id = log_run(server.uri, params={"lr": 1}, files=MODEL_FILES)
    call = {"workspace": bank.workspace, "tracking_uri": server.uri, "model": MODEL, "datasets": bank.datasets}
    first, again = mirror(run_id, **call), mirror(run_id, **call)
    assert (again.entry, again.version, again.again) == (first.entry, first.version, True)
    with pytest.raises(TrackerError, match=r"one run is one version"):
        mirror(run_id, **call, version="9")
    other = mirror(log_run(server.uri, files=MODEL_FILES), **call)
    assert other.version == "2"


def test_a_run_that_was_cut_off_while_mirrored_keeps_its_version(server: Server, bank: Bank) -> None:
    run_id = log_run(server.uri, files=MODEL_FILES)
    bank.world.write(VersionOpened(model=MODEL, version="7", run=f"mlflow:{run_id}", opened_by="unattributed"))
    done = mirror(run_id, workspace=bank.workspace, tracking_uri=server.uri, model=MODEL, datasets=bank.datasets)
    assert done.version == "7"


def test_values_that_json_does_not_know_and_all_of_unicode_are_kept(server: Server, bank: Bank) -> None:
    run_id = log_run(
        server.uri,
        params={"größe": "žluťoučký 🐎", "empty": ""},
        metrics={
            "bad": [float("nan"), 1.5],
            "huge": [float("inf"), float("-inf")],
            "f1/dev set": [0.5],
            "f1/dev_set": [0.7],
        },
        tags={"mlflow.note.content": "日本語"},
        files=MODEL_FILES,
        name="läuft",
    )
    done = mirror(run_id, workspace=bank.workspace, tracking_uri=server.uri, model=MODEL, datasets=bank.datasets)
    record = sealed(bank, done.entry)
    assert record.config["größe"] == "žluťoučký 🐎"
    series = evidence(bank, record.metric_series.digest)
    assert series["bad"] == [[0, "NaN"], [1, 1.5]]
    assert series["huge"] == [[0, "Infinity"], [1, "-Infinity"]]
    assert sorted(name for name in series if name.startswith("f1/")) == sorted(
        ["f1/dev_set", next(name for name, told in record.extra["metric_names"].items() if told == "f1/dev set")]
    )
    assert record.extra["import"]["name"] == "läuft"
    assert compare(workspace=bank.workspace, run_id=run_id, tracking_uri=server.uri).differences == ()


def test_ten_thousand_parameters(server: Server, bank: Bank) -> None:
    run_id = log_run(server.uri, files=MODEL_FILES)
    rows = ",".join(f"('p{number:05d}','{number}','{run_id}')" for number in range(10_000))
    assert server.edit(f"INSERT INTO params (key, value, run_uuid) VALUES {rows}") == 10_000
    done = mirror(run_id, workspace=bank.workspace, tracking_uri=server.uri, model=MODEL, datasets=bank.datasets)
    config = sealed(bank, done.entry).config
    assert (len(config), config["p09999"]) == (10_000, "9999")


def test_secrets_are_left_out_visibly(server: Server, bank: Bank) -> None:
    address = server.uri.replace("http://", "http://ben:hunter2@")
    run_id = log_run(
        server.uri,
        params={"api_key": "sk-abc", "db": "postgresql://u:hunter2@h/d", "max_tokens": 512},
        files=MODEL_FILES,
    )
    done = mirror(run_id, workspace=bank.workspace, tracking_uri=address, model=MODEL, datasets=bank.datasets)
    record = sealed(bank, done.entry)
    assert record.config["api_key"] == "[redacted]"
    assert record.config["max_tokens"] == "512"
    assert record.external[0].uri == server.uri
    kept = record.payload() + bank.workspace.evidence.get(record.external[0].snapshot.digest)
    assert b"hunter2" not in kept
    assert b"sk-abc" not in kept
    assert compare(workspace=bank.workspace, run_id=run_id, tracking_uri=address).differences == ()


def test_a_child_run_names_its_parent(server: Server, bank: Bank) -> None:
    parent = log_run(server.uri)
    child = log_run(server.uri, tags={"mlflow.parentRunId": parent}, files=MODEL_FILES)
    done = mirror(child, workspace=bank.workspace, tracking_uri=server.uri, model=MODEL, datasets=bank.datasets)
    assert sealed(bank, done.entry).extra["import"]["parent"] == parent


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_a_run_that_failed_is_a_record_and_no_version(server: Server, bank: Bank, status: str) -> None:
    run_id = log_run(server.uri, status=status)
    done = mirror(run_id, workspace=bank.workspace, tracking_uri=server.uri, model=MODEL)
    item = bank.workspace.read().find(TrainingFailed, done.entry)
    assert item is not None
    assert run_id in item.record.reason
    assert done.kind == "training_failed"


def test_an_experiment_needs_no_data_and_is_kept_once(server: Server, bank: Bank) -> None:
    run_id = log_run(server.uri, params={"lr": 1}, metrics={"auc": [0.5]})
    call = {"workspace": bank.workspace, "tracking_uri": server.uri, "experiment": MODEL}
    first, again = mirror(run_id, **call), mirror(run_id, **call)
    assert (again.entry, again.again) == (first.entry, True)
    item = bank.workspace.read().find(ExperimentRun, first.entry)
    assert item is not None
    assert item.record.config == {"lr": "1"}
    assert not bank.workspace.read().all(TrainingRun)
    assert compare(workspace=bank.workspace, run_id=run_id, tracking_uri=server.uri).differences == ()


def test_what_cannot_be_taken_over_is_refused_and_leaves_nothing(server: Server, bank: Bank) -> None:
    from mlflow import MlflowClient

    size = bank.workspace.ledger.size()
    good = log_run(server.uri, files=MODEL_FILES)
    deleted = log_run(server.uri, files=MODEL_FILES)
    MlflowClient(server.uri).delete_run(deleted)
    two = log_run(server.uri, files={**MODEL_FILES, "other/MLmodel": b"flavors: {}\n"})
    cases: list[tuple[type[Exception], str, str, dict[str, Any]]] = [
        (RunNotFound, "not found", "0" * 32, {}),
        (TrackerError, "no id of an MLflow run", "../etc/passwd", {}),
        (TrackerError, "has not ended", log_run(server.uri, status="RUNNING"), {}),
        (TrackerError, "is deleted", deleted, {}),
        (TrackerError, "logged no model", log_run(server.uri), {}),
        (TrackerError, "logged 2 models", two, {}),
        (TrackerError, "no model and no artifact 'nope'", good, {"artifact": "nope"}),
        (TrackerError, "no usable name", good, {"artifact": "../model"}),
        (TrackerError, "no model 'unknown_model'", good, {"model": "unknown_model"}),
        (TrackerError, "without dataset snapshots", good, {"datasets": []}),
        (SdkError, "never snapshotted", good, {"datasets": ["nothing"]}),
        (TrackerError, "is no role", good, {"datasets": ["loans_train=best"]}),
        (TrackerError, "trained on", good, {"datasets": ["loans_holdout=holdout"]}),
        (TrackerError, "either the model", good, {"experiment": MODEL}),
    ]
    for kind, text, run_id, changes in cases:
        call = {
            "workspace": bank.workspace,
            "tracking_uri": server.uri,
            "model": MODEL,
            "datasets": bank.datasets,
            **changes,
        }
        with pytest.raises(kind, match=text):
            mirror(run_id, **call)
    assert bank.workspace.ledger.size() == size
    named = mirror(
        two, workspace=bank.workspace, tracking_uri=server.uri, model=MODEL, datasets=bank.datasets, artifact="model"
    )
    assert len(sealed(bank, named.entry).model_files) == 3


def test_a_run_that_changes_while_it_is_read_is_refused(
    server: Server, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    run_id = log_run(server.uri, files=MODEL_FILES)
    plain, count = MlflowClient.get_run, iter(range(1000))

    def busy(self: Any, asked: str) -> Any:
        MlflowClient(server.uri).set_tag(run_id, "beat", str(next(count)))
        return plain(self, asked)

    monkeypatch.setattr(MlflowClient, "get_run", busy)
    with pytest.raises(TrackerError, match="changes while it is read"):
        mirror(run_id, workspace=bank.workspace, tracking_uri=server.uri, model=MODEL, datasets=bank.datasets)


def test_data_that_was_snapshotted_after_the_run_is_said_to_be(server: Server, bank: Bank) -> None:
    run_id = log_run(server.uri, files=MODEL_FILES)
    time.sleep(0.01)
    bank.world.snapshot("loans_later", "ef" * 32)
    done = mirror(run_id, workspace=bank.workspace, tracking_uri=server.uri, model=MODEL, datasets=["loans_later"])
    assert any("only after the run began" in note and "loans_later" in note for note in done.notes)
    assert sealed(bank, done.entry).extra["import"]["notes"] == list(done.notes)


def test_a_moment_that_mlflow_names_before_the_start_counts_as_the_start(server: Server, bank: Bank) -> None:
    """A run created late, with values of before: thresholds adopted in between count as adopted too late."""
    from mlflow import MlflowClient

    before = int(time.time() * 1000) - 3_600_000
    run_id = log_run(server.uri, files=MODEL_FILES, status="RUNNING")
    client = MlflowClient(server.uri)
    client.log_metric(run_id, "auc", 0.9, timestamp=before)
    client.set_terminated(run_id)
    done = mirror(run_id, workspace=bank.workspace, tracking_uri=server.uri, model=MODEL, datasets=bank.datasets)
    assert sealed(bank, done.entry).started_after_seq == 0


def test_stores_without_a_server(tmp_path: Path, bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for uri in (f"sqlite:///{tmp_path}/own.db", f"file://{tmp_path}/runs"):
        with pytest.raises(TrackerUnreachable, match="there is no MLflow store"):
            mirror("0" * 32, workspace=bank.workspace, tracking_uri=uri, model=MODEL)
        run_id = log_run(uri, params={"lr": 0.1}, metrics={"loss": [2, 1]}, files=MODEL_FILES)
        done = mirror(run_id, workspace=bank.workspace, tracking_uri=uri, model=MODEL, datasets=bank.datasets)
        record = sealed(bank, done.entry)
        digests = {item.name: item.digest for item in record.model_files}
        assert digests["model.bin"] == "sha256:" + hashlib.sha256(b"weights").hexdigest()
        assert compare(workspace=bank.workspace, run_id=run_id, tracking_uri=uri).differences == ()
    assert not (tmp_path / "mlflow.db").exists()


def test_a_store_that_gives_no_answer_says_so_in_time(bank: Bank) -> None:
    started = time.monotonic()
    with pytest.raises(TrackerUnreachable, match=r"http://127\.0\.0\.1:9 gives no usable answer") as caught:
        mirror("0" * 32, workspace=bank.workspace, tracking_uri="http://ben:hunter2@127.0.0.1:9", model=MODEL)
    assert "hunter2" not in str(caught.value)
    assert time.monotonic() - started < 30
