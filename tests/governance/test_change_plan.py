"""Predetermined change control: what a plan covers, what it never covers, and that nothing is ignored silently."""

from __future__ import annotations

import copy
import random
import re
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.governance.changes.plan import (
    NEVER_COMPARED,
    ChangeBounds,
    ChangePlanError,
    Coverage,
    VersionFacts,
    compare,
    explain,
    explain_markdown,
    load_change_plan,
    parse_change_plan,
    read_bounds,
)
from cognify_dagster.records import DatasetSnapshot, Evaluation, ModelRegistered, TrainingRun, build

DAY = 86_400_000_000
DIGEST = "sha256:" + "a" * 64


def blob(name: str, digit: str = "1") -> dict[str, Any]:
    return {"name": name, "digest": "sha256:" + digit * 64, "size": 1, "media_type": "application/octet-stream"}


def training_data() -> dict[str, Any]:
    return {
        "model": "credit",
        "version": "1",
        "datasets": [
            {"name": "loans", "root": "ab" * 32, "seq": 3, "role": "train"},
            {"name": "loans_valid", "root": "ac" * 32, "seq": 4, "role": "validation"},
        ],
        "model_file": blob("model.bin"),
        "config": {"optimizer": {"lr": 0.1, "name": "adam"}, "layers": [64, 32], "seed": 7, "a.b": 1, "empty": {}},
        "seed": 7,
        "architecture": {"kind": "gbm", "depth": 6},
        "base_model": {"name": "none"},
        "metrics": {"loss": 0.3},
        "metric_series": blob("series.json", "2"),
        "artefacts": [blob("plot.svg", "3")],
        "selection_note": "best of five",
        "code": {
            "vcs": "git",
            "commit": "c" * 40,
            "dirty": False,
            "remote": "https://git.example/x",
            "authors": ["git:a@b"],
        },
        "environment": {
            "python": "3.11.7",
            "platform": "Linux",
            "packages_digest": "e" * 64,
            "gpu": "absent",
            "container_image": "none",
            "detail": blob("environment.json", "4"),
        },
        "launched_by": "person/ben",
        "touched_by": ["person/ben"],
        "started_after_seq": 9,
        "observed": {"run": "r1"},
    }


def group(name: str, rate: float) -> dict[str, Any]:
    return {
        "group": name,
        "n": 500,
        "positives": 90,
        "status": "computed",
        "selection_rate": {
            "value": rate,
            "ci_low": rate - 0.02,
            "ci_high": rate + 0.02,
            "n": 500,
            "status": "computed",
        },
        "auc": 0.77,
    }


def evaluation_data() -> dict[str, Any]:
    ratio = {
        "name": "adverse_impact_ratio",
        "value": 0.9,
        "ci_low": 0.85,
        "ci_high": 0.95,
        "unit": "ratio",
        "higher_is_better": True,
        "groups": ["f", "m"],
        "lowest_group": "f",
        "highest_group": "m",
        "n": 1000,
        "status": "computed",
    }
    return {
        "model": "credit",
        "version": "1",
        "model_digest": "sha256:" + "1" * 64,
        "training_seq": 10,
        "dataset": {"name": "holdout", "root": "cd" * 32, "seq": 5, "role": "evaluation"},
        "evaluator": "workload/pipeline",
        "code": {"vcs": "git", "commit": "c" * 40, "dirty": False},
        "metrics": [
            {"name": "auc", "value": 0.8, "ci_low": 0.79, "ci_high": 0.81, "n": 1000, "unit": "probability", "objective": "rank"},
            {"name": "brier", "value": 0.15, "ci_low": 0.14, "ci_high": 0.16, "n": 1000, "unit": "", "objective": ""},
        ],
        "tables": {"calibration": [{"bin": 1, "observed": 0.1}], "settings": {"n_boot": 200}},
        "fairness": [
            {
                "attribute": "SEX",
                "favourable": "loan",
                "min_cell": 30,
                "missing": 0,
                "groups": [group("f", 0.45), group("m", 0.5)],
                "disparities": [ratio],
                "excluded_groups": [],
                "notes": ["a screen"],
            }
        ],
        "protected_attributes": ["SEX"],
        "decision_threshold": 0.5,
        "gate_set": "credit_gates",
        "gate_set_seq": 6,
        "gate_set_digest": DIGEST,
        "outcomes": [
            {"id": "auc", "family": "performance", "metric": "auc", "op": ">=", "threshold": 0.7, "value": 0.8, "status": "pass"},
            {
                "id": "apart", "family": "data_quality", "metric": "data.overlap_records", "op": "<=", "threshold": 0.0, "value": 0,
                "status": "pass",
            },
        ],
        "status": "passed",
        "notes": ["fine"],
        "artefacts": [blob("roc.svg", "5")],
        "observed": {"run": "r1"},
    }  # fmt: skip


