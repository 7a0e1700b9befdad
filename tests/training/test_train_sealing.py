"""Sealing: what the recorder was told stands in the entry, the bytes stand behind it, and nothing gets in or out afterwards."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.evidence import EvidenceCorrupt
from cognify_dagster.ledger import Tampered
from cognify_dagster.records import DatasetRef, TrainingFailed, TrainingRun
from cognify_dagster.training import (
    FILES_MEDIA_TYPE,
    SealedError,
    TrainingError,
    TrainingRecorder,
    capture_code,
    capture_environment,
    digest_files,
)
from cognify_dagster.training.reading import checkpoint_of, copy_model, files_of_checkpoint, model_files
from cognify_dagster.training.recording import KILLED, Attribution, open_version, record_failure, seal_training
from cognify_dagster.workspace import Recorded, Workspace
from tests.governance.world import MODEL, World

BEN = Attribution("person/ben", ("person/ben",))


class Training:
    """One training of a version of the world's model."""

    def __init__(self, world: World, folder: Path, version: str = "1") -> None:
        self.world, self.version, self.folder = world, version, folder
        self.run = TrainingRecorder()
        if "train" not in world.data:
            world.register()
            world.data["train"] = world.snapshot("loans_train").seq
            world.data["holdout"] = world.snapshot("loans_holdout", "cd" * 32).seq
        self.datasets = [DatasetRef(name="loans_train", root="ab" * 32, seq=world.data["train"], role="train")]
        self.code, self.environment = capture_code(folder), capture_environment(folder)

    def open(self, run: str = "run-1", **more: Any) -> Recorded[TrainingRun] | None:
        over = more.pop("over", lambda _: False)
        workspace = self.world.workspace
        return open_version(workspace, MODEL, self.version, run=run, opened_by="person/ben", run_is_over=over, **more)

    def file(self, name: str = "model.bin", data: bytes = b"weights") -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def model_folder(self, name: str = "model", **content: bytes) -> Path:
        content = content or {"config.json": b"{}", "weights/a.bin": b"aa", "weights/b.bin": b"bbb"}
        for path, data in content.items():
            place = self.folder / name / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        return self.folder / name

    def seal(self, path: Path, run: str = "run-1", **changes: Any) -> Recorded[TrainingRun]:
        workspace = self.world.workspace
        options: dict[str, Any] = {
            "datasets": self.datasets,
            "code": self.code,
            "environment": self.environment,
            "attribution": BEN,
            "started_after_seq": workspace.ledger.size(),
            **changes,
        }
        seq = seal_training(workspace, self.run, model=MODEL, version=self.version, run=run, model_path=path, **options)
        found = workspace.read().at(seq)
        assert found is not None
        assert isinstance(found.record, TrainingRun)
        return found  # type: ignore[return-value]


@pytest.fixture
def training(founded: World, tmp_path: Path) -> Training:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "uv.lock").write_text("locked")
    return Training(founded, folder)


