"""Acts of people about a change of a dataset: saying why it happened, approving it, rejecting it.

Invariants: what a person signs names the difference by its digest, the snapshot by its leaf and the reason they read; nothing is
signed that would not count; the same word is not given twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from cognify_dagster.governance.errors import GovernanceError
from cognify_dagster.governance.oversight.dataset_changes import (
    Change,
    changes_of,
    deciding_roles,
    decision_problem,
    reason_problem,
)
from cognify_dagster.governance.oversight.signed import NO_ROLE, before_signing
from cognify_dagster.governance.people.directory import directory
from cognify_dagster.governance.people.enrol import policy_in_force
from cognify_dagster.governance.signing.acts import UNSIGNED, already
from cognify_dagster.governance.signing.drafts import ActForm, perform_act, register_form
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.ledger import Receipt
from cognify_dagster.records import DatasetChangeDecided, DatasetReasonGiven, build
from cognify_dagster.workspace import Reading, Recorded, Workspace

SHORTEST = 8


def find_change(reading: Reading, name: str, root: str | None = None) -> Change:
    """Return a change of a dataset.

    Args:
        reading: verified entries.
        name: the dataset, with its partition if it has one.
        root: the root that the change brought, in hex, or its first digits (at least 8); the newest change if left out. Where a
            root came back later, its newest coming counts.

    Raises:
        GovernanceError: if there is no such change, or several roots begin with these digits.
    """
    found = changes_of(reading, directory(reading), name)
    if not found:
        raise GovernanceError(f"dataset {name!r} was never snapshotted here; see `cognify dataset show`")
    if root is None:
        return found[-1]
    wanted = root.lower().removeprefix("sha256:")
    fitting = [change for change in found if change.root.startswith(wanted)]
    if len(wanted) < SHORTEST or len({change.root for change in fitting}) != 1:
        what = "several roots begin" if fitting and len(wanted) >= SHORTEST else "no root begins"
        if len(wanted) < SHORTEST:
            raise GovernanceError(f"root {root!r}: give at least its first {SHORTEST} hex digits")
        raise GovernanceError(f"dataset {name}: {what} with {root}; see `cognify dataset show {name} --history`")
    return fitting[-1]


def reason_record(reading: Reading, name: str, root: str | None, reason: str, person: str) -> DatasetReasonGiven:
    """Return the record with which a person says why a dataset changed, without their signature.

    Raises:
        GovernanceError: if there is no such change.
    """
    change = find_change(reading, name, root)
    facts = {
        "name": change.name,
        "old_root": change.old_root,
        "new_root": change.root,
        "snapshot_seq": change.item.seq,
        "reason": reason,
        "given_by": person,
        "envelope": UNSIGNED,
    }
    return build(DatasetReasonGiven, facts)


def give_reason(workspace: Workspace, key: PersonalKey, name: str, root: str | None, reason: str) -> Receipt:
    """Say under one's signature why a dataset changed.

    Raises:
        GovernanceError: if it would not count.
    """
    return perform_act(workspace, lambda reading: reason_record(reading, name, root, reason, key.person), [key])


def decision_record(
    reading: Reading,
    name: str,
    root: str | None,
    decision: Literal["approve", "reject"],
    person: str,
    *,
    role: str = "",
    comment: str = "",
) -> DatasetChangeDecided:
    """Return the record with which a person approves or rejects a change of a dataset, without their signature.

    Args:
        reading: verified entries; the difference has to be on record (`cognify_dagster.datasets.recording.record_diff`).
        name: the dataset, with its partition if it has one.
        root: see `find_change`.
        decision: `approve` or `reject`.
        person: who decides.
        role: in which role; the first one that they hold of those that may decide, unless given.
        comment: what they say about it.

    Raises:
        GovernanceError: if there is no such change, or no difference on record.
    """
    change = find_change(reading, name, root)
    if change.diff is None:
        raise GovernanceError(
            f"dataset {name}, root {change.root[:16]}…: no difference is on record; `cognify dataset approve` computes it here"
        )
    facts = {
        "name": change.name,
        "old_root": change.old_root,
        "new_root": change.root,
        "snapshot_seq": change.item.seq,
        "snapshot_leaf": change.item.leaf,
        "diff_digest": change.diff.record.diff_digest,
        "reason": change.reason,
        "decision": decision,
        "comment": comment,
        "role": role or _role(reading, change.name, person),
        "decided_by": person,
        "envelope": UNSIGNED,
    }
    return build(DatasetChangeDecided, facts)


def _role(reading: Reading, name: str, person: str) -> str:
    """The first role of those that may decide which the person holds; where they hold none, the first, to be refused by name."""
    held = directory(reading).roles_at(person, reading.size, time.time_ns() // 1000)
    wanted = deciding_roles(policy_in_force(reading).policy, name)
    return next((role for role in wanted if role in held), wanted[0])


def decided_already(reading: Reading, record: DatasetChangeDecided) -> int | None:
    """Return the entry with which the same person decided the same about the same change, if it is their newest, or None."""
    change = find_change(reading, record.name, record.new_root)
    newest = change.newest.get(record.decided_by)
    if newest is None or record.model_copy(update={"envelope": newest.item.record.envelope}) != newest.item.record:
        return None
    return newest.item.seq


def decide_change(
    workspace: Workspace,
    key: PersonalKey,
    name: str,
    root: str | None,
    decision: Literal["approve", "reject"],
    *,
    role: str = "",
    comment: str = "",
) -> Receipt:
    """Approve or reject a change of a dataset; what was decided already is not decided twice.

    Raises:
        GovernanceError: if it would not count.
    """

    def attempt(reading: Reading) -> DatasetChangeDecided | Callable[[], Receipt]:
        record = decision_record(reading, name, root, decision, key.person, role=role, comment=comment)
        seq = decided_already(reading, record)
        return record if seq is None else already(reading, seq)

    return perform_act(workspace, attempt, [key])


# --- how they are signed and judged --------------------------------------------------------------------------------------


def _reason_roles(reading: Reading, record: DatasetReasonGiven, person: str) -> tuple[str, ...]:
    return policy_in_force(reading).policy.acting_roles


def _deciding(reading: Reading, record: DatasetChangeDecided, person: str) -> tuple[str, ...]:
    return (record.role,) if record.role in deciding_roles(policy_in_force(reading).policy, record.name) else (NO_ROLE,)


def _step(record: DatasetReasonGiven | DatasetChangeDecided) -> str:
    before = f"root {record.old_root}" if record.old_root else "nothing"
    return f"dataset {record.name} from {before} to root {record.new_root}"


def _meaning(record: DatasetChangeDecided) -> str:
    return f"I {record.decision} the change of {_step(record)} with the difference {record.diff_digest}."


def _judge_reason(reading: Reading, item: Recorded[DatasetReasonGiven]) -> str | None:
    return reason_problem(reading, item, directory(reading))


def _judge_decision(reading: Reading, item: Recorded[DatasetChangeDecided]) -> str | None:
    return decision_problem(reading, item, directory(reading))


register_form(
    ActForm(
        record=DatasetReasonGiven,
        signers=lambda record: (record.given_by,),
        roles=_reason_roles,
        meaning=lambda record: f"I state why the change of {_step(record)} was made.",
        judge=_judge_reason,
        check=before_signing(_judge_reason),
    )
)
register_form(
    ActForm(
        record=DatasetChangeDecided,
        signers=lambda record: (record.decided_by,),
        roles=_deciding,
        meaning=_meaning,
        judge=_judge_decision,
        check=before_signing(_judge_decision),
    )
)
