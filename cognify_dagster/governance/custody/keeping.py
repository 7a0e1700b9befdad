"""What a workspace records when its ledger is archived, restored or continued, and whose keys sign archives.

Invariants: archives are signed by the workload's key and verified with the workload keys that the ledger's entries enrol, taken
from a reading and never from the archive; a continued ledger cites a head that the trust file of the lost one verifies, in its
first entry after genesis, signed by two workspace admins.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence

from cognify_dagster.governance.custody.joint import append_jointly, approvers, joint_problem
from cognify_dagster.governance.errors import GovernanceError
from cognify_dagster.governance.people.directory import ADMIN, directory
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.ledger import NoteError, Receipt, TrustFile, open_checkpoint
from cognify_dagster.ledger.archive.format import ManifestSigner
from cognify_dagster.ledger.archive.reader import Archive
from cognify_dagster.ledger.recovery.rollback import RestoreReport
from cognify_dagster.records import LedgerContinued, Restored, SegmentArchived
from cognify_dagster.workspace import Reading, Workspace, idempotency_key


def manifest_signer(workspace: Workspace) -> ManifestSigner:
    """Return the workspace's workload key as signer of archive manifests.

    Raises:
        GovernanceError: if this process has no workload key.
    """
    if workspace.writer is None:
        raise GovernanceError(
            "this process has no workload key, so it cannot sign an archive; run it where the keys are"
        )
    return ManifestSigner(workspace.writer.key_id, workspace.writer.sign)


def manifest_keys(reading: Reading) -> dict[str, bytes]:
    """Return the keys that may have signed archives of a ledger: every workload key ever enrolled, by key id.

    Keep them beside the trust file: whoever opens an archive without the ledger needs them from outside.
    """
    found = directory(reading).workloads
    return {item.key.key_id: base64.b64decode(item.key.public, validate=True) for _, item in found}


def record_archived(workspace: Workspace, location: str = "") -> Callable[[Archive], Receipt]:
    """Return the function that `detach_segment` calls to append the `segment_archived` entry; repeating it appends nothing.

    Args:
        workspace: where.
        location: where the folder was put, in words for people.
    """

    def append(archive: Archive) -> Receipt:
        record = SegmentArchived(
            start=archive.start,
            end=archive.end,
            manifest=archive.manifest,
            root=archive.root.hex(),
            location=location,
        )
        return workspace.append(
            record,
            idem=idempotency_key("archived", archive.start, archive.end, archive.manifest, location),
            checkpoint=True,
        )

    return append


def record_restored(
    workspace: Workspace, report: RestoreReport, backup: str, *, replayed_from: int | None = None, reason: str = ""
) -> Receipt:
    """Append that the ledger was restored; only for a report that is sound.

    Args:
        workspace: the restored one.
        report: what `check_restored`, `restore_sqlite` or `replay` returned.
        backup: SHA-256 hex of the backup.
        replayed_from: first entry that was replayed.
        reason: why it was restored.

    Raises:
        GovernanceError: if the restored ledger is rolled back or damaged.
    """
    if not report.sound:
        raise GovernanceError(
            f"the restored ledger is not sound: {report.findings[0] if report.findings else 'it is empty'}"
        )
    record = Restored(
        backup=backup,
        size=report.size,
        root=report.root.hex(),
        replayed_from=replayed_from,
        compared_with=report.compared_with,
        reason=reason,
    )
    return workspace.append(
        record, idem=idempotency_key("restored", backup, report.size), expected_size=report.size, checkpoint=True
    )


def continue_ledger(
    workspace: Workspace,
    *,
    previous_trust: TrustFile,
    checkpoint: str,
    lost_start: int,
    reason: str,
    signers: Sequence[PersonalKey],
) -> Receipt:
    """Say in a new ledger that it goes on where another one lost entries for good.

    Args:
        workspace: the new one, with nothing in it but its genesis entry.
        previous_trust: the trust file of the lost ledger.
        checkpoint: the last witnessed checkpoint of the lost ledger, signed.
        lost_start: how many entries of it still exist.
        reason: what happened.
        signers: two different workspace admins of the new ledger.

    Raises:
        GovernanceError: if the head does not verify, nothing was lost, or the ledger is not new.
    """
    try:
        head = open_checkpoint(checkpoint, previous_trust.logs)
    except NoteError as error:
        raise GovernanceError(f"the checkpoint of the lost ledger does not verify: {error}") from error
    if head.origin == workspace.origin:
        raise GovernanceError("the new ledger has the origin of the lost one; found it under a new origin")
    if not 0 <= lost_start < head.size:
        raise GovernanceError(
            f"nothing is lost: the checkpoint covers {head.size} entries and {lost_start} still exist"
        )
    reading = workspace.read()
    key = idempotency_key("continued", head.origin, checkpoint, lost_start)
    existing = workspace.ledger.store.find(key)
    if existing is not None:
        return existing
    if reading.size != 1:
        raise GovernanceError(
            "the loss is cited right after genesis, but this ledger has entries already; found a new one"
        )
    record = LedgerContinued(
        previous_origin=head.origin,
        checkpoint=checkpoint,
        lost_start=lost_start,
        lost_end=head.size,
        reason=reason,
        approvers=approvers(signers),
    )
    meaning = "These entries are lost; this ledger goes on in their place."
    return append_jointly(workspace, reading, record, signers, meaning, key, (ADMIN,))()


def continued_from(reading: Reading) -> tuple[LedgerContinued, str | None] | None:
    """Return what a ledger says it continues, with why that does not count (None: it does); None if it continues nothing."""
    item = reading.find(LedgerContinued, 1)
    return None if item is None else (item.record, joint_problem(reading, item, (ADMIN,)))