def registration_data() -> dict[str, Any]:
    return {
        "model": "credit",
        "owner": "team:risk",
        "risk_tier": "high",
        "frameworks": ["sr26-2"],
        "framework_facts": {"consumer": True},
        "intended_use": "Rank applications for a card",
        "out_of_scope": "Companies",
        "limitations": "Taiwan 2005",
        "failure_modes": "young people",
        "protected_attributes": ["SEX"],
    }


def shapes() -> dict[str, Any]:
    """What the snapshots say of the data's shape, by dataset."""
    shape = {"schema_hash": "1" * 64, "label": "default", "record_key": "id"}
    return {name: dict(shape) for name in ("loans", "loans_valid", "loans2", "holdout")}


def facts(data: dict[str, Any], *, seq: int = 10, day: float = 0) -> VersionFacts:
    at = 1_700_000_000_000_000 + int(day * DAY)
    training, evaluation = build(TrainingRun, data["training"]), build(Evaluation, data["evaluation"])
    snapshots = {
        ref.seq: build(
            DatasetSnapshot,
            {
                "name": ref.name, "root": ref.root, "data_version": f"sha256:{ref.root}", "file_count": 1, "total_bytes": 3,
                "profile": blob("profile.json"), "manifest": blob("manifest.json"), **data["shape"][ref.name],
            },
        )
        for ref in (*training.datasets, evaluation.dataset)
    }  # fmt: skip
    registration = build(ModelRegistered, data["registration"])
    return VersionFacts(training, seq, at, evaluation, seq + 1, at + 60_000_000, registration, snapshots)


def everything() -> dict[str, Any]:
    return {
        "training": training_data(),
        "evaluation": evaluation_data(),
        "registration": registration_data(),
        "shape": shapes(),
    }


BASE = facts(everything())


def put(data: Any, path: str, value: Any) -> None:
    """Set a value by a path such as `fairness/0/groups/1/n`."""
    *parents, last = path.split("/")
    for part in parents:
        data = data[int(part)] if isinstance(data, list) else data[part]
    if isinstance(data, list):
        data[int(last)] = value
    else:
        data[last] = value


def version(changes: dict[str, Any] | None = None, *, name: str = "2", day: float = 30) -> VersionFacts:
    """A later version that differs from the base only in what every retraining changes, and in `changes`.

    Keys begin with `training/`, `evaluation/`, `registration/` or, for a dataset's shape, `shape/`.
    """
    data = everything()
    for part in ("training", "evaluation"):
        data[part]["version"] = name
    put(data, "training/model_file/digest", "sha256:" + "9" * 64)
    put(data, "evaluation/model_digest", "sha256:" + "9" * 64)
    put(data, "evaluation/training_seq", 20)
    put(data, "training/started_after_seq", 19)
    for path, value in (changes or {}).items():
        put(data, path, copy.deepcopy(value))
    return facts(data, seq=20, day=day)


#: A plan that allows a bit of everything that a plan can allow.
WIDE: dict[str, Any] = {
    "datasets": ["loans", "holdout"],
    "hyperparameters": {
        "optimizer.lr": {"min": 0.01, "max": 0.2},
        "layers": {"one_of": [[64, 32], [128, 64]]},
        "seed": {"min": 0, "max": 99},
    },
    "environment": "allowed",
    "code_change": "allowed",
    "notes": "allowed",
    "metrics": {"auc": {"min": 0.75, "max_drop_from_base": 0.02}, "brier": {"report_only": True}},
    "groups": {"fairness.SEX.adverse_impact_ratio": {"min": 0.8}},
    "tables": ["calibration"],
    "decision_threshold": {"min": 0.4, "max": 0.6},
    "max_days_since_base": 365,
}

