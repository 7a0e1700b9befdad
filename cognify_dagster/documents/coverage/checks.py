"""The checks behind evidence kinds: what exactly has to stand in the ledger for a single demand to count as met.

Invariants: a check answers `satisfied` only together with at least one entry; it reads typed records, never free text claims of
the pipeline about itself; an approval is counted from sign-off entries alone; evidence of unknown age is never fresh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone

from cognify_dagster.documents.coverage.data import check_dataset
from cognify_dagster.documents.coverage.evaluation import check_evaluation, check_fairness, insufficient_groups
from cognify_dagster.documents.coverage.ledger import check_ledger
from cognify_dagster.documents.coverage.people import check_approval
from cognify_dagster.documents.coverage.texts import check_attestation, check_human
from cognify_dagster.documents.coverage.training import check_environment, check_training
from cognify_dagster.documents.coverage.types import Context, Gap, Shown, Status, not_there, ref
from cognify_dagster.documents.frameworks.loading import EvidenceNode

__all__ = ["check_leaf", "insufficient_groups"]


def check_leaf(leaf: EvidenceNode, context: Context) -> Shown:
    """Answer one demand for evidence. Pure."""
    shown = _KINDS[leaf.kind](leaf, context)
    if leaf.max_age_days is None or not shown.entries or shown.gaps:
        return shown
    times = [context.times.get(item.seq) for item in shown.entries]
    known = [time for time in times if time is not None]
    if len(known) < len(times):
        gap = Gap("stale", "the age of the evidence is not known", "operator: upgrade and build again")
        return Shown(shown.text, shown.entries, (gap,))
    age = (context.now - datetime.fromtimestamp(min(known) / 1e6, tz=timezone.utc)).days
    if age <= leaf.max_age_days:
        return shown
    gap = Gap("stale", f"the evidence is {age} days old; the limit is {leaf.max_age_days}", "the model's developers")
    return Shown(shown.text, shown.entries, (gap,))


def _deployment(leaf: EvidenceNode, context: Context) -> Shown:
    facts = context.facts
    if not facts.deployments:
        status: Status = "missing" if facts.releases else "after_release"
        return not_there("the version is not deployed", "the release run records it", status)
    gaps = []
    if "target" in leaf.checks and not all(item.record.target for item in facts.deployments):
        gaps.append(Gap("missing", "a deployment does not name where to (target)", "operator: deploy again"))
    if "rollback" in leaf.checks and not any(item.record.supersedes for item in facts.deployments):
        gaps.append(
            Gap(
                "missing",
                "no earlier version is on record that could go live again (supersedes)",
                "model owner: say what happens instead if this version has to be taken back",
            )
        )
    return Shown("deployment under a release grant", tuple(ref(item) for item in facts.deployments), tuple(gaps))


def _monitoring(leaf: EvidenceNode, context: Context) -> Shown:
    status: Status = "missing" if context.facts.releases else "after_release"
    return not_there("no monitoring result is on record", "model owner: monitor the deployed version", status)


_KINDS: Mapping[str, Callable[[EvidenceNode, Context], Shown]] = {
    "auto:dataset": check_dataset,
    "auto:training": check_training,
    "auto:environment": check_environment,
    "auto:eval": check_evaluation,
    "auto:fairness": check_fairness,
    "auto:approval": check_approval,
    "auto:deployment": _deployment,
    "auto:monitoring": _monitoring,
    "auto:ledger": check_ledger,
    "human": check_human,
    "attestation": check_attestation,
}
