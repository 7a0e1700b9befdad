"""Findings about numbers that keep to their limit and still need a reader: intervals that cross it, moves towards it. Pure.

Neither changes a verdict: gates compare the value that people signed them for. What counts as a move is a convention of these
documents, said in the finding itself.
"""

from __future__ import annotations

from typing import Any

from cognify_dagster.documents.coverage.types import EntryRef
from cognify_dagster.documents.facts.version import VersionFacts
from cognify_dagster.documents.labels import label, metric_label
from cognify_dagster.documents.package.changes import change_reason, metric_values
from cognify_dagster.documents.package.findings_coverage import make_finding
from cognify_dagster.documents.view.blocks import interval, number, number_of, operator
from cognify_dagster.records import GateOutcome

Json = dict[str, Any]

#: A limited metric moved materially if it used up this share of the room that was left to its limit.
MATERIAL_SHARE = 0.1
INTERVAL_TITLE = "Interval crosses the limit"
CLOSER_TITLE = "Closer to a limit than version"


def interval_findings(facts: VersionFacts) -> list[Json]:
    """Return one finding for each attribute (and one for the whole data) whose gate passes by its value and not by its interval."""
    if facts.evaluation is None or not facts.evaluation_current:
        return []
    record = facts.evaluation.record
    measured: dict[str, tuple[str, Any, Any, str]] = {
        metric.name: ("All records", metric.ci_low, metric.ci_high, f"n = {number(metric.n)}")
        for metric in record.metrics
    }
    for result in record.fairness:
        attribute = str(result.get("attribute"))
        for item in result.get("disparities", ()):
            name = f"fairness.{attribute}.{item.get('name')}"
            measured[name] = (attribute, item.get("ci_low"), item.get("ci_high"), _groups(result, item))
    found: dict[str, list[str]] = {}
    for outcome in record.outcomes:
        if outcome.status != "pass" or outcome.metric not in measured:
            continue
        where, low, high, counted = measured[outcome.metric]
        end = number_of(low) if outcome.op in (">=", ">") else number_of(high)
        if end is None or _holds(end, outcome):
            continue
        text = (
            f"{metric_label(outcome.metric)} {number(outcome.value)}, interval {interval(low, high)}, "
            f"limit {operator(outcome.op)} {number(outcome.threshold)} ({counted})"
        )
        found.setdefault(where, []).append(text)
    return [
        make_finding(
            "medium",
            f"{INTERVAL_TITLE}: {label(where)}",
            "; ".join(texts),
            "the interval lies on the right side of the limit too, or a reviewer says why the value is enough: the signed gate "
            "compares the value only, so its verdict is a pass",
            "developer: compare on more records, or merge groups with a reason; else the validator accepts it in writing",
            "before sign-off",
            EntryRef(facts.evaluation.seq, facts.evaluation.leaf),
        )
        for where, texts in found.items()
    ]


def _groups(result: Json, disparity: Json) -> str:
    """The smallest group compared, whose size sets the width of the interval, and how many were compared."""
    compared = {str(name) for name in disparity.get("groups", ())}
    sizes = {str(g.get("group")): g.get("n") for g in result.get("groups", ()) if isinstance(g.get("n"), int)}
    known = {name: size for name, size in sizes.items() if name in compared}
    if not known:
        return f"n = {number(disparity.get('n'))}"
    smallest = min(known, key=lambda name: (known[name], name))
    return f"smallest of {len(compared)} groups: {smallest}, n = {number(known[smallest])}"


def _holds(value: float, outcome: GateOutcome) -> bool:
    limit = float(outcome.threshold)
    return {">=": value >= limit, ">": value > limit, "<=": value <= limit, "<": value < limit}.get(outcome.op, True)


def change_findings(facts: VersionFacts) -> list[Json]:
    """Return a finding that names limited metrics that came clearly closer to their limit since the version released before."""
    before = facts.previous
    if before is None or before.evaluation is None or facts.evaluation is None or not facts.evaluation_current:
        return []
    old = metric_values(before.evaluation)
    moved = []
    for outcome in facts.evaluation.record.outcomes:
        was, now = number_of(old.get(outcome.metric)), number_of(outcome.value)
        if was is None or now is None:
            continue
        sign = 1 if outcome.op in (">=", ">") else -1
        room = sign * (was - float(outcome.threshold))
        if room > 0 and sign * (was - now) >= MATERIAL_SHARE * room:
            moved.append(
                f"{metric_label(outcome.metric)} {number(was)} before, {number(now)} now, "
                f"limit {operator(outcome.op)} {number(outcome.threshold)}"
            )
    if not moved:
        return []
    reason = change_reason(facts)
    told = f"The developer's reason: “{reason}”" if reason else "No reason recorded"
    return [
        make_finding(
            "low" if reason else "medium",
            f"{CLOSER_TITLE} {before.version}",
            f"{'; '.join(moved)}. {told}",
            "the reason is on record where a metric has used up a tenth or more of the room to its limit (a convention of this "
            "document, no rule of law)",
            "developer: record the reason with the next training run; validator: judge it",
            "at sign-off",
            EntryRef(before.evaluation.seq, before.evaluation.leaf),
            EntryRef(facts.evaluation.seq, facts.evaluation.leaf),
        )
    ]