#: One change each, and what of a plan allows it. None: nothing does.
CHANGES: list[tuple[dict[str, Any], str | None]] = [
    ({"training/datasets/0/root": "ff" * 32}, "datasets"),
    ({"evaluation/dataset/root": "ff" * 32}, "datasets"),
    ({"training/config/optimizer/lr": 0.05}, "hyperparameters"),
    ({"training/config/layers": [128, 64]}, "hyperparameters"),
    ({"training/config/seed": 8, "training/seed": 8}, "hyperparameters"),
    ({"training/seeds": {"torch": 8}}, "hyperparameters"),
    ({"training/code/commit": "d" * 40, "evaluation/code/commit": "d" * 40}, "code_change"),
    ({"training/code/remote": "https://git.example/y"}, "code_change"),
    ({"training/environment/packages_digest": "f" * 64}, "environment"),
    ({"training/environment/python": "3.12.1"}, "environment"),
    ({"training/environment/gpu": "present"}, "environment"),
    ({"training/selection_note": "best of six"}, "notes"),
    ({"evaluation/notes": ["better"]}, "notes"),
    ({"evaluation/fairness/0/notes": ["b"]}, "notes"),
    ({"evaluation/metrics/0/value": 0.79, "evaluation/outcomes/0/value": 0.79}, "metrics"),
    ({"evaluation/metrics/0/ci_low": 0.7}, "metrics"),
    ({"evaluation/metrics/1/value": 0.9}, "metrics"),
    ({"evaluation/fairness/0/disparities/0/value": 0.85}, "groups"),
    ({"evaluation/fairness/0/disparities/0/lowest_group": "m"}, "groups"),
    ({"evaluation/fairness/0/groups/1/n": 600}, "groups"),
    ({"evaluation/fairness/0/missing": 3}, "groups"),
    ({"evaluation/tables/calibration": [{"bin": 1, "observed": 0.2}]}, "tables"),
    ({"evaluation/decision_threshold": 0.55}, "decision_threshold"),
    ({"registration/limitations": "Taiwan 2005, cards only"}, "notes"),
    ({"registration/failure_modes": ""}, "notes"),
    # what no plan allows
    ({"training/feature_code": {"vcs": "git", "commit": "e" * 40, "dirty": False}}, None),
    ({"training/distributed": {"world_size": 4, "backend": "gloo"}}, None),
    ({"training/model_file/media_type": "application/vnd.cognify.files+json"}, None),
    ({"registration/intended_use": "Refuse applications for a card"}, None),
    ({"registration/out_of_scope": ""}, None),
    ({"registration/frameworks": ["sr26-2", "fair-lending"]}, None),
    ({"registration/framework_facts": {"consumer": False}}, None),
    ({"registration/protected_attributes": []}, None),
    ({"registration/extra": {"surprise": 1}}, None),
    ({"training/datasets/0/root": "ff" * 32, "shape/loans/schema_hash": "2" * 64}, None),
    ({"training/datasets/0/root": "ff" * 32, "shape/loans/schema_hash": None}, None),
    ({"evaluation/dataset/root": "ff" * 32, "shape/holdout/schema_hash": "2" * 64}, None),
    ({"shape/loans/label": "late"}, None),
    ({"shape/holdout/record_key": None}, None),
    ({"training/model": "other", "evaluation/model": "other"}, None),
    ({"training/datasets/1/root": "ff" * 32}, None),
    ({"training/datasets/0/name": "loans2"}, None),
    ({"training/datasets/0/role": "other"}, None),
    ({"training/datasets": training_data()["datasets"][:1]}, None),
    ({"evaluation/dataset/role": "holdout"}, None),
    ({"training/config/optimizer/lr": 0.3}, None),
    ({"training/config/optimizer/lr": "0.05"}, None),
    ({"training/config/optimizer/name": "sgd"}, None),
    ({"training/config/layers": [64, 64]}, None),
    ({"training/config/optimizer": {"name": "adam"}}, None),
    ({"training/config/extra": 1}, None),
    ({"training/config/empty": {"x": 1}}, None),
    ({"training/config/a": {"b": 1}}, None),
    ({"training/config/seed": 7.5}, "hyperparameters"),
    ({"training/seed": None}, None),
    ({"training/architecture/depth": 7}, None),
    ({"training/base_model/name": "bert"}, None),
    ({"training/model_file/media_type": "application/x-pickle"}, None),
    ({"training/code/dirty": True, "training/code/diff_digest": "1" * 64}, None),
    ({"training/code/vcs": "none", "training/code/commit": ""}, None),
    ({"evaluation/code/vcs": "unreadable"}, None),
    ({"training/extra": {"surprise": 1}}, None),
    ({"evaluation/extra": {"surprise": 1}}, None),
    ({"evaluation/protected_attributes": []}, None),
    ({"evaluation/metrics/0/value": 0.779, "evaluation/outcomes/0/value": 0.779}, None),
    ({"evaluation/metrics/0/value": "NaN"}, None),
    ({"evaluation/metrics/0/unit": "percent"}, None),
    ({"evaluation/metrics/0/objective": "else"}, None),
    ({"evaluation/metrics": evaluation_data()["metrics"][:1]}, None),
    ({"evaluation/metrics": [*evaluation_data()["metrics"], {"name": "ks", "value": 0.4}]}, None),
    ({"evaluation/fairness": []}, None),
    ({"evaluation/fairness/0/attribute": "AGE"}, None),
    ({"evaluation/fairness/0/min_cell": 5}, None),
    ({"evaluation/fairness/0/favourable": "no loan"}, None),
    ({"evaluation/fairness/0/groups/0/group": "x"}, None),
    ({"evaluation/fairness/0/groups/0/status": "insufficient_data"}, None),
    ({"evaluation/fairness/0/groups/0/auc": None}, None),
    ({"evaluation/fairness/0/excluded_groups": ["f"]}, None),
    ({"evaluation/fairness/0/disparities/0/value": 0.79}, None),
    ({"evaluation/fairness/0/disparities/0/unit": "difference"}, None),
    ({"evaluation/fairness/0/disparities": []}, None),
    ({"evaluation/tables/settings": {"n_boot": 10}}, None),
    ({"evaluation/slices": [{"attribute": "site", "value": "North", "n": 90}]}, None),
    (
        {
            "evaluation/perturbations": [
                {"feature": "income", "transformation": "noise", "size": 0.1, "metric": "auc", "before": 0.8, "n": 90}
            ]
        },
        None,
    ),
    ({"evaluation/evaluator_code": {"vcs": "package", "commit": "lm-eval==0.4.13"}}, None),
    ({"evaluation/tables": {"settings": {"n_boot": 200}}}, None),
    ({"evaluation/decision_threshold": 0.7}, None),
    ({"evaluation/decision_threshold": None}, None),
    ({"evaluation/gate_set": "other_gates"}, None),
    ({"evaluation/gate_set_digest": "sha256:" + "b" * 64}, None),
    ({"evaluation/outcomes/0/threshold": 0.6}, None),
    ({"evaluation/outcomes": evaluation_data()["outcomes"][:1]}, None),
    ({"evaluation/outcomes/1/value": 4}, None),
    ({"evaluation/outcomes/0/status": "fail", "evaluation/outcomes/0/passed": False}, None),
    ({"evaluation/outcomes/0/status": "insufficient_data", "evaluation/outcomes/0/passed": True}, None),
    ({"evaluation/status": "failed"}, None),
    ({"evaluation/training_seq": 10}, None),
    ({"evaluation/model_digest": "sha256:" + "8" * 64}, None),
    ({"evaluation/version": "3"}, None),
]  # fmt: skip
ALLOWED = [(change, by) for change, by in CHANGES if by is not None]
NEVER = [change for change, by in CHANGES if by is None]

