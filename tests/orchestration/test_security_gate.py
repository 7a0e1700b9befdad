"""The security gate through real Dagster runs: a known-vulnerable pin stops a release, offline."""

import json
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import cognify_dagster as cg
from cognify_dagster.evaluation.security_recording import record_security
from cognify_dagster.evaluation.snapshots import import_snapshot
from cognify_dagster.governance import (
    SignOffDenied,
    adopt_gate_set,
    adopt_policy,
    decide,
    parse_policy,
    policy_in_force,
)
from cognify_dagster.records import Evaluation, GateResult, GateRule, Package, SecurityTerms, TrainingRun
from tests.orchestration import project, stock
from tests.orchestration.desk import Desk

SUBJECT = "model/tiny@v1"
ADVISORY = "TEST-2026-1"


@cg.eval_suite(
    project.tiny,
    dataset="tiny_holdout",
    gates="tiny_gates",
    security=True,
    requirements="constraints.txt",
    name="tiny_eval",
)
def secure_eval(tiny_model: cg.ModelVersion, tiny_holdout: cg.Snapshot) -> cg.EvalResult:
    """The project's evaluation, with the dependencies judged beside it."""
    metric = cg.evaluation.MetricValue("auc", 0.9, 0.88, 0.92, 200, "probability", True, "ranking")
    return cg.EvalResult(
        metrics=(metric,), protected_attributes=("SEX",), data_checks={"fairness.SEX.ratio": 0.95}, n=200
    )


def secure_definitions() -> dg.Definitions:
    return dg.Definitions.merge(
        dg.Definitions(
            assets=[project.tiny_train, project.tiny_holdout],
            asset_checks=[project.no_overlap],
            resources={"ledger": cg.LedgerResource()},
        ),
        project.tiny.build_defs(assets=[project.tiny_model, secure_eval, project.tiny_service]),
    )


def advisories(folder: Path, *, affected: str, day: str | None = None, package: str = "click") -> Path:
    """A snapshot of today with one advisory, about one version of a package that is installed here."""
    today = datetime.now(timezone.utc).date().isoformat()
    head = {"cognify_advisories": 1, "date": day or today, "partial": True, "source": "a test"}
    row = {
        "id": ADVISORY,
        "modified": "2026-01-01T00:00:00Z",
        "database_specific": {"severity": "HIGH"},
        "affected": [{"package": {"ecosystem": "PyPI", "name": package}, "versions": [affected]}],
    }
    path = folder / f"advisories-{affected}-{day}.jsonl"
    path.write_text(json.dumps(head) + "\n" + json.dumps(row) + "\n", encoding="utf-8")
    return path


def demand_security(desk: Desk) -> None:
    """Adopt a policy whose automated stage asks for gate `security`."""
    body = policy_in_force(desk.workspace.read()).policy.as_json()
    body["stages"]["automated"]["gates"] = [*body["stages"]["automated"]["gates"], "security"]
    adopt_policy(desk.workspace, parse_policy(body), "dependencies count", [desk.keys["ada"], desk.keys["finn"]])


def result_of(desk: Desk) -> GateResult:
    """The newest result of the family."""
    found = [item.record for item in desk.all(GateResult, SUBJECT) if item.record.family == "security"]
    assert found, "no security gate was recorded"
    return found[-1]


def blocked_by(desk: Desk) -> set[str]:
    decision = decide(desk.workspace.read(), "tiny", "v1", "production", datetime.now(timezone.utc))
    return {reason.code for reason in decision.reasons}


def test_nobody_asked_so_nothing_is_judged(desk: Desk) -> None:
    assert {item.record.family for item in desk.all(GateResult, SUBJECT)} == {
        "performance", "fairness", "data_quality", "completeness",
    }  # fmt: skip


def test_a_known_vulnerable_pin_blocks_the_release_until_the_advisory_no_longer_applies(
    new_desk: Desk, tmp_path: Path
) -> None:
    demand_security(new_desk)
    installed = metadata.version("click")
    home = new_desk.workspace.home
    bad = import_snapshot(home, advisories(tmp_path, affected=installed))
    ran = new_desk.build()

    failed = result_of(new_desk)
    assert failed.status == "fail"
    assert failed.detail["snapshot"]["digest"] == bad.digest
    assert [item["id"] for item in failed.detail["findings"]] == [ADVISORY]
    assert "partial sample" in failed.detail["note"]
    assert ran.materialized["tiny_eval"]["cognify/security_scan"].value == "fail"
    assert "gate_security" in blocked_by(new_desk)
    with pytest.raises(SignOffDenied, match="automated"):
        new_desk.approve()
    assert "automated gate 'security' failed" in new_desk.run([project.SERVICE]).failure

    # the whole report is evidence: every package that was installed, by the digest that the result names
    report = json.loads(new_desk.workspace.evidence.get(failed.report.digest))
    names = {item["name"]: item["version"] for item in report["packages"]}
    assert names["click"] == installed
    assert len(names) == failed.detail["packages"] > 50

    # better advisories: judged anew without a new evaluation, the package is rebuilt and signed anew
    import_snapshot(home, advisories(tmp_path, affected="0.0.1"))
    reading = new_desk.workspace.read()
    evaluation, training = reading.latest(Evaluation, SUBJECT), reading.latest(TrainingRun, SUBJECT)
    record_security(new_desk.workspace, evaluation, training, again=True)
    assert result_of(new_desk).status == "pass"
    assert new_desk.run(["tiny_package"]).success
    new_desk.approve()
    assert new_desk.run([project.SERVICE]).success
    new_desk.assert_verifies()


