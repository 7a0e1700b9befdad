"""Results from a file as an evaluation of a sealed version, whichever tool trained it.

For versions that were imported (MLflow, W&B, Comet) or measured later or elsewhere: a script writes its numbers to a JSON file, and this
records them.

Invariants: what `record_results` demands is demanded here (a snapshot on record, thresholds adopted before training began, training and
evaluation data compared); the file is kept as evidence byte for byte; the same file said the same way is recorded once; that the numbers
are of this model and of these data is called the reporter's word, except where the model's files were compared.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cognify_dagster.datasets.recording import dataset_ref
from cognify_dagster.evaluation import EvaluationError
from cognify_dagster.evaluation.recording import ensure_gates, record_results, require_snapshot_entry
from cognify_dagster.evaluation.results import as_eval_result
from cognify_dagster.evaluation.suite import EvalArtifact
from cognify_dagster.instrument.sdk.bindings import find_snapshot
from cognify_dagster.instrument.sdk.errors import SdkError
from cognify_dagster.instrument.sdk.judging import judge_dependencies
from cognify_dagster.instrument.sdk.overlaps import ensure_overlaps
from cognify_dagster.instrument.sealed_model import not_sealed
from cognify_dagster.records import Evaluation, GateOutcome, TrainingRun
from cognify_dagster.training import capture_code
from cognify_dagster.training.recording import code_ref
from cognify_dagster.workspace import Workspace, os_login, unknown_version

#: Largest results file, in bytes.
MAX_BYTES = 4 * 1024 * 1024
_NOTE_MODEL = "That the results are of the sealed model is the reporter's word: the model's files were not compared."
_NOTE_DATA = "That the results are of the snapshot's data is the reporter's word."
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class FileRecorded:
    """What was recorded.

    Attributes:
        seq: Entry of the evaluation.
        run: Its id.
        outcomes: Of every gate.
        overlaps: Entries of the comparisons of training and evaluation data that had to be made for it.
        model_compared: Whether the model's files were compared with the sealed ones.
    """

    seq: int
    run: str
    outcomes: tuple[GateOutcome, ...]
    overlaps: tuple[int, ...]
    model_compared: bool

    @property
    def passed(self) -> bool:
        """Whether every gate passed."""
        return all(item.passed for item in self.outcomes)


def record_results_file(
    path: str | Path,
    *,
    workspace: Workspace,
    model: str,
    version: str,
    dataset: str,
    gate_set: str | None = None,
    n: int | None = None,
    protected_attributes: Sequence[str] = (),
    model_path: str | Path | None = None,
    code: str | Path | None = None,
) -> FileRecorded:
    """Record a file of results as an evaluation of a sealed version.

    Args:
        path: A JSON object: names to numbers, or to objects with `value` and any of `ci_low`, `ci_high`, `stderr`, `n`, `unit`,
            `higher_is_better`, `objective`; `protected_attributes` for a list of names. See `as_eval_result`.
        workspace: Where to record.
        model: Model key.
        version: Version id; it has to be sealed.
        dataset: The snapshot it was evaluated on: `NAME`, `NAME@ENTRY` or `NAME@ROOT` (first digits).
        gate_set: Name of the gate set; the model's only one unless given.
        n: Records evaluated; the snapshot's number of records unless the file or this say it.
        protected_attributes: Those that were evaluated.
        model_path: The model file or folder that was evaluated; it has to be the sealed one.
        code: Folder of the evaluation's code; the workspace's folder unless given.

    Raises:
        EvaluationError: an unusable file, no such version or snapshot, no gates adopted before training, data that cannot be compared, or
            another model.
    """
    file = Path(path)
    raw = _read(file)
    given = _parse(raw, file)
    reading = workspace.read()
    training = reading.latest(TrainingRun, f"model/{model}@{version}")
    if training is None:
        raise EvaluationError(
            unknown_version(reading, model, version) or f"{model} {version} has no sealed training run"
        )
    try:
        reference = dataset_ref(find_snapshot(reading, dataset), "evaluation")
    except SdkError as error:
        raise EvaluationError(str(error)) from None
    snapshot = require_snapshot_entry(reading, reference)
    notes = [_NOTE_DATA]
    if model_path is None:
        notes.append(_NOTE_MODEL)
    elif problem := not_sealed(workspace, training, Path(model_path)):
        raise EvaluationError(problem)
    count = n
    if count is None and snapshot.record.record_count:
        count = snapshot.record.record_count
        notes.append(f"Where results name no number of records, it is that of the snapshot ({count}).")
    try:
        result = as_eval_result(given, n=count, protected_attributes=protected_attributes, notes=notes)
    except EvaluationError as error:
        raise EvaluationError(f"{file}: {error}") from None
    digest = hashlib.sha256(raw).hexdigest()
    name = file.name if _PLAIN.fullmatch(file.name) else f"results-{digest[:12]}.json"
    kept = EvalArtifact(name=name, media_type="application/json", data=raw)
    result = result.model_copy(update={"artifacts": (*result.artifacts, kept)})
    said = [gate_set, n, sorted(protected_attributes), model_path is not None]
    run = f"results:{reference.root[:16]}:{hashlib.sha256(json.dumps([digest, *said]).encode()).hexdigest()[:32]}"
    before = [i for i in reading.all(Evaluation, f"model/{model}@{version}") if i.record.observed.get("run") == run]
    if before:  # said once; a crash may have kept what comes after it from being written
        ensure_gates(workspace, before[-1], training)
        judge_dependencies(workspace, before[-1], training)
        return FileRecorded(before[-1].seq, run, before[-1].record.outcomes, (), model_path is not None)
    made = ensure_overlaps(workspace, training.record.learned_from, reference, run)
    seq, outcomes = record_results(
        workspace,
        training=training,
        dataset=reference,
        results=result,
        evaluator=f"os:{os_login()}",
        code=code_ref(capture_code(code or workspace.config.home.parent)),
        run=run,
        gate_set=gate_set,
        observed={"results_file": str(file)[:500]},
    )
    found = workspace.read().find(Evaluation, seq)
    if found is None:
        raise EvaluationError(f"evaluation entry {seq} cannot be read back; run `cognify ledger verify`")
    judge_dependencies(workspace, found, training)
    return FileRecorded(seq, run, tuple(outcomes), tuple(made), model_path is not None)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be read ({error.strerror or error})") from None
    if len(raw) > MAX_BYTES:
        raise EvaluationError(f"{path}: larger than {MAX_BYTES} bytes; a results file holds numbers, not predictions")
    return raw


def _parse(raw: bytes, path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(raw, object_pairs_hook=_once)
    except _Twice as error:
        raise EvaluationError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{path}: not JSON ({error})") from None
    if not isinstance(found, dict) or not found:
        raise EvaluationError(f'{path}: expected a JSON object of names to numbers, such as {{"auc": 0.81}}')
    return found


class _Twice(ValueError):
    """A name stands twice in one object."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Twice(f"{twice[:80]!r} stands twice; which number counts cannot be told")
    return found
