"""Writes where a version stands as tags on its MLflow run, with the way back into the ledger.

Invariants: tags are made from the ledger alone and never read back into it; whoever edits one changes what people see in MLflow until
the next time, and nothing else. Tags name roles and stages, no people.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cognify_dagster.instrument.mlflow.store import OWN_TAGS, MlflowStore
from cognify_dagster.instrument.trackers.errors import TrackerError
from cognify_dagster.records import DeploymentCompleted, Package, TrainingRun
from cognify_dagster.workspace import Reading, Recorded, Workspace, unknown_model

TAG_CHARS = 2_000


@dataclass(frozen=True)
class Synced:
    """A version's tags, and which of them were written because MLflow said something else."""

    model: str
    version: str
    run: str
    tags: dict[str, str]
    written: tuple[str, ...]


def sync(
    model: str,
    version: str = "",
    *,
    workspace: Workspace | str | Path | None = None,
    tracking_uri: str = "",
    dry_run: bool = False,
) -> list[Synced]:
    """Write the tags of a version, or of all versions of a model that name an MLflow run. Twice is no difference.

    Args:
        model: model key.
        version: one version; all unless given.
        workspace: an open workspace or its path; searched as the commands do unless given.
        tracking_uri: address of MLflow; `MLFLOW_TRACKING_URI` unless given.
        dry_run: only say what would be written.

    Raises:
        TrackerError: if there is no such version, none names an MLflow run, or the run is deleted.
        TrackerUnreachable: if MLflow gives no answer.
    """
    opened = workspace if isinstance(workspace, Workspace) else Workspace.open(workspace)
    reading = opened.read()
    missing = unknown_model(reading, model)
    if missing:
        raise TrackerError(missing)
    runs = [item for item in reading.all(TrainingRun, f"model/{model}") if version in ("", item.record.version)]
    linked = [(item, link.run) for item in runs for link in item.record.external if link.system == "mlflow"]
    if not linked:
        what = f"{model} {version} names" if version else f"no version of {model} names"
        raise TrackerError(f"{what} {'no' if version else 'an'} MLflow run; mirror one with `cognify mlflow mirror`")
    store, now = MlflowStore(tracking_uri), datetime.now(timezone.utc)
    done = []
    for item, run_id in linked:
        tags = {**identity_tags(reading, item), **standing_tags(reading, item, now, opened.config.frameworks)}
        held = store.own_tags(run_id)
        changed = {name: value for name, value in tags.items() if held.get(name) != value}
        if not dry_run:
            store.set_tags(run_id, changed)
        done.append(Synced(model, item.record.version, run_id, tags, tuple(sorted(changed))))
    return done


def identity_tags(reading: Reading, item: Recorded[TrainingRun]) -> dict[str, str]:
    """Return the tags that name the record; they never change."""
    record = item.record
    return {
        f"{OWN_TAGS}ledger": reading.origin,
        f"{OWN_TAGS}model": record.model,
        f"{OWN_TAGS}version": record.version,
        f"{OWN_TAGS}entry": str(item.seq),
        f"{OWN_TAGS}leaf": item.leaf,
    }


def standing_tags(
    reading: Reading, item: Recorded[TrainingRun], now: datetime, frameworks: Path | None = None
) -> dict[str, str]:
    """Return the tags that say where the version stands; `frameworks` is the organisation's own folder of frameworks."""
    record = item.record
    package = reading.latest(Package, f"model/{record.model}@{record.version}")
    targets = {"production", *(one.record.target for one in reading.all(DeploymentCompleted, f"model/{record.model}"))}
    told = [_standing(reading, record.model, record.version, target, now, frameworks) for target in sorted(targets)]
    return {
        f"{OWN_TAGS}package": package.record.package.digest if package is not None else "none",
        f"{OWN_TAGS}status": "; ".join(told)[:TAG_CHARS],
    }


def _standing(reading: Reading, model: str, version: str, target: str, now: datetime, frameworks: Path | None) -> str:
    from cognify_dagster.documents.coverage.blocking import held_back
    from cognify_dagster.governance import decide, live_state
    from cognify_dagster.governance.oversight.conditions import ENFORCED

    current = live_state(reading, model, target, now)
    if current.version == version:
        return f"{target}: {current.standing}"
    decision = decide(reading, model, version, target, now, enforces=ENFORCED)
    if decision.released and not held_back(reading, decision, frameworks):
        return f"{target}: ready for release"
    words = [f"{target}: blocked"]
    for label, done in (("done", True), ("open", False)):
        names = [stage.name for stage in decision.stages if stage.done is done]
        words += [f"{label} {', '.join(names)}"] if names else []
    stages = {f"stage_{stage.name}" for stage in decision.stages}
    codes = list(dict.fromkeys(reason.code for reason in decision.reasons if reason.code not in stages))
    words += [f"because {', '.join(codes)}"] if codes else []
    return " | ".join(words)
