"""Is a ledger older than what others remember of it, and the mark that closes it if so.

Invariants: only heads that a trusted key signed are compared with; while a mark stands, or cannot be read, nothing is appended;
it goes only for a ledger that was compared with at least one head from outside and is sound.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cognify_dagster.ledger.errors import (
    NoteError,
    RolledBack,
)
from cognify_dagster.ledger.files import write_private
from cognify_dagster.ledger.merkle import root_at
from cognify_dagster.ledger.note import Checkpoint, TrustFile, open_checkpoint
from cognify_dagster.ledger.recovery.progress import Progress
from cognify_dagster.ledger.store import Store
from cognify_dagster.ledger.verification.acts import ActJudge
from cognify_dagster.ledger.verification.verify import Finding, Outcome, check_roots, verify_store

BAD = (Outcome.TAMPERED, Outcome.ROLLED_BACK, Outcome.UNREADABLE)
Heads = Sequence[tuple[str, str]]
"""Signed checkpoints held outside the ledger, as (where it was kept, note): witness, anchors, run metadata, receipts."""


@dataclass(frozen=True)
class RestoreReport:
    """What a restore found. `lost` is the range [first, past) that remembered heads cover and the ledger lacks, None if nothing
    is known to be lost; `witness` the (label, note) of the longest such head. `unusable` are heads that no trusted key signed or
    that are about another ledger: they are not compared with, and never a reason to believe the ledger. `notes` are those of the
    verification: acts that count for nothing, what was not checked."""

    origin: str
    size: int
    root: bytes
    findings: tuple[Finding, ...]
    lost: tuple[int, int] | None = None
    witness: tuple[str, str] | None = None
    compared_with: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rolled_back(self) -> bool:
        """Whether the ledger is older than, or another than, what somebody remembers."""
        return any(finding.outcome is Outcome.ROLLED_BACK for finding in self.findings)

    @property
    def sound(self) -> bool:
        """Whether the ledger may be used and appended to."""
        return self.size > 0 and not any(finding.outcome in BAD for finding in self.findings)


def rollback_check(
    size: int, root_of: Callable[[int], bytes], heads: Iterable[tuple[str, Checkpoint]]
) -> tuple[Finding, ...]:
    """Compare a ledger with heads that others remember.

    Args:
        size: how many entries the ledger has.
        root_of: root of its first n entries, recomputed from entry bytes, for n <= size.
        heads: (where it was kept, checkpoint), their signatures checked already.

    Returns:
        Findings of outcome ROLLED_BACK: entries cut off, or history rewritten. None means: not older than any head.
    """
    known = list(heads)
    roots = {head.size: root_of(head.size) for _, head in known if 0 < head.size <= size}
    return tuple(check_roots(known, size, roots))


def check_restored(
    store: Store,
    *,
    trust: TrustFile | None,
    heads: Heads = (),
    signer_head: Checkpoint | None = None,
    acts: ActJudge | None = None,
    progress: Progress | None = None,
) -> RestoreReport:
    """Verify a ledger whole and compare it with every head remembered outside it.

    Args:
        store: the restored ledger, with its archives if it has detached segments.
        trust: the trust file; without it the heads' signatures cannot be checked and none counts.
        heads: signed checkpoints held elsewhere. One that no trusted key signed, or that is about another ledger, is named in
            `unusable` and not compared with.
        signer_head: what the log's signer remembers (`LogSigner.last_signed`).
        acts: judges who signed the acts about log keys and the clock; without it they are taken at their word, which is noted.
        progress: called with (entries verified, entries in all).
    """
    size = store.size()
    root = root_at(size, store.node)
    if size == 0:
        finding = Finding(Outcome.UNPROVEN, None, "the restored ledger is empty: that is never a good restore")
        return RestoreReport(store.origin, 0, root, (finding,))
    known: list[tuple[str, Checkpoint, str]] = []
    unusable: list[str] = []
    for label, note in heads:
        try:
            head = open_checkpoint(note, trust.logs if trust is not None else ())
            if head.origin != store.origin:
                raise NoteError(f"it is about {head.origin!r}")
            known.append((label, head, note))
        except NoteError as error:
            unusable.append(f"{label}: {error}; it was not compared with")
    remembered = [(label, note) for label, _, note in known]
    report = verify_store(
        store, trust=trust, remembered=remembered, signer_head=signer_head, acts=acts, progress=progress
    )
    findings = [finding for finding in report.findings if finding.outcome is not Outcome.UNPROVEN]
    longest = max(known, key=lambda item: item[1].size, default=None)
    past = max([head.size for _, head, _ in known] + ([signer_head.size] if signer_head else []), default=0)
    labels = tuple(label for label, _, _ in known) + (("the signer's state",) if signer_head else ())
    return RestoreReport(
        store.origin,
        size,
        report.root,
        tuple(findings),
        (size, past) if past > size else None,
        (longest[0], longest[2]) if longest and longest[1].size > size else None,
        labels,
        tuple(unusable),
        report.notes,
    )


def mark_path(ledger: str | os.PathLike[str]) -> Path:
    """Return where the mark of a rolled back ledger lies: beside its file."""
    path = Path(ledger)
    return path.with_name(path.name + ".rolled-back")


def mark_rolled_back(mark: Path, report: RestoreReport) -> None:
    """Write, durably, that nothing may be appended, and why."""
    _write(mark, report, {})


def mark_unfinished(mark: Path, origin: str, size: int, earlier: bytes | None) -> None:
    """Close a ledger while it is filled, so that a kill leaves it closed. The mark that was there before is kept inside."""
    finding = Finding(Outcome.ROLLED_BACK, None, "the restore was not finished; restore again into an empty ledger")
    before = earlier.decode(errors="replace") if earlier is not None else None
    _write(mark, RestoreReport(origin, size, b"", (finding,)), {"before": before})


def _write(mark: Path, report: RestoreReport, more: Mapping[str, str | None]) -> None:
    text = {
        **more,
        "compared_with": list(report.compared_with),
        "findings": [str(finding) for finding in report.findings],
        "lost": list(report.lost) if report.lost else None,
        "origin": report.origin,
        "size": report.size,
    }
    write_private(mark, json.dumps(text, indent=2, sort_keys=True).encode() + b"\n")


def read_mark(mark: Path | None) -> bytes | None:
    """Return a mark's bytes, so that it can be put back, or those that an unfinished restore kept inside; None if there are none."""
    if mark is None or not mark.exists():
        return None
    data = mark.read_bytes()
    try:
        before = json.loads(data)["before"]
    except (ValueError, LookupError, TypeError):
        return data
    return before.encode() if isinstance(before, str) else None


