"""Findings that follow from coverage: every open mandatory requirement of law is in one of them, by name. Pure.

An open row that somebody has to work on is a finding of its own; rows of which nobody stated whether they apply, rows that wait for a
signature only, and rows that can hold only after the release, are named together; guidance is summed up in one observation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cognify_dagster.documents.coverage.bases import uncompared_bases
from cognify_dagster.documents.coverage.consistency import consistency
from cognify_dagster.documents.coverage.engine import CoverageReport, Line
from cognify_dagster.documents.coverage.types import EntryRef
from cognify_dagster.documents.facts.version import VersionFacts
from cognify_dagster.documents.labels import STATUS_LABELS, label

Json = dict[str, Any]
_BY_STATUS = {"missing": "high", "stale": "medium", "insufficient_data": "medium", "needs_human": "medium"}


def make_finding(
    severity: str,
    title: str,
    observed: str,
    expected: str,
    owner: str,
    due: str,
    *entries: EntryRef | None,
    requirements: Sequence[str] = (),
) -> Json:
    """Return one finding; `entries` that are None are left out, `requirements` are the ids that it is about."""
    refs = [{"seq": ref.seq, "leaf": ref.leaf} for ref in entries if ref is not None]
    return {
        "severity": severity,
        "title": title,
        "observed": observed,
        "expected": expected,
        "entries": refs,
        "owner": owner,
        "due": due,
        "requirements": list(requirements),
    }


def line_label(line: Line) -> str:
    """Return the label of a line's status: `unwritten` where a text or statement is not there yet."""
    unwritten = any(gap.status == "needs_human" and not gap.answered_by for gap in line.gaps)
    return "unwritten" if line.status == "needs_human" and unwritten else line.status


def coverage_findings(facts: VersionFacts, report: CoverageReport) -> list[Json]:
    """Return the findings of one framework; none where its results do not count."""
    if not report.scored:
        return []
    found = _bases(facts, report)
    undecided: list[Line] = []
    waiting: list[Line] = []
    later: list[Line] = []
    for line in report.counted():
        if line.requirement.force != "law" or not _open(line):
            continue
        if line.undecided:
            undecided.append(line)
        elif line.status == "after_release":
            later.append(line)
        elif line_label(line) == "needs_human":
            waiting.append(line)
        else:
            found.append(_own(line))
    name = report.framework.id
    if undecided:
        found.append(_undecided(report, undecided))
    if waiting:
        roles = dict.fromkeys(gap.who.partition(":")[0] for line in waiting for gap in line.gaps if gap.answered_by)
        found.append(
            make_finding(
                "low",
                f"{name}: law for a person to judge",
                f"evidence is there and whether it is enough is open: {_ids(waiting)}",
                "each is judged by the person it names; the signature on this package is the answer",
                ", ".join(roles),
                "at sign-off",
                *_entries(waiting),
                requirements=[line.requirement.id for line in waiting],
            )
        )
    if later:
        found.append(
            make_finding(
                "note",
                f"{name}: law that can hold only after the release",
                f"evidence cannot exist yet: {_ids(later)}",
                "; ".join(dict.fromkeys(f"{line.requirement.id}: {line.requirement.paraphrase}" for line in later)),
                "model owner",
                "after release",
                *_entries(later),
                requirements=[line.requirement.id for line in later],
            )
        )
    return found + _guidance(report)


_LOST = {"section": ("Texts", "medium"), "framework": ("Frameworks", "medium"), "evidence": ("Evidence", "low")}


def consistency_findings(facts: VersionFacts) -> list[Json]:
    """Return a finding for each kind of thing that the earlier version had and this one lacks."""
    lost, found = consistency(facts), []
    for kind, (title, severity) in _LOST.items():
        items = [item for item in lost if item.kind == kind]
        if items:
            entries = {item.entry.seq: EntryRef(item.entry.seq, item.entry.leaf) for item in items}
            found.append(
                make_finding(
                    severity,
                    f"{title} that version {items[0].version} had and this one lacks",
                    "; ".join(item.text for item in items),
                    "nothing is dropped from one version to the next unless somebody decided so and wrote why",
                    "model owner",
                    "before sign-off",
                    *(entries[seq] for seq in sorted(entries)),
                )
            )
    return found


