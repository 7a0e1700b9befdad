"""Who had a hand in a version, and so may not judge it: the separation of duties of the policy, computed from the ledger.

Invariants: whoever may not sign off a version may neither close a finding about it, accept its risk, lift a block, close a
condition, break the glass nor review it in use; all of them ask here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from cognify_dagster.governance.oversight.attestations import attestation_problem, snapshot_digest
from cognify_dagster.governance.oversight.dataset_changes import change_of
from cognify_dagster.governance.people.directory import Directory, directory
from cognify_dagster.governance.people.enrol import policy_in_force
from cognify_dagster.governance.policy.document import Policy
from cognify_dagster.governance.release.case import Lineage
from cognify_dagster.records import (
    AttestationMade,
    DatasetChangeDecided,
    Evaluation,
    GateSetAdopted,
    Package,
    TrainingRun,
)
from cognify_dagster.workspace import Reading, Recorded


def base_lineage(reading: Reading, model: str, version: str) -> Lineage:
    """Return what a version is made of, without judging it."""
    subject = f"model/{model}@{version}"
    training, evaluation = reading.latest(TrainingRun, subject), reading.latest(Evaluation, subject)
    gate_set = reading.find(GateSetAdopted, evaluation.record.gate_set_seq) if evaluation is not None else None
    approvers = dataset_approvers(reading, policy_in_force(reading).policy, training, evaluation)
    return Lineage(training, evaluation, reading.latest(Package, subject), gate_set, approvers)


def dataset_approvers(
    reading: Reading,
    policy: Policy,
    training: Recorded[TrainingRun] | None,
    evaluation: Recorded[Evaluation] | None,
) -> frozenset[str]:
    """Return who attested something about a snapshot that a version rests on, or approved its change, also if they withdrew it since.

    Nobody is looked for where the policy does not exclude them.
    """
    if "dataset_approver" not in policy.separation_of_duties.exclude:
        return frozenset()
    refs = [*(training.record.datasets if training else ()), *([evaluation.record.dataset] if evaluation else [])]
    people = directory(reading)
    decided = [ref for ref in refs if reading.all(DatasetChangeDecided, f"dataset/{ref.name}")]
    changes = [change_of(reading, people, ref.name, ref.seq) for ref in decided]
    approved = {
        judged.item.record.decided_by
        for change in changes
        for judged in (change.decisions if change is not None else ())
        if judged.why is None and judged.item.record.decision == "approve"
    }
    return frozenset(approved) | frozenset(
        item.record.attested_by
        for ref in refs
        for item in reading.all(AttestationMade, f"dataset/{ref.name}")
        if item.record.about_digest == snapshot_digest(ref.root) and attestation_problem(reading, item, people) is None
    )


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
    if "dataset_approver" in rule:
        people.update(lineage.data_approvers)
    return frozenset(person for person in people if person.startswith("person/"))


def excluded_people(policy: Policy, lineage: Lineage) -> frozenset[str]:
    """Return who may not sign off: who had a hand in the version, and who has a conflict of interest with one of them."""
    involved = involved_people(policy, lineage)
    conflicted = {
        person for group in policy.separation_of_duties.conflicts if involved & set(group) for person in group
    }
    return involved | conflicted


def excluded_from(reading: Reading, policy: Policy, model: str, version: str) -> frozenset[str]:
    """Return who may not judge a version, as `excluded_people`, by its newest training, evaluation and package."""
    return excluded_people(policy, base_lineage(reading, model, version))


def excluded_from_any(reading: Reading, policy: Policy, model: str) -> frozenset[str]:
    """Return who may not judge at least one version of a model: they do not judge what concerns all of them.

    It looks at every version; a decision about one asks `excluded_from`.
    """
    versions = dict.fromkeys(item.record.version for item in reading.all(TrainingRun, f"model/{model}"))
    return frozenset(person for version in versions for person in excluded_from(reading, policy, model, version))


def hand_problem(
    people: Directory, signers: Iterable[str], excluded: Collection[str], what: str = "this version"
) -> str | None:
    """Say which of the signers had a hand in the version, or None."""
    hand = [people.name(person) for person in sorted(set(signers)) if person in excluded]
    return f"{', '.join(hand)} had a hand in {what}, or a conflict with somebody who had" if hand else None
