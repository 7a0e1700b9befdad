"""The checks behind evidence kinds: what exactly has to stand in the ledger for a single demand to count as met.

Invariants: a check answers `satisfied` only together with at least one entry; it reads typed records, never free text claims of
the pipeline about itself; an approval is counted from sign-off entries alone; a person's section counts only where the model's
registration holds the text.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from cognify_dagster.documents.coverage_bases import uncompared_bases
from cognify_dagster.documents.coverage_people import check_approval, check_attestation, check_human, check_ledger
from cognify_dagster.documents.coverage_types import Context, EntryRef, Gap, Shown, Status, not_there, ref
from cognify_dagster.documents.facts import VersionFacts
from cognify_dagster.documents.frameworks import EvidenceNode
from cognify_dagster.documents.labels import label
from cognify_dagster.records import DatasetSnapshot, Evaluation
from cognify_dagster.workspace import Recorded


def check_leaf(leaf: EvidenceNode, context: Context) -> Shown:
    """Answer one demand for evidence. Pure."""
    shown = _KINDS[leaf.kind](leaf, context)
    if leaf.max_age_days is None or not shown.entries or shown.gaps:
        return shown
    oldest = min(_time(context, ref.seq) for ref in shown.entries)
    age = (context.now - oldest).days
    if age <= leaf.max_age_days:
        return shown
    gap = Gap("stale", f"the evidence is {age} days old; the limit is {leaf.max_age_days}", "the model's developers")
    return Shown(shown.text, shown.entries, (gap,))


def _time(context: Context, seq: int) -> datetime:
    facts = context.facts
    known = [
        *facts.events,
        *(d.snapshot for d in facts.all_datasets()),
        *facts.overlaps,
        facts.registered,
        facts.gate_set,
    ]
    for item in known:
        if item is not None and item.seq == seq:
            return datetime.fromtimestamp(item.time_us / 1e6, tz=timezone.utc)
    return context.now


def _dataset(leaf: EvidenceNode, context: Context) -> Shown:
    facts = context.facts
    if not facts.datasets:
        return not_there("no training run pins a snapshot", "developer: run the training through the recorder")
    entries: list[EntryRef] = []
    gaps: list[Gap] = []
    for item in facts.datasets:
        if item.snapshot is None:
            gaps.append(
                Gap(
                    "missing",
                    f"entry {item.ref.seq} does not hold the pinned root of {item.ref.name}",
                    "developer: retrain on a recorded snapshot",
                )
            )
            continue
        entries.append(ref(item.snapshot))
        for check in leaf.checks:
            gaps += _SNAPSHOT_CHECKS.get(check, _no_gaps)(item.snapshot)
    if "splits_disjoint" in leaf.checks:
        entries += [ref(item) for item in facts.overlaps if item.record.passed]
        gaps += _split_gaps(facts)
    names = ", ".join(item.ref.name for item in facts.datasets)
    return Shown(f"snapshots of {names}, pinned by root", tuple(entries), tuple(gaps))


def _no_gaps(_: Recorded[DatasetSnapshot]) -> list[Gap]:
    return []


def _provenance_gaps(item: Recorded[DatasetSnapshot]) -> list[Gap]:
    record = item.record
    if not record.missing_provenance and record.provenance:
        return []
    lacking = ", ".join(record.missing_provenance) or "all of it"
    return [
        Gap("needs_human", f"provenance of {record.name} lacks {lacking}", "data owner: state it and snapshot again")
    ]


def _schema_gaps(item: Recorded[DatasetSnapshot]) -> list[Gap]:
    if item.record.schema_hash:
        return []
    return [Gap("missing", f"{item.record.name} has no schema on record", "developer: snapshot it as a table")]


def _feature_gaps(item: Recorded[DatasetSnapshot]) -> list[Gap]:
    gaps = _schema_gaps(item)
    if not item.record.provenance.get("column_purposes"):
        gaps.append(
            Gap(
                "needs_human",
                f"no purpose is stated for the columns of {item.record.name}",
                "data owner: fill column_purposes and snapshot again",
            )
        )
    return gaps


_SNAPSHOT_CHECKS: dict[str, Callable[[Recorded[DatasetSnapshot]], list[Gap]]] = {
    "provenance": _provenance_gaps,
    "schema": _schema_gaps,
    "feature_inventory": _feature_gaps,
}


def _split_gaps(facts: VersionFacts) -> list[Gap]:
    if not facts.overlaps:
        return [
            Gap(
                "missing",
                "no comparison of training and evaluation records is on record",
                "developer: run the overlap check",
            )
        ]
    return [
        Gap(
            "missing",
            f"{item.record.train.name} and {item.record.holdout.name} share {item.record.overlapping_records} records",
            "developer: split again and retrain",
        )
        for item in facts.overlaps
        if not item.record.passed
    ]


def _training(leaf: EvidenceNode, context: Context) -> Shown:
    facts = context.facts
    if facts.training is None:
        return not_there("no sealed training run", "developer: train the version through the recorder")
    record, who = facts.training.record, "developer: record it and retrain as a new version"
    gaps: list[Gap] = []
    unpinned = [item.ref.name for item in facts.datasets if item.snapshot is None]
    tests: dict[str, tuple[bool, Gap]] = {
        "config": (bool(record.config), Gap("missing", "the run recorded no configuration", who)),
        "data_pinned": (not unpinned, Gap("missing", f"not pinned to a snapshot: {', '.join(unpinned)}", who)),
        "code_known": (
            bool(record.code.commit) and record.code.vcs != "none",
            Gap("missing", "the code's commit is not known", who),
        ),
        "code_clean": (
            record.code.dirty is False,
            Gap(
                "missing",
                "the code differed from its commit, or that is not known",
                "developer: commit and retrain as a new version",
            ),
        ),
        "base_model": (bool(record.base_model), Gap("missing", "no base model is recorded", who)),
        "model_kind": (
            bool(record.architecture),
            Gap("missing", "the kind of model is not recorded (architecture)", who),
        ),
    }
    gaps = [gap for name, (holds, gap) in tests.items() if name in leaf.checks and not holds]
    return Shown("sealed training run", (ref(facts.training),), tuple(gaps))


def _environment(leaf: EvidenceNode, context: Context) -> Shown:
    facts = context.facts
    if facts.training is None:
        return not_there(
            "no sealed training run, so no environment", "developer: train the version through the recorder"
        )
    gaps = []
    if "seed" in leaf.checks and facts.training.record.seed is None:
        gaps.append(Gap("missing", "no seed is recorded", "developer: record it and retrain as a new version"))
    if "packages" in leaf.checks and not facts.training.record.environment.packages_digest:
        gaps.append(Gap("missing", "no list of packages is recorded", "developer: retrain as a new version"))
    return Shown("environment of the training run, packages by digest", (ref(facts.training),), tuple(gaps))


def _evaluation_gap(facts: VersionFacts) -> Gap | None:
    if facts.evaluation is None:
        return Gap("missing", "no evaluation is on record", "developer: evaluate the version")
    if not facts.evaluation_current:
        return Gap(
            "stale",
            "the newest evaluation is of another training run or model file",
            "developer: evaluate this version again",
        )
    return None


def _evaluation(leaf: EvidenceNode, context: Context) -> Shown:
    facts = context.facts
    gap = _evaluation_gap(facts)
    if facts.evaluation is None or gap is not None:
        return Shown("", (), (gap,) if gap else ())
    record = facts.evaluation.record
    entries = [ref(facts.evaluation)]
    gaps: list[Gap] = []
    who = "developer: add it to the evaluation and run it again"
    if "passed" in leaf.checks and record.status != "passed":
        gaps.append(
            Gap("missing", "the evaluation did not pass its gates", "developer: improve the model, as a new version")
        )
    if "intervals" in leaf.checks and not any(m.ci_low is not None and m.ci_high is not None for m in record.metrics):
        gaps.append(Gap("missing", "no metric has an interval", who))
    for name, words in (
        ("calibration", "calibration table"),
        ("reason_codes", "test of reason codes (how faithful, how stable)"),
        ("alternatives", "comparison with alternatives"),
    ):
        if name in leaf.checks and not _holds(record, name):
            gaps.append(Gap("missing", f"the evaluation holds no {words} (table or attachment {name})", who))
    if "thresholds_before_training" in leaf.checks:
        started = facts.training.record.started_after_seq if facts.training else 0
        if facts.gate_set is None:
            gaps.append(
                Gap(
                    "missing",
                    "the gate set that was used is not on record",
                    "validator: sign a gate set before training",
                )
            )
        elif facts.gate_set.seq >= started:
            gaps.append(
                Gap(
                    "missing",
                    "limits were adopted after training had started",
                    "validator: sign them first, then train a new version",
                )
            )
        else:
            entries.append(ref(facts.gate_set))
    return Shown(f"evaluation on {record.dataset.name}", tuple(entries), tuple(gaps))


def _fairness(leaf: EvidenceNode, context: Context) -> Shown:
    facts = context.facts
    gap = _evaluation_gap(facts)
    if facts.evaluation is None or gap is not None:
        return Shown("", (), (gap,) if gap else ())
    record, who = facts.evaluation.record, "developer: measure it and evaluate again"
    declared = set(record.protected_attributes) | set(
        facts.registered.record.protected_attributes if facts.registered else ()
    )
    measured = {str(item.get("attribute")) for item in record.fairness}
    gaps = [Gap("missing", f"no fairness result for {name}", who) for name in sorted(declared - measured)]
    if not record.fairness:
        gaps.append(Gap("missing", "no fairness result by group is on record", who))
    gaps += insufficient_groups(record.fairness)
    if "selection_rates" in leaf.checks:
        for item in record.fairness:
            if not any(d.get("name") == "adverse_impact_ratio" for d in item.get("disparities", ())):
                gaps.append(Gap("missing", f"no ratio of selection rates for {item.get('attribute')}", who))
    if "bases_compared" in leaf.checks:
        gaps += [
            Gap("missing", f"{basis} is in the data (column {', '.join(columns)}) and was not compared", who)
            for basis, columns in uncompared_bases(facts, context.bases)
        ]
    if "attributes_declared" in leaf.checks and not declared:
        gaps.append(
            Gap(
                "needs_human",
                "no protected attribute is declared",
                "model owner: declare them, or declare why there are none",
            )
        )
    if "proxy_review" in leaf.checks and not _holds(record, "proxy_review"):
        gaps.append(
            Gap(
                "missing",
                "the evaluation holds no test how well features predict protected traits (proxy review: table or attachment proxy_review)",
                who,
            )
        )
    compared = ", ".join(label(name).lower() for name in sorted(measured))
    return Shown(f"outcomes compared by {compared or 'no attribute'}", (ref(facts.evaluation),), tuple(gaps))


def _holds(record: Evaluation, name: str) -> bool:
    """Whether the evaluation has a table of this name, or an attachment `<name>.<suffix>` (dashes count as underscores)."""
    stems = {item.name.partition(".")[0].replace("-", "_") for item in record.artefacts}
    return bool(record.tables.get(name)) or name in stems


def insufficient_groups(fairness: tuple[dict[str, Any], ...]) -> list[Gap]:
    """Name what was too small to measure."""
    gaps = []
    for item in fairness:
        attribute = str(item.get("attribute"))
        small = [str(group) for group in item.get("excluded_groups", ())]
        small += [str(g.get("group")) for g in item.get("groups", ()) if g.get("status") == "insufficient_data"]
        unmeasured = [str(d.get("name")) for d in item.get("disparities", ()) if d.get("status") == "insufficient_data"]
        who = "developer: gather more data or merge groups, with a reason; else the validator accepts the limit in writing"
        if small:
            names = ", ".join(sorted(set(small)))
            cell = item.get("min_cell", "the minimum cell size")
            gaps.append(Gap("insufficient_data", f"{attribute}: too few records in {names} (fewer than {cell})", who))
        elif unmeasured:
            gaps.append(Gap("insufficient_data", f"{attribute}: too few groups for {', '.join(unmeasured)}", who))
    return gaps


def _deployment(leaf: EvidenceNode, context: Context) -> Shown:
    facts = context.facts
    if not facts.deployments:
        status: Status = "missing" if facts.releases else "after_release"
        return not_there("the version is not deployed", "the release run records it", status)
    return Shown("deployment under a release grant", tuple(ref(item) for item in facts.deployments))


def _monitoring(leaf: EvidenceNode, context: Context) -> Shown:
    status: Status = "missing" if context.facts.releases else "after_release"
    return not_there("no monitoring result is on record", "model owner: monitor the deployed version", status)


_KINDS: dict[str, Callable[[EvidenceNode, Context], Shown]] = {
    "auto:dataset": _dataset,
    "auto:training": _training,
    "auto:environment": _environment,
    "auto:eval": _evaluation,
    "auto:fairness": _fairness,
    "auto:approval": check_approval,
    "auto:deployment": _deployment,
    "auto:monitoring": _monitoring,
    "auto:ledger": check_ledger,
    "human": check_human,
    "attestation": check_attestation,
}
