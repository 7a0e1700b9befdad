"""Changes of datasets: what brought each root, why, who made it, who approved it, and what the policy still asks for.

Invariants: a change is read from the order of the snapshot entries, never from what a snapshot says about its parent; an approval
counts for one difference by its digest, with the reason that was declared then, and never by somebody who made the snapshot; a
person's newest decision counts; a decision that cannot be read counts as a rejection; what a use of data rested on is judged as it
stood before that use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cognify_dagster.governance.people.directory import Directory
from cognify_dagster.governance.policy.document import DatasetApproval, Policy
from cognify_dagster.governance.signing.acts import act_problem, first_use
from cognify_dagster.governance.signing.statements import act_predicate
from cognify_dagster.records import DatasetChangeDecided, DatasetDiffRecorded, DatasetReasonGiven, DatasetSnapshot
from cognify_dagster.records.dataset_acts import change_bounds
from cognify_dagster.workspace import Reading, Recorded

Snapshot = Recorded[DatasetSnapshot]
Decided = Recorded[DatasetChangeDecided]


@dataclass(frozen=True)
class StatedReason:
    """Why a dataset changed, by whose word; `person` is empty where the snapshot itself says it."""

    seq: int
    text: str
    person: str = ""


@dataclass(frozen=True)
class Judged:
    """A decision about a change. `why` says why it does not count; None if it does. `strength` is that of its key."""

    item: Decided
    why: str | None
    strength: str = "S3"


@dataclass(frozen=True)
class Change:
    """One step of a dataset from a root to another.

    Attributes:
        item: the snapshot that brought the new root.
        old: the snapshot before it, None for the first.
        entries: all snapshots in a row that have the new root, oldest first.
        reasons: the declared reasons, oldest first; the last one is in force.
        diff: the recorded difference, None where nobody computed it yet.
        decisions: what people decided, oldest first.
        unreadable: entries that may hold a decision and cannot be read.
    """

    item: Snapshot
    old: Snapshot | None
    entries: tuple[Snapshot, ...]
    reasons: tuple[StatedReason, ...]
    diff: Recorded[DatasetDiffRecorded] | None
    decisions: tuple[Judged, ...]
    unreadable: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The dataset, with its partition."""
        return self.item.record.name

    @property
    def root(self) -> str:
        """The new root."""
        return self.item.record.root

    @property
    def old_root(self) -> str | None:
        """The root before it."""
        return None if self.old is None else self.old.record.root

    @property
    def reason(self) -> str:
        """The declared reason in force; empty if none is."""
        return self.reasons[-1].text if self.reasons else ""

    @property
    def reason_missing(self) -> bool:
        """Whether nobody said why the data changed; a first snapshot changes nothing."""
        return self.old is not None and not self.reason

    @property
    def newest(self) -> dict[str, Judged]:
        """The newest decision that counts of each person."""
        return {judged.item.record.decided_by: judged for judged in self.decisions if judged.why is None}

    @property
    def approvals(self) -> tuple[Judged, ...]:
        """The approvals that count now."""
        return tuple(one for one in self.newest.values() if one.item.record.decision == "approve")

    @property
    def rejections(self) -> tuple[Judged, ...]:
        """The rejections that stand now."""
        return tuple(one for one in self.newest.values() if one.item.record.decision == "reject")

    @property
    def state(self) -> str:
        """`approved`, `rejected` or `not approved`, whatever the policy asks for."""
        if self.rejections or self.unreadable:
            return "rejected"
        return "approved" if self.approvals else "not approved"


@dataclass(frozen=True)
class Demands:
    """What the policy asks for of one dataset."""

    reason: bool = False
    approvals: tuple[DatasetApproval, ...] = ()
    fully_hashed: bool = False


def demands_on(policy: Policy, name: str, tier: str | None) -> Demands:
    """Return what a policy asks for of a dataset that a model of a tier is made from; without a tier, for any of them."""
    rules = [rule for rule in policy.datasets if rule.fits(name, tier)]
    approvals = dict.fromkeys(rule.approval for rule in rules if rule.approval is not None)
    return Demands(
        any(rule.reason == "required" for rule in rules), tuple(approvals), any(rule.fully_hashed for rule in rules)
    )


def snapshots_of(reading: Reading, name: str, before: int | None = None) -> list[Snapshot]:
    """Return the snapshots of exactly this dataset or partition, oldest first; with `before`, those before that entry."""
    found = reading.all(DatasetSnapshot, f"dataset/{name}")
    return [item for item in found if item.record.name == name and (before is None or item.seq < before)]


