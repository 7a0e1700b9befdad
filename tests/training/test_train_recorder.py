"""The recorder: what goes in comes out as JSON, and nothing changes after completion."""

from __future__ import annotations

import hashlib
import json
import threading
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.training import SealedError, TrainingError, TrainingRecorder


def facts(run: TrainingRecorder) -> dict:
    return run.to_facts()["facts"]


class Colour(Enum):
    RED = "red"


def test_config_is_coerced_to_plain_json():
    run = TrainingRecorder()
    run.log_config(
        {
            "lr": np.float32(0.5),
            "layers": np.array([1, 2]),
            "n": np.int64(3),
            "flag": np.bool_(True),
            "path": Path("a/b"),
            "colour": Colour.RED,
            "columns": {"b", "a"},
            "nan": float("nan"),
            "seed": 2**63,
            "nested": {"inf": [float("inf"), None]},
            1: "key",
        }
    )
    assert facts(run)["config"] == {
        "lr": 0.5,
        "layers": [1, 2],
        "n": 3,
        "flag": True,
        "path": "a/b",
        "colour": "red",
        "columns": ["a", "b"],
        "nan": "NaN",
        "seed": str(2**63),
        "nested": {"inf": ["Infinity", None]},
        "1": "key",
    }


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(codec="utf-8")),
        lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), x, max_size=4),
    )
)
def test_any_plain_value_becomes_json_that_canonical_json_can_hold(value):
    run = TrainingRecorder()
    run.log_config({"v": value})
    text = json.dumps(facts(run), allow_nan=False)
    assert json.loads(text)["config"] == facts(run)["config"]


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"a": {"model": object()}}, r"config\.a\.model"),
        ({"a": [1, lambda: 0]}, r"config\.a\[1\]"),
        ({"a": b"bytes"}, r"config\.a"),
        ({"a": np.array([object()])}, r"config\.a"),
        ({("x",): 1}, "keys have to be text"),
        ({"a": "\ud800"}, "not valid Unicode"),
        ([("a", 1)], "expected a mapping"),
    ],
)
def test_what_has_no_json_form_is_named(config, named):
    run = TrainingRecorder()
    with pytest.raises(TrainingError, match=named):
        run.log_config(config)
    assert facts(run)["config"] == {}


def test_a_reference_cycle_is_refused():
    cycle: list = []
    cycle.append(cycle)
    with pytest.raises(TrainingError, match="levels deep"):
        TrainingRecorder().log_config({"a": cycle})


def test_a_setting_cannot_get_a_second_value():
    run = TrainingRecorder()
    run.log_config({"lr": 0.1})
    run.log_config({"lr": 0.1, "depth": 3})
    with pytest.raises(TrainingError, match=r"config\.lr"):
        run.log_config({"lr": 0.2, "more": 1})
    assert facts(run)["config"] == {"lr": 0.1, "depth": 3}


def test_metrics_keep_their_curve_and_the_facts_name_its_digest():
    run = TrainingRecorder()
    for step, value in enumerate((0.9, 0.5, np.float32(0.25), float("nan"))):
        run.log_metric("train/loss", value, step=step)
    run.log_metric("auc", 1)
    series = run.metric_series()
    assert json.loads(series) == {"auc": [[None, 1.0]], "train/loss": [[0, 0.9], [1, 0.5], [2, 0.25], [3, "NaN"]]}
    found = facts(run)
    assert found["metric_series"] == {"sha256": hashlib.sha256(series).hexdigest(), "size": len(series)}
    assert found["metrics"]["train/loss"] == {
        "last": "NaN",
        "last_step": 3,
        "min": 0.25,
        "max": 0.9,
        "points": 4,
        "non_finite": 1,
    }


@pytest.mark.parametrize(
    ("name", "value", "step"),
    [
        ("", 1, None),
        ("a b", 1, None),
        ("a", "high", None),
        ("a", "0.5", None),
        ("a", True, None),
        ("a", None, None),
        ("a", [1], None),
        ("a", 1, 1.5),
        ("a", 1, True),
    ],
)
def test_unusable_metrics_are_refused(name, value, step):
    with pytest.raises(TrainingError, match="metric"):
        TrainingRecorder().log_metric(name, value, step=step)


def test_artifacts_are_named_by_digest_and_checked_when_read(tmp_path):
    run = TrainingRecorder()
    run.log_artifact("a.json", b"{}", "application/json")
    file = tmp_path / "plot.svg"
    file.write_text("<svg/>")
    run.log_artifact("plot.svg", file, "image/svg+xml")
    assert [(a["name"], a["size"], a["sha256"]) for a in facts(run)["artifacts"]] == [
        ("a.json", 2, hashlib.sha256(b"{}").hexdigest()),
        ("plot.svg", 6, hashlib.sha256(b"<svg/>").hexdigest()),
    ]
    assert [a.read() for a in run.artifacts] == [b"{}", b"<svg/>"]
    file.write_text("<svG/>")
    with pytest.raises(TrainingError, match="changed after it was logged"):
        run.artifacts[1].read()
    with pytest.raises(TrainingError, match="changed after it was logged"):
        run.complete()
    assert not run.sealed


@pytest.mark.parametrize(
    ("name", "media_type", "named"),
    [("../a", "text/plain", "plain file name"), ("a", "text", "media type"), ("a", "text/plain\r\nx: y", "media type")],
)
def test_unusable_artifacts_are_refused(name, media_type, named):
    with pytest.raises(TrainingError, match=named):
        TrainingRecorder().log_artifact(name, b"", media_type)