#: What differs between any two versions and says nothing about the model.
IRRELEVANT: dict[str, Any] = {
    "training/model_file/name": "model-2.bin",
    "training/model_file/size": 99,
    "training/metrics/loss": 0.2,
    "training/metric_series": blob("series.json", "6"),
    "training/artefacts": [],
    "training/launched_by": "person/eva",
    "training/touched_by": ["person/eva"],
    "training/unattributed": ["git:x@y"],
    "training/code/authors": ["git:e@f"],
    "training/environment/detail": blob("environment.json", "7"),
    "training/datasets/0/seq": 12,
    "training/observed": {"run": "r2"},
    "training/compute": {"flops": 6e9, "device_seconds": 60},
    "training/external": [{"system": "mlflow", "run": "abc"}],
    "training/rerun": {"command": ["python", "train.py", "--version", "2"]},
    "training/captured_by": "sdk",
    "training/environment/lock_file": "uv.lock sha256:00",
    "evaluation/evaluator": "person/eva",
    "evaluation/dataset/seq": 14,
    "evaluation/gate_set_seq": 13,
    "evaluation/artefacts": [],
    "evaluation/observed": {"run": "r2"},
    "evaluation/code/authors": ["git:e@f"],
    "evaluation/outcomes/0/message": "other words",
    "registration/title": "Credit default",
    "registration/owner": "person/olga",
    "registration/risk_tier": "medium",
}


def covered(bounds: dict[str, Any], new: VersionFacts) -> bool:
    return compare(read_bounds(bounds), BASE, new).covered


def outside(coverage: Coverage) -> str:
    return "\n".join(line.text for line in coverage.outside)


# -- one change at a time -----------------------------------------------------------------------------------------------


def test_a_plain_retraining_is_covered_even_by_an_empty_plan() -> None:
    coverage = compare(ChangeBounds(), BASE, version(IRRELEVANT))
    assert coverage == Coverage(True, ())


@pytest.mark.parametrize(("change", "by"), ALLOWED, ids=[str(sorted(change)) for change, _ in ALLOWED])
def test_a_change_is_covered_by_the_bound_about_it_and_by_nothing_else(change: dict[str, Any], by: str) -> None:
    new = version(change)
    wide = compare(read_bounds(WIDE), BASE, new)
    assert wide.covered, outside(wide)
    assert not covered({}, new)
    assert not covered({name: value for name, value in WIDE.items() if name != by}, new)