def _open(line: Line) -> bool:
    return line.requirement.mandatory and line.open


def _ids(lines: Sequence[Line]) -> str:
    return ", ".join(line.requirement.id for line in lines)


def _entries(lines: Sequence[Line]) -> list[EntryRef]:
    return sorted({ref for line in lines for ref in line.entries}, key=lambda ref: ref.seq)


def _own(line: Line) -> Json:
    """A row of law that somebody has to work on before the package can be signed as complete."""
    open_now = [gap for gap in line.gaps if not gap.after_release and not gap.answered_by] or list(line.gaps)
    return make_finding(
        _BY_STATUS.get(line.status, "medium"),
        f"{line.requirement.id}: {STATUS_LABELS[line_label(line)]}",
        "; ".join(gap.text for gap in open_now),
        f"{line.requirement.paraphrase} ({line.requirement.citation})",
        "; ".join(dict.fromkeys(gap.who for gap in open_now)),
        "before sign-off",
        *line.entries,
        requirements=[line.requirement.id],
    )


def _undecided(report: CoverageReport, lines: Sequence[Line]) -> Json:
    """Rows of law that may apply: one question each for the facts, and not one finding each for what may not be asked at all."""
    questions = {fact.name: fact.question for fact in report.framework.facts}
    names = dict.fromkeys(name for line in lines for name in line.undecided)
    severities = {_BY_STATUS.get(line.status, "medium") for line in lines}
    return make_finding(
        "high" if "high" in severities else "medium",
        f"{report.framework.id}: facts to state before it is known what applies",
        f"not known: {', '.join(names)}; until then these stay open: {_ids(lines)}",
        " ".join(
            f"{name}: {questions[name]}"
            if name in questions
            else f"{name}: worked out from what the training recorded."
            for name in names
        ),
        "model owner: state the facts where the model is defined",
        "before sign-off",
        *_entries(lines),
        requirements=[line.requirement.id for line in lines],
    )


def _guidance(report: CoverageReport) -> list[Json]:
    """One observation that names every open mandatory requirement of guidance by status."""
    by_label: dict[str, list[Line]] = {}
    for line in report.lines:
        if line.requirement.force == "guidance" and _open(line):
            by_label.setdefault(line_label(line), []).append(line)
    if not by_label:
        return []
    order = sorted(by_label, key=lambda name: (name in ("needs_human", "after_release"), name))
    return [
        make_finding(
            "note" if set(by_label) <= {"needs_human", "after_release"} else "low",
            f"{report.framework.id}: open points of guidance",
            "; ".join(f"{STATUS_LABELS[name]}: {_ids(by_label[name])}" for name in order),
            "each is supported by evidence and judged, or its absence is accepted by the reviewers",
            "model owner",
            "at sign-off",
            requirements=[line.requirement.id for name in order for line in by_label[name]],
        )
    ]


def _bases(facts: VersionFacts, report: CoverageReport) -> list[Json]:
    """Prohibited bases that stand in the data and in no comparison."""
    if report.scope == "out_of_scope" or facts.evaluation is None:
        return []
    found = uncompared_bases(facts, report.framework.prohibited_bases)
    if not found:
        return []
    compared = ", ".join(label(str(item.get("attribute"))).lower() for item in facts.evaluation.record.fairness)
    columns = "; ".join(f"{basis} (column {', '.join(names)})" for basis, names in found)
    return [
        make_finding(
            "medium",
            f"Prohibited bases not compared: {', '.join(basis for basis, _ in found)}",
            f"in the data and in no comparison by group: {columns}; compared are: {compared or 'none'}",
            f"outcomes compared for every prohibited basis in the data, or a written reason why not ({report.framework.id})",
            "developer: compare it and evaluate again; compliance officer: else write the reason",
            "before sign-off",
            EntryRef(facts.evaluation.seq, facts.evaluation.leaf),
        )
    ]
