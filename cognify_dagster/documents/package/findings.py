"""Numbered findings: what a reader must not miss. Derived from facts and coverage, never entered by hand. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cognify_dagster.documents.coverage.checks import insufficient_groups
from cognify_dagster.documents.coverage.engine import CoverageReport
from cognify_dagster.documents.coverage.types import EntryRef
from cognify_dagster.documents.facts.version import VersionFacts
from cognify_dagster.documents.package.findings_coverage import consistency_findings, coverage_findings, make_finding
from cognify_dagster.documents.package.findings_evaluation import change_findings, interval_findings
from cognify_dagster.documents.package.findings_training import beginning_findings

SEVERITIES = ("high", "medium", "low", "note")


def findings(facts: VersionFacts, reports: Sequence[CoverageReport]) -> list[dict[str, Any]]:
    """Return the findings, most severe first, numbered F-01 and so on."""
    found = [
        *_basics(facts),
        *_training(facts),
        *beginning_findings(facts),
        *_data(facts),
        *_evaluation(facts),
        *_fairness(facts),
    ]
    found += [*interval_findings(facts), *change_findings(facts), *consistency_findings(facts)]
    for report in reports:
        found += coverage_findings(facts, report)
    found.sort(key=lambda item: SEVERITIES.index(item["severity"]))
    return [{"id": f"F-{number:02d}", **item} for number, item in enumerate(found, 1)]


def _ref(item: Any) -> EntryRef | None:
    return EntryRef(item.seq, item.leaf) if item is not None else None


def _basics(facts: VersionFacts) -> list[dict[str, Any]]:
    found = []
    if facts.registered is None:
        found.append(
            make_finding(
                "high",
                "Model not registered",
                "no registration entry for the model",
                "owner, tier and intended use on record",
                "model owner",
                "before sign-off",
            )
        )
    if facts.policy is None:
        found.append(
            make_finding(
                "high",
                "No policy in force",
                "the ledger holds no adopted policy",
                "an adopted policy",
                "workspace admin",
                "before sign-off",
            )
        )
    if facts.unreadable:
        seqs = ", ".join(str(seq) for seq in sorted(facts.unreadable))
        found.append(
            make_finding(
                "high",
                "Entries that this release cannot read",
                f"entries {seqs}",
                "every entry about the version is read",
                "operator",
                "before sign-off",
            )
        )
    if facts.trial:
        found.append(
            make_finding(
                "note",
                "Trial ledger",
                "the ledger was opened for trial, by one person",
                "a ledger founded by at least two people",
                "workspace admin",
                "before use in earnest",
            )
        )
    if facts.invalid_sign_offs:
        found.append(
            make_finding(
                "high",
                "Sign-offs that do not count",
                "; ".join(f"entry {seq}: {why}" for seq, why in sorted(facts.invalid_sign_offs.items())),
                "every sign-off entry carries a signature that verifies",
                "workspace admin",
                "before sign-off",
            )
        )
    for item in facts.reconciliations:
        found.append(
            make_finding(
                "medium",
                "Work outside the ledger",
                item.record.text,
                "every governed step leaves an entry",
                "model owner",
                "before sign-off",
                _ref(item),
            )
        )
    return found


def _training(facts: VersionFacts) -> list[dict[str, Any]]:
    if facts.training is None:
        return [
            make_finding(
                "high",
                "No sealed training run",
                "no training entry for the version",
                "one sealed training run",
                "developer",
                "before sign-off",
            )
        ]
    record, entry = facts.training.record, _ref(facts.training)
    found = []
    if not record.code.commit or record.code.vcs == "none":
        found.append(
            make_finding(
                "medium",
                "Code not identified",
                "no commit was recorded for the training code",
                "the commit that ran",
                "developer",
                "before sign-off",
                entry,
            )
        )
    elif record.code.dirty is not False:
        state = "not known to be clean" if record.code.dirty is None else "changed locally"
        found.append(
            make_finding(
                "medium",
                "Code differs from its commit",
                f"the working tree was {state} at {record.code.commit[:12]}",
                "training from a clean commit",
                "developer",
                "before sign-off",
                entry,
            )
        )
    if record.unattributed:
        found.append(
            make_finding(
                "medium",
                "People not identified",
                f"not mapped to an enrolled person: {', '.join(record.unattributed)}",
                "launcher and code authors map to enrolled people, so that duties can be kept apart",
                "workspace admin",
                "before sign-off",
                entry,
            )
        )
    if record.launched_by == "unattributed" and not record.unattributed:
        found.append(
            make_finding(
                "medium",
                "Launcher not identified",
                "nobody is recorded as having launched the training",
                "an enrolled person",
                "workspace admin",
                "before sign-off",
                entry,
            )
        )
    if facts.failures:
        found.append(
            make_finding(
                "note",
                "Earlier attempts failed",
                f"{len(facts.failures)} training attempts ended without a model",
                "known to the reviewer",
                "developer",
                "none",
                *[_ref(item) for item in facts.failures],
            )
        )
    return found


def _data(facts: VersionFacts) -> list[dict[str, Any]]:
    found = []
    for item in facts.all_datasets():
        if item.snapshot is None:
            found.append(
                make_finding(
                    "high",
                    f"Data not on record: {item.ref.name}",
                    f"entry {item.ref.seq} does not hold root {item.ref.root[:16]}…",
                    "training and evaluation on recorded snapshots",
                    "developer",
                    "before sign-off",
                )
            )
        elif item.snapshot.record.missing_provenance:
            found.append(
                make_finding(
                    "medium",
                    f"Origin of {item.ref.name} incomplete",
                    f"not stated: {', '.join(item.snapshot.record.missing_provenance)}",
                    "source, owner, licence, period and terms are stated",
                    "data owner",
                    "before sign-off",
                    _ref(item.snapshot),
                )
            )
    failed = [item for item in facts.overlaps if not item.record.passed]
    for check in failed:
        found.append(
            make_finding(
                "high",
                "Training and evaluation share records",
                f"{check.record.overlapping_records} records occur in {check.record.train.name} and {check.record.holdout.name}",
                "no shared record",
                "developer",
                "before sign-off",
                _ref(check),
            )
        )
    if facts.training is not None and facts.evaluation is not None and not facts.overlaps:
        found.append(
            make_finding(
                "medium",
                "Overlap not examined",
                "training and evaluation records were not compared",
                "a comparison record by record",
                "developer",
                "before sign-off",
            )
        )
    return found


def _evaluation(facts: VersionFacts) -> list[dict[str, Any]]:
    if facts.evaluation is None:
        return [
            make_finding(
                "high",
                "No evaluation",
                "no evaluation entry for the version",
                "an evaluation against adopted limits",
                "developer",
                "before sign-off",
            )
        ]
    entry = _ref(facts.evaluation)
    if not facts.evaluation_current:
        return [
            make_finding(
                "high",
                "Evaluation is of something else",
                "the newest evaluation belongs to another training run or model file",
                "an evaluation of this model file",
                "developer",
                "before sign-off",
                entry,
            )
        ]
    found = []
    for outcome in facts.evaluation.record.outcomes:
        if outcome.status == "pass":
            continue
        severity = "medium" if outcome.status == "insufficient_data" else "high"
        severity = "low" if outcome.passed else severity  # the gate itself lets this through, with a note
        observed = outcome.message or f"{outcome.metric} = {outcome.value}"
        found.append(
            make_finding(
                severity,
                f"Gate {outcome.id}: {outcome.status.replace('_', ' ')}",
                observed,
                f"{outcome.metric} {outcome.op} {outcome.threshold:g}",
                "developer",
                "before sign-off",
                entry,
            )
        )
    outcome_families = {o.family for o in facts.evaluation.record.outcomes if o.status != "pass"}
    for item in facts.gate_results:
        if item.record.status == "fail" and item.record.family not in outcome_families:
            bad = "; ".join(o.message or o.id for o in item.record.outcomes if o.status != "pass")
            found.append(
                make_finding(
                    "high",
                    f"Automated gate {item.record.family}: fail",
                    bad or "the gate failed",
                    "the gate passes",
                    "developer",
                    "before sign-off",
                    _ref(item),
                )
            )
    if facts.gate_set is None or facts.gate_set.seq >= (facts.started or 0):
        found.append(
            make_finding(
                "high",
                "Limits not adopted before training",
                "no signed gate set precedes the training run",
                "limits signed before results exist",
                "validator",
                "before sign-off",
                _ref(facts.gate_set),
            )
        )
    return found


def _fairness(facts: VersionFacts) -> list[dict[str, Any]]:
    if facts.evaluation is None or not facts.evaluation_current:
        return []
    return [
        make_finding(
            "medium",
            "Groups too small to measure",
            gap.text,
            "enough records in each group, or a written reason",
            "developer",
            "before sign-off",
            _ref(facts.evaluation),
        )
        for gap in insufficient_groups(facts.evaluation.record.fairness)
    ]