@pytest.mark.parametrize("change", NEVER, ids=[str(sorted(change.items()))[:70] for change in NEVER])
def test_a_change_outside_the_plan_is_never_covered_and_named(change: dict[str, Any]) -> None:
    coverage = compare(read_bounds(WIDE), BASE, version(change))
    assert not coverage.covered
    assert coverage.outside
    assert all(line.text and not line.allowed_by for line in coverage.outside)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(range(len(ALLOWED))), unique=True, max_size=8),
    st.sampled_from(range(len(NEVER))),
)
def test_no_number_of_allowed_changes_hides_one_that_is_not(allowed: list[int], bad: int) -> None:
    changes: dict[str, Any] = {}
    for place in allowed:
        changes.update(ALLOWED[place][0])
    for path in NEVER[bad]:  # a change above or below another one would undo it
        changes = {other: value for other, value in changes.items() if not _related(path, other)}
    assert not covered(WIDE, version({**changes, **NEVER[bad]}))


def _related(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


@pytest.mark.parametrize("part", ["training", "evaluation", "registration"])
def test_every_recorded_field_is_compared_or_excluded_with_a_reason(part: str) -> None:
    """Whatever somebody adds to a record later is compared, since nobody listed it."""
    model = {"training": TrainingRun, "evaluation": Evaluation, "registration": ModelRegistered}[part]
    listed = {name.split(".")[1] for name in NEVER_COMPARED if name.startswith(f"{part}.")}
    assert listed <= set(model.model_fields)
    touched = {path.split("/")[1] for change, _ in CHANGES for path in change if path.startswith(f"{part}/")}
    excluded = {name for name in listed if f"{part}.{name}" in NEVER_COMPARED}
    assert set(model.model_fields) <= touched | excluded
    assert all(len(reason) > 10 for reason in NEVER_COMPARED.values())


def test_slices_may_differ_where_the_plan_lets_their_table_differ() -> None:
    def sliced(n: int, recall: float) -> VersionFacts:
        metric = {"name": "recall", "value": recall, "n": n}
        return version({"evaluation/slices": [{"attribute": "site", "value": "North", "n": n, "metrics": [metric]}]})

    def judged(*tables: str) -> list[bool]:
        lines = compare(read_bounds({"tables": [*tables]}), sliced(90, 0.8), sliced(90, 0.7)).lines
        return [line.ok for line in lines if line.item == "table slices"]

    assert judged("slices") == [True]
    assert judged("calibration") == [False]


# -- what the model is registered for, and the shape of its data ----------------------------------------------------------------


def test_what_is_not_recorded_cannot_be_shown_to_be_the_same() -> None:
    for one, other in ((None, BASE.registration), (BASE.registration, None)):
        coverage = compare(ChangeBounds(), replace(BASE, registration=one), replace(version(), registration=other))
        assert outside(coverage) == (
            "intended use: not compared, because no registration of the model is recorded: a new approval is needed"
        )
    coverage = compare(ChangeBounds(), BASE, replace(version(), snapshots={}))
    assert "schema of training data: loans (train): not compared, because its snapshot is not recorded" in outside(
        coverage
    )


def test_refreshed_data_without_a_schema_needs_a_new_approval_unless_the_plan_knowingly_allows_it() -> None:
    refreshed = {"training/datasets/0/root": "ff" * 32}
    new = version({**refreshed, "shape/loans/schema_hash": None})
    coverage = compare(read_bounds({"datasets": ["loans"]}), BASE, new)
    assert "no schema of the data is recorded: a new approval is needed" in outside(coverage)
    knowingly = {"datasets": ["loans"], "unknown_schema": "allowed"}
    assert covered(knowingly, new)
    assert not covered(knowingly, version({**refreshed, "shape/loans/schema_hash": "2" * 64}))
    unknown = facts(
        {**everything(), "shape": {name: {**shape, "schema_hash": None} for name, shape in shapes().items()}}
    )
    assert covered({}, replace(version(), snapshots={**version().snapshots}))
    assert compare(ChangeBounds(), unknown, replace(version(), snapshots=unknown.snapshots)).covered, (
        "the very same data"
    )
    assert not compare(read_bounds({"datasets": ["loans"]}), unknown, version(refreshed)).covered


# -- bounds ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "value", "fine"),
    [
        ({"min": 0.75}, 0.75, True),
        ({"min": 0.75}, 0.7499, False),
        ({"max": 0.85}, 0.85, True),
        ({"max": 0.85}, 0.86, False),
        ({"max_drop_from_base": 0.02}, 0.78, True),  # exactly 0.02, though 0.80 - 0.78 is more than that in binary
        ({"max_drop_from_base": 0.02}, 0.7799, False),
        ({"max_drop_from_base": 0.02}, 0.99, True),
        ({"max_rise_from_base": 0.05}, 0.85, True),
        ({"max_rise_from_base": 0.05}, 0.851, False),
        ({"report_only": True}, 0.1, True),
        ({"min": 0.0}, "Infinity", False),
    ],
)
def test_a_metric_is_judged_on_the_new_evaluation(rule: dict[str, Any], value: Any, fine: bool) -> None:
    new = version({"evaluation/metrics/0/value": value, "evaluation/outcomes/0/value": value})
    assert covered({"metrics": {"auc": rule}}, new) is fine


