"""Erasing payloads and evidence that hold personal data, without breaking chain, proofs or decisions.

Invariants: what a decision depends on (people, keys, policy, gate sets, sign-offs, packages, releases, deployments, acts about a
model or the ledger) is never erasable, whoever signs; two people sign an erasure; a legal hold or a retention rule that still runs refuses it; the
`payload_erased` entry stands in the ledger before anything is destroyed, and a process killed in between is resumed by
`resume_erasures`, which destroys only what a valid, signed erasure names and no hold covers now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from cognify_dagster.evidence import EvidenceMissing, Marks
from cognify_dagster.governance.custody.holds import EVERYTHING, Hold, holds
from cognify_dagster.governance.custody.joint import append_jointly, approvers, joint_problem
from cognify_dagster.governance.custody.retention import Keeper
from cognify_dagster.governance.errors import GovernanceError
from cognify_dagster.governance.signing.acts import already, decide_and_append, first_use
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.ledger import Receipt
from cognify_dagster.ledger.verification.erasures import keeps_digest
from cognify_dagster.records import PayloadErased, kinds
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key

ERASABLE_KINDS = frozenset(
    {
        "dataset_snapshot",
        "dataset_diff_recorded",
        "overlap_checked",
        "training_failed",
        "experiment_run",
        "evaluation",
        "sign_off_refused",
        "deployment_failed",
        "access_logged",
        "external_decision",
        "groups_claimed",
    }
)
"""Kinds whose payload or evidence may hold personal data (names in sources, error texts, examples). A kind defined later says
so itself with the class attribute `personal_data = True`."""

PROTECTED_KINDS = frozenset(
    {
        "genesis", "person_enrolled", "workload_enrolled", "key_revoked", "policy_adopted", "gate_set_adopted", "sign_off",
        "model_registered", "version_opened", "training_run", "gate_result", "package", "final_copy", "release_granted",
        "release_refused", "deployment_completed", "bundle_exported", "payload_erased", "legal_hold_placed",
        "legal_hold_lifted", "retention_adopted", "segment_archived", "log_key_rotated", "log_key_revoked",
        "ledger_continued", "clock_floor_corrected", "restored",
        "delegated", "delegation_ended", "person_recertified", "person_recovered", "entry_disregarded",
        "model_classified", "finding_opened", "finding_resolved", "condition_closed", "block_lifted", "change_plan_adopted",
        "change_plan_ended", "break_glass_opened", "rollback_ordered", "model_adopted", "review_completed", "model_event",
        "release_suspended", "finding", "section_written", "section_approved", "attestation_made", "attestation_withdrawn",
        "dataset_reason_given", "dataset_change_decided", "datasets_bound", "model_signature",
        "auditor_granted", "auditor_grant_ended",
        "issuer_keys_archived", "groups_mapped",
    }
)  # fmt: skip
"""Kinds that decisions or the ledger itself depend on. Nothing makes them erasable."""


class ErasureRefused(GovernanceError):
    """An erasure was refused; `reasons` says why. Nothing was destroyed."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


@dataclass(frozen=True)
class Erasure:
    """A valid erasure in the ledger."""

    seq: int
    seqs: tuple[int, ...]
    evidence: tuple[str, ...]
    basis: str
    approvers: tuple[str, ...]


@dataclass(frozen=True)
class Erasures:
    """The erasures that count, and `payload_erased` entries that do not, with the reason."""

    valid: tuple[Erasure, ...]
    problems: tuple[tuple[int, str], ...]


def erasable(kind: str) -> bool:
    """Whether payloads of a kind may be erased at all. Unknown kinds may not."""
    if kind in PROTECTED_KINDS or kind not in kinds():
        return False
    return kind in ERASABLE_KINDS or bool(getattr(kinds()[kind], "personal_data", False))


def erasure_refusals(reading: Reading, seqs: Sequence[int], evidence: Sequence[str], now: datetime) -> list[str]:
    """Say everything that stands against an erasure; an empty list means it may be done.

    Args:
        reading: the ledger.
        seqs: entries whose payload is to be erased.
        evidence: digests of encrypted blobs whose data key is to be destroyed; each must be named by one of these entries.
        now: the moment of the decision, with time zone.
    """
    reasons: list[str] = []
    keeper = Keeper(reading)
    if keeper.schedule.unreadable:
        reasons.append(
            f"entry {keeper.schedule.unreadable[0]} about retention cannot be read; upgrade this installation"
        )
    named: set[str] = set()
    for seq in sorted(set(seqs)):
        if not 0 <= seq < reading.size:
            reasons.append(f"there is no entry {seq}")
            continue
        entry = reading.view.entries[seq].entry
        named |= set(entry.evidence)
        if not erasable(entry.kind):
            reasons.append(
                f"entry {seq} ({entry.kind}) can never be erased: decisions depend on it, or it is not marked as bearing "
                "personal data"
            )
            continue
        refusal = keeper.of(entry).refusal(now)
        if refusal:
            reasons.append(refusal)
    for digest in sorted(set(evidence)):
        if digest not in named:
            reasons.append(f"{digest} is not evidence of the entries named")
        for item in reading.view.entries:
            if digest not in item.entry.evidence or item.entry.seq in seqs:
                continue
            retention = keeper.of(item.entry)
            refusal = retention.refusal(now)
            if refusal is None and not erasable(item.entry.kind):
                refusal = f"entry {item.entry.seq} ({item.entry.kind}) depends on it"
            if refusal:
                reasons.append(f"{digest}: {refusal}")
    if not seqs:
        reasons.append("no entry is named")
    return reasons