def test_the_package_and_its_documents_say_what_was_judged_and_that_it_was_partial(
    new_desk: Desk, tmp_path: Path
) -> None:
    import_snapshot(
        new_desk.workspace.home, advisories(tmp_path, affected="0.0.1")
    )  # a snapshot is configured: that asks for it
    new_desk.build()
    package = new_desk.all(Package, SUBJECT)[-1].record
    content = json.loads(new_desk.workspace.evidence.get(package.package.digest))
    notes = {item["family"]: item.get("note") for item in content["gates"]["results"]}
    assert "partial sample of 1 advisories" in notes.pop("security")
    assert set(notes.values()) == {None}  # the other families are written as before
    assert not [item for item in content["findings"] if "security" in item["title"]]


def test_without_an_import_the_old_sample_judges_and_the_gate_fails_closed_with_what_to_do(new_desk: Desk) -> None:
    demand_security(new_desk)
    new_desk.build()
    found = result_of(new_desk)
    assert found.status == "fail"
    age = next(item for item in found.outcomes if item.id == "security.snapshot")
    assert "cognify advisories import" in age.message
    assert "partial sample" in age.message
    assert "gate_security" in blocked_by(new_desk)


@pytest.mark.parametrize("pinned", ["PyYAML==5.3.1", "PyYAML==6.0.2"])
def test_a_pinned_requirement_is_an_asset_check_judged_by_the_signed_terms(new_desk: Desk, pinned: str) -> None:
    accepted: list[dict[str, Any]] = [
        {"id": cve, "package": "setuptools", "reason": "build tool, never imported", "expires": "2999-12-31"}
        for cve in ("CVE-2022-40897", "CVE-2024-6345", "CVE-2025-47273")
    ]
    terms = SecurityTerms.model_validate({"max_age_days": 3650, "accepted": accepted})
    own = GateRule(
        id="known", family="security", metric="vulnerabilities", op="<=", threshold=0, source="policy", security=terms
    )
    adopt_gate_set(new_desk.workspace, "tiny_gates", "tiny", [*stock.GATES, own], new_desk.keys["vera"])
    (new_desk.folder / "constraints.txt").write_text(f"{pinned}\n")
    definitions = secure_definitions()
    assert new_desk.run(project.DATA, None, definitions=definitions).success
    ran = new_desk.run(["tiny_model", "tiny_eval"], definitions=definitions)

    check = ran.checks["security"]
    fine = pinned.endswith("6.0.2")
    assert check.passed is fine
    assert ("pyyaml 5.3.1: CVE-2020-14343 (critical; fixed in 5.4)" in check.description) is not fine
    evaluation = new_desk.all(Evaluation, SUBJECT)[-1].record
    assert evaluation.status == "passed"  # dependencies are judged apart from what the model does
    assert {item.family for item in evaluation.outcomes} == {"performance", "fairness", "data_quality"}
    assert ran.checks["performance"].passed


def test_a_run_done_twice_writes_one_result(new_desk: Desk, tmp_path: Path) -> None:
    import_snapshot(new_desk.workspace.home, advisories(tmp_path, affected="0.0.1"))
    new_desk.build()
    reading = new_desk.workspace.read()
    evaluation, training = reading.latest(Evaluation, SUBJECT), reading.latest(TrainingRun, SUBJECT)
    first = result_of(new_desk)
    assert record_security(new_desk.workspace, evaluation, training).record == first
    assert (
        record_security(new_desk.workspace, evaluation, training, again=True).record == first
    )  # same day, same advisories
    assert len([item for item in new_desk.all(GateResult, SUBJECT) if item.record.family == "security"]) == 1


def test_an_environment_that_is_no_longer_there_fails_the_gate(new_desk: Desk, tmp_path: Path) -> None:
    import_snapshot(new_desk.workspace.home, advisories(tmp_path, affected="0.0.1"))
    new_desk.build()
    reading = new_desk.workspace.read()
    evaluation, training = reading.latest(Evaluation, SUBJECT), reading.latest(TrainingRun, SUBJECT)
    other = training.record.environment.model_copy(update={"packages_digest": "0" * 64})
    swapped = training.record.model_copy(update={"environment": other})
    forged = type(training)(
        training.seq, training.time_us, training.leaf, training.actor, training.key_id, swapped, training.entry
    )
    found = record_security(new_desk.workspace, evaluation, forged, again=True)
    assert found.record.status == "fail"
    assert "not the one that the training run names" in found.record.outcomes[-1].message
