"""Coverage: each requirement of a framework, its status, and the ledger entries that support it.

Invariants: `assess_coverage` is a pure function of facts, framework and time; a line is satisfied only if every demand it rests on names
at least one entry of the facts, and where it takes judgement a person's signature is among them; not_applicable carries the
conditions that led there; law and guidance are counted apart; drafts and texts not in force are listed and never counted. A status is evidence for a reader's judgement, not a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from cognify_dagster.documents.coverage.checks import check_leaf
from cognify_dagster.documents.coverage.gpai import gpai_facts
from cognify_dagster.documents.coverage.people import check_judgement
from cognify_dagster.documents.coverage.types import Context, EntryRef, Gap, Shown, Status
from cognify_dagster.documents.facts.version import VersionFacts
from cognify_dagster.documents.frameworks.loading import Condition, EvidenceNode, Framework, Requirement, Section
from cognify_dagster.documents.frameworks.model import DERIVED_FACTS
from cognify_dagster.records import CoverageSummary

#: The worst status of a group decides it, in this order.
SEVERITY: tuple[Status, ...] = (
    "missing",
    "stale",
    "insufficient_data",
    "needs_human",
    "declared_unavailable",
    "after_release",
    "satisfied",
)


_UNDECIDED = "whether it applies is open: state "


@dataclass(frozen=True)
class Line:
    """One requirement and what the ledger shows for it.

    Attributes:
        supports: what was found, in words.
        entries: the entries it rests on, also where gaps remain.
        gaps: what is not there and who does what; empty for satisfied and not_applicable.
        derivation: for not_applicable and undetermined scope: each fact asked for, expected, stated, and whether it held.
        counted: whether the requirement is in force on the day. Others are listed only.
    """

    requirement: Requirement
    section: str
    status: Status
    supports: tuple[str, ...] = ()
    entries: tuple[EntryRef, ...] = ()
    gaps: tuple[Gap, ...] = ()
    derivation: tuple[Mapping[str, Any], ...] = ()
    counted: bool = True

    @property
    def open(self) -> bool:
        """Whether the requirement applies and is not answered."""
        return self.status not in ("satisfied", "not_applicable")

    @property
    def undecided(self) -> tuple[str, ...]:
        """The facts that nobody stated and that decide whether the requirement applies; empty where it is known."""
        if not any(gap.text.startswith(_UNDECIDED) for gap in self.gaps):
            return ()
        return tuple(dict.fromkeys(str(step["fact"]) for step in self.derivation if step["holds"] is None))

    @property
    def needs_work(self) -> bool:
        """Whether somebody has to do something before people sign: more is open than a signature, or what comes after release."""
        return self.open and any(not gap.after_release and not gap.answered_by for gap in self.gaps)


@dataclass(frozen=True)
class CoverageReport:
    """All lines of one framework.

    Attributes:
        scope: `in_scope`, `out_of_scope` or `undetermined` (a deciding fact is not stated; requirements then stay open).
        scored: whether the results of any line count (in force on the day).
    """

    framework: Framework
    as_of: str
    scope: str
    scope_derivation: tuple[Mapping[str, Any], ...]
    scored: bool
    lines: tuple[Line, ...]

    def counted(self) -> tuple[Line, ...]:
        """Return the lines whose results count."""
        return tuple(line for line in self.lines if line.counted)

    def counts(self, force: str, *, mandatory_only: bool = False) -> dict[str, int]:
        """Return how many requirements of a force have each status; empty where results do not count."""
        result: dict[str, int] = {}
        for line in self.counted():
            if line.requirement.force == force and (line.requirement.mandatory or not mandatory_only):
                result[line.status] = result.get(line.status, 0) + 1
        return dict(sorted(result.items()))

    def to_do(self) -> tuple[Line, ...]:
        """Return the mandatory requirements that need work before people sign; none where results do not count."""
        counted = ("law", "guidance")
        return tuple(
            line
            for line in self.counted()
            if line.requirement.mandatory and line.requirement.force in counted and line.needs_work
        )

    def score(self, force: str) -> tuple[int, int]:
        """Return (satisfied, applicable) over the mandatory requirements of a force."""
        counts = self.counts(force, mandatory_only=True)
        return counts.get("satisfied", 0), sum(counts.values()) - counts.get("not_applicable", 0)

    def summary(self) -> CoverageSummary:
        """Return the counts for the package's ledger entry."""
        return CoverageSummary(
            framework=f"{self.framework.id}@{self.framework.version}",
            status=self.framework.status,
            law=self.counts("law"),
            guidance=self.counts("guidance"),
        )


