"""`cognify reproduce`: a sealed training is rebuilt from its record, run again, and compared."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.cli.app import main
from cognify_dagster.instrument.reproduce import Choices, NotRerun, Outcome, plan_of, reproduce
from cognify_dagster.instrument.sdk import bind
from cognify_dagster.orchestration import rerun
from cognify_dagster.records import TrainingRun
from cognify_dagster.training import Package, TrainingError, rebuilding
from cognify_dagster.training.rebuilding import (
    RebuildError,
    argument_vector,
    build_venv,
    clone_commit,
    interpreter_for,
    packages_of,
    projects_below,
)
from cognify_dagster.training.reproducing import (
    SCRATCH_ORIGIN,
    RecordedEnvironment,
    compare_packages,
    compare_runs,
    read_environment,
)
from cognify_dagster.workspace import Recorded, Workspace
from tests.governance.world import make_world

PIPELINE = """
import json
import os
from pathlib import Path

import dagster as dg
import pyarrow as pa

import cognify_dagster as cg

HERE = Path(os.environ.get("DATA_FOLDER", "."))
credit = cg.GovernedModel(key="credit", owner="team:x", risk_tier="low", intended_use="x")


@cg.dataset_snapshot(change_reason="first")
def loans() -> str:
    return str(HERE / "loans.csv")


@cg.training_run(credit, datasets=["loans"])
def credit_model(run: cg.TrainingRecorder, loans: cg.Snapshot, version: str) -> Path:
    rows = loans.table().num_rows
    run.log_config({"rows": rows})
    run.log_metric("mean", rows / 4 + float(os.environ.get("DRIFT", "0")))
    if os.environ.get("TOLERANCE"):
        run.log_extra("note", "tolerant")
    path = Path(os.environ.get("OUT", ".")) / f"credit-{version}.json"
    path.write_text(json.dumps({"rows": rows, "drift": os.environ.get("DRIFT", "0")}))
    return run.save_model(path)


@dg.asset
def plain_rows(context, ledger: cg.LedgerResource):
    rows = pa.table({"a": [1, 2, 3]})
    yield from ledger.record(context, dataset=rows, value=rows)


@dg.asset
def plain_model(context, ledger: cg.LedgerResource, plain_rows):
    path = Path(os.environ.get("OUT", ".")) / "plain.json"
    path.write_text(json.dumps(plain_rows.to_pydict()))
    model = cg.GovernedModel(key="plain", owner="team:x", risk_tier="low", intended_use="x")
    yield from ledger.record(context, model=model, file=path, trained_on=["plain_rows"], metrics={"rows": 3})


defs = dg.Definitions(
    assets=[loans, credit_model, plain_rows, plain_model],
    resources={"ledger": cg.LedgerResource(origin=os.environ.get("ORIGIN", ""))},
)
"""


SCRIPT = """
import json
import os
import sys
from pathlib import Path

from cognify_dagster import sdk as cognify

