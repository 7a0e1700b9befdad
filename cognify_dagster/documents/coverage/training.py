"""Coverage checks on the sealed training run and the environment it ran in. Pure.

Invariants: what the run did not record counts as missing, and the gap says which call of the recorder would have recorded it; a
number counts only if it is a number above zero, in the unit that its name says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from cognify_dagster.documents.coverage.gpai import determine
from cognify_dagster.documents.coverage.gpai_compute import plain_number
from cognify_dagster.documents.coverage.types import Context, Gap, Shown, not_there, ref
from cognify_dagster.documents.frameworks.loading import EvidenceNode
from cognify_dagster.records import TrainingRun

#: Where a run states the energy it used, in kilowatt hours: in `compute`, or, as earlier runs did, in `extra` or `extra.compute`.
ENERGY_KEY = "energy_kwh"
_AGAIN = "and retrain as a new version"
_RECORD = f"developer: record it {_AGAIN}"
_HEX = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"(?:^|@)sha256:[0-9a-f]{64}$")


def check_training(leaf: EvidenceNode, context: Context) -> Shown:
    """Answer a demand on the training run."""
    facts = context.facts
    if facts.training is None:
        return not_there("no sealed training run", "developer: train the version through the recorder")
    record = facts.training.record
    unpinned = [item.ref.name for item in facts.datasets if item.snapshot is None]
    gaps = []
    for check in leaf.checks:
        if check == "data_pinned":
            if unpinned:
                gaps.append(Gap("missing", f"not pinned to a snapshot: {', '.join(unpinned)}", _RECORD))
        elif (gap := _gap(check, record)) is not None:
            gaps.append(gap)
    return Shown("sealed training run", (ref(facts.training),), tuple(gaps))


def _gap(check: str, record: TrainingRun) -> Gap | None:
    """What a single check finds missing in the record."""
    holds, text, who = _TESTS[check](record)
    return None if holds else Gap("missing", text, who)


Answer = tuple[bool, str, str]


def _config(record: TrainingRun) -> Answer:
    return bool(record.config), "the run recorded no configuration", _RECORD


def _code_known(record: TrainingRun) -> Answer:
    return bool(record.code.commit) and record.code.vcs != "none", "the code's commit is not known", _RECORD


def _code_clean(record: TrainingRun) -> Answer:
    text = "the code differed from its commit, or that is not known"
    return record.code.dirty is False, text, "developer: commit and retrain as a new version"


def _base_model(record: TrainingRun) -> Answer:
    return bool(record.base_model), "no base model is recorded", _RECORD


def _base_licence(record: TrainingRun) -> Answer:
    who = f"developer: name it (set_base_model, licence) {_AGAIN}"
    if not record.base_model:
        return False, "no base model is recorded, so no licence of it either", who
    return _is_text(record.base_model.get("licence")), "the base model's licence is not recorded (licence)", who


def _model_kind(record: TrainingRun) -> Answer:
    return bool(record.architecture), "the kind of model is not recorded (architecture)", _RECORD


def _parameters(record: TrainingRun) -> Answer:
    who = f"developer: give it (set_architecture, parameters) {_AGAIN}"
    values = (record.architecture.get("parameters"), record.compute.parameters if record.compute else None)
    return (
        any(_number(value) is not None for value in values),
        "the number of parameters is not recorded (architecture.parameters)",
        who,
    )


def _modality(record: TrainingRun) -> Answer:
    who = f"developer: give it (set_architecture, modality) {_AGAIN}"
    details = record.architecture.get("details")
    places = (details.get("modality") if isinstance(details, Mapping) else None, record.architecture.get("modality"))
    stated = any(_is_text(value) or (isinstance(value, (list, Mapping)) and bool(value)) for value in places)
    return stated, "modality and format of input and output are not recorded (architecture.details.modality)", who


def _compute(record: TrainingRun) -> Answer:
    found = determine(record)
    text = "the compute used is not recorded, nor what it could be estimated from (compute)"
    who = f"developer: record flops, or tokens and parameters (set_compute) {_AGAIN}"
    return found.modification_flop is not None, text, who


def _energy(record: TrainingRun) -> Answer:
    who = f"developer: record it in kilowatt hours (set_compute, {ENERGY_KEY}) {_AGAIN}"
    compute = record.extra.get("compute")
    own = {ENERGY_KEY: record.compute.energy_kwh} if record.compute else {}
    places = (own, record.extra, compute if isinstance(compute, Mapping) else {})
    stated = any(_number(place.get(ENERGY_KEY)) is not None for place in places)
    return stated, f"the energy used is not recorded ({ENERGY_KEY})", who


def _duration(record: TrainingRun) -> Answer:
    who = "developer: retrain through the recorder, which measures it, as a new version"
    devices = record.compute.device_seconds if record.compute else None
    measured = any(_number(value) is not None for value in (record.observed.get("duration_s"), devices))
    return measured, "the duration is not recorded (duration_s)", who


def _base_identity(record: TrainingRun) -> Answer:
    who = f"developer: name it with its digest (set_base_model, sha256) {_AGAIN}"
    if not record.base_model:
        return False, "no base model is recorded, so no digest of it either", who
    stated = record.base_model.get("sha256") or record.base_model.get("digest")
    known = isinstance(stated, str) and _HEX.fullmatch(stated.removeprefix("sha256:")) is not None
    return known, "the base model is not recorded by its digest (sha256)", who


def _selection(record: TrainingRun) -> Answer:
    who = f"developer: say it (note_selection) {_AGAIN}"
    return bool(record.selection_note.strip()), "why this configuration was chosen is not recorded", who


def _feature_code(record: TrainingRun) -> Answer:
    who = f"developer: name its commit (set_feature_code) {_AGAIN}"
    code = record.feature_code
    known = code is not None and bool(code.commit) and code.vcs != "none"
    return known, "the commit of the feature pipeline is not recorded (feature_code)", who


def _checkpoints(record: TrainingRun) -> Answer:
    who = f"developer: record them (log_checkpoint) {_AGAIN}"
    return bool(record.checkpoints), "no checkpoint of the training is recorded", who


def _rerun(record: TrainingRun) -> Answer:
    who = f"developer: record the command (set_rerun) {_AGAIN}"
    return record.rerun is not None, "how to run the training again is not recorded (rerun)", who


_TESTS: Mapping[str, Callable[[TrainingRun], Answer]] = {
    "config": _config,
    "code_known": _code_known,
    "code_clean": _code_clean,
    "base_model": _base_model,
    "base_licence": _base_licence,
    "model_kind": _model_kind,
    "parameters": _parameters,
    "modality": _modality,
    "compute": _compute,
    "energy": _energy,
    "duration": _duration,
    "base_identity": _base_identity,
    "selection": _selection,
    "feature_code": _feature_code,
    "checkpoints": _checkpoints,
    "rerun": _rerun,
}


def _number(value: Any) -> float | None:
    """A number above zero; decimal text counts too, since JSON has no large integers."""
    found = plain_number(value)
    return found if found is not None and found > 0 else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def check_environment(leaf: EvidenceNode, context: Context) -> Shown:
    """Answer a demand on the environment of the training run."""
    facts = context.facts
    if facts.training is None:
        return not_there(
            "no sealed training run, so no environment", "developer: train the version through the recorder"
        )
    record, gaps = facts.training.record, []
    where = record.environment
    if "seed" in leaf.checks and record.seed is None and not record.seeds:
        gaps.append(Gap("missing", "no seed is recorded", _RECORD))
    if "packages" in leaf.checks and not where.packages_digest:
        gaps.append(Gap("missing", "no list of packages is recorded", "developer: retrain as a new version"))
    if "lock_file" in leaf.checks and not where.lock_file:
        who = "developer: keep a lock file with the code, then retrain as a new version"
        gaps.append(Gap("missing", "no lock file is recorded (lock_file)", who))
    if "hardware" in leaf.checks and (not where.platform.strip() or where.gpu.strip() in ("", "unreadable")):
        who = "operator: let the recorder read the machine, then retrain as a new version"
        gaps.append(Gap("missing", "the hardware is not recorded (platform, gpu)", who))
    if "image" in leaf.checks and not _DIGEST.search(where.container_image):
        who = (
            "operator: run in a container and declare its digest (COGNIFY_IMAGE_DIGEST), then retrain as a new version"
        )
        gaps.append(Gap("missing", "no container image is recorded by digest (container_image)", who))
    return Shown("environment of the training run, packages by digest", (ref(facts.training),), tuple(gaps))