def put_back(mark: Path | None, earlier: bytes | None) -> None:
    """Bring a mark back to what it was before a restore that came to nothing, or that found nothing wrong."""
    if mark is None:
        return
    if earlier is None:
        mark.unlink(missing_ok=True)
    else:
        write_private(mark, earlier)


def require_appendable(mark: Path) -> None:
    """Refuse while a mark stands; to be called before every append.

    Raises:
        RolledBack: saying what is known and the two ways out. A mark that cannot be read refuses too.
    """
    try:
        text = mark.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except OSError as error:
        raise RolledBack(f"{mark} cannot be read ({error.strerror}), so nothing is appended") from error
    try:
        first = str(json.loads(text)["findings"][0])
    except (ValueError, LookupError, TypeError):
        first = "the mark does not say why"
    raise RolledBack(
        f"nothing is appended to a ledger that was rolled back: {first}. Replay the lost entries from a newer backup or an "
        "archive (`cognify ledger replay`), or open a new ledger that cites the loss (`cognify ledger continue`)"
    )


def resolve(mark: Path, report: RestoreReport) -> None:
    """Take the mark away, if the ledger is now as long as everybody remembers.

    Raises:
        RolledBack: if it is not, or was not compared again with every head that showed the rollback.
    """
    reason = None
    if not report.sound or not report.compared_with:
        reason = str(report.findings[0]) if report.findings else "it was compared with no head from outside"
    elif mark.exists():
        try:
            text = json.loads(mark.read_text(encoding="utf-8"))
            lost, heads, origin = text["lost"], set(text["compared_with"]), text["origin"]
            if origin != report.origin:
                reason = f"the mark is about {origin!r}"
            elif lost and report.size < lost[1]:
                reason = f"entries up to {lost[1] - 1} are remembered, it has {report.size}"
            elif not heads <= set(report.compared_with):
                reason = f"it was not compared with {sorted(heads - set(report.compared_with))[0]!r} again"
        except (OSError, ValueError, LookupError, TypeError) as error:
            reason = f"{mark} cannot be read ({error}); look at it, then restore again"
    if reason:
        raise RolledBack(f"the ledger stays closed for appends: {reason}")
    mark.unlink(missing_ok=True)
