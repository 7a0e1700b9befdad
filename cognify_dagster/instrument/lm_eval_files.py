"""The files of the lm-evaluation-harness: results as JSON, samples as JSON lines; bounded, and checked against each other.

Invariants: samples that do not belong to the results (another task hash, another number of questions, another mean) are refused;
a file of samples that is too large to be kept is digested all the same.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cognify_dagster.evaluation import EvalArtifact, EvaluationError
from cognify_dagster.evaluation.suite import MAX_ARTIFACT_BYTES
from cognify_dagster.records import EvidenceItem

#: A results file holds tables and configurations, no samples.
MAX_RESULTS_BYTES = 32 * 1024 * 1024
#: A file of samples above this is digested, and not read.
MAX_SAMPLES_BYTES = 2 * 1024 * 1024 * 1024
#: How far a mean over samples may differ from the result that it is compared with.
_TOLERANCE = 1e-9
_MAX_LINE = 16 * 1024 * 1024
_DATED = re.compile(r"_(\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}(?:\.\d+)?)\.json$")


class LmEvalError(EvaluationError):
    """A results file of the harness is unusable; the message names file and entry."""


def samples_beside(path: Path) -> list[Path]:
    """Return the files of samples that the harness wrote with a results file: those of the same moment beside it."""
    dated = _DATED.search(path.name)
    return sorted(path.parent.glob(f"samples_*_{dated[1]}.jsonl")) if dated else []


def read_bytes(path: Path, limit: int) -> bytes:
    """Return a file's bytes; raises LmEvalError where it cannot be read or is larger than `limit`."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(limit + 1)
    except OSError as error:
        raise LmEvalError(f"{path}: cannot be read ({error.strerror or error})") from None
    if len(raw) > limit:
        raise LmEvalError(f"{path}: larger than {limit} bytes; is it a results file of lm-eval?")
    return raw


def read_results(raw: bytes, path: Path) -> dict[str, Any]:
    """Return the results; raises LmEvalError for anything else."""
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise LmEvalError(f"{path}: not JSON ({error})") from None
    if not isinstance(data, dict) or not isinstance(data.get("results"), dict) or not data["results"]:
        raise LmEvalError(f"{path}: no results file of lm-eval: it has no member 'results'")
    odd = [str(task)[:80] for task, numbers in data["results"].items() if not isinstance(numbers, dict)]
    if odd:
        raise LmEvalError(f"{path}: results.{odd[0]}: expected a mapping")
    return data


def part_of(data: Mapping[str, Any], member: str, task: str) -> Any:
    """Return what a member says of a task, or None."""
    part = data.get(member)
    return part.get(task) if isinstance(part, Mapping) else None


def leaves(data: Mapping[str, Any], task: str) -> list[str]:
    """The tasks of a group, each once, or the task itself."""
    found: list[str] = []
    pending, seen = [task], {task}
    while pending:
        name = pending.pop()
        below = part_of(data, "group_subtasks", name)
        if not isinstance(below, list) or not below:
            found.append(name)
            continue
        fresh = [one for one in dict.fromkeys(map(str, below)) if one not in seen]
        seen.update(fresh)
        pending += reversed(fresh)
    return found


def counts(data: Mapping[str, Any], task: str) -> tuple[int | None, int | None]:
    """How many questions were asked, and how many there are; of a group, over its tasks."""
    asked = available = 0
    for leaf in leaves(data, task):
        count = part_of(data, "n-samples", leaf)
        if not isinstance(count, Mapping):
            return None, None
        one, other = count.get("effective"), count.get("original")
        if not all(isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in (one, other)):
            return None, None
        asked, available = asked + int(one or 0), available + int(other or 0)
    return asked, available


@dataclass(frozen=True)
class Samples:
    """A file of samples. `artifact` is None where it is too large to be kept; its digest is recorded all the same."""

    name: str
    sha256: str
    size: int
    artifact: EvalArtifact | None

    @property
    def item(self) -> EvidenceItem | None:
        return None if self.artifact is None else self.artifact.item()


