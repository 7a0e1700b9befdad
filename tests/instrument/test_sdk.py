"""The four calls: what a training script gets recorded with a few lines, and what it is refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.datasets import DatasetError
from cognify_dagster.evaluation import EvaluationError
from cognify_dagster.instrument import sdk as cognify
from cognify_dagster.instrument.recording import Recording
from cognify_dagster.instrument.sdk.overlaps import LEVEL
from cognify_dagster.records import (
    Evaluation,
    ExperimentRun,
    GateResult,
    ModelRegistered,
    OverlapChecked,
    Package,
    TrainingFailed,
    TrainingRun,
    VersionOpened,
)
from cognify_dagster.training import SealedError, TrainingError, TrainingRecorder
from tests.governance.world import MODEL, World
from tests.instrument.sdk_world import ORIGIN, gates, snapshot, write_csv

GOOD = {"auc": {"value": 0.8, "ci_low": 0.78, "ci_high": 0.82, "n": 40}}


def begin(**options: Any) -> cognify.Run:
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    return cognify.run(config={"lr": 0.001}, **options)


def model(folder: Path, text: str = "weights") -> Path:
    path = folder / "model.bin"
    path.write_text(text)
    return path


def training(world: World, version: str = "1") -> TrainingRun:
    found = world.workspace.read().latest(TrainingRun, world.subject(version))
    assert found is not None
    return found.record


def spool(world: World) -> list[str]:
    return sorted(p.name for p in (world.workspace.home / "spool").iterdir() if p.name != "seen.json")


def test_the_four_calls_lead_to_a_package(world: World, tmp_path: Path) -> None:
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    run = cognify.run(config={"lr": 0.001})
    for step in range(3):
        run.log_metric("loss", 1 / (step + 1), step=step)
    run.save_model(model(tmp_path))
    cognify.eval(results=GOOD, benchmark_version="holdout-v3")
    outcome = run.complete(selection_note="The smallest model that keeps to the limits.")

    assert isinstance(outcome, cognify.Packaged), outcome
    reading = world.workspace.read()
    sealed = reading.find(TrainingRun, outcome.training_entry)
    assert sealed is not None
    record = sealed.record
    assert record.config == {"lr": 0.001}
    assert record.captured_by == "sdk"
    assert record.launched_by == "person/train"
    assert [(item.name, item.role) for item in record.datasets] == [
        ("loans_holdout", "holdout"),
        ("loans_train", "train"),
    ], "what its code had a name for, each with its role"
    assert [item.name for item in record.learned_from] == ["loans_train"]
    assert record.selection_note.startswith("The smallest")
    assert json.loads(world.workspace.evidence.get(record.metric_series.digest)) == {
        "loss": [[0, 1.0], [1, 0.5], [2, 1 / 3]]
    }
    evaluation = reading.find(Evaluation, outcome.evaluation_entries[0])
    assert evaluation is not None
    assert evaluation.record.dataset.name == "loans_holdout"
    assert evaluation.record.status == "passed"
    package = reading.find(Package, outcome.entry)
    assert package is not None
    assert package.record.package.digest == outcome.package_digest
    assert outcome.path.read_bytes().startswith(b"%PDF")
    assert spool(world) == [], "nothing is left in the spool"
    assert cognify.current_run() is None


def test_the_missing_overlap_check_is_made_from_recorded_digests(world: World, tmp_path: Path) -> None:
    run = begin()
    run.save_model(model(tmp_path))
    run.eval(GOOD, "holdout-v3")
    run.complete()
    made = world.workspace.read().all(OverlapChecked)
    assert [(item.record.level, item.record.overlapping_records) for item in made] == [(LEVEL, 0)]


def test_shared_records_are_found_and_fail_the_gate(world: World, tmp_path: Path) -> None:
    snapshot(world.workspace, write_csv(tmp_path / "leaky.csv", 5000, shared=7), "leaky")
    cognify.bind(world.workspace, MODEL, {"holdout-leaky": "leaky"})
    run = begin()
    run.save_model(model(tmp_path))
    run.eval(GOOD, "holdout-leaky")
    outcome = run.complete()
    assert isinstance(outcome, cognify.NotPackaged)
    assert "overlap" in outcome.reason
    assert world.workspace.read().all(OverlapChecked)[-1].record.overlapping_records == 7
    assert not world.workspace.read().all(Package)


def test_a_failed_evaluation_is_recorded_and_not_packaged(world: World, tmp_path: Path) -> None:
    run = begin()
    run.save_model(model(tmp_path))
    run.eval({"auc": 0.5}, "holdout-v3")
    outcome = run.complete()
    assert isinstance(outcome, cognify.NotPackaged)
    assert "the evaluation failed" in outcome.reason
    assert world.workspace.read().all(Evaluation)[-1].record.status == "failed"
    assert {item.record.family for item in world.workspace.read().all(GateResult)} >= {"performance", "fairness"}
    assert training(world).version == "1"


def test_without_an_evaluation_the_version_is_sealed_and_not_packaged(world: World, tmp_path: Path) -> None:
    run = begin()
    run.save_model(model(tmp_path))
    outcome = run.complete()
    assert isinstance(outcome, cognify.NotPackaged)
    assert "not evaluated" in outcome.reason
    assert outcome.entry == world.workspace.read().latest(TrainingRun, world.subject("1")).seq  # type: ignore[union-attr]


def test_without_bindings_it_is_an_experiment(world: World, tmp_path: Path) -> None:
    cognify.bind(world.workspace, MODEL, {}, remove=["train"])
    run = begin()
    assert run.governed is False
    run.save_model(model(tmp_path))
    run.eval({"auc": 0.9}, "anything")
    outcome = run.complete()
    assert isinstance(outcome, cognify.NotPackaged)
    assert "cognify dataset bind" in outcome.reason
    assert outcome.version is None
    reading = world.workspace.read()
    assert not reading.all(VersionOpened)
    assert not reading.all(TrainingRun)
    record = reading.all(ExperimentRun)[-1].record
    assert record.status == "completed"
    assert record.results == {"anything": {"auc": 0.9}}
    assert record.config == {"lr": 0.001}


def test_an_experiment_that_says_so_needs_no_model(world: World) -> None:
    run = begin(experiment="trying another loss")
    outcome = run.complete()
    assert isinstance(outcome, cognify.NotPackaged)
    assert outcome.reason == "trying another loss"
    assert not world.workspace.read().all(VersionOpened)


def test_an_unknown_model_is_an_experiment_until_it_is_registered(world: World, tmp_path: Path) -> None:
    cognify.bind(world.workspace, "other", {"train": "loans_train"})
    cognify.init(workspace_id=ORIGIN, project="other")
    outcome = cognify.run().complete()
    assert isinstance(outcome, cognify.NotPackaged)
    assert "not a registered model" in outcome.reason

    cognify.init(workspace_id=ORIGIN, project="other", owner="team:x", risk_tier="low", intended_use="Trial")
    run = cognify.run()
    assert run.version == "1"
    run.save_model(model(tmp_path))
    run.complete()
    registered = world.workspace.read().latest(ModelRegistered, "model/other")
    assert registered is not None
    assert registered.record.owner == "team:x"


def test_registering_never_changes_a_known_model(world: World) -> None:
    cognify.init(workspace_id=ORIGIN, project=MODEL, owner="team:mine", risk_tier="low", intended_use="Anything")
    assert len(world.workspace.read().all(ModelRegistered, f"model/{MODEL}")) == 1


def test_half_a_definition_is_refused(world: World) -> None:
    with pytest.raises(cognify.SdkError, match="risk_tier"):
        cognify.init(workspace_id=ORIGIN, project="other", owner="team:x")


def test_a_workspace_with_another_origin_is_refused(world: World) -> None:
    with pytest.raises(cognify.SdkError, match="was asked for"):
        cognify.init(workspace_id="bank.example/other", project=MODEL)


@pytest.mark.parametrize("how", ["path", "config", "argument", "upward"])
def test_the_workspace_is_found(how: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    project = world.folder / "project"
    monkeypatch.delenv("COGNIFY_WORKSPACE")
    if how == "upward":
        (project / "src").mkdir()
        monkeypatch.chdir(project / "src")
    given = {"path": str(project), "config": str(project / "cognify.toml"), "argument": ORIGIN, "upward": None}[how]
    session = cognify.init(given, MODEL, workspace=project if how == "argument" else None)
    assert session.problem == ""
    assert session.origin == ORIGIN


@pytest.mark.parametrize("project", ["", "a b", "../x", "1a", "x" * 81])
def test_an_unusable_project_is_refused(project: str, world: World) -> None:
    with pytest.raises(cognify.SdkError, match="project"):
        cognify.init(workspace_id=ORIGIN, project=project)


def test_run_before_init_is_refused(world: World) -> None:
    with pytest.raises(cognify.SdkError, match="init"):
        cognify.run()
    with pytest.raises(cognify.SdkError, match="no run is open"):
        cognify.eval({"auc": 1}, "holdout-v3")


def test_an_unbound_benchmark_is_refused_at_once(world: World) -> None:
    run = begin()
    with pytest.raises(EvaluationError, match=r"holdout-v4.*bound for evaluation.*holdout-v3"):
        run.eval(GOOD, "holdout-v4")
    with pytest.raises(EvaluationError, match="trained on"):
        run.eval(GOOD, "train")
    with pytest.raises(EvaluationError, match=r"results\.auc"):
        run.eval({"auc": "high"}, "holdout-v3")
    run.fail("over")


def test_a_run_keeps_the_snapshots_it_began_with(world: World, tmp_path: Path) -> None:
    run = begin()
    before = run.datasets["holdout-v3"].ref.root
    snapshot(world.workspace, write_csv(tmp_path / "new.csv", 9000), "loans_holdout", run="later")
    cognify.bind(world.workspace, MODEL, {"holdout-v3": "loans_holdout"})
    run.save_model(model(tmp_path))
    run.eval(GOOD, "holdout-v3")
    run.complete()
    assert world.workspace.read().all(Evaluation)[-1].record.dataset.root == before


def test_datasets_may_be_named_in_the_call(world: World, tmp_path: Path) -> None:
    snapshot(world.workspace, write_csv(tmp_path / "more.csv", 7000), "more")
    run = begin(datasets={"train-a": "loans_train", "validation": "more", "holdout": "loans_holdout"})
    run.save_model(model(tmp_path))
    run.eval(GOOD, "holdout")
    assert isinstance(run.complete(), cognify.Packaged)
    found = training(world)
    named = [("loans_train", "train"), ("more", "validation"), ("loans_holdout", "holdout")]
    assert [(i.name, i.role) for i in found.datasets] == named
    assert [i.name for i in found.learned_from] == ["loans_train", "more"]
    pairs = {(i.record.train.name, i.record.holdout.name) for i in world.workspace.read().all(OverlapChecked)}
    assert pairs == {("loans_train", "loans_holdout"), ("more", "loans_holdout")}, (
        "the holdout is not compared with itself"
    )
    with pytest.raises(cognify.SdkError, match="never snapshotted"):
        cognify.run(datasets=["nothing"])
    assert spool(world) == [], "a refused run leaves nothing behind"


def test_data_that_changed_since_the_snapshot_are_refused_before_training(world: World, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "own.csv", 7000)
    snapshot(world.workspace, path, "own")
    write_csv(path, 8000)
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    with pytest.raises(DatasetError, match="not the data of snapshot entry"):
        cognify.run(datasets=["own"])
    assert not world.workspace.read().all(VersionOpened)
    cognify.run(datasets=["own"], verify=False).fail("enough")


def test_thresholds_adopted_after_the_start_do_not_count(world: World, tmp_path: Path) -> None:
    cognify.bind(world.workspace, "late", {"train": "loans_train", "holdout": "loans_holdout"})
    cognify.init(workspace_id=ORIGIN, project="late", owner="team:x", risk_tier="high", intended_use="Trial")
    run = cognify.run()
    from cognify_dagster.governance import adopt_gate_set
    from cognify_dagster.records import GateRule

    rule = GateRule(id="auc", family="performance", metric="auc", op=">=", threshold=0.1, source="policy")
    adopt_gate_set(world.workspace, "late_gates", "late", [rule], world.key("vera"))
    run.save_model(model(tmp_path))
    run.eval(GOOD, "holdout")
    outcome = run.complete()
    assert isinstance(outcome, cognify.NotPackaged)
    assert "before this run began" in outcome.reason
    sealed = world.workspace.read().latest(TrainingRun, "model/late@1")
    assert sealed is not None
    assert sealed.record.extra["results_without_gates"]["holdout"]["auc"]["value"] == 0.8
    assert not world.workspace.read().all(Evaluation)


def test_several_gate_sets_need_a_name(world: World, tmp_path: Path) -> None:
    gates(world, "other_gates", 0.1)
    run = begin()
    with pytest.raises(EvaluationError, match="several gate sets"):
        run.eval(GOOD, "holdout-v3")
    run.save_model(model(tmp_path))
    run.eval(GOOD, "holdout-v3", gates="credit_gates")
    assert isinstance(run.complete(), cognify.Packaged)


@pytest.mark.parametrize(
    ("before", "expected"),
    [((), "1"), (("1", "2"), "3"), (("v1", "v9"), "v10"), (("3", "v1"), "v2"), (("007",), "008"), (("champion",), "2")],
)
def test_the_next_version_is_written_like_the_newest(before: tuple[str, ...], expected: str, world: World) -> None:
    for number, version in enumerate(before):
        world.write(VersionOpened(model=MODEL, version=version, run=f"earlier-{number}", opened_by="unattributed"))
    run = begin()
    assert run.version == expected
    run.fail("enough")


def test_a_version_that_is_taken_is_refused(world: World, tmp_path: Path) -> None:
    world.write(VersionOpened(model=MODEL, version="7", run="somebody", opened_by="unattributed"))
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    with pytest.raises(cognify.SdkError, match="somebody is training"):
        cognify.run(version="7")
    run = cognify.run(version="8")
    run.save_model(model(tmp_path))
    run.complete()
    with pytest.raises(cognify.SdkError, match="sealed"):
        cognify.run(version="8")
    with pytest.raises(cognify.SdkError, match="expected letters"):
        cognify.run(version="a/b")


def test_completing_without_a_model_can_be_mended(world: World, tmp_path: Path) -> None:
    run = begin()
    with pytest.raises(cognify.SdkError, match="save_model"):
        run.complete()
    run.save_model(model(tmp_path))
    assert isinstance(run.complete(), cognify.NotPackaged)
    assert training(world).model_file.name == "model.bin"


def test_a_model_that_changed_after_saving_can_be_mended(world: World, tmp_path: Path) -> None:
    run = begin()
    run.save_model(model(tmp_path))
    model(tmp_path, "other weights")
    with pytest.raises(TrainingError, match="changed"):
        run.complete()
    run.save_model(tmp_path / "model.bin")
    run.complete()
    assert training(world).model_file.size == len("other weights")


def test_a_folder_is_a_model_too(world: World, tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "config.json").write_text("{}")
    (tmp_path / "saved" / "weights.bin").write_bytes(b"w" * 100)
    run = begin()
    run.save_model(tmp_path / "saved")
    run.complete()
    assert [item.name for item in training(world).model_files] == ["config.json", "weights.bin"]


def test_nothing_is_added_after_the_end(world: World, tmp_path: Path) -> None:
    run = begin()
    run.save_model(model(tmp_path))
    first = run.complete()
    assert run.complete() is first
    assert run.fail("no") is first
    for call in (
        lambda: run.log_metric("loss", 1),
        lambda: run.log_config({"a": 1}),
        lambda: run.save_model(tmp_path / "model.bin"),
        lambda: run.eval(GOOD, "holdout-v3"),
        lambda: run.note_selection("late"),
    ):
        with pytest.raises(SealedError):
            call()


def test_a_block_that_raises_is_a_failed_run_and_raises_on(world: World) -> None:
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    with pytest.raises(ZeroDivisionError), cognify.run():
        _ = 1 / 0
    failed = world.workspace.read().all(TrainingFailed)
    assert [item.record.reason for item in failed] == ["ZeroDivisionError: division by zero"]


def test_a_block_that_ends_well_completes(world: World, tmp_path: Path) -> None:
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    with cognify.run() as run:
        run.save_model(model(tmp_path))
        run.eval(GOOD, "holdout-v3")
    assert isinstance(run.outcome, cognify.Packaged)


@pytest.mark.parametrize("again", ["init", "run"])
def test_beginning_again_ends_the_earlier_run_and_says_so(
    again: str, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    first = begin()
    with caplog.at_level(logging.WARNING):
        if again == "init":
            cognify.init(workspace_id=ORIGIN, project=MODEL)
        else:
            cognify.run().fail("second")
    assert f"run {first.id} ends as failed" in caplog.text
    assert "called again" in world.workspace.read().all(TrainingFailed)[0].record.reason


def test_everything_that_may_be_logged_is_in_the_record(world: World, tmp_path: Path) -> None:
    run = begin()
    checkpoint = tmp_path / "step-10"
    checkpoint.mkdir()
    (checkpoint / "w.bin").write_bytes(b"10")
    assert run.log_checkpoint(checkpoint, step=10) == "step-10"
    run.log_artifact("plot.png", b"\x89PNG", "image/png")
    (tmp_path / "t.csv").write_text("a,b\n")
    run.log_artifact("t.csv", tmp_path / "t.csv", "text/csv")
    run.log_seeds(python=1, torch=2)
    run.log_extra("note", {"a": [1, 2]})
    run.log(metrics={"f1": 0.5}, config={"batch": 8}, other="x")
    run.set_architecture("Net", framework="torch", framework_version="2", parameters=10, layers=2)
    run.set_base_model("base", sha256="ab" * 32, licence="Apache-2.0", source="https://u:p@host/base")
    run.set_compute(parameters=10, tokens=100)
    run.set_distributed(world_size=2, backend="gloo", rows=[{"rank": 0}])
    run.link_external("mlflow", "abc", uri="http://me:pw@host/x", snapshot=b"{}")
    run.set_rerun(["python", "train.py"], tolerances={"f1": 0.01})
    run.set_feature_code(tmp_path)
    run.save_model(model(tmp_path))
    run.complete()
    record = training(world)
    assert [item.name for item in record.checkpoints] == ["step-10"]
    assert sorted(item.name for item in record.artefacts) == ["plot.png", "t.csv"]
    assert record.seeds == {"python": 1, "torch": 2}
    assert record.extra["note"] == {"a": [1, 2]}
    assert record.extra["other"] == "x"
    assert record.extra["data_checked_at_start"] == {"train": "hashed"}
    assert record.metrics["f1"] == 0.5
    assert record.config == {"lr": 0.001, "batch": 8}
    assert record.architecture["name"] == "Net"
    assert record.base_model["source"] == "https://[redacted]@host/base"
    assert record.compute is not None
    assert record.compute.flops == 6000
    assert record.distributed is not None
    assert record.distributed.world_size == 2
    assert record.external[0].run == "abc"
    assert record.external[0].uri == "http://host/x"
    assert record.rerun is not None
    assert record.rerun.command == ("python", "train.py")
    assert record.feature_code is not None


def test_run_and_recorder_are_both_what_adapters_write_to(world: World) -> None:
    run = begin()
    assert isinstance(run, Recording)
    assert isinstance(TrainingRecorder(), Recording)
    run.fail("enough")


def test_attached_to_an_asset_it_writes_to_that_recorder_and_seals_nothing(world: World, tmp_path: Path) -> None:
    recorder = TrainingRecorder()
    ws = world.workspace
    with cognify.attach(recorder, model=MODEL, version="5", run="dagster-run", workspace=ws) as attached:
        run = cognify.run(config={"lr": 1})
        assert cognify.run() is run
        assert cognify.current_run() is run
        assert run.version == "5"
        run.log_metric("loss", 0.5)
        cognify.eval(GOOD, "holdout-v3")
        run.save_model(model(tmp_path))
        outcome = run.complete()
    assert isinstance(outcome, cognify.Pending)
    assert outcome.spool is None
    assert recorder.to_facts()["facts"]["config"] == {"lr": 1}
    assert not recorder.sealed, "the asset seals it"
    assert len(attached.evaluations) == 1
    assert cognify.current_run() is None
    assert not ws.read().all(TrainingRun)


def test_what_an_attached_run_reported_is_recorded_once_the_asset_has_sealed_it(world: World, tmp_path: Path) -> None:
    from cognify_dagster.datasets.recording import dataset_ref
    from cognify_dagster.instrument.sdk.bindings import find_snapshot
    from cognify_dagster.training import capture_code, capture_environment
    from cognify_dagster.training.recording import Attribution, open_version, seal_training

    ws, recorder = world.workspace, TrainingRecorder()
    open_version(ws, MODEL, "5", run="asset", opened_by="person/train", run_is_over=lambda run: False)
    started = ws.ledger.size()
    with cognify.attach(recorder, model=MODEL, version="5", run="asset", workspace=ws) as attached:
        run = cognify.run()
        run.eval(GOOD, "holdout-v3")
        path = run.save_model(model(tmp_path))
        with pytest.raises(cognify.SdkError, match="not sealed"):
            attached.record_evaluations()
    seal_training(
        ws, recorder, model=MODEL, version="5", run="asset", model_path=path, code=capture_code(tmp_path),
        environment=capture_environment(), attribution=Attribution("person/train"), started_after_seq=started,
        datasets=[dataset_ref(find_snapshot(ws.read(), "loans_train"), "train")],
    )  # fmt: skip
    (first,) = attached.record_evaluations()
    assert first.record.status == "passed"
    assert first.record.version == "5"
    (again,) = attached.record_evaluations()
    assert again.seq == first.seq


def test_a_script_with_init_works_unchanged_inside_an_asset(world: World) -> None:
    with cognify.attach(TrainingRecorder(), model=MODEL, version="5", run="asset", workspace=world.workspace):
        assert cognify.init(workspace_id=ORIGIN, project=MODEL).project == MODEL
        assert cognify.run().version == "5"
        with pytest.raises(cognify.SdkError, match="an asset that trains"):
            cognify.init(project="other")
        with pytest.raises(cognify.SdkError, match="was asked for"):
            cognify.init(workspace_id="bank.example/other", project=MODEL)


def test_a_failed_attached_run_tells_the_asset_why(world: World) -> None:
    with cognify.attach(
        TrainingRecorder(), model=MODEL, version="5", run="asset", workspace=world.workspace
    ) as attached:
        cognify.run().fail("the loss is NaN")
    assert attached.failed == "the loss is NaN"


def test_data_that_the_policy_does_not_allow_yet_are_refused_before_training(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cognify_dagster.governance import GovernanceError
    from cognify_dagster.instrument import touching

    def refuse(*_: object) -> None:
        raise GovernanceError("dataset loans_train: its change was not approved; run `cognify dataset approve`")

    monkeypatch.setattr(touching, "require_ready", refuse)
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    with pytest.raises(GovernanceError, match="not approved"):
        cognify.run()
    assert not world.workspace.read().all(VersionOpened)
    assert spool(world) == []
