"""The credit example as Dagster sees it: its definitions, and once the whole path on the real data."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from cognify_dagster.governance import Choice, SignOffDenied, live, sign_off
from cognify_dagster.records import (
    DatasetSnapshot,
    DeploymentCompleted,
    Evaluation,
    GateResult,
    OverlapChecked,
    Package,
    ReleaseGranted,
    ReleaseRefused,
    SignOff,
    TrainingRun,
)
from examples.credit_default import demo, people, scoring
from examples.credit_default.definitions import credit, defs
from examples.credit_default.live import live_digest

ASSETS = {
    "credit_clean": "credit_data",
    "loans_train": "credit_data",
    "loans_holdout": "credit_data",
    "credit_model": "credit_default",
    "credit_eval": "credit_default",
    "credit_default_package": "credit_default",
    "credit_service": "credit_default",
}


def test_the_definitions_load_and_every_asset_says_what_it_is_and_whose():
    dg.Definitions.validate_loadable(defs)
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    assert {name: spec.group_name for name, spec in specs.items()} == ASSETS
    for name, spec in specs.items():
        assert list(spec.owners) == ["team:credit-risk"], name
        assert spec.kinds, name
        assert spec.description, name
        assert spec.code_version, name


def test_what_comes_with_the_model():
    repository = defs.get_repository_def()
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "credit_default_approval_sensor",
        "credit_default_notification_sensor",
        "credit_default_reconciliation_sensor",
    }
    assert [schedule.name for schedule in repository.schedule_defs] == ["credit_weekly_retraining"]
    checks = {f"{key.asset_key.to_user_string()}:{key.name}" for key in defs.resolve_asset_graph().asset_check_keys}
    assert checks == {
        "loans_holdout:no_overlap",
        "credit_eval:performance",
        "credit_eval:fairness",
        "credit_eval:data_quality",
        "credit_default_package:sign_off",
        "credit_default_package:coverage_sr26_2",
        "credit_default_package:coverage_fair_lending",
    }


def test_the_repositorys_code_location_is_the_example():
    import definitions

    assert definitions.defs is defs


@pytest.mark.slow
def test_from_the_published_data_to_a_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    monkeypatch.setitem(os.environ, "COGNIFY_WORKSPACE", str(tmp_path))
    story = demo.Story(tmp_path)
    workspace = people.found(story)
    people.enrol(story, workspace)
    people.sign_gates(story, workspace)
    job = defs.resolve_implicit_global_asset_job_def()
    subject = f"model/{credit.key}@v1"

    with dg.instance_for_test(set_dagster_home=False) as instance:
        instance.add_dynamic_partitions("credit_default_versions", ["v1"])

        def run(assets: Sequence[str], version: str | None = "v1") -> dg.ExecuteInProcessResult:
            selected = job.get_subset(asset_selection={dg.AssetKey(name) for name in assets})
            return selected.execute_in_process(
                instance=instance, partition_key=version, tags={"user": "ben"}, raise_on_error=False
            )

        data = run(demo.DATA, None)
        assert data.success
        (clean,) = [e for e in data.get_asset_materialization_events() if e.asset_key == dg.AssetKey("credit_clean")]
        shown = clean.step_materialization_data.materialization.metadata
        assert shown["rows_before"].value == 30_000
        assert shown["rows_after"].value == 29_965  # 35 exact duplicates
        train, holdout = workspace.read().all(DatasetSnapshot)
        assert {train.record.name, holdout.record.name} == {"loans_train", "loans_holdout"}
        assert (train.record.record_count or 0) + (holdout.record.record_count or 0) == 29_965
        for item in (train, holdout):
            first = item.record.exclusions[0]
            assert first.rows_before - first.rows_after == 35
            assert item.record.record_digest_key  # personal data: record digests are keyed
            assert item.record.missing_provenance == ()
        (overlap,) = workspace.read().all(OverlapChecked)
        assert overlap.record.overlapping_records == 0
        assert set(overlap.record.ignored_columns) == {"ID", "DEFAULT"}

        waiting = run(["credit_model"])
        assert not waiting.success  # nothing is trained on data that the data steward has not approved
        assert workspace.read().all(TrainingRun) == []
        demo.approve_data(story, workspace)
        built = run([*demo.BUILD, "credit_service"])
        assert built.success
        reading = workspace.read()
        (training,) = reading.all(TrainingRun, subject)
        assert training.record.launched_by == demo.BEN.person
        assert training.record.unattributed == ()
        (evaluation,) = reading.all(Evaluation, subject)
        assert evaluation.record.status == "passed"
        assert evaluation.record.model_digest == training.record.model_file.digest
        families = {item.record.family: item.record.status for item in reading.all(GateResult, subject)}
        assert families == dict.fromkeys(("performance", "fairness", "data_quality", "completeness"), "pass")
        (package,) = reading.all(Package, subject)
        assert {item.framework.split("@")[0] for item in package.record.coverage} == {"sr26-2", "fair-lending"}
        content = json.loads(workspace.evidence.get(package.record.package.digest))
        assert content["model"]["key"] == "credit_default"
        assert package.record.review_copy is not None
        assert workspace.evidence.get(package.record.review_copy.digest).startswith(b"%PDF")
        assert reading.all(ReleaseGranted) == []
        assert reading.all(ReleaseRefused) == []  # "Materialize all" ends green, with nothing deployed

        refused = run(["credit_service"])
        assert not refused.success
        (refusal,) = workspace.read().all(ReleaseRefused)
        assert refusal.record.run == refused.run_id
        assert {reason.code for reason in refusal.record.reasons} == {
            "stage_validation",
            "stage_compliance",
            "stage_business",
        }
        with pytest.raises(SignOffDenied):
            sign_off(
                workspace, credit.key, "v1", people.unlock(workspace, demo.BEN), Choice("approve", stage="validation")
            )

        open_points = demo.findings_of(workspace, package.record)
        conditions = demo.conditions_for(open_points, date.today())
        high = {item["title"].partition(":")[0] for item in open_points if item["severity"] == "high"}
        assert high == {"fl.proxy", "fl.aa.reasons", "fl.records"}
        assert {text.split("(")[1].partition(")")[0] for text in conditions} == set(demo.CONDITIONS)
        reviewed = demo.validation_conditions(open_points, date.today())
        assert {"mrm.effective_challenge", "mrm.val.concept"} <= {
            text.split("(")[1].partition(")")[0] for text in reviewed if "(" in text
        }
        demo.sign(story, workspace, demo.VERA, "v1", comments=demo.VERA_SAYS, conditions=reviewed)
        demo.sign(story, workspace, demo.CARL, "v1", comments=demo.CARL_SAYS, conditions=conditions)
        demo.sign(story, workspace, demo.OLGA, "v1", comments=demo.OLGA_SAYS)
        signed = {item.record.person: item.record.decision for item in workspace.read().all(SignOff, subject)}
        assert signed == {
            demo.VERA.person: "approve_with_conditions",
            demo.CARL.person: "approve_with_conditions",
            demo.OLGA.person: "approve",
        }
        released = run(["credit_service"])
        assert released.success
        (done,) = workspace.read().all(DeploymentCompleted)
        current = live(workspace.read(), credit.key, "production")
        assert current is not None
        assert current.seq == done.seq
        assert done.record.model_digest == training.record.model_file.digest
        assert Path(done.record.location).exists()
        service = Path(str(done.record.detail["service_folder"]))
        installed = scoring.ScoringService(service, live_digest)
        assert f"sha256:{installed.live_digest}" == training.record.model_file.digest

        again = run(["credit_service"])
        assert not again.success
        assert workspace.read().all(ReleaseRefused)[-1].record.reasons[0].code == "already_released"

    capsys.readouterr()
    demo.tamper_with_a_copy(story, workspace, "v1")
    told = capsys.readouterr().out
    assert "TAMPERED" in told
    copy = tmp_path / ".cognify" / "tampered-copy.sqlite"
    assert f"was changed in {copy.relative_to(tmp_path)}" in told
    assert copy.exists()  # what is named can be looked at

    report = workspace.ledger.verify(workspace.trust())
    assert not report.findings
    assert report.level == "L1"
