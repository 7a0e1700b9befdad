"""Who had a hand in a version, and so may not judge it: the separation of duties of the policy, computed from the ledger."""

from __future__ import annotations

from cognify_dagster.governance.policy.document import Policy
from cognify_dagster.governance.release.case import Lineage


def involved_people(policy: Policy, lineage: Lineage) -> frozenset[str]:
    """Return the people who had a hand in the version in one of the ways that the policy names."""
    rule = policy.separation_of_duties.exclude
    people: set[str] = set()
    if lineage.training is not None:
        if "run_launcher" in rule:
            people.add(lineage.training.record.launched_by)
        if "commit_authors" in rule:
            people.update(lineage.training.record.touched_by)
    if lineage.package is not None and "package_builder" in rule:
        people.add(lineage.package.record.built_by)
    if lineage.gate_set is not None and "gate_set_adopter" in rule:
        people.add(lineage.gate_set.record.adopted_by)
    return frozenset(person for person in people if person.startswith("person/"))


def excluded_people(policy: Policy, lineage: Lineage) -> frozenset[str]:
    """Return who may not sign off: who had a hand in the version, and who has a conflict of interest with one of them."""
    involved = involved_people(policy, lineage)
    conflicted = {
        person for group in policy.separation_of_duties.conflicts if involved & set(group) for person in group
    }
    return involved | conflicted