def read_samples(
    files: Sequence[Path], data: Mapping[str, Any], wanted: Sequence[str], results: Path
) -> dict[str, Samples]:
    """Return the samples by task, checked against the results; raises LmEvalError where they don't belong to them."""
    asked = {leaf for task in wanted for leaf in leaves(data, task)}
    taken: dict[str, Samples] = {}
    for file in files:
        named = [task for task in data["results"] if file.name.startswith(f"samples_{task}_")]
        if not named:
            raise LmEvalError(f"{file}: samples of no task of {results.name}")
        task = max(named, key=len)
        if task in taken:
            raise LmEvalError(f"{file}: samples of {task} are given twice")
        if task in asked:
            taken[task] = _taken(file, task, data)
    return taken


def _taken(file: Path, task: str, data: Mapping[str, Any]) -> Samples:
    """Digest a file of samples and check that it belongs to the results: task hash, number of questions, means."""
    whole, hashes, size = hashlib.sha256(), hashlib.sha256(), 0
    questions: set[Any] = set()
    sums: dict[tuple[str, str], list[float]] = {}
    kept: list[bytes] | None = []
    try:
        with file.open("rb") as stream:
            while line := stream.readline(_MAX_LINE):
                whole.update(line)
                size += len(line)
                if size > MAX_SAMPLES_BYTES:
                    raise LmEvalError(f"{file}: larger than {MAX_SAMPLES_BYTES} bytes")
                if size > MAX_ARTIFACT_BYTES:
                    kept = None
                elif kept is not None:
                    kept.append(line)
                row = json.loads(line)
                for name in ("doc_hash", "prompt_hash", "target_hash"):
                    hashes.update(str(row[name]).encode())
                questions.add(row["doc_id"])
                for metric in row["metrics"]:
                    value = row.get(metric)
                    if isinstance(value, (int, float)):
                        sums.setdefault((str(metric), str(row["filter"])), []).append(float(value))
    except LmEvalError:
        raise
    except OSError as error:
        raise LmEvalError(f"{file}: cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise LmEvalError(f"{file}: not the samples of lm-eval ({type(error).__name__}: {error})") from None
    stated = part_of(data, "task_hashes", task)
    if stated and stated != hashes.hexdigest():
        raise LmEvalError(f"{file}: these are not the samples of the results: the hash of {task} differs")
    asked = counts(data, task)[0]
    if asked is not None and asked != len(questions):
        raise LmEvalError(f"{file}: answers to {len(questions)} questions, the results of {task} say {asked}")
    for (metric, kind), values in sums.items():
        said = data["results"][task].get(f"{metric},{kind}")
        if _is_mean(data, task, metric) and isinstance(said, (int, float)):
            mean = math.fsum(values) / len(values)
            if abs(mean - said) > _TOLERANCE * max(1.0, abs(mean)):
                raise LmEvalError(f"{file}: {task}.{metric} is {said:g} in the results and {mean:g} over the samples")
    artifact = None
    if kept is not None:
        artifact = artifact_of(file.name, f"lm-eval-samples-{task}", b"".join(kept), "application/x-ndjson")
    return Samples(file.name, whole.hexdigest(), size, artifact)


def _is_mean(data: Mapping[str, Any], task: str, metric: str) -> bool:
    config = part_of(data, "configs", task)
    listed = config.get("metric_list") if isinstance(config, Mapping) else None
    return any(
        isinstance(one, Mapping) and one.get("metric") == metric and one.get("aggregation") == "mean"
        for one in (listed if isinstance(listed, list) else ())
    )


def artifact_of(name: str, other: str, data: bytes, media_type: str) -> EvalArtifact:
    """An attachment under the file's own name; under a plain one where that is none."""
    plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name) is not None
    suffix = "json" if media_type == "application/json" else "jsonl"
    fallback = re.sub(r"[^A-Za-z0-9._-]", "-", other)[:80] + f"-{hashlib.sha256(data).hexdigest()[:12]}.{suffix}"
    return EvalArtifact(name=name if plain else fallback, media_type=media_type, data=data)