def test_a_bound_is_judged_even_where_nothing_differs() -> None:
    assert not covered({"metrics": {"auc": {"min": 0.9}}}, version())
    assert not covered({"metrics": {"gini": {"report_only": True}}}, version())
    assert not covered({"groups": {"fairness.AGE.adverse_impact_ratio": {"min": 0.8}}}, version())


def test_bounds_reach_every_number_that_gates_can_name() -> None:
    rules = {"auc.ci_low": {"min": 0.79}, "data.overlap_records": {"max": 0}}
    groups = {"fairness.SEX.groups.f.selection_rate": {"min": 0.45}, "fairness.SEX.insufficient_groups": {"max": 0}}
    assert covered({"metrics": rules, "groups": groups}, version())
    assert not covered({"metrics": {"auc.ci_low": {"min": 0.791}}}, version())


def test_a_version_is_compared_with_the_base_and_not_with_the_one_before() -> None:
    plan = read_bounds({"metrics": {"auc": {"max_drop_from_base": 0.01}}})

    def at(value: float, name: str) -> VersionFacts:
        return version({"evaluation/metrics/0/value": value, "evaluation/outcomes/0/value": value}, name=name)

    assert compare(plan, BASE, at(0.79, "2")).covered
    assert not compare(plan, BASE, at(0.785, "3"), earlier=[at(0.79, "2")]).covered


def test_the_plan_ends_when_it_says() -> None:
    bounds = read_bounds({"expires": "2024-01-01T00:00:00Z"})
    before, after = (datetime(2023, 12, 31, tzinfo=timezone.utc), datetime(2024, 1, 1, tzinfo=timezone.utc))
    assert compare(bounds, BASE, version(), now=before).covered
    assert not compare(bounds, BASE, version(), now=after).covered
    assert compare(bounds, BASE, version()).covered  # evaluated in December 2023


def test_cadence_counts_days_and_versions_and_refuses_where_it_cannot_know() -> None:
    bounds = read_bounds({"min_days_between": 7, "max_days_since_base": 90, "max_versions": 2})
    second, third = version(name="2", day=30), version(name="3", day=40)
    assert compare(bounds, BASE, second, earlier=[]).covered
    assert compare(bounds, BASE, second, earlier=[second]).covered  # itself does not count twice
    assert compare(bounds, BASE, third, earlier=[second]).covered
    assert "number 3" in outside(compare(bounds, BASE, version(name="4", day=60), earlier=[second, third]))
    assert "days since the version before" in outside(
        compare(bounds, BASE, version(name="3", day=36), earlier=[second])
    )
    assert "days since the base version" in outside(compare(bounds, BASE, version(day=91), earlier=[]))
    assert "is not known" in outside(compare(bounds, BASE, second))


def test_the_base_itself_an_older_version_and_a_foreign_evaluation_are_not_covered() -> None:
    assert "base version itself" in outside(compare(ChangeBounds(), BASE, BASE))
    assert "before the base" in outside(compare(ChangeBounds(), BASE, version(day=-1)))
    swapped = replace(version(), evaluation=version({"evaluation/training_seq": 11}).evaluation)
    assert "not about its training run" in outside(compare(ChangeBounds(), BASE, swapped))
    broken = replace(BASE, training_seq=9)
    assert "base version's evaluation" in outside(compare(ChangeBounds(), broken, version()))


# -- properties -------------------------------------------------------------------------------------------------------------

numbers = st.integers(0, 20).map(lambda n: n / 20)


@st.composite
def plans(draw: Any) -> dict[str, Any]:
    low, high = sorted((draw(numbers), draw(numbers)))
    return {
        "datasets": draw(st.lists(st.sampled_from(["loans", "loans_valid", "holdout"]), unique=True)),
        "hyperparameters": {"optimizer.lr": {"min": low, "max": high}},
        "code_change": draw(st.sampled_from(["same", "allowed"])),
        "environment": draw(st.sampled_from(["same", "allowed"])),
        "notes": draw(st.sampled_from(["same", "allowed"])),
        "metrics": {"auc": {"min": draw(numbers), "max_drop_from_base": draw(numbers)}, "brier": {"report_only": True}},
        "groups": {"fairness.SEX.adverse_impact_ratio": {"min": draw(numbers)}},
        "tables": draw(st.lists(st.sampled_from(["calibration", "settings"]), unique=True)),
        "decision_threshold": {"min": low, "max": high},
        "max_days_since_base": draw(st.integers(0, 60)),
        "min_days_between": draw(st.integers(0, 60)),
        "max_versions": draw(st.integers(1, 3)),
    }


