"""What went live when: deployments that follow from a grant, on one target.

Invariants: a grant serves one deployment: only the first completion that fits it counts, a further one under the same grant never
made anything live and is named as such; a completion that fits no grant counts for nothing.
"""

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


def completions(reading: Reading, model: str, target: str) -> list[Recorded[DeploymentCompleted]]:
    """Return all deployments that made something live on a target, oldest first."""
    done = reading.all(DeploymentCompleted, f"release/{model}.{target}")
    return [item for item in done if grant_of(reading, item) is not None]


def grant_of(reading: Reading, item: Recorded[DeploymentCompleted]) -> Recorded[ReleaseGranted] | None:
    """Return the grant that a completed deployment follows from; None if it follows from none, or is not the first under it."""
    grant = _fitting(reading, item)
    return None if grant is None or _first_under(reading, item) is not None else grant


def _fitting(reading: Reading, item: Recorded[DeploymentCompleted]) -> Recorded[ReleaseGranted] | None:
    """Return the grant that a completion names, if that is one for the same version, target and model bytes before it."""
    found = reading.find(ReleaseGranted, item.record.grant_seq, item.seq)
    if found is None:
        return None
    grant, done = found.record, item.record
    same = (grant.model, grant.version, grant.target, grant.model_digest) == (
        done.model,
        done.version,
        done.target,
        done.model_digest,
    )
    return found if same else None


def _first_under(reading: Reading, item: Recorded[DeploymentCompleted]) -> int | None:
    """Return the entry before this completion that used its grant up, None if this one did."""
    for other in reading.all(DeploymentCompleted, f"model/{item.record.model}@{item.record.version}"):
        if other.seq >= item.seq:
            return None
        if other.record.grant_seq == item.record.grant_seq and _fitting(reading, other) is not None:
            return other.seq
    return None


def said_again(reading: Reading, model: str, version: str, target: str) -> list[tuple[int, str]]:
    """Return the completions of a version on a target that name a grant which an earlier one used up, with a sentence each."""
    found = []
    for item in reading.all(DeploymentCompleted, f"model/{model}@{version}"):
        if (item.record.model, item.record.version, item.record.target) != (model, version, target):
            continue
        first = _first_under(reading, item)
        if first is not None:
            text = (
                f"the release of entry {item.record.grant_seq} was completed by entry {first}; it serves one deployment"
            )
            found.append((item.seq, text))
    return found


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