def test_everything_that_was_said_stands_in_the_entry_and_its_bytes_in_evidence(training: Training):
    training.open()
    run = training.run
    run.log_config({"lr": 0.1, "seed": 3})
    run.log_metrics({"loss": 0.5}, step=1)
    run.log_metrics({"loss": 0.25}, step=2)
    run.log_seeds(torch=3, numpy=4)
    run.set_architecture("MLP", framework="torch", framework_version="2.13", parameters=10)
    run.set_base_model("base@1", sha256="0" * 64, licence="Apache-2.0", source="a hub")
    run.set_feature_code(training.folder)
    run.set_compute(parameters=10, tokens=100, energy_kwh=0.01, energy_method="meter")
    run.set_distributed(world_size=2, backend="gloo", strategy="ddp", rows=[{"rank": 0}, {"rank": 1}])
    run.link_external("mlflow", "abc", experiment="7", uri="http://localhost:5000", snapshot=b'{"params":{}}')
    run.set_rerun(["python", "train.py"], tolerances={"loss": 0.01})
    run.note_selection("best of two")
    run.log_artifact("plot.svg", b"<svg/>", "image/svg+xml")
    run.log_extra("mood", "good")
    run.log_checkpoint(training.model_folder("checkpoint-1", **{"w": b"1"}), step=1)
    run.log_checkpoint(training.model_folder("checkpoint-2", **{"w": b"2"}), step=2, keep=True, note="best")
    sealed = training.seal(training.file(), captured_by="sdk")
    record, evidence = sealed.record, training.world.workspace.evidence
    assert record.seed == 3
    assert record.seeds == {"numpy": 4, "torch": 3}
    assert record.metrics == {"loss": 0.25}
    assert record.metric_series is not None
    assert json.loads(evidence.get(record.metric_series.digest)) == {"loss": [[1, 0.5], [2, 0.25]]}
    assert record.base_model["licence"] == "Apache-2.0"
    assert record.feature_code is not None
    assert record.feature_code.vcs == "none"
    assert record.compute is not None
    assert (record.compute.flops, record.compute.energy_kwh) == (6000, 0.01)
    assert record.compute.flops_method.startswith("6*P*D")
    assert record.distributed is not None
    assert record.distributed.manifest is not None
    assert json.loads(evidence.get(record.distributed.manifest.digest)) == [{"rank": 0}, {"rank": 1}]
    assert record.external[0].snapshot is not None
    assert evidence.get(record.external[0].snapshot.digest) == b'{"params":{}}'
    assert record.rerun is not None
    assert record.rerun.command == ("python", "train.py")
    assert record.captured_by == "sdk"
    assert record.extra == {"mood": "good"}
    assert record.environment.lock_file.startswith("uv.lock sha256:")
    assert [(item.name, item.step, item.file_count, len(item.kept)) for item in record.checkpoints] == [
        ("checkpoint-1", 1, 1, 0),
        ("checkpoint-2", 2, 1, 1),
    ]
    assert evidence.get(record.checkpoints[1].kept[0].digest) == b"2"
    assert record.checkpoints[0].files == record.checkpoints[1].files  # one list for all
    for digest in record.evidence():
        evidence.verify(digest)
    with pytest.raises(SealedError):
        run.log_metric("late", 1)
    report = training.world.workspace.ledger.verify(training.world.workspace.trust())
    assert not report.findings


def test_the_files_of_a_checkpoint_are_proven_by_its_root(training: Training):
    training.open()
    training.run.log_checkpoint(training.model_folder("c", a=b"1", b=b"2"), step=5)
    record = training.seal(training.file()).record
    workspace = training.world.workspace
    point = checkpoint_of(record, "5")
    assert point == checkpoint_of(record, "c")
    assert files_of_checkpoint(workspace, point) == digest_files(training.folder / "c").files
    with pytest.raises(TrainingError, match="does not have the recorded root"):
        files_of_checkpoint(workspace, point.model_copy(update={"root": "0" * 64}))
    with pytest.raises(TrainingError, match="no checkpoint 'd'; on record: c"):
        checkpoint_of(record, "d")


# -- models that are folders ---------------------------------------------------------------------------------------------


def test_a_folder_is_sealed_as_the_list_of_its_files_and_comes_back_byte_for_byte(training: Training, tmp_path: Path):
    training.open()
    folder = training.model_folder("sms")
    sealed = training.seal(folder)
    record, workspace = sealed.record, training.world.workspace
    known = digest_files(folder)
    assert record.model_file.digest == f"sha256:{known.sha256}"
    assert (record.model_file.name, record.model_file.media_type) == ("sms", FILES_MEDIA_TYPE)
    assert workspace.evidence.get(record.model_file.digest) == known.listing()
    assert [item.name for item in record.model_files] == ["config.json", "weights/a.bin", "weights/b.bin"]
    assert record.model_size == 7
    assert model_files(workspace, record) == known.files
    (tmp_path / "out").mkdir()
    back = copy_model(workspace, record, tmp_path / "out")
    assert back == tmp_path / "out" / "sms"
    assert digest_files(back) == known


