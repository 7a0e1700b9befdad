"""What an evaluation asset may return and receive: plain numbers, sites, a champion; and what undeclared attributes lead to."""

from __future__ import annotations

import dagster as dg
import pytest

import cognify_dagster as cg
from cognify_dagster.evaluation import evaluate_slices
from cognify_dagster.evaluation.metrics import MetricValue
from cognify_dagster.governance import SignOffDenied
from cognify_dagster.orchestration.evaluation import compare_with_champion
from cognify_dagster.records import Evaluation, GateResult, ReleaseGranted
from tests.orchestration import project
from tests.orchestration.desk import Desk


def instead(function) -> dg.Definitions:
    """The tiny project with another evaluation."""
    suite = cg.eval_suite(
        project.tiny, dataset="tiny_holdout", gates="tiny_gates", trained_by="tiny_model", name="tiny_eval"
    )
    return dg.Definitions.merge(
        dg.Definitions(
            assets=[project.tiny_train, project.tiny_holdout],
            asset_checks=[project.no_overlap],
            resources={"ledger": cg.LedgerResource()},
        ),
        project.tiny.build_defs(assets=[project.tiny_model, suite(function), project.tiny_service]),
    )


def scored(snapshot: cg.Snapshot, weight: float = 1.0) -> dict[str, list[float]]:
    rows = snapshot.table().to_pylist()
    return {
        "SEX": [row["SEX"] for row in rows],
        "late": [row["late"] for row in rows],
        "score": [weight * row["amount"] for row in rows],
    }


def plain(tiny_holdout: cg.Snapshot) -> dict[str, object]:
    return {"auc": 0.9, "fairness.SEX.ratio": 0.95}


def test_without_declared_attributes_a_high_tier_model_is_not_released_whatever_its_numbers(new_desk: Desk):
    """Every gate of the set is met; only the declaration is missing."""
    defs = instead(plain)
    assert new_desk.run(project.DATA, None, definitions=defs).success
    ran = new_desk.run(project.BUILD, definitions=defs)
    assert not ran.success
    assert not ran.checks["fairness"].passed
    assert "protected attributes that were not evaluated: SEX" in ran.checks["fairness"].description
    assert ran.checks["performance"].passed
    assert "tiny_package" not in ran.steps("STEP_START"), "what comes after is skipped"
    (evaluation,) = new_desk.all(Evaluation)
    assert evaluation.record.status == "passed", "the numbers themselves are fine"
    assert [metric.name for metric in evaluation.record.metrics] == ["auc", "fairness.SEX.ratio"]
    assert evaluation.record.metrics[0].n == 200
    gate = next(item.record for item in new_desk.all(GateResult) if item.record.family == "fairness")
    assert gate.status == "fail"
    assert new_desk.run(["tiny_package"], definitions=defs).success
    with pytest.raises(SignOffDenied, match="stage 'automated' comes first and is not done"):
        new_desk.approve()
    released = new_desk.run([project.SERVICE], definitions=defs)
    assert "automated gate 'fairness' failed" in released.failure
    assert new_desk.all(ReleaseGranted) == []


def test_a_breach_of_a_fairness_threshold_fails_the_evaluation_and_what_comes_after_is_skipped(new_desk: Desk):
    assert new_desk.run(project.DATA, None).success
    new_desk.switch("unfair")
    ran = new_desk.run(project.BUILD)
    (evaluation,) = new_desk.all(Evaluation)
    assert evaluation.record.status == "failed"
    assert ran.materialized["tiny_eval"]["cognify/status"].value == "failed"
    assert ran.steps("STEP_SKIPPED") == ["tiny_package"] or "tiny_package" not in ran.steps("STEP_START")
    assert not ran.success


def test_sites_and_the_worst_of_them_show_on_the_asset(new_desk: Desk):
    def by_site(tiny_holdout: cg.Snapshot) -> cg.EvalResult:
        slices = evaluate_slices(
            scored(tiny_holdout),
            by="SEX",
            label="late",
            score="score",
            metrics=["mean_score", "auc"],
            kind="site",
            n_boot=20,
        )
        metric = MetricValue("auc", 0.9, 0.8, 1.0, 200, "ratio", True, "ranking")
        return cg.EvalResult(
            metrics=(metric,),
            protected_attributes=("SEX",),
            data_checks={"fairness.SEX.ratio": 1.0},
            n=200,
            slices=slices,
        )

    defs = instead(by_site)
    assert new_desk.run(project.DATA, None, definitions=defs).success
    ran = new_desk.run(project.BUILD, definitions=defs)
    assert ran.success, ran.failure
    shown = ran.materialized["tiny_eval"]
    assert len(shown["cognify/slices"].value.records) == 2 * 2
    (evaluation,) = new_desk.all(Evaluation)
    worst = evaluation.record.worst_site
    assert (worst is None) == ("cognify/worst_site" not in shown)
    if worst is not None:
        assert worst.value in shown["cognify/worst_site"].value


def test_the_live_version_is_handed_over_as_champion(desk: Desk):
    """v1 is live; the evaluation of v2 scores both on its snapshot and records the comparison."""
    seen: list[object] = []

    def against(champion: cg.ModelVersion, model: cg.ModelVersion, tiny_holdout: cg.Snapshot) -> dict[str, object]:
        seen.append(champion)
        results = {"auc": 0.9, "fairness.SEX.ratio": 0.95}
        if champion is None:
            return results
        frame = scored(tiny_holdout)
        old = scored(tiny_holdout, -1.0)["score"]
        comparison = compare_with_champion(
            champion, model, tiny_holdout, labels=frame["late"], champion_scores=old, scores=frame["score"], n_boot=20
        )
        return {**results, "champion": comparison}

    defs = instead(against)
    ran = desk.run(["tiny_eval"], definitions=defs)
    assert seen == [None], "nothing is live yet"
    assert desk.run(project.BUILD, "v0").success
    desk.approve(version="v0")
    assert desk.run([project.SERVICE], "v0").success
    assert desk.run(["tiny_model"], "v2").success
    ran = desk.run(["tiny_eval"], "v2", definitions=defs)
    assert "cognify/comparisons" in ran.materialized["tiny_eval"]
    found = desk.all(Evaluation, "model/tiny@v2")[-1].record
    (comparison,) = found.comparisons
    assert (comparison.champion.name, comparison.challenger.name) == ("tiny@v0", "tiny@v2")
    assert comparison.dataset.root == found.dataset.root
    assert comparison.metrics[0].verdict == "better"


@pytest.mark.parametrize("returned", [{"auc": "high"}, {"my auc": 1.0}])
def test_a_mapping_that_is_no_result_is_refused_by_name(desk: Desk, returned: dict[str, object]):
    def wrong(tiny_holdout: cg.Snapshot) -> dict[str, object]:
        return returned

    ran = desk.run(["tiny_eval"], definitions=instead(wrong))
    assert "results" in ran.failure
    assert next(iter(returned)) in ran.failure