cognify.init(workspace_id=ORIGIN, project="credit")
run = cognify.run(config={"rate": float(sys.argv[1])}, version=sys.argv[2])
drift = float(os.environ.get("DRIFT", "0"))
run.log_metric("auc", 0.75 + drift)
path = Path(os.environ.get("OUT", ".")) / "sdk.json"
path.write_text(json.dumps({"rate": sys.argv[1], "drift": drift}))
run.save_model(path)
run.complete()
"""


def git(folder: Path, *words: str) -> str:
    """Run git as a person of the tests."""
    who = ["-c", "user.name=Gita", "-c", "user.email=gita@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def load(path: Path, name: str) -> ModuleType:
    """Import a file under a name that nothing else has."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Trained:
    """A repository, a workspace, and what was trained: v1 and plain by assets, s1 and s2 by a script, s2 with uncommitted changes."""

    repository: Path
    workspace: Workspace
    scratch: Path

    def run(self, version: str) -> Recorded[TrainingRun]:
        """The sealed run of a version; `plain` is the one of the plain asset."""
        subject = "model/plain" if version == "plain" else f"model/credit@{version}"
        found = self.workspace.read().latest(TrainingRun, subject)
        assert found is not None
        return found

    def again(self, version: str, **choices: Any) -> Outcome:
        """Reproduce a version in this environment."""
        folder = self.scratch / os.urandom(4).hex()
        given = {"here": True, "repository": self.repository, "timeout_s": 120, **choices}
        return reproduce(self.workspace, self.run(version), Choices(**given), folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """Train everything once; tests only read."""
    ground = tmp_path_factory.mktemp("reproduce")
    repository, out = ground / "repo", ground / "out"
    repository.mkdir()
    out.mkdir()
    (repository / "pipeline.py").write_text(PIPELINE)
    (ground / "loans.csv").write_text("a,b\n1,2\n3,4\n5,6\n7,8\n")
    workspace = make_world(ground / "world").workspace
    (repository / "train.py").write_text(SCRIPT.replace("ORIGIN", repr(workspace.origin)))
    (repository / ".gitignore").write_text("__pycache__/\n")
    git(repository, "init", "-q")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "pipeline")
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv("COGNIFY_WORKSPACE", str(workspace.config.path.parent))
        patch.setenv("DATA_FOLDER", str(ground))
        patch.setenv("OUT", str(out))
        patch.setenv("ORIGIN", workspace.origin)
        instance.add_dynamic_partitions("credit_versions", ["v1"])
        job = load(repository / "pipeline.py", "pipeline_v1").defs.resolve_implicit_global_asset_job_def()
        for names in (("plain_rows", "plain_model"), ("loans",), ("credit_model",)):
            chosen = job.get_subset(asset_selection={dg.AssetKey(name) for name in names})
            partition = "v1" if names == ("credit_model",) else None
            assert chosen.execute_in_process(instance=instance, partition_key=partition).success
        bind(Workspace.open(workspace.config.path), "credit", {"train": "loans"})
        for name in ("s1", "s2"):
            if name == "s2":
                (repository / "pipeline.py").write_text(PIPELINE.replace('"rows": rows', '"rows": rows + 0'))
                (repository / "new.txt").write_text("untracked")
            subprocess.run([sys.executable, "train.py", "0.5", name], cwd=repository, check=True, timeout=120)
        yield Trained(repository, Workspace.open(workspace.config.path), ground / "scratch")


def test_a_sealed_training_comes_out_byte_for_byte(trained: Trained) -> None:
    size = trained.workspace.ledger.size()
    outcome = trained.again("v1")
    assert outcome.comparison.verdict == "same_bytes"
    assert [row.within for row in outcome.comparison.metrics] == [True]
    assert outcome.comparison.differences == ()
    assert outcome.environment == ()
    made = Workspace.open(outcome.scratch / "workspace")
    assert made.origin.startswith(SCRATCH_ORIGIN)
    assert trained.workspace.ledger.size() == size  # nothing was written to the real ledger
    assert set(outcome.seconds) == {"data", "code", "environment", "workspace", "training", "comparing"}


def test_a_script_with_the_sdk_is_run_again_against_the_scratch_ledger_though_it_names_the_real_one(
    trained: Trained,
) -> None:
    size = trained.workspace.ledger.size()
    run = trained.run("s1").record
    assert run.rerun is not None
    assert run.rerun.command == ("python", "train.py", "0.5", "s1")
    outcome = trained.again("s1")
    assert outcome.comparison.verdict == "same_bytes"
    assert outcome.comparison.differences == ()
    assert trained.workspace.ledger.size() == size


def test_a_plain_asset_is_run_again_with_what_it_is_made_from(trained: Trained) -> None:
    run = trained.run("plain").record
    assert run.rerun is not None
    assert "--upstream" in run.rerun.command
    outcome = trained.again("plain")
    assert outcome.comparison.verdict == "same_bytes"
    assert outcome.comparison.differences == ()