def test_an_artifact_name_stands_for_one_content():
    run = TrainingRecorder()
    run.log_artifact("a", b"1", "text/plain")
    run.log_artifact("a", b"1", "text/plain")
    with pytest.raises(TrainingError, match="other content"):
        run.log_artifact("a", b"2", "text/plain")


def test_architecture_and_base_model_are_stated():
    run = TrainingRecorder()
    run.set_architecture("HGB", framework="scikit-learn", framework_version="1.9", parameters=np.int64(5), trees=3)
    run.set_base_model("bert@1", sha256="0" * 64, licence="Apache-2.0", source="hub")
    assert facts(run)["architecture"]["details"] == {"trees": 3}
    assert facts(run)["architecture"]["parameters"] == 5
    assert facts(run)["base_model"]["licence"] == "Apache-2.0"
    with pytest.raises(TrainingError, match=r"architecture\.framework"):
        run.set_architecture("x", framework=" ", framework_version="1")
    with pytest.raises(TrainingError, match=r"base_model\.sha256"):
        run.set_base_model("x", sha256="abc", licence="MIT")
    with pytest.raises(TrainingError, match=r"base_model\.licence"):
        run.set_base_model("x", sha256="0" * 64, licence="")


def test_fields_outside_the_schema_stay_visible_under_extra():
    run = TrainingRecorder()
    run.log(config={"a": 1}, metrics={"m": 2}, selection_note="why", mood="good", team={"name": "risk"})
    found = facts(run)
    assert found["extra"] == {"mood": "good", "team": {"name": "risk"}}
    assert (found["config"], found["selection_note"]) == ({"a": 1}, "why")
    assert found["metrics"]["m"]["last"] == 2.0


def test_a_selection_note_says_something():
    run = TrainingRecorder()
    with pytest.raises(TrainingError, match="selection note"):
        run.note_selection("  ")


def test_the_model_file_is_hashed_when_handed_over_and_again_at_completion(tmp_path):
    run = TrainingRecorder()
    file = tmp_path / "model.bin"
    file.write_bytes(b"weights")
    assert run.save_model(file) == file.absolute()
    file.write_bytes(b"weightz")
    with pytest.raises(TrainingError, match="changed after save_model"):
        run.complete()
    run.save_model(file)
    run.complete()
    assert facts(run)["models"][0]["sha256"] == hashlib.sha256(b"weightz").hexdigest()
    assert str(tmp_path) not in json.dumps(facts(run))
    assert run.to_facts()["observed"]["model_paths"] == [str(file)]


def test_no_model_or_an_empty_one_is_refused(tmp_path):
    run = TrainingRecorder()
    with pytest.raises(TrainingError, match="can't be read"):
        run.save_model(tmp_path / "none")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(TrainingError, match="empty"):
        run.save_model(tmp_path / "empty")


CHANGES = {
    "log_config": lambda run, file: run.log_config({"x": 1}),
    "log_metric": lambda run, file: run.log_metric("x", 1),
    "log_artifact": lambda run, file: run.log_artifact("x", b"", "text/plain"),
    "set_architecture": lambda run, file: run.set_architecture("x", framework="y", framework_version="1"),
    "set_base_model": lambda run, file: run.set_base_model("x", sha256="0" * 64, licence="MIT"),
    "note_selection": lambda run, file: run.note_selection("x"),
    "log_extra": lambda run, file: run.log_extra("x", 1),
    "log": lambda run, file: run.log(x=1),
    "save_model": lambda run, file: run.save_model(file),
    "log_metrics": lambda run, file: run.log_metrics({"x": 1}),
    "log_checkpoint": lambda run, file: run.log_checkpoint(file),
    "log_seeds": lambda run, file: run.log_seeds(torch=1),
    "set_feature_code": lambda run, file: run.set_feature_code(file),
    "set_compute": lambda run, file: run.set_compute(tokens=1),
    "set_distributed": lambda run, file: run.set_distributed(world_size=2),
    "link_external": lambda run, file: run.link_external("mlflow", "x"),
    "set_rerun": lambda run, file: run.set_rerun(["python"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_after_completion_every_change_is_refused(tmp_path, change):
    file = tmp_path / "m"
    file.write_bytes(b"x")
    run = TrainingRecorder()
    run.complete()
    before = run.to_facts()
    with pytest.raises(SealedError, match="complete"):
        CHANGES[change](run, file)
    assert run.to_facts() == before
    run.complete()


def test_every_public_change_is_in_the_list_above():
    readers = {"sealed", "models", "artifacts", "checkpoints", "external", "feature_code", "rerun"}
    readers |= {"metric_series", "checkpoints_listing", "to_facts", "complete"}
    public = {name for name in dir(TrainingRecorder) if not name.startswith("_")}
    assert public - readers == set(CHANGES)


def test_a_reader_cannot_change_the_record_through_what_it_was_given():
    run = TrainingRecorder()
    config = {"a": [1]}
    run.log_config(config)
    config["a"].append(2)
    run.complete()
    facts(run)["config"]["a"].append(3)
    assert facts(run)["config"] == {"a": [1]}


def test_two_runs_of_the_same_training_have_the_same_facts():
    def record() -> TrainingRecorder:
        run = TrainingRecorder()
        run.log_config({"a": 1})
        run.log_metric("m", 0.5, step=1)
        run.complete()
        return run

    one, other = record(), record()
    assert facts(one) == facts(other)
    assert set(one.to_facts()["observed"]) == {"started_at", "ended_at", "duration_s", "host", "model_paths"}


def test_several_threads_lose_nothing():
    run = TrainingRecorder()

    def work(number: int) -> None:
        for step in range(200):
            run.log_metric(f"m{number}", step, step=step)
            run.log_metric("shared", step)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert facts(run)["metrics"]["shared"]["points"] == 800
