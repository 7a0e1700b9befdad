"""`reproduce`: rebuilds environment, code and data of a sealed training from the record, runs it again, and compares.

Invariants: the real ledger is only read; the re-run writes to a scratch workspace (see `scratch`); it runs the command of the record, or one
that the caller gives, without a shell; what could not be rebuilt as recorded is a difference or a refusal, never passed over.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cognify_dagster.instrument.scratch import data_problem, make_scratch, recorded_data
from cognify_dagster.records import Rerun, TrainingRun
from cognify_dagster.training import TrainingError, capture_environment
from cognify_dagster.training.rebuilding import (
    RebuildError,
    Rebuilt,
    apply_patch,
    argument_vector,
    build_venv,
    clone_commit,
    interpreter_for,
    packages_of,
    projects_below,
    python_version,
    run_again,
    tail_of,
    take_changes,
)
from cognify_dagster.training.reproducing import (
    SCRATCH_VARIABLE,
    Comparison,
    Difference,
    RecordedEnvironment,
    compare_machine,
    compare_packages,
    compare_runs,
    read_environment,
)
from cognify_dagster.workspace import Recorded, Workspace


class NotRerun(TrainingError):
    """The run could not be repeated, so nothing is shown either way; the message says what is in the way."""


@dataclass(frozen=True)
class Choices:
    """What the caller decides.

    Attributes:
        python: interpreter to build the environment with; this one if it is the recorded minor version.
        here: run with this process's environment instead of rebuilding it; every difference of it is reported.
        pip_options: passed on to `pip install`.
        allow_source: install from source archives too, which runs their code; only wheels are taken otherwise.
        folders: packages to install from a folder, by name.
        repository: a clone that has the recorded commit; the current folder's unless given.
        code: a folder to copy instead, for a training that ran outside a repository.
        allow_dirty: run the commit alone where uncommitted changes are on record but not at hand.
        data: where the files of datasets are, by name.
        command: to run instead of the record's.
        timeout_s: for each step, in seconds.
    """

    python: str | None = None
    here: bool = False
    pip_options: tuple[str, ...] = ()
    allow_source: bool = False
    folders: Mapping[str, Path] = field(default_factory=dict)
    repository: Path = Path()
    code: Path | None = None
    allow_dirty: bool = False
    data: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    timeout_s: float = 3600.0


@dataclass(frozen=True)
class Plan:
    """What a re-run would do."""

    model: str
    version: str
    entry: int
    command: tuple[str, ...]
    folder: str
    tolerances: Mapping[str, Any]
    same_bytes: bool
    commit: str
    dirty: bool
    python: str
    packages: int
    datasets: tuple[tuple[str, str, str], ...]
    given: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "model": self.model,
            "version": self.version,
            "entry": self.entry,
            "command": list(self.command),
            "command_given": self.given,
            "folder": self.folder,
            "tolerances": dict(self.tolerances),
            "same_bytes": self.same_bytes,
            "commit": self.commit,
            "uncommitted_changes": self.dirty,
            "python": self.python,
            "packages": self.packages,
            "datasets": [{"name": name, "root": root, "location": place} for name, root, place in self.datasets],
        }


@dataclass(frozen=True)
class Outcome:
    """What came of it. `environment` lists what the rebuilt environment has other than recorded, `seconds` how long each step took."""

    plan: Plan
    comparison: Comparison
    environment: tuple[Difference, ...]
    notes: tuple[str, ...]
    seconds: Mapping[str, float]
    scratch: Path

    @property
    def reproduced(self) -> bool:
        """Whether the re-run is what the record asks for."""
        return self.comparison.reproduced

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "plan": self.plan.to_dict(),
            **self.comparison.to_dict(),
            "environment": [vars(item) for item in self.environment],
            "notes": list(self.notes),
            "seconds": dict(self.seconds),
            "scratch": str(self.scratch),
        }


def plan_of(workspace: Workspace, run: Recorded[TrainingRun], choices: Choices) -> Plan:
    """Say what a re-run would do, from the record alone.

    Raises:
        NotRerun: no command is on record and none was given.
        TrainingError: a snapshot or the environment cannot be read.
    """
    record = run.record
    rerun = record.rerun
    if not choices.command and rerun is None:
        raise NotRerun(
            f"{record.model} {record.version} (entry {run.seq}) has no command on record: it was sealed before commands were, or by "
            "hand. Give --command 'python train.py …'"
        )
    stated = rerun if rerun is not None else Rerun(command=choices.command)
    environment = read_environment(workspace.evidence.get(record.environment.detail.digest))
    data = recorded_data(workspace.read(), record)
    return Plan(
        model=record.model,
        version=record.version,
        entry=run.seq,
        command=choices.command or stated.command,
        folder=stated.folder,
        tolerances=dict(stated.tolerances),
        same_bytes=stated.same_bytes,
        commit=record.code.commit or "none",
        dirty=bool(record.code.dirty),
        python=environment.python,
        packages=len(environment.packages),
        datasets=tuple(
            (
                item.record.name,
                item.record.root,
                "the evidence store"
                if item.record.data is not None
                else choices.data.get(item.record.name, str(item.record.observed.get("location", ""))),
            )
            for item in data
        ),
        given=bool(choices.command),
    )


def reproduce(
    workspace: Workspace,
    run: Recorded[TrainingRun],
    choices: Choices,
    scratch: Path,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Rebuild, run again, compare.

    Args:
        workspace: the workspace that holds the run; it is only read.
        run: the sealed run.
        choices: see there.
        scratch: a new folder for everything that is made.
        progress: is told each step.

    Raises:
        NotRerun: the run cannot be repeated, with the reason and what to give.
        TrainingError: evidence of the run cannot be read.
    """
    plan = plan_of(workspace, run, choices)
    environment = read_environment(workspace.evidence.get(run.record.environment.detail.digest))
    seconds: dict[str, float] = {}
    notes: list[str] = []
    scratch.mkdir(mode=0o700, parents=True)
    log_file = scratch / "rerun.log"

    def step(name: str, say: str) -> None:
        now = time.monotonic()
        seconds[name] = now  # turned into durations at the end
        progress(say)

    try:
        with log_file.open("wb") as log:
            step("data", f"Comparing {len(plan.datasets)} datasets with their roots")
            _require_data(workspace, run.record, choices)
            step("code", f"Checking out {plan.commit[:12]}")
            code = _code(workspace, run.record, choices, scratch / "code", notes)
            step("environment", _build_text(plan, choices))
            rebuilt = _environment(environment, choices, scratch, code, log)
            differences = _environment_differences(environment, rebuilt)
            step("workspace", "Founding a scratch workspace")
            made = make_scratch(scratch / "workspace", workspace, run, choices.data)
            step("training", f"Running {shlex.join(plan.command)}")
            folder = (code / plan.folder).resolve()
            if not folder.is_dir() or (folder != code.resolve() and code.resolve() not in folder.parents):
                raise NotRerun(f"the recorded folder {plan.folder!r} is not in the checked-out code")
            status = run_again(
                argument_vector(plan.command, rebuilt.python),
                folder=folder,
                environment=_variables(rebuilt, made.config.path.parent, scratch),
                log=log,
                timeout_s=choices.timeout_s,
            )
    except RebuildError as error:
        raise NotRerun(str(error)) from error
    step("comparing", "Comparing")
    again = _newest(made.config.path, run.record.model)
    if again is None:
        raise NotRerun(
            f"the command ended with status {status} and sealed no run of {run.record.model}. The end of {log_file}:\n{tail_of(log_file)}"
        )
    comparison = compare_runs(run.record, again, same_bytes=plan.same_bytes)
    if status:
        notes.append(f"the command ended with status {status} after it had sealed its run; see {log_file}")
    times = [*seconds.values(), time.monotonic()]
    took = {name: round(after - before, 2) for name, before, after in zip(seconds, times, times[1:], strict=False)}
    return Outcome(plan, comparison, tuple(differences), tuple(notes), took, scratch)


