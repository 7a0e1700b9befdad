"""Log keys that are rotated or revoked, and clocks that are corrected: acts about the ledger that two workspace admins sign.

Invariants: such an act counts only with valid signatures of two different people (in a trial ledger one) who hold the role
workspace_admin at that point, over exactly the facts in the entry; a signed statement has its effect once. Whatever else stands in
an entry of these kinds, the writer's signature included, has no effect and is named with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cognify_dagster.governance.custody.joint import append_jointly, approvers, joint_problem
from cognify_dagster.governance.errors import GovernanceError
from cognify_dagster.governance.people.directory import ADMIN, directory
from cognify_dagster.governance.signing.acts import (
    already,
    check_signers,
    decide_and_append,
    first_use,
    people_needed,
)
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.ledger import Receipt, VerifiedView
from cognify_dagster.ledger.verification.acts import Acts
from cognify_dagster.records import ClockFloorCorrected, LogKeyRevoked, LogKeyRotated
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key

Act = LogKeyRotated | LogKeyRevoked | ClockFloorCorrected
_KINDS: Mapping[str, type[Act]] = {kind.kind: kind for kind in (LogKeyRotated, LogKeyRevoked, ClockFloorCorrected)}
_LOG_KEY, _CLOCK = "log_key", "clock"
_ROTATE = "This key signs the ledger's checkpoints from here on, beside the old one until the overlap ends."
_REVOKE = "This log key counts for no head of more entries than these: {}"
_CORRECT = "The clock ran ahead. Times from here on may lie before the wrong ones, but not before this floor: {}"


@dataclass(frozen=True)
class LedgerActs:
    """The acts about log keys and clock that count, in order, and those that count for nothing, with the reason."""

    rotations: tuple[Recorded[LogKeyRotated], ...]
    revocations: tuple[Recorded[LogKeyRevoked], ...]
    corrections: tuple[Recorded[ClockFloorCorrected], ...]
    void: tuple[tuple[int, str], ...]

    def revoked(self) -> dict[str, int]:
        """Return verifier key -> last good size; the smallest where there are several revocations."""
        found: dict[str, int] = {}
        for item in self.revocations:
            key, size = item.record.vkey, item.record.last_good_size
            found[key] = min(size, found.get(key, size))
        return found

    def rotation_to(self, vkey: str) -> Recorded[LogKeyRotated] | None:
        """Return the newest rotation to a key that counts."""
        return next((item for item in reversed(self.rotations) if item.record.new == vkey), None)


def ledger_acts(reading: Reading) -> LedgerActs:
    """Judge every act about log keys and clock in a reading (its first entry and the subjects people, log_key and clock do)."""
    good: set[int] = set()
    void: list[tuple[int, str]] = []
    used: set[str] = set()
    people = directory(reading)
    for entry in (item.entry for subject in (_LOG_KEY, _CLOCK) for item in reading.view.history(subject)):
        kind = _KINDS.get(entry.kind)
        if kind is None:
            continue
        item: Recorded[Act] | None = reading.find(kind, entry.seq)
        if item is None:
            void.append((entry.seq, f"{entry.kind}: its payload is missing or is none that this release can read"))
            continue
        problem = joint_problem(reading, item, (ADMIN,), people)
        problem = problem or _problem(item.record, item.time_us) or first_use(item.record.envelopes, used)
        if problem:
            void.append((entry.seq, f"{entry.kind}: {problem}"))
            continue
        good.add(entry.seq)
    return LedgerActs(
        tuple(item for item in reading.all(LogKeyRotated, _LOG_KEY) if item.seq in good),
        tuple(item for item in reading.all(LogKeyRevoked, _LOG_KEY) if item.seq in good),
        tuple(item for item in reading.all(ClockFloorCorrected, _CLOCK) if item.seq in good),
        tuple(sorted(void)),
    )


def _problem(record: Act, time_us: int) -> str | None:
    if isinstance(record, ClockFloorCorrected) and time_us < record.floor_us:
        return "it lies before the floor that it names"
    return None


def judge_acts(view: VerifiedView) -> Acts:
    """Judge acts for `Ledger.verify(acts=judge_acts)`, which shows their entries and those about people.

    Raises:
        RecordError: if the ledger does not begin with a genesis entry.
    """
    found = ledger_acts(Reading(view))
    clock = {item.seq: item.record.wrong_us for item in found.corrections}
    return Acts(found.revoked(), clock, found.void)


def rotate_log_key(
    workspace: Workspace, old: str, new: str, *, overlap: int, reason: str, signers: Sequence[PersonalKey]
) -> Receipt:
    """Record that the log key changes. Two different workspace admins sign. Repeating it returns the old receipt.

    Args:
        workspace: where; its signer has both keys already.
        old: verifier key that signed until now.
        new: verifier key that signs from now on.
        overlap: for how many more entries both sign.
        reason: why.
        signers: the admins' keys.

    Raises:
        GovernanceError: if not enough admins sign.
    """

    def attempt(reading: Reading) -> Callable[[], Receipt]:
        done = ledger_acts(reading).rotation_to(new)
        if done is not None:
            return already(reading, done.seq)
        record = LogKeyRotated(
            old=old,
            new=new,
            overlap_until_size=reading.size + 1 + overlap,
            reason=reason,
            approvers=approvers(signers),
        )
        return _append(workspace, reading, record, _ROTATE, signers)

    return decide_and_append(workspace, attempt)


def revoke_log_key(
    workspace: Workspace, vkey: str, *, last_good_size: int, reason: str, signers: Sequence[PersonalKey]
) -> Receipt:
    """Record that a log key counts only for heads of at most `last_good_size` entries. Two different workspace admins sign.

    Repeating it returns the old receipt. A later revocation of the same key can only lower the size.

    Raises:
        GovernanceError: if the ledger has fewer entries than `last_good_size`, or not enough admins sign.
    """

    def attempt(reading: Reading) -> Callable[[], Receipt]:
        for done in ledger_acts(reading).revocations:
            if (done.record.vkey, done.record.last_good_size) == (vkey, last_good_size):
                return already(reading, done.seq)
        if last_good_size > reading.size:
            raise GovernanceError(f"the ledger has {reading.size} entries; the last good size is not more")
        record = LogKeyRevoked(vkey=vkey, last_good_size=last_good_size, reason=reason, approvers=approvers(signers))
        return _append(workspace, reading, record, _REVOKE.format(last_good_size), signers)

    return decide_and_append(workspace, attempt)


def clock_correction(reading: Reading, now_us: int) -> tuple[int, int]:
    """Return (time of the newest entry, time of the newest entry that does not lie after `now_us`), microseconds since 1970 UTC.

    Raises:
        GovernanceError: if no entry lies in the future: there is nothing to correct.
    """
    times = [item.entry.time_us for item in reading.view.entries]
    if not times or times[-1] <= now_us:
        raise GovernanceError("the ledger's newest entry does not lie in the future: there is no clock to correct")
    return times[-1], max((time_us for time_us in times if time_us <= now_us), default=now_us)


def correct_clock(
    workspace: Workspace, *, reason: str, signers: Sequence[PersonalKey], now_us: int | None = None
) -> Receipt:
    """Take the ledger's time back to that of a clock that is right, after one ran ahead. Two different workspace admins sign.

    The entry of this act is the first with the right time; it lies before the one before it, and later ones follow it.

    Args:
        workspace: where.
        reason: what happened.
        signers: the admins' keys.
        now_us: the right time, microseconds since 1970 UTC; this machine's clock unless given.

    Raises:
        GovernanceError: if no entry lies in the future, or not enough admins sign.
    """

    def attempt(reading: Reading) -> Callable[[], Receipt]:
        wrong, floor = clock_correction(reading, time.time_ns() // 1000 if now_us is None else now_us)
        record = ClockFloorCorrected(wrong_us=wrong, floor_us=floor, reason=reason, approvers=approvers(signers))
        return _append(workspace, reading, record, _CORRECT.format(floor), signers)

    return decide_and_append(workspace, attempt)


def check_admins(reading: Reading, signers: Sequence[PersonalKey]) -> None:
    """See that these people may sign an act about log keys or the clock, before keys are made for it.

    Raises:
        GovernanceError: if there are too few different workspace admins, or one of them is none.
    """
    check_signers(reading, signers, (ADMIN,), needed=people_needed(reading))


def _append(
    workspace: Workspace, reading: Reading, record: Act, meaning: str, signers: Sequence[PersonalKey]
) -> Callable[[], Receipt]:
    key = idempotency_key(record.kind, reading.view.heads.get(record.subjects()[1], -1), *_identity(record))
    return append_jointly(workspace, reading, record, signers, meaning, key, (ADMIN,))


def _identity(record: Act) -> tuple[str | int, ...]:
    if isinstance(record, LogKeyRotated):
        return record.old, record.new
    if isinstance(record, LogKeyRevoked):
        return record.vkey, record.last_good_size
    return record.wrong_us, record.floor_us
