"""The commands: what they print, and with which code they end."""

from __future__ import annotations

import pytest

from tests.adapters.mlflow.conftest import MODEL_FILES, Bank, Cognify, Server, log_run
from tests.governance.world import MODEL


def test_mirror_sync_and_compare_from_the_command_line(server: Server, bank: Bank, cognify: Cognify) -> None:
    from mlflow import MlflowClient

    run_id = log_run(server.uri, params={"lr": 0.1}, metrics={"auc": [0.8]}, files=MODEL_FILES)
    at = ("--tracking-uri", server.uri)
    data = [word for name in bank.datasets for word in ("--dataset", name)]
    done = cognify(
        "mlflow", "mirror", run_id, *at, "--model", MODEL, *data, "--note", "best of three", "--json", at=bank.world
    )
    assert done.code == 0, done.err
    assert (done.json["model"], done.json["version"], done.json["kind"]) == (MODEL, "1", "training_run")
    again = cognify("mlflow", "mirror", run_id, *at, "--model", MODEL, at=bank.world)
    assert (again.code, "nothing was written" in again.out) == (0, True)

    tagged = cognify("mlflow", "sync", MODEL, *at, at=bank.world)
    assert (tagged.code, "7 tags written" in tagged.out) == (0, True)
    same = cognify("mlflow", "compare", run_id, *at, at=bank.world)
    assert (same.code, "Both say the same" in same.out) == (0, True)

    bank.world.evaluate("1")
    built = cognify("package", "build", MODEL, "1", at=bank.world)
    assert built.code == 0, built.err
    shown = cognify("package", "show", MODEL, "1", at=bank.world)
    assert (shown.code, MODEL in shown.out) == (0, True), shown.err
    assert "gate_set_late" not in bank.world.codes("1"), "the run began after the thresholds were adopted"

    MlflowClient(server.uri).log_metric(run_id, "auc", 0.99, step=1)
    edited = cognify("mlflow", "compare", MODEL, "1", *at, "--json", at=bank.world)
    assert edited.code == 1
    assert [(one["kind"], one["name"], one["edited"]) for one in edited.json["differences"]] == [
        ("metric", "auc", True)
    ]
    shown = cognify("mlflow", "compare", MODEL, "1", *at, at=bank.world)
    assert (shown.code, "1 difference" in shown.out) == (1, True)


def test_codes_of_what_goes_wrong(
    server: Server, bank: Bank, cognify: Cognify, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = ("--tracking-uri", server.uri)
    unreachable = cognify(
        "mlflow", "mirror", "0" * 32, "--tracking-uri", "http://127.0.0.1:9", "--experiment", MODEL, at=bank.world
    )
    assert unreachable.code == 3
    assert "gives no usable answer" in unreachable.err
    missing = cognify("mlflow", "mirror", "0" * 32, *at, "--experiment", MODEL, at=bank.world)
    assert (missing.code, "not found" in missing.err) == (1, True)
    assert cognify("mlflow", "mirror", "0" * 32, *at, at=bank.world).code == 5
    assert cognify("mlflow", "mirror", "0" * 32, "--experiment", MODEL, at=bank.world).code == 5  # no address
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    assert cognify("mlflow", "compare", "0" * 32, at=bank.world).code == 1
