"""Coverage checks on the evaluation: metrics, tables, and outcomes by group. Pure.

Invariants: only an evaluation of the sealed training run and of its model file counts; a declared attribute without a result is a
gap; a group that was too small to measure is insufficient data and never satisfied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cognify_dagster.documents.coverage.bases import uncompared_bases
from cognify_dagster.documents.coverage.types import Context, Gap, Shown, ref
from cognify_dagster.documents.facts.earlier import parent_of
from cognify_dagster.documents.facts.version import VersionFacts
from cognify_dagster.documents.frameworks.loading import EvidenceNode
from cognify_dagster.documents.labels import label, words
from cognify_dagster.records import Evaluation


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


def check_evaluation(leaf: EvidenceNode, context: Context) -> Shown:
    """Answer a demand on the evaluation."""
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
    for name, what in (
        ("calibration", "calibration table"),
        ("reason_codes", "test of reason codes (how faithful, how stable)"),
        ("alternatives", "comparison with alternatives"),
    ):
        if name in leaf.checks and not _holds(record, name):
            gaps.append(Gap("missing", f"the evaluation holds no {what} (table or attachment {name})", who))
    gaps += _table_gaps(leaf, record, facts)
    told: list[str] = []
    for check, test in _RESULTS.items():
        if check in leaf.checks:
            holds, said = test(record)
            if holds:
                told.append(said)
            else:
                gaps.append(Gap("missing", said, who))
    if "thresholds_before_training" in leaf.checks:
        started = facts.started or 0
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
    return Shown("; ".join([f"evaluation on {record.dataset.name}", *told]), tuple(entries), tuple(gaps))


Found = tuple[bool, str]


def _evaluator_code(record: Evaluation) -> Found:
    """The measuring code's own version, or that of the evaluation where the same code measured."""
    for code in (record.evaluator_code, record.code):
        if code is not None and code.commit and code.vcs != "none":
            return True, "code of the evaluator by commit"
    return False, "the version of the code that measured is not known (evaluator_code)"


def _slices(record: Evaluation) -> Found:
    measured = [item for item in record.slices if item.status == "computed" and item.metrics]
    if len(measured) < 2:
        return False, "no results by slice of the data are on record (slices)"
    return True, f"results on {len(measured)} slices of the data"


def _sites(record: Evaluation) -> Found:
    measured = [item for item in record.sites if item.status == "computed" and item.metrics]
    worst = record.worst_site
    if len(measured) < 2 or worst is None:
        return False, "no results from two sites or more, with the worst named, are on record (slices of kind site)"
    return True, f"results from {len(measured)} sites, the worst named ({worst.value})"


def _comparison(record: Evaluation) -> Found:
    if not any(item.metrics for item in record.comparisons):
        return False, "no comparison with another version or the approach in use is on record (comparisons)"
    return True, "comparison on the same data with " + ", ".join(item.champion.name for item in record.comparisons)


def _sensitivity(record: Evaluation) -> Found:
    measured = [item for item in record.perturbations if item.after is not None]
    if not measured:
        return False, "no table of sensitivity to changed inputs is on record (perturbations)"
    return True, f"sensitivity to {len(measured)} changes of the input"


def _benchmarks(record: Evaluation) -> Found:
    if not record.benchmarks:
        return False, "no public benchmark is on record (benchmarks)"
    return True, "benchmarks " + ", ".join(dict.fromkeys(item.task for item in record.benchmarks))


def _explanations(record: Evaluation) -> Found:
    if not record.explanations:
        return False, "no explanation of the model or its decisions is on record (explanations)"
    return True, "explanations by " + ", ".join(dict.fromkeys(words(item.method) for item in record.explanations))


_RESULTS: Mapping[str, Callable[[Evaluation], Found]] = {
    "evaluator_code": _evaluator_code,
    "slices": _slices,
    "sites": _sites,
    "comparison": _comparison,
    "sensitivity": _sensitivity,
    "benchmarks": _benchmarks,
    "explanations": _explanations,
}


def check_fairness(leaf: EvidenceNode, context: Context) -> Shown:
    """Answer a demand on outcomes by group."""
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
            for basis, columns in uncompared_bases(facts, context.framework.prohibited_bases)
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
    gaps += _table_gaps(leaf, record, facts)
    compared = ", ".join(label(name).lower() for name in sorted(measured))
    return Shown(f"outcomes compared by {compared or 'no attribute'}", (ref(facts.evaluation),), tuple(gaps))


def _table_gaps(leaf: EvidenceNode, record: Evaluation, facts: VersionFacts) -> list[Gap]:
    return [
        Gap(
            "missing",
            f"the evaluation holds no {words(name)} (table or attachment {name})",
            "developer: add it to the evaluation and run it again",
        )
        for name in leaf.tables
        if not _holds(record, name) and not _recorded_as(name, record, facts)
    ]


def _recorded_as(name: str, record: Evaluation, facts: VersionFacts) -> bool:
    """Whether the record has a field of its own for what a table of this name would hold.

    A comparison counts as one with the base model only where the training run says that this very version was the base.
    """
    if name == "sensitivity":
        return _sensitivity(record)[0]
    if name == "base_model_comparison" and facts.training is not None:
        parent = parent_of(facts.training.record.base_model)
        return any((item.champion.model, item.champion.version) == parent for item in record.comparisons)
    return False


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
