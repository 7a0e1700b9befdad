"""What the sealed training run and the evaluation record beyond their first schema, as members of the package.

Invariants: a member is there only where the entry holds something for it, so that a version recorded without them has the package that
it always had; everything is a copy of the entry's fields, but for the compute criterion, which is worked out from them and says how;
experiments are counted and never cited: they are no evidence about a version. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from pydantic import BaseModel

from cognify_dagster.documents.coverage.gpai import determine
from cognify_dagster.documents.facts.earlier import all_of
from cognify_dagster.documents.facts.version import VersionFacts
from cognify_dagster.records import CodeRef, EnvironmentRef, Evaluation, ModelSignature, SliceResult, TrainingRun, utc
from cognify_dagster.workspace import Recorded

Json = dict[str, Any]
MAX_SAFE_INTEGER = 2**53 - 1
#: Members of the compute criterion that a package repeats; the rest follows from them.
_CRITERION = ("verdict", "words", "modification_flop", "original_flop", "original_basis", "line_flop", "ratio", "basis", "missing", "assumptions")  # fmt: skip


def environment_part(environment: EnvironmentRef) -> Json:
    """Return the environment in short; a lock file is named only where one was found."""
    found = environment.model_dump(mode="json")
    if not environment.lock_file:
        del found["lock_file"]
    return found


def training_capture(record: TrainingRun) -> Json:
    """Return the later members of the training run, each only where the run recorded it."""
    found: Json = {
        "model_files": _dumped(record.model_files),
        "checkpoints": _dumped(record.checkpoints),
        "seeds": dict(record.seeds),
        "feature_code": _code(record.feature_code),
        "compute": _figures(_dump(record.compute)),
        "distributed": _dump(record.distributed),
        "external": _dumped(record.external),
        "rerun": _dump(record.rerun),
        "captured_by": record.captured_by,
    }
    duration = record.observed.get("duration_s")
    if record.captured_by and isinstance(duration, (int, float)) and not isinstance(duration, bool):
        found["duration_s"] = duration
    if record.compute is not None and record.base_model:
        criterion = determine(record).to_json()
        found["compute_criterion"] = _figures({name: criterion[name] for name in _CRITERION})
    return {name: value for name, value in found.items() if value}


def signatures_of(facts: VersionFacts) -> list[Recorded[ModelSignature]]:
    """Return the signatures over exactly the files of the sealed training run, oldest first."""
    run = facts.training
    if run is None:
        return []
    wanted = (run.seq, run.record.model_file.digest)
    found = all_of(facts.events, ModelSignature)
    return [item for item in found if (item.record.training_seq, item.record.model_digest) == wanted]


def signatures_part(facts: VersionFacts) -> Json:
    """Return the model-signing bundles of the training run's files, as its member `model_signatures`; nothing where there are none."""
    found = [
        {
            "entry": {"seq": item.seq, "leaf": item.leaf, "time": _utc(item.time_us), "actor": item.actor},
            **item.record.model_dump(mode="json", include={"bundle", "file_count", "key_hint", "algorithm", "tool"}),
        }
        for item in signatures_of(facts)
    ]
    return {"model_signatures": found} if found else {}


def evaluation_capture(record: Evaluation) -> Json:
    """Return the later members of the evaluation, each only where the evaluation recorded it."""
    found: Json = {
        "evaluator_code": _code(record.evaluator_code),
        "slices": _dumped(record.slices),
        "worst_site": _worst(record),
        "comparisons": _dumped(record.comparisons),
        "perturbations": _dumped(record.perturbations),
        "explanations": _dumped(record.explanations),
        "benchmarks": _dumped(record.benchmarks),
    }
    return {name: value for name, value in found.items() if value}


def experiments_part(facts: VersionFacts) -> Json:
    """Return how many experiments the model's project recorded, as the package's member `experiments`; nothing where there are none.

    They are counted so that a reader knows of them. No entry is cited: an experiment is no evidence about a version.
    """
    if not facts.experiments:
        return {}
    times = sorted(item.time_us for item in facts.experiments)
    statuses = [item.record.status for item in facts.experiments]
    return {
        "experiments": {
            "count": len(statuses),
            **{name: statuses.count(name) for name in ("completed", "failed", "killed")},  # type: ignore[arg-type]
            "first": _utc(times[0]),
            "last": _utc(times[-1]),
        }
    }


def _figures(part: Json | None) -> Json | None:
    """The part with numbers beyond 2^53 as decimal text: canonical JSON writes those below 10^21 as integers that not every reader holds."""
    if part is None:
        return None
    return {name: safe_figure(value) for name, value in part.items()}


def safe_figure(value: Any) -> Any:
    """Return a number beyond 2^53 as decimal text, anything else as it is."""
    return f"{value:.12g}" if isinstance(value, (int, float)) and abs(value) > MAX_SAFE_INTEGER else value


def _utc(time_us: int) -> str:
    return utc(datetime.fromtimestamp(time_us / 1e6, tz=timezone.utc))


def _dump(part: BaseModel | None) -> Json | None:
    return None if part is None else part.model_dump(mode="json")


def _dumped(parts: Iterable[BaseModel]) -> list[Json]:
    return [part.model_dump(mode="json") for part in parts]


def _code(code: CodeRef | None) -> Json | None:
    return None if code is None else code.model_dump(mode="json")


def _worst(record: Evaluation) -> Json | None:
    """The site on which the first metric that has a direction is worst, with that metric."""
    worst = record.worst_site
    if worst is None:
        return None
    metric = next(item.name for site in record.sites for item in site.metrics if item.higher_is_better is not None)
    return {"attribute": worst.attribute, "value": worst.value, "metric": metric, "result": _value(worst, metric)}


def _value(site: SliceResult, metric: str) -> Any:
    found = site.metric(metric)
    return None if found is None else found.value