def test_a_damaged_file_of_a_folder_is_not_handed_out(training: Training, tmp_path: Path):
    training.open()
    record = training.seal(training.model_folder("sms")).record
    workspace = training.world.workspace
    blob = next((workspace.home / "evidence").rglob(record.model_files[1].digest[9:]))
    blob.chmod(0o600)
    blob.write_bytes(b"xx")
    with pytest.raises(EvidenceCorrupt):
        copy_model(workspace, record, tmp_path)


def test_a_list_and_files_that_do_not_agree_are_not_handed_out(training: Training, tmp_path: Path):
    training.open()
    record = training.seal(training.model_folder("sms")).record
    forged = record.model_copy(update={"model_files": record.model_files[:-1]})
    with pytest.raises(TrainingError, match="does not hold together"):
        copy_model(training.world.workspace, forged, tmp_path)
    assert list(tmp_path.glob("sms")) == []


def test_links_and_names_that_cannot_come_back_are_refused(training: Training):
    training.open()
    folder = training.model_folder("sms")
    (folder / "link").symlink_to("/etc/hostname")
    with pytest.raises(TrainingError, match="link: a link or special file"):
        training.seal(folder)
    (folder / "link").unlink()
    (folder / "a\\b").write_bytes(b"x")
    with pytest.raises(TrainingError, match="is not one below a folder"):
        training.seal(folder)
    assert training.world.workspace.read().all(TrainingRun) == []


def test_more_files_than_an_entry_can_name_are_refused_before_anything_is_stored(training: Training, monkeypatch):
    monkeypatch.setattr("cognify_dagster.training.composing.MAX_EVIDENCE", 2)
    training.open()
    before = training.world.workspace.evidence.list_digests()
    with pytest.raises(TrainingError, match="3 files; a record can name 2"):
        training.seal(training.model_folder("sms"))
    assert training.world.workspace.evidence.list_digests() == before


def test_a_file_that_evidence_would_not_take_is_refused_with_what_to_do(training: Training, monkeypatch):
    monkeypatch.setattr("cognify_dagster.training.composing.MAX_BLOB_BYTES", 2)
    training.open()
    before = training.world.workspace.evidence.list_digests()
    with pytest.raises(TrainingError, match=r"weights/b\.bin has 3 bytes; .*max_shard_size"):
        training.seal(training.model_folder("sms"))
    assert training.world.workspace.evidence.list_digests() == before