def _build_text(plan: Plan, choices: Choices) -> str:
    if choices.here:
        return f"Comparing this environment with the {plan.packages} recorded packages"
    return f"Building an environment with Python {plan.python} and {plan.packages} packages"


def _require_data(workspace: Workspace, record: TrainingRun, choices: Choices) -> None:
    if record.rerun is not None and "--upstream" in record.rerun.command and not choices.command:
        return  # the re-run makes its data anew; their roots are compared afterwards
    problems = [
        data_problem(workspace, item, choices.data.get(item.record.name, str(item.record.observed.get("location", ""))))
        for item in recorded_data(workspace.read(), record)
    ]
    if found := [text for text in problems if text]:
        raise NotRerun("; ".join(found))


def _code(workspace: Workspace, record: TrainingRun, choices: Choices, target: Path, notes: list[str]) -> Path:
    """Put the recorded code into a folder and return it."""
    code = record.code
    if choices.code is not None:
        import shutil

        notes.append(f"the code is a copy of {choices.code}, not of the recorded commit")
        shutil.copytree(choices.code, target, ignore=shutil.ignore_patterns(".git", ".venv", "__pycache__", ".cognify"))
        return target
    if code.vcs != "git" or not code.commit or code.commit == "none":
        raise NotRerun("the training did not run in a git repository, so no commit is on record; give --code FOLDER")
    clone_commit(choices.repository.resolve(), code.commit, target)
    digest = code.diff_digest or "none"
    if not code.dirty or digest == "none":
        return target
    kept = f"sha256:{digest.removeprefix('sha256:')}"
    if workspace.evidence.exists(kept) and apply_patch(workspace.evidence.get(kept), target):
        return target
    if take_changes(choices.repository.resolve(), code.commit, digest, target):
        notes.append(
            f"the uncommitted changes were taken from {choices.repository.resolve()}, which still has exactly these"
        )
    elif choices.allow_dirty:
        notes.append("the record has uncommitted changes that are not at hand: the commit alone was run")
    else:
        raise NotRerun(
            f"the training ran with uncommitted changes (digest {digest[:16]}…) that are neither in evidence nor in "
            f"{choices.repository.resolve()}. --allow-dirty runs the commit alone and says so"
        )
    return target


