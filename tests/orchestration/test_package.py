"""When a package is the same package, and when signatures on it stop counting."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import dagster as dg

import cognify_dagster as cg
from cognify_dagster.orchestration.model import GovernedModel
from cognify_dagster.records import Package, ReleaseGranted
from tests.orchestration import project
from tests.orchestration.desk import Desk


def test_a_package_rebuilt_with_nothing_new_is_the_same_and_keeps_its_signatures(desk: Desk):
    desk.approve()
    size = desk.workspace.ledger.size()
    ran = desk.run(["tiny_package"])
    assert ran.success, ran.failure
    shown = ran.materialized["tiny_package"]
    assert shown["cognify/unchanged"].value is True
    assert shown["cognify/revision"].value == 1
    assert desk.workspace.ledger.size() == size
    assert desk.run([project.SERVICE]).success


def test_rebuilding_while_signatures_are_pending_ends_green(desk: Desk):
    ran = desk.run(["tiny_package"])
    assert ran.success, ran.failure
    assert ran.checks["sign_off"].severity == dg.AssetCheckSeverity.WARN
    assert not ran.checks["sign_off"].passed


def test_a_new_evaluation_asks_for_a_new_revision_and_voids_the_signatures(desk: Desk):
    desk.approve()
    assert desk.run(["tiny_eval"]).success
    stale = desk.run([project.SERVICE])
    assert "there is a newer evaluation than the one in the package" in stale.failure

    ran = desk.run(["tiny_package"])
    assert ran.success, ran.failure
    assert ran.materialized["tiny_package"]["cognify/revision"].value == 2
    assert ran.materialized["tiny_package"]["cognify/unchanged"].value is False
    first, second = desk.all(Package)
    assert first.record.package.digest != second.record.package.digest
    released = desk.run([project.SERVICE])
    assert not released.success
    for title in ("Independent validation", "Compliance and legal review", "Business sign-off"):
        assert f"{title} is not signed" in released.failure
    assert desk.all(ReleaseGranted) == []

    desk.approve()
    assert desk.run([project.SERVICE]).success
    desk.assert_verifies()


def test_a_new_snapshot_of_the_training_data_leaves_the_signed_version_alone(desk: Desk):
    """The version keeps the data it was trained on; what is recorded later belongs to later versions."""
    desk.approve()
    project.write_data(desk.folder / "data", rows=100)
    assert desk.run(project.DATA, None).success
    assert desk.run(["tiny_package"]).materialized["tiny_package"]["cognify/unchanged"].value is True
    assert desk.run([project.SERVICE]).success


def test_readable_copies_lie_under_names_that_people_can_open(desk: Desk):
    shown = desk.run(["tiny_package"]).materialized["tiny_package"]
    (package,) = desk.all(Package)
    for key, item, start in (
        ("cognify/pdf", package.record.review_copy, b"%PDF"),
        ("cognify/package_json", package.record.package, b"{"),
        ("cognify/model_card", package.record.model_card, b""),
    ):
        path = Path(shown[key].value)
        assert path.is_absolute()
        assert path.name.startswith("tiny-v1-r1-")
        assert path.read_bytes() == desk.workspace.evidence.get(item.digest)
        assert path.read_bytes().startswith(start)
        assert not [other for other in path.parent.iterdir() if other.name.startswith(".")]


def test_a_lost_copy_comes_back(desk: Desk):
    path = Path(desk.run(["tiny_package"]).materialized["tiny_package"]["cognify/pdf"].value)
    path.write_bytes(b"scribbled over")
    assert (
        Path(desk.run(["tiny_package"]).materialized["tiny_package"]["cognify/pdf"].value).read_bytes()[:4] == b"%PDF"
    )


def test_a_missing_section_shows_as_a_failed_completeness_gate(new_desk: Desk):
    silent: GovernedModel = dataclasses.replace(project.tiny, limitations=" ")
    training = cg.training_run(silent, datasets=["tiny_train"], name="tiny_model")(train)
    evaluation = cg.eval_suite(
        silent, dataset="tiny_holdout", gates="tiny_gates", trained_by="tiny_model", name="tiny_eval"
    )(evaluate)
    defs = dg.Definitions.merge(
        dg.Definitions(
            assets=[project.tiny_train, project.tiny_holdout],
            asset_checks=[project.no_overlap],
            resources={"ledger": cg.LedgerResource()},
        ),
        silent.build_defs(assets=[training, evaluation]),
    )
    assert new_desk.run(project.DATA, None, definitions=defs).success
    ran = new_desk.run(project.BUILD, definitions=defs)
    assert ran.success, ran.failure
    assert "automated gate 'completeness' failed" in ran.checks["sign_off"].description


def train(run: cg.TrainingRecorder, tiny_train: cg.Snapshot) -> Path:
    path = project.place() / "plain.json"
    path.write_text("{}")
    return path


def evaluate(model: cg.ModelVersion) -> cg.EvalResult:
    from cognify_dagster.evaluation.metrics import MetricValue

    return cg.EvalResult(
        metrics=(MetricValue("auc", 0.9, 0.88, 0.92, 200, "probability", True),),
        protected_attributes=("SEX",),
        data_checks={"fairness.SEX.ratio": 1.0},
        n=200,
    )