def assess_coverage(facts: VersionFacts, framework: Framework, now: datetime) -> CoverageReport:
    """Compare a framework with what the ledger holds about a version.

    Args:
        facts: what the ledger says.
        framework: the demands.
        now: the moment of judgement, with time zone; ages are counted to it.
    """
    stated = stated_facts(facts, framework.id)
    context = Context(facts, stated, now, framework)
    derivation: list[dict[str, Any]] = []
    verdict = framework.applicability.evaluate(stated, derivation) if framework.applicability else True
    scope = {True: "in_scope", False: "out_of_scope", None: "undetermined"}[verdict]
    today = now.astimezone(timezone.utc).strftime("%Y-%m-%d")
    lines = tuple(
        replace(
            _line(item, section, context, None if verdict is not False else tuple(derivation)),
            counted=framework.counts(item, today),
        )
        for section in framework.sections
        for item in section.requirements
    )
    scored = any(line.counted for line in lines)
    return CoverageReport(framework, today, scope, tuple(derivation), scored, lines)


def stated_facts(facts: VersionFacts, framework_id: str) -> dict[str, Any]:
    """Return the facts for a framework: general ones, then those under the framework's own id, then derived ones.

    What is derived is never taken from what somebody stated: an open determination stays open.
    """
    if facts.registered is None:
        return {}
    record = facts.registered.record
    stated = dict(record.framework_facts)
    own = stated.get(framework_id)
    if isinstance(own, Mapping):
        stated.update(own)
    run = facts.training.record if facts.training is not None else None
    kept = {name: value for name, value in stated.items() if name not in DERIVED_FACTS}
    return {**kept, "risk_tier": facts.tier or record.risk_tier, **gpai_facts(run)}


def _line(item: Requirement, section: Section, context: Context, out_of_scope: tuple[Any, ...] | None) -> Line:
    if out_of_scope is not None and not item.scope_determination:
        return Line(item, section.id, "not_applicable", derivation=out_of_scope)
    derivation: list[dict[str, Any]] = []
    applies = _applies(item.applies_when, context, derivation)
    if applies is False:
        return Line(item, section.id, "not_applicable", derivation=tuple(derivation))
    status, shown = _tree(item.evidence, context)
    if status == "satisfied" and item.judged_by:
        judgement = check_judgement(item.judged_by, context)
        shown = [*shown, judgement]
        status = "needs_human" if judgement.gaps else status
    gaps = [gap for part in shown for gap in part.gaps]
    if applies is None:
        unknown = ", ".join(dict.fromkeys(str(step["fact"]) for step in derivation if step["holds"] is None))
        gaps.insert(0, Gap("needs_human", f"{_UNDECIDED}{unknown}", "model owner: state the fact"))
        status = "needs_human" if status == "satisfied" else status
    return Line(
        item,
        section.id,
        status,
        supports=tuple(dict.fromkeys(part.text for part in shown if part.text and not part.gaps)),
        entries=tuple(sorted({ref for part in shown for ref in part.entries}, key=lambda ref: ref.seq)),
        gaps=() if status == "satisfied" else tuple(dict.fromkeys(gaps)),
        derivation=tuple(derivation),
    )


def _applies(condition: Condition | None, context: Context, derivation: list[dict[str, Any]]) -> bool | None:
    return True if condition is None else condition.evaluate(context.stated, derivation)


def _tree(node: EvidenceNode, context: Context) -> tuple[Status, list[Shown]]:
    if node.kind:
        shown = check_leaf(node, context)
        if not shown.gaps and shown.entries:
            return "satisfied", [shown]
        if not shown.gaps:  # a check that shows nothing must not count
            shown = Shown(shown.text, (), (Gap("missing", "no entry supports this", "developer: record it"),))
        return min((gap.status for gap in shown.gaps), key=SEVERITY.index), [shown]
    parts = [_tree(part, context) for part in (node.all_of or node.any_of)]
    if node.all_of:
        return min((status for status, _ in parts), key=SEVERITY.index), [s for _, shown in parts for s in shown]
    best, found = max(parts, key=lambda part: SEVERITY.index(part[0]))
    if best == "satisfied":
        return best, found
    return best, [s for _, part in parts for s in part]
