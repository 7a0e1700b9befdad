"""What a step receives: the private copy of a model file lasts as long as its user, and no longer."""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from cognify_dagster.evidence import EvidenceCorrupt, EvidenceStore
from cognify_dagster.orchestration import ModelVersion
from tests.orchestration import project
from tests.orchestration.desk import Desk

MODEL = b"coefficients"


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, watched."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def model_in(folder: Path) -> ModelVersion:
    evidence = EvidenceStore(folder / "evidence", keys=None)
    ref = evidence.put(MODEL, media_type="application/octet-stream")
    item = SimpleNamespace(digest=ref.digest, name="models/credit.bin", media_type=ref.media_type, size=ref.size)
    return ModelVersion(SimpleNamespace(evidence=evidence), SimpleNamespace(record=SimpleNamespace(model_file=item)))


def test_the_copy_is_there_while_the_step_runs_and_gone_after_it(tmp_path: Path, scratch: Path):
    with model_in(tmp_path) as model:
        kept = model.path
        assert model.path == kept  # one copy, however often it is asked for
        gc.collect()
        assert kept.read_bytes() == MODEL
        assert kept.name == "credit.bin"
    assert list(scratch.iterdir()) == []
    assert model.path.read_bytes() == MODEL  # whoever still has the object is not handed a dead path


def test_a_step_that_fails_leaves_no_copy_either(tmp_path: Path, scratch: Path):
    def step() -> None:
        with model_in(tmp_path) as model:
            assert model.path.is_file()
            raise RuntimeError("the evaluation failed")

    with pytest.raises(RuntimeError, match="evaluation failed"):
        step()
    assert list(scratch.iterdir()) == []


def test_without_with_the_copy_goes_with_its_last_holder(tmp_path: Path, scratch: Path):
    model = model_in(tmp_path)
    assert model.path.is_file()
    del model
    gc.collect()
    assert list(scratch.iterdir()) == []


def test_a_copy_that_fails_leaves_no_folder(tmp_path: Path, scratch: Path):
    with model_in(tmp_path) as model:
        (blob,) = (path for path in (tmp_path / "evidence" / "blobs").rglob("*") if path.is_file())
        blob.chmod(0o600)
        blob.write_bytes(b"something else")
        with pytest.raises(EvidenceCorrupt):
            _ = model.path
    assert list(scratch.iterdir()) == []


def test_the_copy_goes_at_the_latest_when_the_interpreter_ends(tmp_path: Path):
    code = (
        "import sys, tempfile; from pathlib import Path\n"
        "from tests.orchestration.test_inputs import model_in\n"
        "tempfile.tempdir = sys.argv[1]; kept = model_in(Path(sys.argv[1])); print(kept.path)"
    )
    call = [sys.executable, "-c", code, str(tmp_path)]
    ran = subprocess.run(call, check=True, capture_output=True, text=True, timeout=120)
    assert str(tmp_path) in ran.stdout
    assert not Path(ran.stdout.strip()).parent.exists()


def test_training_to_evaluation_in_dagster_leaves_no_model_in_the_temporary_folder(new_desk: Desk, scratch: Path):
    assert new_desk.run(project.DATA, None).success
    ran = new_desk.run(project.BUILD)
    assert ran.success, ran.failure
    assert [path for path in scratch.iterdir() if path.name.startswith("cognify-model-")] == []
