"""What the policy asks for of data before a model is made from it, and what of that is missing.

Invariants: all rules that fit apply together; what a use of data rested on is judged as it stood before that use; what is missing is
said with who gives it and how.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from cognify_dagster.governance.errors import GovernanceError
from cognify_dagster.governance.oversight.dataset_changes import (
    Change,
    Demands,
    Snapshot,
    change_of,
    demands_on,
    makers,
)
from cognify_dagster.governance.people.directory import Directory
from cognify_dagster.governance.policy.document import STRENGTHS, DatasetApproval, Policy
from cognify_dagster.records import DatasetSnapshot
from cognify_dagster.workspace import Reading


class DatasetNotReady(GovernanceError):
    """The policy asks for something about a dataset that is not there; the message says what, who gives it, and how."""


@dataclass(frozen=True)
class Missing:
    """What the policy asks for and is not there: a stable code, a sentence, who gives it and with which command."""

    code: str
    text: str
    resolved_by: str


def missing_for(
    reading: Reading,
    people: Directory,
    policy: Policy,
    name: str,
    seq: int,
    tier: str | None,
    before: int | None = None,
) -> list[Missing]:
    """Return what a policy asks for of a snapshot before a model of a tier is made from it, and is not there.

    Args:
        reading: verified entries.
        people: the directory of that reading.
        policy: the policy to judge by.
        name: the dataset, with its partition.
        seq: the entry of the snapshot.
        tier: the model's tier; None for whatever any tier asks for.
        before: judge as it stood before this entry; as it stands now unless given.
    """
    demands = demands_on(policy, name, tier)
    change = change_of(reading, people, name, seq, before) if demands != Demands() else None
    if change is None:
        return []  # that the entry is no such snapshot is said elsewhere
    what = f"dataset {name}, root {change.root[:16]}… (entry {seq})"
    root = f"--root {change.root[:16]}"
    found = []
    if demands.reason and change.reason_missing:
        who = f"whoever answers for the data (`cognify dataset reason {name} {root} --text … --as KEYFILE`)"
        found.append(Missing("dataset_reason_missing", f"{what}: no reason for its change is declared", who))
    if demands.approvals:
        found += _approvals_missing(people, change, demands.approvals, what, root)
    snapshot = next(item for item in change.entries if item.seq == seq)
    if demands.fully_hashed and (not_hashed := _not_hashed(snapshot.record)):
        text = f"{what}: {not_hashed} of its files were not read and hashed for this snapshot"
        where = shlex.quote(str(snapshot.record.observed.get("location") or "SOURCE"))
        who = f"whoever takes the snapshot (`cognify dataset snapshot {where} --name {name} --verify full`)"
        found.append(Missing("dataset_not_hashed", text, who))
    return found


def _approvals_missing(
    people: Directory, change: Change, wanted: Sequence[DatasetApproval], what: str, root: str
) -> list[Missing]:
    command = f"`cognify dataset approve {change.name} {root} --as KEYFILE`"
    for one in change.rejections:
        record = one.item.record
        said = f": {record.comment}" if record.comment else ""
        text = f"{what}: {people.name(record.decided_by)} rejected its change (entry {one.item.seq}){said}"
        return [Missing("dataset_rejected", text, f"{people.name(record.decided_by)} ({command}), or other data")]
    if change.unreadable:
        text = f"{what}: entry {change.unreadable[0]}, a decision about it, cannot be read"
        return [Missing("dataset_rejected", text, "upgrade this installation, or take another snapshot")]
    found = []
    for demand in wanted:
        signed = [
            one
            for one in change.approvals
            if one.item.record.role == demand.role and STRENGTHS.index(one.strength) >= STRENGTHS.index(demand.strength)
        ]
        if len(signed) < demand.quorum:
            role = demand.role.replace("_", " ")
            text = (
                f"{what}: its change is approved by {len(signed)} of {demand.quorum} {role}{'s' * (demand.quorum > 1)}"
            )
            weak = " with a passkey" if demand.strength == "S4" else ""
            others = [item.name for item in people.with_role(demand.role) if item.person not in makers(change.entries)]
            names = ", ".join(others) or "nobody enrolled so far"
            who = f"{role} who did not make the snapshot{weak}: {names} ({command})"
            found.append(Missing("dataset_not_approved", text, who))
    return found


def _not_hashed(record: DatasetSnapshot) -> int:
    """How many files' digests were taken over from an earlier snapshot or from the storage."""
    evidence = record.header.get("evidence")
    if not isinstance(evidence, dict):
        return record.file_count
    return sum(number for key, number in evidence.items() if key != "hashed" and isinstance(number, int))


def require_ready(
    reading: Reading, people: Directory, policy: Policy, items: Sequence[Snapshot], tier: str | None, purpose: str
) -> None:
    """Refuse to use snapshots of which the policy asks for something that is not there.

    Raises:
        DatasetNotReady: naming each dataset, its root, what is missing, who gives it and the command for it.
    """
    found = [one for item in items for one in missing_for(reading, people, policy, item.record.name, item.seq, tier)]
    if found:
        listed = "; ".join(f"{one.text} → {one.resolved_by}" for one in found)
        raise DatasetNotReady(f"{purpose} is refused by the policy: {listed}")