def erase(
    workspace: Workspace,
    seqs: Sequence[int],
    basis: str,
    signers: Sequence[PersonalKey],
    *,
    evidence: Sequence[str] = (),
    now: datetime | None = None,
) -> Receipt:
    """Erase payloads, and destroy the data keys of encrypted evidence, for good.

    Calling it again, also after a crash, does what is left to do and appends nothing twice.

    Args:
        workspace: where.
        seqs: entries whose payload is erased.
        basis: the duty or request, in words without personal data: they stay for ever.
        signers: two different compliance officers or workspace admins (one in a trial ledger).
        evidence: digests of encrypted blobs of these entries.
        now: moment of the decision; the clock's unless given.

    Returns:
        The receipt of the `payload_erased` entry.

    Raises:
        ErasureRefused: with every reason; nothing was destroyed and nothing appended.
        GovernanceError: if not enough people with the right roles sign.
    """
    moment = now or datetime.now(timezone.utc)
    wanted, digests = tuple(sorted(set(seqs))), tuple(sorted(set(evidence)))

    def attempt(reading: Reading) -> Callable[[], Receipt]:
        for done in erasures(reading).valid:
            if set(wanted) <= set(done.seqs) and set(digests) <= set(done.evidence) and wanted:
                return already(reading, done.seq)
        reasons = erasure_refusals(reading, wanted, digests, moment)
        reasons += _not_destroyable(workspace, digests)
        if reasons:
            raise ErasureRefused(reasons)
        record = PayloadErased(
            seq=wanted[0],
            seqs=wanted if len(wanted) > 1 else (),
            basis=basis,
            approved_by=signers[0].person if signers else "person/nobody",
            approvers=approvers(signers),
            evidence_erased=digests,
        )
        meaning = f"The payloads of the entries named may be destroyed: {basis}"
        key = idempotency_key("erase", *wanted, *digests)
        return append_jointly(workspace, reading, record, signers, meaning, key)

    receipt = decide_and_append(workspace, attempt)
    _destroy(workspace, workspace.read(), [receipt.seq])
    return receipt


def erasures(reading: Reading) -> Erasures:
    """Return the erasures that count: signed by enough people, of erasable entries before them, once."""
    valid: list[Erasure] = []
    problems: list[tuple[int, str]] = []
    used: set[str] = set()
    for item in reading.all(PayloadErased, "erasures"):
        record = item.record
        problem = joint_problem(reading, item) or _scope_problem(reading, item) or first_use(record.envelopes, used)
        if problem:
            problems.append((item.seq, problem))
            continue
        valid.append(
            Erasure(item.seq, tuple(sorted(record.named())), record.evidence_erased, record.basis, record.approvers)
        )
    return Erasures(tuple(valid), tuple(problems))


def _scope_problem(reading: Reading, item: Recorded[PayloadErased]) -> str | None:
    for seq in sorted(item.record.named()):
        if seq >= item.seq:
            return f"it erases entry {seq}, which does not lie before it"
        if not erasable(reading.view.entries[seq].entry.kind):
            return f"it erases entry {seq} ({reading.view.entries[seq].entry.kind}), which can never be erased"
    return None


def resume_erasures(workspace: Workspace) -> list[int]:
    """Finish erasures that a crash interrupted between entry and destruction; return the entries whose payload went now."""
    reading = workspace.read()
    return _destroy(workspace, reading, [erasure.seq for erasure in erasures(reading).valid])


def _destroy(workspace: Workspace, reading: Reading, which: Iterable[int]) -> list[int]:
    wanted = set(which)
    standing = holds(reading)
    done: list[int] = []
    for erasure in erasures(reading).valid:
        if erasure.seq not in wanted:
            continue
        free = [seq for seq in erasure.seqs if not standing.over(reading.view.entries[seq].entry)]
        store = workspace.ledger.store
        present = [seq for seq in free if reading.view.entries[seq].payload is not None or keeps_digest(store, seq)]
        if present:
            store.erase(present)
            done += present
        for digest in erasure.evidence:
            if _held(reading, standing.standing, digest):
                continue
            try:
                workspace.evidence.erase_key(digest)
            except EvidenceMissing:
                continue  # nothing of it is there any more
    return done


def _held(reading: Reading, standing: Sequence[Hold], digest: str) -> bool:
    entries = [item.entry for item in reading.view.entries if digest in item.entry.evidence]
    return any(hold.covers(entry) for hold in standing for entry in entries)


def _not_destroyable(workspace: Workspace, digests: Sequence[str]) -> list[str]:
    """Only encrypted evidence can be erased: a blob in the clear may lie under a lock, and copies of it in backups."""
    return [
        f"{digest} is stored unencrypted, so no key can be destroyed; store personal evidence as `personal`"
        for digest in digests
        if workspace.evidence.is_plain(digest)
    ]


def evidence_marks(reading: Reading) -> Marks:
    """Read from a verified ledger which evidence must stay: whatever any entry names, erased or not."""
    standing = holds(reading)
    live: set[str] = set()
    held: set[str] = set()
    for item in reading.view.entries:
        live |= set(item.entry.evidence)
        if item.entry.evidence and standing.over(item.entry):
            held |= set(item.entry.evidence)
    freeze = standing.freeze
    frozen = f"the legal hold {freeze[0].hold!r} covers the whole {EVERYTHING}" if freeze else None
    return Marks(frozenset(live), frozenset(held), frozen)