def change_of(reading: Reading, people: Directory, name: str, seq: int, before: int | None = None) -> Change | None:
    """Return the change that brought the root of a snapshot entry.

    Args:
        reading: verified entries.
        people: the directory of that reading.
        name: the dataset, with its partition.
        seq: the entry of one of its snapshots.
        before: only what stands before this entry is taken into account; all unless given.

    Returns:
        None if the entry is no snapshot of that dataset, or lies not before `before`.
    """
    held = snapshots_of(reading, name, before)
    place = next((number for number, item in enumerate(held) if item.seq == seq), None)
    return None if place is None else _change(reading, people, held, place, before)


def changes_of(reading: Reading, people: Directory, name: str) -> list[Change]:
    """Return all changes of a dataset, oldest first."""
    held = snapshots_of(reading, name)
    starts = [n for n, item in enumerate(held) if n == 0 or held[n - 1].record.root != item.record.root]
    return [_change(reading, people, held, start, None) for start in starts]


def changes_between(
    reading: Reading, people: Directory, name: str, after: int | None, until: int, at_most: int
) -> tuple[list[Change], int]:
    """Return what brought a dataset from one of its snapshots to another.

    Args:
        reading: verified entries.
        people: the directory of that reading.
        name: the dataset, with its partition.
        after: the entry of the snapshot to start from; None, or one that is newer than `until`: only the change that brought
            the root of `until` is told.
        until: the entry of the snapshot to end with.
        at_most: how many changes to return, the newest.

    Returns:
        The changes, oldest first (none where both snapshots have the same root), and how many older ones were left out.
    """
    held = snapshots_of(reading, name)
    roots = {item.seq: item.record.root for item in held}
    if until not in roots or (after is not None and roots.get(after) == roots[until]):
        return [], 0
    starts = [n for n, item in enumerate(held) if n == 0 or held[n - 1].record.root != item.record.root]
    starts = [n for n in starts if held[n].seq <= until]
    if after in roots and after < until:
        starts = [n for n in starts if held[n].seq > after]
    else:
        starts = starts[-1:]
    cut = max(0, len(starts) - at_most)
    return [_change(reading, people, held, start, None) for start in starts[cut:]], cut


def _change(reading: Reading, people: Directory, held: Sequence[Snapshot], place: int, before: int | None) -> Change:
    run, old = _edge(held, place)
    limit = reading.size if before is None else before
    name, seqs = run[0].record.name, {item.seq for item in run}
    reasons = _reasons(reading, people, run, old, limit)
    return Change(
        run[0],
        old,
        tuple(run),
        reasons,
        _diff(reading, run, old, limit),
        _decisions(reading, people, name, seqs, limit),
        _unreadable(reading, name, run[0].seq, limit),
    )


def _edge(held: Sequence[Snapshot], place: int) -> tuple[list[Snapshot], Snapshot | None]:
    """The snapshots in a row with the same root as that at a place, and the one before them."""
    start, end = change_bounds([item.record.root for item in held], place)
    return list(held[start:end]), held[start - 1] if start else None


def _reasons(
    reading: Reading, people: Directory, run: Sequence[Snapshot], old: Snapshot | None, before: int
) -> tuple[StatedReason, ...]:
    found = [StatedReason(item.seq, item.record.change_reason) for item in run if item.record.change_reason.strip()][:1]
    used: set[str] = set()
    for given in reading.all(DatasetReasonGiven, f"dataset/{run[0].record.name}"):
        about = (given.record.name, given.record.snapshot_seq in {item.seq for item in run})
        if given.seq < before and about == (run[0].record.name, True):
            problem = reason_problem(reading, given, people) or first_use((given.record.envelope,), used)
            if problem is None:
                found.append(StatedReason(given.seq, given.record.reason, given.record.given_by))
    return tuple(sorted(found, key=lambda one: one.seq))


def _diff(
    reading: Reading, run: Sequence[Snapshot], old: Snapshot | None, before: int
) -> Recorded[DatasetDiffRecorded] | None:
    """The newest recorded difference of exactly this change."""
    name, new_root = run[0].record.name, run[0].record.root
    edge = (name, None if old is None else old.record.root, new_root)
    seqs = {item.seq for item in run}
    found = [
        item
        for item in reading.all(DatasetDiffRecorded, f"dataset/{name}")
        if item.seq < before
        and (item.record.name, item.record.old_root, item.record.new_root) == edge
        and item.record.new_seq in seqs
    ]
    return found[-1] if found else None


def _decisions(reading: Reading, people: Directory, name: str, seqs: set[int], before: int) -> tuple[Judged, ...]:
    used: set[str] = set()
    found = []
    for item in reading.all(DatasetChangeDecided, f"dataset/{name}"):
        if item.seq >= before or item.record.name != name or item.record.snapshot_seq not in seqs:
            continue
        why = decision_problem(reading, item, people) or first_use((item.record.envelope,), used)
        found.append(Judged(item, why, _strength(people, item) if why is None else ""))
    return tuple(found)


def _strength(people: Directory, item: Decided) -> str:
    said = act_predicate(item.record.envelope)
    key = people.signing_key(item.record.decided_by, str(said["key_id"]), item.seq)
    return key.strength if key is not None else ""


