"""What went live when: deployments that follow from a grant, on one target."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from cognify_dagster.governance.policy.document import Policy
from cognify_dagster.records import DeploymentCompleted, ReleaseGranted
from cognify_dagster.workspace import Reading, Recorded


def live(reading: Reading, model: str, target: str) -> Recorded[DeploymentCompleted] | None:
    """Return the deployment that is live on a target: the newest completed one that follows from a grant."""
    for item in reversed(reading.all(DeploymentCompleted, f"release/{model}.{target}")):
        if grant_of(reading, item) is not None:
            return item
    return None


def grant_of(reading: Reading, item: Recorded[DeploymentCompleted]) -> Recorded[ReleaseGranted] | None:
    """Return the grant that a completed deployment follows from, None if it follows from none."""
    found = reading.at(item.record.grant_seq)
    if found is None or found.seq >= item.seq or not isinstance(found.record, ReleaseGranted):
        return None
    grant, done = found.record, item.record
    same = (grant.model, grant.version, grant.target, grant.model_digest) == (
        done.model,
        done.version,
        done.target,
        done.model_digest,
    )
    if not same:
        return None
    return Recorded(found.seq, found.time_us, found.leaf, found.actor, found.key_id, grant, found.entry)


def completed_on(reading: Reading, subject: str, grants: Collection[int]) -> list[Recorded[DeploymentCompleted]]:
    """Return the deployments of a version (its subject id) that completed under one of some grants."""
    return [item for item in reading.all(DeploymentCompleted, subject) if item.record.grant_seq in grants]


def was_live(reading: Reading, model: str, version: str, target: str) -> list[Recorded[DeploymentCompleted]]:
    """Return the deployments with which a version went live on a target, oldest first."""
    return [
        item
        for item in reading.all(DeploymentCompleted, f"model/{model}@{version}")
        if (item.record.model, item.record.version, item.record.target) == (model, version, target)
        and grant_of(reading, item) is not None
    ]


def requirement_problem(
    reading: Reading, policy: Policy, model: str, version: str, target: str, now: datetime
) -> list[tuple[str, str]]:
    """Return what the policy demands before a target and the version lacks, as (code, sentence)."""
    if target not in policy.targets:
        return []
    rule, problems = policy.targets[target], []
    for before in rule.after:
        done = was_live(reading, model, version, before)
        if not done:
            problems.append(("target_order", f"{version} must have been live on {before} before {target}"))
        elif done[0].when + timedelta(hours=rule.min_hours) > now:
            problems.append(
                ("target_order", f"{version} must be live on {before} for {rule.min_hours} hours before {target}")
            )
    return problems