@st.composite
def widened(draw: Any, plan: dict[str, Any]) -> dict[str, Any]:
    wide = copy.deepcopy(plan)
    more = draw(numbers)
    wide["datasets"] = sorted({*plan["datasets"], *draw(st.lists(st.sampled_from(["loans", "holdout"])))})
    wide["tables"] = sorted({*plan["tables"], *draw(st.lists(st.sampled_from(["calibration", "settings"])))})
    for name in ("code_change", "environment", "notes"):
        wide[name] = "allowed" if draw(st.booleans()) else plan[name]
    for part in (wide["hyperparameters"]["optimizer.lr"], wide["decision_threshold"]):
        part["min"] -= more
        part["max"] += draw(numbers)
    if draw(st.booleans()):
        wide["hyperparameters"]["layers"] = {"one_of": [[128, 64]]}
    wide["metrics"]["auc"]["min"] -= more
    wide["metrics"]["auc"]["max_drop_from_base"] += more
    wide["groups"]["fairness.SEX.adverse_impact_ratio"]["min"] -= more
    wide["max_days_since_base"] += draw(st.integers(0, 60))
    wide["min_days_between"] = max(0, plan["min_days_between"] - draw(st.integers(0, 60)))
    wide["max_versions"] += draw(st.integers(0, 2))
    return wide


@st.composite
def versions(draw: Any) -> VersionFacts:
    changes: dict[str, Any] = {}
    for place in draw(st.lists(st.sampled_from(range(len(ALLOWED))), unique=True, max_size=4)):
        changes.update(ALLOWED[place][0])
    if draw(st.booleans()):
        value = draw(numbers)
        changes |= {"evaluation/metrics/0/value": value, "evaluation/outcomes/0/value": value}
    return version(changes, day=draw(st.integers(1, 60)))


@settings(max_examples=300, deadline=None)
@given(st.data(), plans(), versions(), st.lists(st.integers(1, 50), max_size=2, unique=True))
def test_widening_a_plan_never_uncovers_a_version(
    data: st.DataObject, plan: dict[str, Any], new: VersionFacts, days: list[int]
) -> None:
    earlier = [version(name=f"e{day}", day=day) for day in days]
    wide = data.draw(widened(plan))
    narrow = compare(read_bounds(plan), BASE, new, earlier=earlier)
    wider = compare(read_bounds(wide), BASE, new, earlier=earlier)
    assert wider.covered or not narrow.covered, outside(wider)


def shuffled(value: Any, rng: random.Random) -> Any:
    """The same JSON with mappings in another order."""
    if isinstance(value, dict):
        keys = list(value)
        rng.shuffle(keys)
        return {key: shuffled(value[key], rng) for key in keys}
    return [shuffled(item, rng) for item in value] if isinstance(value, list) else value


@settings(max_examples=100, deadline=None)
@given(plans(), versions(), st.integers())
def test_the_order_of_anything_changes_nothing(plan: dict[str, Any], new: VersionFacts, seed: int) -> None:
    rng = random.Random(seed)
    training, evaluation = new.training.model_dump(mode="json"), new.evaluation.model_dump(mode="json")
    for part, names in ((training, ["datasets"]), (evaluation, ["metrics", "fairness", "outcomes"])):
        for name in names:
            rng.shuffle(part[name])
    for result in evaluation["fairness"]:
        rng.shuffle(result["groups"])
    other = replace(
        new,
        training=build(TrainingRun, shuffled(training, rng)),
        evaluation=build(Evaluation, shuffled(evaluation, rng)),
    )
    first = compare(read_bounds(plan), BASE, new, earlier=[])
    assert first == compare(read_bounds(shuffled(plan, rng)), BASE, other, earlier=[])
    assert [line.item for line in first.lines] == sorted(line.item for line in first.lines)


# -- the file, and what people read ---------------------------------------------------------------------------------------

PLAN = """\
version: 1
plan: monthly-refresh
model: credit
base_version: 1
reason: Monthly retraining on refreshed data with the same code.
bounds:
  datasets: [loans, holdout]
  hyperparameters:
    optimizer.lr: {min: 0.01, max: 0.2}
    layers: {one_of: [[64, 32], [128, 64]]}
  metrics:
    auc: {min: 0.75, max_drop_from_base: 0.02}
    brier: {report_only: true}
  groups:
    fairness.SEX.adverse_impact_ratio: {min: 0.8}
  tables: [calibration]
  min_days_between: 20
  max_versions: 12
  expires: 2027-01-31T00:00:00Z
"""


