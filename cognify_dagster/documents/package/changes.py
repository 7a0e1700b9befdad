"""What changed since the version released last. Pure. What the data changed in stands in `distributions`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cognify_dagster.documents.facts.version import VersionFacts
from cognify_dagster.documents.package.capture import safe_figure
from cognify_dagster.records import TrainingRun

MAX_CHANGES = 500


def changes(facts: VersionFacts) -> dict[str, Any]:
    """Return `since` (version, or None where nothing was released before) and the changed fields with both values."""
    before = facts.previous
    if before is None:
        return {"since": None, "released_entry": None, "items": [], "cut": 0}
    items: list[dict[str, Any]] = []

    def add(area: str, field: str, old: Any, new: Any) -> None:
        if old != new:
            delta = new - old if _number(old) and _number(new) else None
            items.append({"area": area, "field": field, "before": old, "after": new, "delta": delta})

    old_data = {item.ref.name: item for item in before.datasets}
    new_data = {item.ref.name: item for item in facts.datasets}
    for name in sorted(old_data.keys() | new_data.keys()):
        old, new = old_data.get(name), new_data.get(name)
        add("data", f"{name}: root", old.ref.root if old else None, new.ref.root if new else None)
        add("data", f"{name}: rows", _rows(old), _rows(new))
    old_test = before.evaluation.record.dataset if before.evaluation else None
    new_test = facts.evaluation.record.dataset if facts.evaluation else None
    add("data", "evaluation data: name", old_test and old_test.name, new_test and new_test.name)
    add("data", "evaluation data: root", old_test and old_test.root, new_test and new_test.root)
    old_run = before.training.record if before.training else None
    new_run = facts.training.record if facts.training else None
    pairs: list[tuple[str, Any, Any]] = [
        ("model file", old_run and old_run.model_file.digest, new_run and new_run.model_file.digest),
        ("code commit", old_run and old_run.code.commit, new_run and new_run.code.commit),
        ("packages", old_run and old_run.environment.packages_digest, new_run and new_run.environment.packages_digest),
        ("python", old_run and old_run.environment.python, new_run and new_run.environment.python),
        ("seed", old_run and old_run.seed, new_run and new_run.seed),
    ]
    old_more, new_more = _captured(old_run), _captured(new_run)
    pairs += [(name, old_more.get(name), new_more.get(name)) for name in dict.fromkeys((*old_more, *new_more))]
    for field, old_value, new_value in pairs:
        add("training", field, old_value, new_value)
    old_config, new_config = flat(old_run.config if old_run else {}), flat(new_run.config if new_run else {})
    for key in sorted(old_config.keys() | new_config.keys()):
        add("configuration", key, old_config.get(key), new_config.get(key))
    old_metrics, new_metrics = metric_values(before.evaluation), metric_values(facts.evaluation)
    for key in sorted(old_metrics.keys() | new_metrics.keys()):
        add("metric", key, old_metrics.get(key), new_metrics.get(key))
    return {
        "since": before.version,
        "released_entry": {"seq": before.release.seq, "leaf": before.release.leaf},
        "items": items[:MAX_CHANGES],
        "cut": max(0, len(items) - MAX_CHANGES),
    }


def _captured(run: TrainingRun | None) -> dict[str, Any]:
    """What a run recorded beyond its first schema and a reader compares; nothing where it recorded none of it."""
    if run is None:
        return {}
    compute = run.compute
    found: dict[str, Any] = {f"seed {name}": value for name, value in sorted(run.seeds.items())}
    found |= {f"file {item.name}": item.digest for item in run.model_files}
    found |= {
        "feature pipeline commit": run.feature_code.commit if run.feature_code else None,
        "lock file": run.environment.lock_file or None,
        "floating point operations": safe_figure(compute.flops) if compute else None,
        "energy (kWh)": compute.energy_kwh if compute else None,
        "processes": run.distributed.world_size if run.distributed else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as dotted keys."""
    result: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping) and item:
            result.update(flat(item, f"{name}."))
        else:
            result[name] = item
    return result


def _rows(item: Any) -> int | None:
    return item.snapshot.record.record_count if item is not None and item.snapshot is not None else None


def change_reason(facts: VersionFacts) -> str:
    """Return why the developer says that the version differs: the field `change_reason` of the training run; empty if none."""
    stated = facts.training.record.extra.get("change_reason") if facts.training else None
    return stated.strip() if isinstance(stated, str) else ""


def metric_values(item: Any) -> dict[str, Any]:
    """Return the metrics and comparisons of an evaluation entry by name; nothing where there is none."""
    if item is None:
        return {}
    found = {metric.name: metric.value for metric in item.record.metrics}
    for benchmark in item.record.benchmarks:
        found.setdefault(benchmark.metric_name, benchmark.value)
    for result in item.record.fairness:
        for disparity in result.get("disparities", ()):
            found[f"fairness.{result.get('attribute')}.{disparity.get('name')}"] = disparity.get("value")
    return found


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
