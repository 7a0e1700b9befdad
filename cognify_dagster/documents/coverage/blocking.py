"""What the policy's blocking frameworks hold against the release of a version.

Invariants: a framework counts where the policy in force names it for the model's tier and the model, as the ledger records it, is
under it; one that cannot be read counts as open. What waits for a signature only, or can hold only after the release, holds nothing
back: who has to sign is for the stages of the tier to say.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cognify_dagster.documents.coverage.engine import CoverageReport, assess_coverage
from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.facts.version import collect
from cognify_dagster.documents.frameworks.loading import load_framework
from cognify_dagster.governance import Decision, Reason, policy_in_force
from cognify_dagster.workspace import Reading

_NAMED = 5


def held_back(reading: Reading, decision: Decision, folder: Path | None = None) -> tuple[Reason, ...]:
    """Return what the policy's blocking frameworks hold against a release that the decision allows.

    They hold back neither an ordered rollback nor what was opened by broken glass: both are emergencies that people signed for.

    Args:
        reading: the entries that the decision was made from.
        decision: the decision.
        folder: framework files that override the shipped ones.
    """
    if decision.rollback is not None or any(stage.by == "break_glass" for stage in decision.stages):
        return ()
    return framework_reasons(reading, decision.model, decision.version, decision.tier, decision.at, folder)


def framework_reasons(
    reading: Reading, model: str, version: str, tier: str, now: datetime, folder: Path | None = None
) -> tuple[Reason, ...]:
    """Return a reason for each blocking framework of which a mandatory requirement needs work.

    Args:
        reading: verified entries.
        model: model key.
        version: version id.
        tier: the model's tier, as the decision takes it.
        now: the present, with time zone.
        folder: framework files that override the shipped ones.
    """
    rules = policy_in_force(reading).policy.tiers.get(tier)
    if rules is None or not rules.blocking_frameworks:
        return ()
    try:
        facts = collect(reading, model, version)
    except DocumentError as error:
        return (Reason("framework", f"the blocking frameworks cannot be compared: {error}", "ops"),)
    under = facts.registered.record.frameworks if facts.registered is not None else ()
    found = []
    for name in rules.blocking_frameworks:
        if name not in under:
            continue
        try:
            reason = _reason(assess_coverage(facts, load_framework(name, folder), now))
        except DocumentError as error:
            reason = Reason(f"framework_{name}", f"{name} cannot be compared: {error}", "ops: restore its file")
        found += [reason] if reason is not None else []
    return tuple(found)


def _reason(report: CoverageReport) -> Reason | None:
    to_do = report.to_do()
    if not to_do:
        return None
    named = ", ".join(line.requirement.id for line in to_do[:_NAMED])
    more = f" and {len(to_do) - _NAMED} more" if len(to_do) > _NAMED else ""
    what = "1 mandatory requirement needs" if len(to_do) == 1 else f"{len(to_do)} mandatory requirements need"
    who = dict.fromkeys(gap.who.partition(":")[0] for line in to_do for gap in line.gaps if gap.who)
    return Reason(
        f"framework_{report.framework.id}",
        f"{report.framework.id}, which the policy lets block a release: {what} work ({named}{more})",
        ", ".join(list(who)[:3]),
    )