def _environment(recorded: RecordedEnvironment, choices: Choices, scratch: Path, code: Path, log: Any) -> Rebuilt:
    folders = {**projects_below(code), **choices.folders}
    if choices.here:
        python = Path(choices.python or sys.executable)
        found = packages_of(python)
        return Rebuilt(
            python, python_version(python), found, tuple(sorted(set(folders) & {item.name for item in found}))
        )
    return build_venv(
        scratch / "venv",
        recorded,
        python=interpreter_for(recorded.python, choices.python),
        folders=folders,
        pip_options=choices.pip_options,
        log=log,
        timeout_s=choices.timeout_s,
        allow_source=choices.allow_source,
    )


def _environment_differences(recorded: RecordedEnvironment, rebuilt: Rebuilt) -> list[Difference]:
    now = capture_environment()
    return [
        *compare_machine(recorded, rebuilt.version, now.os, platform.machine(), now.gpu),
        *compare_packages(recorded.packages, rebuilt.packages, from_checkout=rebuilt.from_folder),
    ]


_KEPT_OUT = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "DAGSTER_HOME", "PYTHONSTARTUP")
_KEPT_OUT_OF = ("COGNIFY_", "MLFLOW_", "WANDB_", "COMET_", "NEPTUNE_", "CLEARML_", "TRAINS_", "DVC_STUDIO_")


def _variables(rebuilt: Rebuilt, workspace: Path, scratch: Path) -> dict[str, str]:
    """This login's environment, without what would lead the run to another workspace, ledger, instance, tracker or package.

    A tracker's settings and credentials go as a whole: a re-run must not write into the project's real experiments.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _KEPT_OUT and not name.upper().startswith(_KEPT_OUT_OF)
    }
    trackers = scratch / "trackers"
    trackers.mkdir(mode=0o700, exist_ok=True)
    kept["MLFLOW_TRACKING_URI"] = f"sqlite:///{trackers / 'mlflow.db'}"
    kept["WANDB_MODE"] = "offline"
    kept["WANDB_DIR"] = str(trackers)
    kept["COMET_CONFIG"] = str(trackers / "comet.config")  # not there: the login's own holds its key
    kept["COMET_OFFLINE_DIRECTORY"] = str(trackers)
    kept["PATH"] = os.pathsep.join([str(rebuilt.python.parent), kept.get("PATH", os.defpath)])
    kept["COGNIFY_WORKSPACE"] = str(workspace)
    kept[SCRATCH_VARIABLE] = str(workspace)
    kept["COGNIFY_SPOOL"] = str(scratch / "spool")
    kept["DAGSTER_DISABLE_TELEMETRY"] = "1"
    return kept


def _newest(workspace: Path, model: str) -> TrainingRun | None:
    runs: Sequence[Recorded[TrainingRun]] = Workspace.open(workspace).read().all(TrainingRun, f"model/{model}")
    return runs[-1].record if runs else None