def test_the_plan_and_the_bounds_of_the_documentation_are_those_that_are_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "change-plans.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    plan = parse_change_plan(example)
    assert (plan.plan, plan.base_version, plan.bounds.max_versions) == ("monthly-refresh", "3", 12)
    named = {name for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)", row)}
    assert set(type(plan.bounds).model_fields) - named == {"base_model", "architecture", "unknown_schema"}


def test_a_plan_is_read_from_yaml_and_its_bounds_survive_the_record(tmp_path: Path) -> None:
    path = tmp_path / "change-plan.yaml"
    path.write_text(PLAN)
    plan = load_change_plan(path)
    assert (plan.plan, plan.model, plan.base_version) == ("monthly-refresh", "credit", "1")
    assert plan.bounds.expires == "2027-01-31T00:00:00Z"
    assert read_bounds(plan.bounds.as_json()) == plan.bounds
    assert plan.digest == load_change_plan(path).digest
    assert parse_change_plan(PLAN.replace("0.75", "0.76")).digest != plan.digest


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("datasets: [loans, holdout]", "dataset: [loans]", "bounds.dataset: is not a known field"),
        ("min: 0.01, max: 0.2", "min: 0.3, max: 0.2", "bounds.hyperparameters.optimizer.lr: min is above max"),
        ("min: 0.01, max: 0.2", "min: low", "bounds.hyperparameters.optimizer.lr.min: expected a finite number"),
        ("min: 0.01, max: 0.2", "min: .nan", "optimizer.lr.min: expected a finite number"),
        ("min: 0.01, max: 0.2", "", "optimizer.lr: give min and max, or one_of"),
        ("one_of: [[64, 32], [128, 64]]", "one_of: []", "one_of is empty"),
        ("{report_only: true}", "{}", "metrics.brier: give min, max"),
        ("{report_only: true}", "{report_only: true, min: 1}", "metrics.brier"),
        ("max_drop_from_base: 0.02", "max_drop_from_base: -1", "max_drop_from_base"),
        ("fairness.SEX.adverse_impact_ratio", "SEX", "groups.SEX"),
        ("    auc: {min", "    fairness.SEX.x: {min", "bounds on fairness stand under groups"),
        ("max_versions: 12", "max_versions: 0", "max_versions"),
        ("2027-01-31T00:00:00Z", "2027-01-31T00:00:00", "time zone"),
        ("2027-01-31T00:00:00Z", "'2027-13-31T00:00:00Z'", "expires"),
        ("bounds:\n", "bounds:\n  base_model: allowed\n", "base_model"),
        ("reason: Monthly retraining on refreshed data with the same code.", "", "reason: is required"),
        ("  tables: [calibration]", "  tables: [calibration]\n  tables: []", "repeated"),
    ],
)
def test_a_wrong_plan_is_an_error_that_names_file_and_field(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "change-plan.yaml"
    path.write_text(PLAN.replace(old, new))
    with pytest.raises(ChangePlanError) as caught:
        load_change_plan(path)
    assert str(path) in str(caught.value) or "time zone" in str(caught.value)
    assert says in str(caught.value)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "binary"):
        with pytest.raises(ChangePlanError, match=str(path)):
            load_change_plan(path)
    for text in ("", "- a", "a: [", "a: &x 1\nb: *x"):
        with pytest.raises(ChangePlanError):
            parse_change_plan(text)


def test_people_read_what_is_outside_first_and_what_was_never_compared() -> None:
    new = version({"training/config/optimizer/lr": 0.3, "training/datasets/0/root": "ff" * 32})
    coverage = compare(read_bounds(WIDE), BASE, new)
    text = explain(coverage)
    assert text.startswith("Not covered: 1 point lies outside the plan; a full approval is needed.")
    assert "hyperparameter optimizer.lr: 0.1 → 0.3" in text
    assert "allowed by datasets: loans" in text
    assert "training.started_after_seq: a position in the ledger" in text
    markdown = explain_markdown(coverage)
    assert "| hyperparameter optimizer.lr | 0.1 | 0.3 | **not allowed** |" in markdown
    assert explain(compare(ChangeBounds(), BASE, version())).startswith("Covered: nothing that is compared differs")


def test_foreign_text_cannot_break_out_of_a_table_cell() -> None:
    new = version({"training/selection_note": "a | b\n| forged | <b> `x`"})
    rows = explain_markdown(compare(ChangeBounds(), BASE, new)).splitlines()
    row = next(row for row in rows if "selection_note" in row)
    assert "a \\| b \\| forged \\| &lt;b> \\`x\\`" in row
