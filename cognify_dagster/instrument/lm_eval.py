"""Results of the lm-evaluation-harness (lm-eval 0.4.x) as evaluations: benchmark, version, shots, interval, objective.

The harness itself is not needed: its results file is JSON, its files of samples are JSON lines. Both are kept as evidence.

Invariants: the benchmark's data have to be a snapshot on record that was compared with the training data, otherwise the import is
refused; samples that do not belong to the results (another task hash, count or mean) are refused, and settings with what looks like a
secret; a number that the harness did not give is not filled in. That the harness ran the sealed weights is checked where the model's
files are at hand (`model_path`); otherwise the record says that it is the importer's word, as it says of the questions.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cognify_dagster.datasets.recording import dataset_ref, require_snapshot
from cognify_dagster.documents.catalogues.objectives import Objectives, load_objectives
from cognify_dagster.evaluation import EvalResult, MetricValue
from cognify_dagster.evaluation.recording import record_results
from cognify_dagster.evaluation.results import Z95
from cognify_dagster.instrument.lm_eval_files import (
    MAX_RESULTS_BYTES,
    LmEvalError,
    Samples,
    artifact_of,
    counts,
    leaves,
    part_of,
    read_bytes,
    read_results,
    read_samples,
    samples_beside,
)
from cognify_dagster.instrument.sdk.redaction import redact
from cognify_dagster.instrument.sealed_model import not_sealed
from cognify_dagster.records import (
    BenchmarkResult,
    CodeRef,
    DatasetRef,
    EvidenceItem,
    GateOutcome,
    TrainingRun,
    to_json,
    to_metric,
)
from cognify_dagster.training import capture_code
from cognify_dagster.training.recording import code_ref
from cognify_dagster.workspace import Workspace, os_login, unknown_version

_STDERR = "_stderr"
_NOTE_MODEL = "That the harness ran the sealed weights is the importer's word: the model's files were not compared."
_NOTE_DATA = "That the harness asked the questions of the snapshot is the importer's word."


@dataclass(frozen=True)
class Imported:
    """What an import recorded.

    Attributes:
        seq: Entry of the evaluation.
        outcomes: What each gate found.
        benchmarks: The results.
        unmapped: Metrics without an objective.
        model_compared: Whether the model's files were compared with the sealed ones.
        run: Id of the evaluation; the same files again are recorded once.
    """

    seq: int
    outcomes: tuple[GateOutcome, ...]
    benchmarks: tuple[BenchmarkResult, ...]
    unmapped: tuple[str, ...]
    model_compared: bool
    run: str

    @property
    def passed(self) -> bool:
        """Whether every gate lets the model through."""
        return all(item.passed for item in self.outcomes)


def objective_of(folder: Path | None = None) -> Callable[[str], str]:
    """Return a function that says what a metric is evidence for; the empty text where no entry of the table fits."""
    table = load_objectives(folder)

    def said(name: str) -> str:
        entry = table.find(name)
        return entry.objective if entry is not None else ""

    return said


def read_lm_eval(
    path: str | Path,
    *,
    samples: Sequence[str | Path] | None = None,
    tasks: Iterable[str] = (),
    objectives: Objectives | None = None,
) -> EvalResult:
    """Read a results file of the harness. Records nothing.

    Args:
        path: ``results_*.json``.
        samples: Files ``samples_*.jsonl``; those beside the results file unless given; an empty list for none.
        tasks: Only these tasks and groups; all unless given.
        objectives: Table of objectives; the shipped one unless given.

    Returns:
        The benchmarks, each also as a metric ``task.metric``, with both files as attachments. An `eval_suite` may return it, or
        join it with other results by `EvalResult.merged`.

    Raises:
        LmEvalError: naming file and entry.
    """
    file = Path(path)
    raw = read_bytes(file, MAX_RESULTS_BYTES)
    data = read_results(raw, file)
    _refuse_secrets(data, file)
    wanted = _wanted(data, tuple(tasks), file)
    results = artifact_of(file.name, "lm-eval-results", raw, "application/json")
    chosen = [Path(item) for item in samples] if samples is not None else samples_beside(file)
    taken = read_samples(chosen, data, wanted, file)
    table = objectives if objectives is not None else load_objectives()
    found = [
        item
        for task in wanted
        for item in _benchmarks(
            task, data, results.item(), {name: one.item for name, one in taken.items()}, table, file
        )
    ]
    if not found:
        raise LmEvalError(f"{file}: no task in it has a number; results of lm-eval before 0.4 are not read")
    metrics = tuple(
        MetricValue(
            item.metric_name,
            float(item.value),
            None if item.ci_low is None else float(item.ci_low),
            None if item.ci_high is None else float(item.ci_high),
            item.n,
            "",
            item.higher_is_better,
            item.objective,
        )
        for item in found
    )
    questions = _questions(data, wanted)
    if questions < 1:
        raise LmEvalError(f"{file}: n-samples says no number of questions; was it written by lm-eval 0.4?")
    limited = [item.task for item in found if item.n is not None and item.n_available not in (None, item.n)]
    notes = [f"{task}: a limit was set, only part of the questions was asked." for task in dict.fromkeys(limited)]
    version = str(data.get("lm_eval_version") or "")
    return EvalResult(
        metrics=metrics,
        n=questions,
        benchmarks=tuple(found),
        artifacts=(results, *(one.artifact for one in taken.values() if one.artifact is not None)),
        settings={f"lm_eval.{results.sha256[:12]}": _settings(data, taken, file)},
        notes=tuple(notes),
        evaluator_code=CodeRef(vcs="package", commit=f"lm-eval=={version}") if version else None,
    )


def import_lm_eval(
    paths: str | Path | Sequence[str | Path],
    *,
    workspace: Workspace,
    model: str,
    version: str,
    dataset: str | DatasetRef,
    samples: Sequence[str | Path] | None = None,
    tasks: Iterable[str] = (),
    gate_set: str | None = None,
    model_path: str | Path | None = None,
    protected_attributes: Sequence[str] = (),
    evaluator: str = "",
    code: CodeRef | None = None,
    objectives_folder: Path | None = None,
) -> Imported:
    """Record results files of the harness as one evaluation of a sealed version.

    Args:
        paths: One results file or several. The newest evaluation of a version is the one that counts, so give all at once.
        workspace: Where to record.
        model: Model key.
        version: Version id; it has to be sealed.
        dataset: Name of the snapshot that holds the benchmarks' questions (the newest counts), or a reference to it.
        samples: Files of samples; those beside the results files unless given.
        tasks: Only these tasks and groups.
        gate_set: Name of the gate set; the model's only one unless given.
        model_path: The model file or folder that the harness ran; it has to be the sealed one.
        protected_attributes: Those that these results were evaluated for.
        evaluator: Who ran the harness; the operating system's user unless given.
        code: Code of the evaluation; that of the workspace's folder unless given.
        objectives_folder: Folder with an `objectives.yaml` of your own.

    Raises:
        LmEvalError: a file is unusable, or the model is not the sealed one.
        EvaluationError: no gates adopted before training, or data that were not compared with the training data.
        DatasetError: the benchmark was never snapshotted.
    """
    files = [Path(paths)] if isinstance(paths, (str, Path)) else [Path(item) for item in paths]
    if not files:
        raise LmEvalError("name at least one results file")
    if samples is not None and len(files) > 1 and samples:
        raise LmEvalError("samples: with several results files, leave their samples beside them")
    reading = workspace.read()
    training = reading.latest(TrainingRun, f"model/{model}@{version}")
    if training is None:
        raise LmEvalError(unknown_version(reading, model, version) or f"{model} {version} has no sealed training run")
    reference = dataset
    if isinstance(reference, str):
        reference = dataset_ref(require_snapshot(workspace, reference), "evaluation")
    table = load_objectives(objectives_folder)
    result = read_lm_eval(files[0], samples=samples, tasks=tasks, objectives=table)
    for path in files[1:]:
        other = read_lm_eval(path, samples=samples, tasks=tasks, objectives=table)
        result = result.merged(other).model_copy(update={"n": result.n + other.n})
    if model_path is not None:
        if problem := not_sealed(workspace, training, Path(model_path)):
            raise LmEvalError(problem)
    else:
        result = result.model_copy(update={"notes": (*result.notes, _NOTE_MODEL)})
    result = result.model_copy(update={"notes": (*result.notes, _NOTE_DATA)})
    sources = sorted({item.source.digest for item in result.benchmarks})
    chosen = hashlib.sha256("\n".join([*sources, *sorted(tasks)]).encode()).hexdigest()[:32]
    run = f"lm-eval:{reference.root[:16]}:{chosen}"
    seq, outcomes = record_results(
        workspace,
        training=training,
        dataset=reference,
        results=result,
        evaluator=evaluator or f"os:{os_login()}",
        code=code or code_ref(capture_code(workspace.config.home.parent)),
        run=run,
        gate_set=gate_set,
        protected_attributes=protected_attributes,
    )
    return Imported(seq, tuple(outcomes), result.benchmarks, result.unmapped, model_path is not None, run)


def _refuse_secrets(data: Mapping[str, Any], path: Path) -> None:
    """Refuse settings with what looks like a password or token: the file is kept for good, and so would they be."""
    configs = data.get("configs")
    described = configs.values() if isinstance(configs, Mapping) else ()
    told = {"config": data.get("config"), "model_name": data.get("model_name")}
    told["dataset_kwargs"] = [one.get("dataset_kwargs") for one in described if isinstance(one, Mapping)]
    for name, value in told.items():
        if redact(value) != value:
            raise LmEvalError(
                f"{path}: {name} holds what looks like a password or access token. The file would be kept as evidence: take it out first, "
                "and give the harness secrets by the environment"
            )


def _wanted(data: Mapping[str, Any], tasks: tuple[str, ...], path: Path) -> list[str]:
    known = [str(name) for name in data["results"]]
    lacking = [name for name in tasks if name not in known]
    if lacking:
        raise LmEvalError(f"{path}: it has no task {lacking[0]!r}; it has {', '.join(known[:30])}")
    return [name for name in known if not tasks or name in tasks]


def _questions(data: Mapping[str, Any], wanted: Sequence[str]) -> int:
    asked = {leaf for task in wanted for leaf in leaves(data, task)}
    return sum(counts(data, leaf)[0] or 0 for leaf in asked)


def _benchmarks(
    task: str,
    data: Mapping[str, Any],
    source: EvidenceItem,
    samples: Mapping[str, EvidenceItem | None],
    table: Objectives,
    path: Path,
) -> Iterable[BenchmarkResult]:
    numbers = data["results"][task]
    better = part_of(data, "higher_is_better", task)
    shots, version = part_of(data, "n-shot", task), part_of(data, "versions", task)
    asked, available = counts(data, task)
    for key, value in numbers.items():
        name, comma, kind = str(key).partition(",")
        if not comma or name.endswith(_STDERR) or isinstance(value, (str, bool)) or not isinstance(value, (int, float)):
            continue  # alias, sample_len and standard errors, which go with their metric
        stderr = _stderr(numbers.get(f"{name}{_STDERR},{kind}"))
        direction = better.get(name) if isinstance(better, Mapping) else None
        made = BenchmarkResult(
            task=task,
            version="" if version is None else str(version),
            n_shot=shots if isinstance(shots, int) and not isinstance(shots, bool) else None,
            metric=name,
            filter=kind,
            value=to_metric(value),
            stderr=stderr,
            ci_low=None if stderr is None else to_metric(value - Z95 * stderr),
            ci_high=None if stderr is None else to_metric(value + Z95 * stderr),
            n=asked,
            n_available=available,
            higher_is_better=direction if isinstance(direction, bool) else None,
            harness=f"lm-eval {data.get('lm_eval_version') or '(version not stated)'}"[:100],
            source=source,
            samples=samples.get(task),
        )
        if re.search(r"[^\x21-\x7e]", made.metric_name) or len(made.metric_name) > 200:
            raise LmEvalError(f"{path}: results.{task}.{key}: gates cannot name this metric; rename the task")
        entry = table.find(made.metric_name)
        if entry is not None:
            made = made.model_copy(update={"objective": entry.objective, "objective_id": entry.id})
        yield made


def _stderr(value: Any) -> float | None:
    """The standard error, or None: the harness writes N/A where it has none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        return None
    return float(value)


def _settings(data: Mapping[str, Any], taken: Mapping[str, Samples], path: Path) -> dict[str, Any]:
    """How the harness was run, as it says; and the digests of its samples."""
    configs = data.get("configs") if isinstance(data.get("configs"), Mapping) else {}
    names = ("dataset_path", "dataset_name", "dataset_kwargs", "test_split", "validation_split", "fewshot_split")
    described = {
        str(task): {name: one[name] for name in names if one.get(name) is not None}
        for task, one in (configs or {}).items()
        if isinstance(one, Mapping)
    }
    members = (
        "config", "git_hash", "upper_git_hash", "date", "lm_eval_version", "transformers_version", "task_hashes", "model_source",
        "model_name", "system_instruction_sha", "chat_template_sha", "fewshot_as_multiturn", "max_length",
    )  # fmt: skip
    told = {name: data[name] for name in members if data.get(name) is not None}
    samples = {task: {"name": one.name, "sha256": one.sha256, "size": one.size} for task, one in taken.items()}
    found: dict[str, Any] = to_json(
        {
            **told,
            "file": path.name,
            "interval": "value ± 1.96 × the harness's standard error, a normal approximation",
            "data": described,
            "samples": samples,
        }
    )
    return found
