"""Which MLflow run's model is taken, and what is said where it cannot be. The real MLflow is in tests/adapters."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cognify_dagster.instrument import sdk as cognify
from cognify_dagster.instrument.mlflow import artifacts, store
from cognify_dagster.instrument.sdk import starting
from cognify_dagster.instrument.trackers.errors import TrackerError
from cognify_dagster.records import TrainingRun
from tests.governance.world import MODEL, World

RUN = "0123456789abcdef0123456789abcdef"


class Script:
    """MLflow as a script has it imported: an active run, a last one, a store that answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.active: Any = None
        self.last: Any = None
        self.fails = 0
        self.folders: list[Path] = []
        fake = SimpleNamespace(
            active_run=lambda: self.active,
            last_active_run=lambda: self.last,
            get_tracking_uri=lambda: "https://u:pw@mlflow.example/x",
        )
        monkeypatch.setitem(sys.modules, "mlflow", fake)  # type: ignore[arg-type]
        answers = SimpleNamespace(
            glance=lambda run_id: {"run": {"id": run_id, "experiment": "credit"}}, where="https://mlflow.example/x"
        )
        monkeypatch.setattr(store, "MlflowStore", lambda uri: answers)
        monkeypatch.setattr(artifacts, "find_model", lambda *_: object())
        monkeypatch.setattr(artifacts, "download", self.download)

    def download(self, _store: object, _run: str, _place: object, folder: Path) -> SimpleNamespace:
        self.folders.append(folder)
        (folder / "half.bin").write_bytes(b"weights")
        if len(self.folders) <= self.fails:
            raise TrackerError("MLflow gives no answer")
        return SimpleNamespace(model=folder / "half.bin")


@pytest.fixture
def script(world: World, monkeypatch: pytest.MonkeyPatch) -> Script:
    cognify.init(project=MODEL)
    return Script(monkeypatch)


def ran(start_s: float, end_s: float | None) -> SimpleNamespace:
    ends = None if end_s is None else int(end_s * 1000)
    return SimpleNamespace(info=SimpleNamespace(run_id=RUN, start_time=int(start_s * 1000), end_time=ends))


def test_the_model_of_the_active_run_is_taken_and_the_run_is_linked(script: Script, world: World) -> None:
    script.active = ran(time.time() - 60, None)
    cognify.run().complete()
    record = world.workspace.read().all(TrainingRun)[0].record
    assert record.extra["model_from"] == f"mlflow:{RUN}"
    (link,) = record.external
    assert (link.system, link.run, link.experiment, link.uri) == ("mlflow", RUN, "credit", "https://mlflow.example/x")


@pytest.mark.parametrize(("start", "end"), [(1, 2), (-60, 2), (1, None)])
def test_a_run_that_overlaps_with_ours_counts(script: Script, world: World, start: float, end: float | None) -> None:
    run = cognify.run()
    script.last = ran(time.time() + start, None if end is None else time.time() + end)
    run.complete()
    assert world.workspace.read().all(TrainingRun)


@pytest.mark.parametrize("end", [-1.0, None])
def test_a_run_that_was_over_before_gives_no_model(script: Script, world: World, end: float | None) -> None:
    script.last = ran(time.time() - 60, None if end is None else time.time() + end)
    run = cognify.run()
    with pytest.raises(cognify.SdkError, match=r"no model was saved: call run\.save_model"):
        run.complete()
    assert not script.folders
    run.fail("no model")


def test_after_a_download_that_broke_complete_may_be_called_again(script: Script, world: World) -> None:
    script.active, script.fails = ran(time.time(), None), 1
    run = cognify.run()
    with pytest.raises(cognify.SdkError, match="cannot be taken: MLflow gives no answer"):
        run.complete()
    assert not script.folders[0].exists(), "half a download is not left behind"
    run.complete()
    assert len(set(script.folders)) == 2
    assert world.workspace.read().all(TrainingRun)


def test_without_a_spool_it_says_what_to_do(script: Script, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Path:
        raise OSError("no room")

    monkeypatch.setattr(starting, "make_folder", refuse)
    script.active = ran(time.time(), None)
    run = cognify.run()
    with pytest.raises(cognify.SdkError, match=rf"no spool folder .* MLflow run {RUN} .* run\.save_model\(PATH\)"):
        run.complete()
    run.fail("no model")
