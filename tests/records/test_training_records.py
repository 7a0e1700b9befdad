"""Records of training: what came later is absent where it is empty, what is unknown stays visible, every blob is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cognify_dagster.records import ExperimentRun, RecordError, TrainingRun, build, read_record

HEX = "0" * 64


def blob(name: str, digit: str = "0", media_type: str = "application/octet-stream") -> dict[str, Any]:
    return {"name": name, "digest": f"sha256:{digit * 64}", "size": 3, "media_type": media_type}


def facts(**more: Any) -> dict[str, Any]:
    return {
        "model": "m",
        "version": "1",
        "datasets": [{"name": "a", "root": HEX, "seq": 1, "role": "train"}],
        "model_file": blob("model.bin"),
        "code": {"vcs": "git", "commit": "c" * 40},
        "environment": {
            "python": "3.11",
            "platform": "Linux",
            "packages_digest": HEX,
            "gpu": "absent",
            "container_image": "none",
            "detail": blob("environment.json", "1"),
        },
        "launched_by": "person/ben",
        "started_after_seq": 3,
        **more,
    }


LATER: dict[str, Any] = {
    "model_files": [blob("a.bin", "2"), blob("b/c.bin", "3")],
    "checkpoints": [
        {
            "name": "c-1",
            "step": 1,
            "root": HEX,
            "file_count": 1,
            "size": 3,
            "files": blob("checkpoints.json", "4"),
            "kept": [blob("w", "5")],
        }
    ],
    "seeds": {"torch": 7},
    "feature_code": {"vcs": "git", "commit": "d" * 40},
    "compute": {"flops": 6e9, "flops_method": "6*P*D"},
    "distributed": {"world_size": 2, "manifest": blob("shards.json", "6")},
    "external": [{"system": "mlflow", "run": "abc", "snapshot": blob("mlflow-run.json", "7")}],
    "rerun": {"command": ["python", "train.py"]},
    "captured_by": "sdk",
}


def test_what_came_later_is_absent_from_the_facts_where_it_is_empty() -> None:
    plain = build(TrainingRun, facts()).facts()
    assert not set(LATER) & set(plain)
    assert "lock_file" not in plain["environment"]
    whole = build(TrainingRun, facts(**LATER)).facts()
    assert set(LATER) <= set(whole)


@pytest.mark.parametrize("name", sorted(LATER))
def test_each_later_field_stands_alone_and_comes_back(name: str) -> None:
    record = build(TrainingRun, facts(**{name: LATER[name]}))
    assert set(LATER) & set(record.facts()) == {name}
    again = read_record("training_run", 1, json.loads(record.payload()))
    assert again == record
    assert again.facts_digest() == record.facts_digest()


def test_every_blob_is_named_as_evidence_once() -> None:
    record = build(TrainingRun, facts(**LATER))
    assert record.evidence() == tuple(f"sha256:{digit * 64}" for digit in "01234576")
    twice = build(TrainingRun, facts(artefacts=[blob("x"), blob("y")]))
    assert twice.evidence() == (f"sha256:{HEX}", f"sha256:{'1' * 64}")


def test_the_models_size_is_that_of_its_files() -> None:
    assert build(TrainingRun, facts()).model_size == 3
    assert build(TrainingRun, facts(model_files=LATER["model_files"])).model_size == 6


def test_learned_from_is_all_but_the_holdout() -> None:
    roles = ("train", "validation", "holdout", "other")
    data = [{"name": f"d{number}", "root": HEX, "seq": number, "role": role} for number, role in enumerate(roles)]
    record = build(TrainingRun, facts(datasets=data))
    assert [item.role for item in record.learned_from] == ["train", "validation", "other"]


def test_a_field_outside_the_schema_goes_to_extra_visibly() -> None:
    record = build(TrainingRun, facts(mood="good"))
    assert record.extra == {"mood": "good"}
    assert record.facts()["extra"] == {"mood": "good"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("datasets", []),
        ("checkpoints", [{**LATER["checkpoints"][0], "mood": "good"}]),
        ("seeds", {"torch": "seven"}),
        ("external", [{"system": "neptune", "run": "x"}]),
        ("compute", {"flops": "many"}),
        ("rerun", {"command": ["x"] * 201}),
    ],
)
def test_what_does_not_fit_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(RecordError, match=name):
        build(TrainingRun, facts(**{name: value}))


def test_an_experiment_is_about_its_project_only() -> None:
    known = facts()
    for name in ("model", "version", "model_file", "started_after_seq"):
        del known[name]
    record = build(ExperimentRun, {**known, "project": "m", "run": "r", "reason": "a try"})
    assert record.subjects() == ("experiment/m",)
    assert record.evidence() == (f"sha256:{'1' * 64}",)