def test_as_many_blobs_as_are_allowed_do_fit_into_an_entry(training: Training):
    training.open()
    content = {f"shard-{number:05}.bin": b"%d" % number for number in range(745)}
    record = training.seal(training.model_folder("large", **content)).record
    assert len(record.model_files) == 745


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_model_that_changed_between_saving_and_sealing_is_an_error(training: Training, kind: str):
    training.open()
    path = training.file() if kind == "file" else training.model_folder("sms")
    training.run.save_model(path)
    changed = path if kind == "file" else path / "weights" / "a.bin"
    state = changed.stat()
    changed.write_bytes(b"x" * state.st_size)
    os.utime(changed, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(TrainingError, match="changed"):
        training.seal(path)
    assert training.world.workspace.read().all(TrainingRun) == []


def test_a_file_that_changes_while_it_is_sealed_is_an_error(training: Training, monkeypatch: pytest.MonkeyPatch):
    """After the last look at its times, before its bytes are stored."""
    training.open()
    path = training.file()
    training.run.save_model(path)
    freeze = TrainingRecorder._freeze

    def late(self: TrainingRecorder, *, reread: bool) -> None:
        freeze(self, reread=reread)
        path.write_bytes(b"weightz")

    monkeypatch.setattr(TrainingRecorder, "_freeze", late)
    with pytest.raises(TrainingError, match="changed after it was handed over"):
        training.seal(path)


def test_other_saved_models_are_named_too(training: Training):
    training.open()
    other = training.file("last.bin", b"last")
    training.run.save_model(other)
    record = training.seal(training.file("best.bin", b"best")).record
    assert record.model_file.name == "best.bin"
    assert [item["name"] for item in record.extra["other_models"]] == ["last.bin"]


# -- snapshots, roles, parents -------------------------------------------------------------------------------------------


def test_a_run_without_snapshots_that_it_trained_on_is_refused(training: Training):
    training.open()
    path = training.file()
    with pytest.raises(TrainingError, match="record it as an experiment"):
        training.seal(path, datasets=[])
    held_back = training.datasets[0].model_copy(update={"role": "holdout"})
    with pytest.raises(TrainingError, match="without dataset snapshots"):
        training.seal(path, datasets=[held_back])


def test_what_was_declared_as_holdout_is_not_learned_from(training: Training):
    training.open()
    held = DatasetRef(name="loans_holdout", root="cd" * 32, seq=training.world.data["holdout"], role="holdout")
    tuned = training.datasets[0].model_copy(update={"role": "validation"})
    record = training.seal(training.file(), datasets=[*training.datasets, tuned, held]).record
    assert [item.role for item in record.learned_from] == ["train", "validation"]


def test_a_parent_has_to_be_a_sealed_version_with_that_digest(training: Training):
    training.open()
    first = training.seal(training.file())
    second = Training(training.world, training.folder, "2")
    second.open("run-2")
    path = second.file("tuned.bin", b"tuned")
    for parent, digest, text in (
        ((MODEL, "9"), first.record.model_file.digest[7:], "has no sealed training run"),
        ((MODEL, "1"), "0" * 64, f"the model of {MODEL} 1"),
    ):
        second.run = TrainingRecorder()
        second.run.set_base_model("base", sha256=digest, licence="own", parent=parent)
        with pytest.raises(TrainingError, match=text):
            second.seal(path, "run-2")
    second.run = TrainingRecorder()
    second.run.set_base_model("base", sha256=first.record.model_file.digest[7:], licence="own", parent=(MODEL, "1"))
    sealed = second.seal(path, "run-2")
    assert sealed.record.base_model["parent"] == {"model": MODEL, "version": "1", "entry": first.seq}


def test_one_seed_for_all_libraries_is_the_runs_seed(training: Training):
    training.open()
    training.run.log_seeds(torch=7, numpy=7)
    assert training.seal(training.file()).record.seed == 7


# -- once, and never again -----------------------------------------------------------------------------------------------


def test_a_second_sealed_run_is_refused_by_the_store(training: Training):
    training.open()
    training.seal(training.file())
    again = Training(training.world, training.folder)
    again.run.log_checkpoint(training.file("c", b"c"))
    with pytest.raises(TrainingError, match="was sealed by another run meanwhile"):
        again.seal(training.file(), "run-2")
    with pytest.raises(TrainingError, match="a version is trained once"):
        again.open("run-2")


def test_a_retry_of_the_same_run_gets_the_same_entry(training: Training):
    training.open()
    first = training.seal(training.file(), started_after_seq=5)
    again = Training(training.world, training.folder)
    assert again.seal(training.file(), started_after_seq=5).seq == first.seq


@pytest.mark.parametrize("claimed", [-1, 10**6, True, 2.0])
def test_a_size_that_the_ledger_never_had_is_refused(training: Training, claimed: Any):
    training.open()
    with pytest.raises(TrainingError, match="started_after_seq is"):
        training.seal(training.file(), started_after_seq=claimed)
    assert training.world.workspace.read().all(TrainingRun) == []


def test_training_began_no_later_than_its_version_was_opened(training: Training):
    training.open()
    opened = training.world.workspace.ledger.size()
    training.world.adopt_gates()
    assert training.world.workspace.ledger.size() > opened
    assert training.seal(training.file()).record.started_after_seq == opened


@pytest.mark.parametrize(
    ("older", "count"), [((), 0), (("weights/a.bin",), 1), (("config.json", "weights/a.bin", "weights/b.bin"), 3)]
)
def test_model_files_older_than_the_run_are_noted(training: Training, older: tuple[str, ...], count: int):
    training.open()
    folder = training.model_folder()
    for name in older:
        os.utime(folder / name, (1_700_000_000, 1_700_000_000))
    said = training.seal(folder).record.extra.get("model_file_older_than_run")
    assert (said or {}).get("count", 0) == count
    if said:
        assert (said["of"], said["files"], said["changed"]) == (3, sorted(older), "2023-11-14T22:13:20Z")


@pytest.mark.parametrize(("began_us", "noted"), [(0, False), (1_600_000_000_000_000, False), (None, True)])
def test_when_training_began_may_be_said_or_unknown(training: Training, began_us: int | None, noted: bool):
    training.open()
    path = training.file()
    os.utime(path, (1_700_000_000, 1_700_000_000))
    record = training.seal(path, began_us=began_us).record
    assert ("model_file_older_than_run" in record.extra) is noted


#: What stands before the byte that is changed.
FIELDS = {
    "checkpoints": b'"root":"',
    "seeds": b'"torch":',
    "compute": b'"flops":',
    "rerun": b'"command":["',
    "lock_file": b'"lock_file":"uv.lock sha256:',
    "model_files": b'"model_files":[{"digest":"sha256:',
    "captured_by": b'"captured_by":"',
}


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_a_direct_edit_of_the_database_is_caught(training: Training, field: str):
    training.open()
    training.run.log_seeds(torch=7)
    training.run.set_compute(parameters=10, tokens=100)
    training.run.set_rerun(["python"])
    training.run.log_checkpoint(training.file("c", b"c"))
    sealed = training.seal(training.model_folder("sms"))
    with sqlite3.connect(training.world.workspace.config.ledger) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        (payload,) = db.execute("SELECT bytes FROM payload WHERE seq = ?", (sealed.seq,)).fetchone()
        place = payload.index(FIELDS[field]) + len(FIELDS[field])
        other = b"8" if payload[place : place + 1] != b"8" else b"9"
        changed = payload[:place] + other + payload[place + 1 :]
        db.execute("UPDATE payload SET bytes = ? WHERE seq = ?", (changed, sealed.seq))
    db.close()
    fresh = Workspace.open(training.world.folder / "project")
    report = fresh.ledger.verify(fresh.trust())
    assert report.findings
    with pytest.raises(Tampered):
        fresh.read().latest(TrainingRun, f"model/{MODEL}@1")


# -- runs that ended without a model -------------------------------------------------------------------------------------


def test_a_killed_run_is_recorded_by_whoever_opens_the_version_next(training: Training):
    training.open("run-1")
    with pytest.raises(TrainingError, match="run run-1 is training"):
        training.open("run-2")
    training.open("run-2", over=lambda _: True, run_ended=lambda _: True)
    (failed,) = training.world.workspace.read().all(TrainingFailed)
    assert (failed.record.run, failed.record.reason) == ("run-1", KILLED)
    assert failed.record.observed == {"dagster_run": "run-1", "found_by": "run-2"}
    training.open("run-3", over=lambda _: True, run_ended=lambda _: True)
    assert [item.record.run for item in training.world.workspace.read().all(TrainingFailed)] == ["run-1", "run-2"]


def test_a_run_that_nobody_knows_is_not_said_to_have_failed(training: Training):
    training.open("run-1")
    training.open("run-2", over=lambda _: True)
    assert training.world.workspace.read().all(TrainingFailed) == []


def test_each_failed_attempt_is_recorded_once(training: Training):
    workspace = training.world.workspace
    training.open()
    first = record_failure(workspace, MODEL, "1", run="run-1", attempt=0, reason="x" * 3000)
    assert record_failure(workspace, MODEL, "1", run="run-1", attempt=0, reason="x" * 3000) == first
    assert (
        record_failure(workspace, MODEL, "1", run="run-1", attempt=1, reason="y", observed={"dagster_run": "r"})
        != first
    )
    assert [len(item.record.reason) for item in workspace.read().all(TrainingFailed)] == [2000, 1]