def _unreadable(reading: Reading, name: str, since: int, before: int) -> tuple[int, ...]:
    """Entries that may hold a decision; there are few of the kind, while every training run stands in a dataset's history."""
    found = (item.entry for item in reading.view.of_kind(DatasetChangeDecided.kind))
    seqs = [entry.seq for entry in found if f"dataset/{name}" in entry.subjects and since < entry.seq < before]
    return tuple(seq for seq in seqs if reading.at(seq) is None)


# --- whether an act counts -----------------------------------------------------------------------------------------------


def reason_problem(reading: Reading, item: Recorded[DatasetReasonGiven], people: Directory) -> str | None:
    """Say why a declared reason does not count, or None."""
    record = item.record
    found = _stated_change(reading, item, record.name, record.snapshot_seq, record.old_root, record.new_root)
    if isinstance(found, str):
        return found
    if not record.reason.strip():
        return "it holds no reason"
    policy = people.policy_at(item.seq)
    roles = set(policy.acting_roles if policy is not None else ())
    return act_problem(reading, item, (record.envelope,), people, roles, needed=1, claimed=(record.given_by,))


def deciding_roles(policy: Policy | None, name: str) -> tuple[str, ...]:
    """Return who may decide about changes of a dataset: the roles that the policy names for it, else every role that acts."""
    if policy is None:
        return ()
    named = dict.fromkeys(wanted.role for wanted in demands_on(policy, name, None).approvals)
    return tuple(named) or policy.acting_roles


def decision_problem(reading: Reading, item: Decided, people: Directory) -> str | None:
    """Say why a decision about a change does not count, or None."""
    record = item.record
    found = _stated_change(reading, item, record.name, record.snapshot_seq, record.old_root, record.new_root)
    if isinstance(found, str):
        return found
    run, old = found
    stated = next((one for one in run if one.seq == record.snapshot_seq), None)
    if stated is None or stated.leaf != record.snapshot_leaf:
        return f"entry {record.snapshot_seq} has another leaf than the one that it names"
    diff = _diff(reading, run, old, item.seq)
    if diff is None:
        return "no difference of these two snapshots was on record before it"
    if diff.record.diff_digest != record.diff_digest:
        return (
            f"it is about another difference than the one on record ({diff.record.diff_digest[:19]}…, entry {diff.seq})"
        )
    policy = people.policy_at(item.seq)
    if record.decision == "approve":
        reasons = _reasons(reading, people, run, old, item.seq)
        if record.reason != (reasons[-1].text if reasons else ""):
            return "it names another reason than the one that was declared"
        if old is not None and not reasons and policy and demands_on(policy, record.name, None).reason:
            return "no reason for the change is declared, so there is nothing to approve"
        problem = _hand_problem(people, policy, run, record.decided_by)
        if problem:
            return problem
    roles = {record.role} & set(deciding_roles(policy, record.name))
    allows = record.decision == "approve"
    return act_problem(
        reading, item, (record.envelope,), people, roles, needed=1, claimed=(record.decided_by,), allows=allows
    )


def _stated_change(
    reading: Reading,
    item: Recorded[DatasetReasonGiven] | Decided,
    name: str,
    seq: int,
    old_root: str | None,
    new_root: str,
) -> tuple[list[Snapshot], Snapshot | None] | str:
    """Return the snapshots of the change that an act names, as they stood before it, or say that there is no such change."""
    held = snapshots_of(reading, name, item.seq)
    place = next((number for number, one in enumerate(held) if one.seq == seq), None)
    if place is None or held[place].record.root != new_root:
        return f"entry {seq} is no snapshot of {name} with the root that it names"
    run, old = _edge(held, place)
    if (None if old is None else old.record.root) != old_root:
        return f"the snapshot of {name} before entry {run[0].seq} has another root than the one that it names"
    return run, old


def makers(entries: Sequence[Snapshot]) -> frozenset[str]:
    """Return the people who launched snapshots or wrote the code that took them."""
    return frozenset(
        person
        for item in entries
        for person in (item.record.author, *item.record.touched_by)
        if person.startswith("person/")
    )


def _hand_problem(people: Directory, policy: Policy | None, run: Sequence[Snapshot], person: str) -> str | None:
    made = makers(run)
    if person in made:
        return f"{people.name(person)} had a hand in the snapshot; somebody else approves it"
    groups = policy.separation_of_duties.conflicts if policy is not None else ()
    if any(person in group and made & set(group) for group in groups):
        return f"{people.name(person)} has a conflict of interest with somebody who made the snapshot"
    if policy is not None and policy.unattributed == "block" and not _known(people, run[0]):
        return "nobody knows who made the snapshot: its author is not an enrolled person; take it again as one"
    return None


def _known(people: Directory, item: Snapshot) -> bool:
    return item.record.author in people.standings