def test_another_result_is_named(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFT", "0.25")
    outcome = trained.again("s1")
    assert not outcome.reproduced
    assert outcome.comparison.verdict == "differs"
    named = {(item.kind, item.name): item for item in outcome.comparison.differences}
    assert (named["metric", "auc"].recorded, named["metric", "auc"].found) == ("0.75", "1")
    assert named["model", "digest"].recorded != named["model", "digest"].found


def test_uncommitted_changes_are_taken_where_they_still_are(trained: Trained) -> None:
    outcome = trained.again("s2")
    assert outcome.comparison.verdict == "same_bytes"
    assert not [item for item in outcome.comparison.differences if item.kind == "code"]
    assert "taken from" in outcome.notes[0]


def test_uncommitted_changes_that_are_gone_are_a_refusal(trained: Trained, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(trained.repository), str(clone))
    with pytest.raises(NotRerun, match="--allow-dirty"):
        trained.again("s2", repository=clone)


def test_data_that_changed_are_a_refusal(trained: Trained, tmp_path: Path) -> None:
    other = tmp_path / "loans.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(NotRerun, match="is not what was trained on"):
        trained.again("v1", data={"loans": str(other)})


def test_a_commit_that_is_not_there_is_a_refusal(trained: Trained, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    with pytest.raises(NotRerun, match="does not have commit"):
        trained.again("v1", repository=tmp_path)


def test_a_command_that_seals_nothing_shows_nothing(trained: Trained) -> None:
    with pytest.raises(NotRerun, match="sealed no run of credit"):
        trained.again("v1", command=("python", "-c", "print('hello')"))


def test_the_command_does_not_see_the_real_workspace(trained: Trained, tmp_path: Path) -> None:
    seen = tmp_path / "seen.json"
    show = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"
    with pytest.raises(NotRerun):
        trained.again("v1", command=("python", "-c", show, str(seen)))
    found = json.loads(seen.read_text())
    assert {name for name in found if name.startswith("COGNIFY_")} == {
        "COGNIFY_WORKSPACE",
        "COGNIFY_SPOOL",
        "COGNIFY_SCRATCH",
    }
    assert str(trained.workspace.config.path.parent) not in found["COGNIFY_WORKSPACE"]
    assert "DAGSTER_HOME" not in found


def test_the_command_reaches_no_tracker_of_the_project(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "MLFLOW_TRACKING_URI": "https://mlflow.example.org",
        "MLFLOW_TRACKING_TOKEN": "a-token",
        "MLFLOW_RUN_ID": "0123",
        "WANDB_API_KEY": "a-key",
        "WANDB_MODE": "online",
        "COMET_API_KEY": "a-key",
        "NEPTUNE_API_TOKEN": "a-token",
        "CLEARML_API_SECRET_KEY": "a-key",
        "HF_HUB_OFFLINE": "1",
        "UNRELATED": "kept",
    }.items():
        monkeypatch.setenv(name, value)
    seen = tmp_path / "seen.json"
    show = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"
    with pytest.raises(NotRerun):
        trained.again("v1", command=("python", "-c", show, str(seen)))
    found = json.loads(seen.read_text())
    trackers = Path(found["WANDB_DIR"])
    assert trackers.is_dir()
    assert trackers.is_relative_to(trained.scratch)
    left = {
        name: value
        for name, value in found.items()
        if name.startswith(("MLFLOW", "WANDB", "COMET", "NEPTUNE", "CLEARML"))
    }
    assert left == {
        "MLFLOW_TRACKING_URI": f"sqlite:///{trackers / 'mlflow.db'}",
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(trackers),
        "COMET_CONFIG": str(trackers / "comet.config"),
        "COMET_OFFLINE_DIRECTORY": str(trackers),
    }
    assert not (trackers / "comet.config").exists()
    assert (found["HF_HUB_OFFLINE"], found["UNRELATED"]) == ("1", "kept")


def test_the_plan_says_what_would_be_done(trained: Trained) -> None:
    plan = plan_of(trained.workspace, trained.run("v1"), Choices())
    assert plan.command[:3] == ("python", "-m", "cognify_dagster.orchestration.rerun")
    assert plan.commit == git(trained.repository, "rev-parse", "HEAD")
    assert not plan.dirty
    assert [name for name, _, _ in plan.datasets] == ["loans"]


def cognify(trained: Trained, *words: str) -> Any:
    """Run the command line."""
    return CliRunner().invoke(main, ["--workspace", str(trained.workspace.config.path), "reproduce", *words])


def test_the_command_line_tells_plan_and_refusal(trained: Trained) -> None:
    shown = cognify(trained, "credit", "v1", "--plan", "--json")
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["model"] == "credit"
    assert "Nothing was run." in cognify(trained, "credit", "v1", "--plan").stdout
    refused = cognify(trained, "credit", "v1", "--here", "--repo", str(trained.scratch.parent), "--json")
    assert refused.exit_code == 4
    assert json.loads(refused.stdout)["verdict"] == "not_rerun"
    assert cognify(trained, "credit", "v9").exit_code == 3
    assert cognify(trained, "credit", "v1", "--data", "loans").exit_code == 5


def test_the_runner_refuses_a_real_ledger(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COGNIFY_WORKSPACE", str(trained.workspace.config.path))
    assert rerun.main(["--module", "pipeline", "--file", "pipeline.py", "--asset", "credit_model"]) == 5
    monkeypatch.delenv("COGNIFY_WORKSPACE")
    assert rerun.main(["--module", "pipeline", "--file", "pipeline.py", "--asset", "credit_model"]) == 5


# Comparing ----------------------------------------------------------------------------------------------------------


def changed(run: TrainingRun, **fields: Any) -> TrainingRun:
    """The run with other fields."""
    return TrainingRun.model_validate({**run.model_dump(), **fields})


def test_a_metric_counts_within_its_tolerance_only(trained: Trained) -> None:
    run = trained.run("v1").record
    other = {**run.model_file.model_dump(), "digest": "sha256:" + "1" * 64}
    close = changed(run, model_file=other, metrics={"mean": 1.01})
    assert compare_runs(run, close, tolerances={"mean": 0.02}).verdict == "within_tolerance"
    assert compare_runs(run, close, tolerances={"mean": 0.001}).verdict == "differs"
    assert compare_runs(run, close).verdict == "differs"
    assert compare_runs(run, close, tolerances={"mean": 0.02}, same_bytes=True).verdict == "differs"


def test_a_metric_that_is_gone_other_data_and_no_metric_at_all_are_no_reproduction(trained: Trained) -> None:
    run = trained.run("v1").record
    other = {**run.model_file.model_dump(), "digest": "sha256:" + "1" * 64}
    assert compare_runs(run, changed(run, metrics={})).verdict == "differs"
    data = [{**run.datasets[0].model_dump(), "root": "2" * 64}]
    assert compare_runs(run, changed(run, datasets=data)).verdict == "differs"
    bare = changed(run, metrics={})
    assert compare_runs(bare, changed(bare, model_file=other)).verdict == "differs"


def test_nan_equals_nan_and_nothing_else(trained: Trained) -> None:
    run = changed(trained.run("v1").record, metrics={"loss": "NaN"})
    assert compare_runs(run, run).verdict == "same_bytes"
    assert compare_runs(run, changed(run, metrics={"loss": 1.0}), tolerances={"loss": 9}).verdict == "differs"


PACKAGES = st.lists(
    st.builds(
        Package,
        name=st.sampled_from("abcdef"),
        version=st.sampled_from(["1.0", "2.0"]),
        files_sha256=st.sampled_from(["", "a" * 64, "b" * 64]),
    ),
    unique_by=lambda item: item.name,
    max_size=6,
)


@given(PACKAGES, PACKAGES)
def test_packages_are_equal_exactly_when_nothing_is_listed(before: list[Package], after: list[Package]) -> None:
    listed = {item.name for item in compare_packages(before, after)}
    old, new = {item.name: item for item in before}, {item.name: item for item in after}
    for name in {*old, *new}:
        one, two = old.get(name), new.get(name)
        if one is None or two is None or one.version != two.version:
            assert name in listed
        else:
            known = bool(one.files_sha256 and two.files_sha256)
            assert (name in listed) == (known and one.files_sha256 != two.files_sha256)


def test_environment_evidence_of_another_form_is_refused() -> None:
    for wrong in (b"", b"[]", b'{"packages": [{"name": 1}]}', b'{"packages": []}'):
        with pytest.raises(TrainingError, match="not the environment of a run"):
            read_environment(wrong)


# Rebuilding ---------------------------------------------------------------------------------------------------------


def wheel(folder: Path, name: str, version: str, body: str = "") -> Path:
    """Make a wheel of one module."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n{body}",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    import base64

    lines = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(text)}")
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,"]) + "\n"
    target = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return target


def test_a_rebuilt_environment_is_the_record_and_nothing_besides(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name, version in (("tiny_lib", "1.0"), ("tiny_lib", "2.0"), ("other_lib", "0.3")):
        wheel(wheels, name, version)
    names = (("other-lib", "0.3"), ("tiny-lib", "1.0"))
    recorded = RecordedEnvironment(
        python=sys.version.split()[0],
        implementation="CPython",
        os="",
        machine="",
        gpu="absent",
        packages=tuple(Package(name=name, version=version) for name, version in names),
    )
    with (tmp_path / "log").open("wb") as log:
        built = build_venv(
            tmp_path / "venv",
            recorded,
            python=sys.executable,
            folders={},
            pip_options=["--no-index", "--find-links", str(wheels)],
            log=log,
            timeout_s=120,
        )
    assert [(item.name, item.version) for item in built.packages] == list(names)
    assert compare_packages(recorded.packages, built.packages) == []
    freeze = subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(built.python), "freeze", "--all"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    frozen = sorted(
        re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() + "==" + line.split("==")[1] for line in freeze.split()
    )
    assert frozen == recorded.requirements().split()

    shutil.rmtree(tmp_path / "venv")
    wheel(wheels, "tiny_lib", "1.0", body="# another build\n")
    exact = [*built.packages]
    with (tmp_path / "log").open("wb") as log:
        again = build_venv(
            tmp_path / "venv",
            recorded,
            python=sys.executable,
            folders={},
            pip_options=["--no-index", "--find-links", str(wheels)],
            log=log,
            timeout_s=120,
        )
    assert [item.note for item in compare_packages(exact, again.packages)] == [
        "the same version with other files: another build of it"
    ]


def test_a_package_that_cannot_be_had_is_named_with_pips_words(tmp_path: Path) -> None:
    recorded = RecordedEnvironment("3", "", "", "", "", (Package(name="no-such-lib", version="9"),))
    with (tmp_path / "log").open("wb") as log, pytest.raises(RebuildError, match="no-such-lib==9"):
        build_venv(
            tmp_path / "venv",
            recorded,
            python=sys.executable,
            folders={},
            pip_options=["--no-index"],
            log=log,
            timeout_s=120,
        )


def test_a_source_archive_runs_nothing_unless_it_is_asked_for(tmp_path: Path) -> None:
    """Whoever holds a name on an index could otherwise run code while the environment is built."""
    ran = tmp_path / "ran"
    source = tmp_path / "squatted_lib-1.0"
    source.mkdir()
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: squatted-lib\nVersion: 1.0\n")
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "hook"\nbackend-path = ["."]\n'
    )
    (source / "hook.py").write_text(f"open({str(ran)!r}, 'w').close()\nraise SystemExit(3)\n")
    links = tmp_path / "links"
    links.mkdir()
    with tarfile.open(links / "squatted_lib-1.0.tar.gz", "w:gz") as archive:
        archive.add(source, source.name)
    recorded = RecordedEnvironment("3", "", "", "", "", (Package(name="squatted-lib", version="1.0"),))

    def build(folder: str, **options: Any) -> None:
        with (tmp_path / "log").open("wb") as log:
            build_venv(
                tmp_path / folder,
                recorded,
                python=sys.executable,
                folders={},
                pip_options=["--no-index", "--find-links", str(links)],
                log=log,
                timeout_s=120,
                **options,
            )

    with pytest.raises(RebuildError, match="--allow-source"):
        build("wheels")
    assert not ran.exists()
    with pytest.raises(RebuildError, match="could not install the recorded packages \\(status"):
        build("source", allow_source=True)
    assert ran.exists()


def test_the_command_line_takes_wheels_only_unless_told(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def stop(*_: Any, **__: Any) -> None:
        seen.append(_[2].allow_source)
        raise NotRerun("stopped")

    monkeypatch.setattr("cognify_dagster.instrument.reproduce.reproduce", stop)
    cognify(trained, "credit", "v1")
    cognify(trained, "credit", "v1", "--allow-source")
    assert seen == [False, True]


def test_a_venv_gets_its_pip_from_itself_where_this_process_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def note(command: Any, *_: Any) -> None:
        calls.append(list(command))

    monkeypatch.setattr(rebuilding, "_run", note)
    monkeypatch.setattr(rebuilding, "packages_of", lambda _: (Package(name="pip", version="1"),))
    monkeypatch.setattr(rebuilding, "python_version", lambda _: "3")
    recorded = RecordedEnvironment("3", "", "", "", "", ())
    for lent in (True, False):
        monkeypatch.setattr(rebuilding, "_may_lend_pip", lambda _, lent=lent: lent)
        folder = tmp_path / str(lent)
        folder.mkdir()
        with (tmp_path / "log").open("wb") as log:
            build_venv(folder, recorded, python="py", folders={}, pip_options=[], log=log, timeout_s=1)
        inside = str(rebuilding.venv_python(folder))
        made, install, remove = calls[-3:]
        assert ("--without-pip" in made) is lent
        for call in (install, remove):
            assert call[:4] == ([sys.executable, "-I", "-m", "pip"] if lent else [inside, "-I", "-m", "pip"])
            assert (call[4:6] == ["--python", inside]) is lent


def test_the_interpreter_has_to_be_of_the_recorded_version() -> None:
    own = ".".join(map(str, sys.version_info[:2]))
    assert interpreter_for(f"{own}.99", None) == sys.executable
    assert interpreter_for("2.7.1", "/opt/python2") == "/opt/python2"
    with pytest.raises(RebuildError, match=r"--python with a Python 2\.7"):
        interpreter_for("2.7.1", None)


def test_python_words_name_the_rebuilt_interpreter() -> None:
    python = Path("/venv/bin/python")
    for word in ("python", "python3", "python3.11", "/usr/bin/python3.9"):
        assert argument_vector([word, "train.py"], python) == ["/venv/bin/python", "train.py"]
    assert argument_vector(["torchrun", "train.py"], python) == ["torchrun", "train.py"]


def test_a_clone_runs_no_hook_and_leaves_the_repository_alone(trained: Trained, tmp_path: Path) -> None:
    hook = trained.repository / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    before = sorted(str(path) for path in (trained.repository / ".git").rglob("*"))
    clone_commit(trained.repository, git(trained.repository, "rev-parse", "HEAD"), tmp_path / "clone")
    assert (tmp_path / "clone" / "pipeline.py").read_text() == PIPELINE
    assert not (tmp_path / "ran").exists()
    assert sorted(str(path) for path in (trained.repository / ".git").rglob("*")) == before
    hook.unlink()


def test_projects_in_a_checkout_are_found_by_their_name(tmp_path: Path) -> None:
    (tmp_path / "libs" / "core").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "My_App"\n')
    (tmp_path / "libs" / "core" / "pyproject.toml").write_text('[project]\nname = "my.core"\n')
    (tmp_path / "libs" / "pyproject.toml").write_text("not toml [")
    assert projects_below(tmp_path) == {"my-app": tmp_path, "my-core": tmp_path / "libs" / "core"}


def test_the_search_path_of_an_interpreter_is_read_without_its_packages_running() -> None:
    names = {item.name for item in packages_of(sys.executable)}
    assert {"dagster", "pydantic"} <= names
