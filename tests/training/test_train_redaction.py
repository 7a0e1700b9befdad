"""The recorder that Dagster assets and imports write to replaces secrets by itself; it needs no help of the SDK."""

from __future__ import annotations

import json

import pytest

from cognify_dagster.records import TrainingFailed
from cognify_dagster.records.redaction import REDACTED
from cognify_dagster.training import TrainingError, TrainingRecorder
from cognify_dagster.training.recording import record_failure
from tests.governance.world import World


def test_nothing_that_a_training_states_keeps_a_secret() -> None:
    run = TrainingRecorder()
    run.log_config(
        {"password": "TOPSECRET", "headers": {"Authorization": "Bearer TOPSECRET"}, "lr": 0.1, "pad_token": "<pad>"}
    )
    run.log(wandb_key="TOPSECRET", note="see https://u:TOPSECRET@host/x")
    run.set_architecture("Net", framework="f", framework_version="1", hub_token="TOPSECRET")
    run.set_base_model("b", sha256="a" * 64, licence="x", source="https://u:TOPSECRET@host/b", api_key="TOPSECRET")
    run.note_selection("chosen with password='TOPSECRET TOPSECRET'")
    run.link_external("mlflow", "r1", uri="https://u:TOPSECRET@host/?token=TOPSECRET")
    facts = run.to_facts()["facts"]
    assert "TOPSECRET" not in json.dumps(facts)
    assert facts["config"] == {
        "password": REDACTED,
        "headers": {"Authorization": REDACTED},
        "lr": 0.1,
        "pad_token": "<pad>",
    }
    assert facts["extra"] == {"wandb_key": REDACTED, "note": f"see https://{REDACTED}@host/x"}
    assert facts["architecture"]["details"] == {"hub_token": REDACTED}
    assert facts["base_model"]["source"] == f"https://{REDACTED}@host/b"


def test_a_secret_may_be_another_on_a_second_call() -> None:
    run = TrainingRecorder()
    run.log_config({"api_key": "one"})
    run.log_config({"api_key": "two"})
    assert run.to_facts()["facts"]["config"] == {"api_key": REDACTED}


@pytest.mark.parametrize(
    "command",
    [["python", "t.py", "--token", "x"], ["python", "t.py", "--api-key=x"], ["curl", "-H", "Authorization: Bearer x"]],
)
def test_a_command_with_a_secret_is_no_way_to_run_again(command: list[str]) -> None:
    run = TrainingRecorder()
    with pytest.raises(TrainingError, match=r"rerun\.command: it holds a secret"):
        run.set_rerun(command)
    assert run.rerun == {}
    run.set_rerun(["python", "train.py", "--max_tokens", "8", "--record-key", "loan_identifier_number"])


def test_the_reason_of_a_failure_is_kept_without_secrets(founded: World) -> None:
    record_failure(
        founded.workspace, "credit", "1", run="r", attempt=0, reason="cannot reach postgres://u:TOPSECRET@db/x"
    )
    (item,) = founded.workspace.read().all(TrainingFailed)
    assert item.record.reason == f"cannot reach postgres://{REDACTED}@db/x"
