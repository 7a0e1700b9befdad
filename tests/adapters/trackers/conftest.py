"""Real offline runs, written by the real libraries in a process whose network is cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapters.mlflow.conftest import Bank, bank
from tests.cli.conftest import Cognify, cognify
from tests.governance.conftest import founded, founded_template

__all__ = ["Bank", "Cognify", "bank", "cognify", "founded", "founded_template"]

ROOT = Path(__file__).resolve().parents[3]

WANDB = """
import os, sys, time, wandb
how = sys.argv[1]
run = wandb.init(
    project="credit", entity="risk", name="fit ü", group="sweep-3", tags=["dev"], notes="a try",
    config={"lr": 0.1, "opt": {"name": "adam", "betas": [0.9, 0.99]}, "seed": 7, "api_key": "sk-secret-abc"},
)
for step in range(40):
    run.log({"train/loss": 1 / (step + 1), "nested": {"acc": step / 40}})
run.log({"odd": float("nan"), "inf": float("-inf"), "table": wandb.Table(columns=["a"], data=[[1]])}, step=100)
run.config.update({"late": "x"})
run.summary["best auc"] = 0.9
run.save("notes.txt", policy="now") if os.path.exists("notes.txt") else None
if how == "killed":  # the library writes blocks of 32 KiB: what is not full when it dies is lost
    for step in range(101, 1500):
        run.log({"train/loss": 1 / step}, step=step)
    time.sleep(3)
    os.kill(os.getpid(), 9)
run.finish(exit_code=1 if how == "failed" else 0)
"""

COMET = """
import comet_ml
run = comet_ml.OfflineExperiment(project_name="credit", workspace="risk", offline_directory="out", display_summary_level=0)
run.set_name("fit ü")
run.log_parameters({"lr": 0.1, "opt": {"name": "adam"}, "seed": 7, "api_key": "sk-secret-abc"})
for step in range(5):
    run.log_metric("train/loss", 1 / (step + 1), step=step)
with run.train():
    run.log_metric("acc", 0.5, step=1)
run.log_metric("odd", float("nan"), step=2)
open("model.bin", "wb").write(b"weights")
run.log_model("net", "model.bin")
run.log_asset_data({"a": 1}, name="table.json")
run.log_other("reviewer", "ben")
run.add_tag("dev")
run.end()
"""


def offline(code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "script.py"
    script.write_text(code, encoding="utf-8")
    (folder / "notes.txt").write_text("kept", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "COMET"))}
    environment |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    # root may cut the network for real; elsewhere the libraries' own word that they are offline has to do
    cut = ["unshare", "-n"] if os.geteuid() == 0 and shutil.which("unshare") else []
    return subprocess.run(
        [*cut, sys.executable, str(script), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.fixture(scope="session")
def wandb_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders, by how the run ended."""
    found = {}
    for how in ("finished", "failed", "killed"):
        folder = tmp_path_factory.mktemp("wandb") / how
        done = offline(WANDB, folder, how)
        assert (done.returncode == 0) or how == "killed", done.stderr
        (found[how],) = folder.glob("wandb/offline-run-*")
    return found


@pytest.fixture(scope="session")
def comet_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comet") / "run"
    done = offline(COMET, folder)
    assert done.returncode == 0, done.stderr
    (archive,) = (folder / "out").glob("*.zip")
    return archive
