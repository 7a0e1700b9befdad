"""Verification of a ledger: what its rows say, compared with every head that somebody signed or remembers.

Invariants: every claim is recomputed from entry bytes; search columns are compared with the bytes, never trusted; keys come
from the trust file only; nothing to check is never "ok". A head counts only if a log key of the trust file signed it and,
where the trust file asks for witnesses, their quorum cosigned it; a revoked key counts up to its last good size and only
where somebody outside remembers the head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cognify_dagster.ledger.errors import LedgerError, LedgerUnreadable, NoteError, ProofError
from cognify_dagster.ledger.merkle import consistency_proof, root_at, verify_consistency
from cognify_dagster.ledger.note import Checkpoint, TrustFile, VerifierKey
from cognify_dagster.ledger.quorum import evaluate
from cognify_dagster.ledger.store import DerivedStore, Store
from cognify_dagster.ledger.verification.acts import ActJudge, weigh
from cognify_dagster.ledger.verification.erasures import put_back
from cognify_dagster.ledger.verification.reading import held, read, rows
from cognify_dagster.ledger.verification.report import Finding, Outcome, Report
from cognify_dagster.ledger.verification.scan import Depth, Position, Seam, scan
from cognify_dagster.ledger.verification.state import StateFile, close_heads

__all__ = ["Anchored", "Finding", "Head", "Outcome", "Report", "check_roots", "intact_size", "judge", "verify_store"]

SIGNER_MEMORY = "the signer's own memory"
NOT_CHECKED = "not checked: "
"""How a store's `check_derived` begins a text about what it could not look at: a note, no finding."""
OUTDATED = "outdated: "
"""How it begins a text about what an earlier release set up and `init` has not brought up to date: no tampering, less proven."""


@dataclass(frozen=True)
class Anchored:
    """A head that an external, checked anchor vouches for. `at` is the UTC time it vouches for, None if it states none."""

    label: str
    checkpoint: Checkpoint
    at: str | None


@dataclass(frozen=True)
class Head:
    """A head to compare with. `keys` are the trusted log keys that signed it; `witnessed` whether the quorum cosigned."""

    label: str
    checkpoint: Checkpoint
    keys: tuple[VerifierKey, ...] = ()
    witnessed: bool = False


def judge(label: str, note: str, trust: TrustFile, origin: str) -> Head | Finding:
    """Return the head that a note states if a trusted log key signed it; else what is wrong."""
    try:
        result = evaluate(trust, note)
    except NoteError as error:
        return Finding(Outcome.TAMPERED, None, f"{label}: {error}")
    if result.checkpoint.origin != origin:
        return Finding(Outcome.TAMPERED, None, f"{label} is about {result.checkpoint.origin!r}, not this ledger")
    if not result.log_signed:
        return Finding(Outcome.TAMPERED, None, f"{label}: no key of the trust file signed it")
    return Head(label, result.checkpoint, result.signers, result.met)


def verify_store(
    store: Store,
    *,
    trust: TrustFile | None = None,
    remembered: Iterable[tuple[str, str]] = (),
    anchored: Sequence[Anchored] = (),
    signer_head: Checkpoint | None = None,
    since: StateFile | None = None,
    acts: ActJudge | None = None,
    depth: Depth = Depth(),
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Recompute a ledger from its entry bytes and compare it with every head given.

    Args:
        store: the ledger's rows. Entries appended meanwhile are not looked at.
        trust: keys from outside the ledger; without it at best L0 is reached.
        remembered: further signed notes held outside the ledger, as (label, note).
        anchored: heads vouched for by anchors that the caller has checked.
        signer_head: what the signer remembers, if it is at hand.
        since: where an earlier verification stood; only newer entries are read, and the file is brought up to date if
            nothing is wrong.
        acts: judges who signed the revocations of log keys and the corrections of the clock.
        depth: what to check.
        processes: how many processes share the work.
        progress: called with (entries done, entries in all).

    Returns:
        A report with every finding; it never raises for what an attacker could have written.
    """
    run = _Run(store, trust, acts)
    seam = Seam()
    known = since.checkpoint() if since is not None else None
    with run.reading():
        run.collect(remembered, anchored, signer_head, known.size if known else 0)
    size = store.size()
    with run.reading():
        seam = run.resume(since, known, size)
    start = seam.count
    if not start:
        with run.reading():
            run.collect_kept(0)
    cuts = [head.checkpoint.size for head in run.heads]
    run.stopped = True
    with run.reading():
        for part in scan(store, start, size, cuts=cuts, depth=depth, processes=processes, progress=progress):
            seam.add(part, depth, store)
        run.stopped = False
    with run.reading():
        run.beside(seam, start, size, depth)
    report = run.conclude(seam, start, size)
    try:
        if since is not None and not report.findings:
            since.save(store.origin, seam.position, seam.heads)
    finally:
        close_heads(seam.heads)
    return report


class _Run:
    """One verification: the heads to compare with, and what was found."""

    def __init__(self, store: Store, trust: TrustFile | None, acts: ActJudge | None) -> None:
        self.store, self.acts, self.origin = store, acts, store.origin
        self.findings: list[Finding] = []
        self.stopped = False  # reading broke off: what follows is unknown, not absent
        self.notes: list[str] = []
        self.heads: list[Head] = []
        self._kept: set[tuple[int, str]] = set()
        self._all_kept = False
        self.anchors: list[Anchored] = []
        self.trust = trust
        if trust is None:
            self.notes.append("no trust file was given, so no signature was checked")
        elif all(key.name != self.origin for key in trust.logs):
            # its keys and first entry are those of another ledger: they neither prove nor disprove anything about this one
            names = ", ".join(key.name for key in trust.logs)
            text = f"the trust file is for the ledger {names}, this one is {self.origin}"
            self.findings.append(Finding(Outcome.UNPROVEN, None, text))
            self.trust = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What cannot be read is a finding: files that are missing, or rows that hold anything, NULL too, where somebody took
        the tables' constraints away."""
        try:
            yield
        except LedgerUnreadable as error:
            self.findings.append(Finding(Outcome.UNREADABLE, None, str(error)))

    def collect(
        self,
        remembered: Iterable[tuple[str, str]],
        anchored: Sequence[Anchored],
        signer_head: Checkpoint | None,
        verified: int = 0,
    ) -> None:
        """Collect the heads to compare with. Of those kept in the ledger, only the newest of the entries that are verified
        already, and newer ones: an older one proves nothing more, unless the newer do not count (see `conclude`)."""
        self.collect_kept(min([verified, *(head.checkpoint.size for head in anchored)]))
        if self.trust is not None:
            for label, note in remembered:
                found = judge(label, note, self.trust, self.origin)
                # a note from outside that does not verify says nothing about the ledger
                self._keep(Finding(Outcome.UNREADABLE, None, found.message) if isinstance(found, Finding) else found)
        for anchor in anchored:
            self.anchors.append(anchor)
            self.heads.append(Head(anchor.label, anchor.checkpoint))
        if signer_head is not None:
            self.heads.append(Head(SIGNER_MEMORY, signer_head))

    def collect_kept(self, since: int) -> None:
        """Collect the heads kept in the ledger, but for those collected before."""
        if self.trust is None or self._all_kept:
            return
        self._all_kept = not since
        for size, note in read(self.store.checkpoints, since):
            if (size, note) in self._kept:
                continue
            self._kept.add((size, note))
            found = judge(f"the checkpoint of size {size}", note, self.trust, self.origin)
            if isinstance(found, Head) and found.checkpoint.size != size:
                found = Finding(Outcome.TAMPERED, None, f"the checkpoint kept as of size {size} is of another")
            self._keep(found)

    def _keep(self, found: Head | Finding) -> None:
        if isinstance(found, Finding):
            self.findings.append(found)
        else:
            self.heads.append(found)

    def resume(self, since: StateFile | None, known: Checkpoint | None, size: int) -> Seam:
        """Go on where an earlier verification stood, at the head `known`, if its state is whole and still true of this ledger."""
        if since is None or known is None:
            return Seam()
        if known.origin != self.origin:
            raise LedgerError(f"{since.path}: the state of ledger {known.origin!r}; this one is {self.origin!r}")
        self.heads.append(Head(f"the state in {since.path.name}", known))
        position = since.position()
        heads = since.heads(position.size) if position is not None and position.size <= size else None
        if position is None or heads is None:
            return Seam()
        try:
            with held(self.store):
                root = root_at(position.size, self.store.node)
            if root != position.root:
                return Seam()
        except LedgerUnreadable:
            return Seam()
        seam = Seam(position, heads)
        seam.roots[position.size] = position.root
        self._relate(seam)
        return seam

    def _relate(self, seam: Seam) -> None:
        """Find out which heads lead to what was verified before them."""
        position = seam.position
        for head in (head.checkpoint for head in self.heads):
            if 0 < head.size < position.size and head.size not in seam.roots and self._contains(position, head):
                seam.roots[head.size] = head.root

    def _contains(self, position: Position, head: Checkpoint) -> bool:
        """Whether a consistency proof leads from an older head to the verified position. The proof's hashes come from the
        database, but nothing else than the true ones would lead there."""
        try:
            with held(self.store):
                proof = consistency_proof(head.size, position.size, self.store.node)
            verify_consistency(head.size, position.size, head.root, position.root, proof)
        except (ProofError, LedgerUnreadable):
            return False
        return True

    def beside(self, seam: Seam, start: int, size: int, depth: Depth) -> None:
        """Check what is kept beside the entries that were read: payloads that were erased, and what the store derives."""
        if depth.payloads and depth.columns:
            self.findings += put_back(self.store, seam)
        segments = [segment for segment in read(self.store.segments) if segment.start < size]
        if segments and (start >= segments[0].end or self.stopped):
            text = f"the tombstones and index rows of the archived entries {segments[0].start}..{segments[-1].end - 1} were not compared"
            why = "only what is new was read" if start else "not all of their archives are at hand"
            self.notes.append(f"{text} with the archive: {why}")
        if isinstance(self.store, DerivedStore) and depth.columns and not start:
            for seq, text in read(self.store.check_derived):
                if text.startswith(NOT_CHECKED):
                    self.notes.append(text)
                else:
                    outcome = Outcome.UNPROVEN if text.startswith(OUTDATED) else Outcome.TAMPERED
                    self.findings.append(Finding(outcome, seq, text))

    def conclude(self, seam: Seam, start: int, size: int) -> Report:
        """Compare what was read with the heads and say what is proven."""
        revoked, wrong, notes = weigh(self.store, seam, self.acts)
        self.notes += notes
        if not self._enough(revoked):
            with self.reading():
                self.collect_kept(0)
                self._relate(seam)
        findings = self.findings + seam.findings
        position = seam.position
        if seam.count != size and not findings:
            findings.append(Finding(Outcome.TAMPERED, None, f"{size} entries announced, {seam.count} found"))
        erased = seam.erased()
        for seq in sorted(seam.missing - erased):
            text = "its payload is missing and no erasure entry accounts for it"
            findings.append(Finding(Outcome.TAMPERED, seq, text))
        genesis = self.trust.genesis if self.trust else None
        unread = self.stopped and not seam.count
        if start == 0 and size and genesis is not None and seam.first_leaf != genesis and not unread:
            findings.append(Finding(Outcome.ROLLED_BACK, 0, "the first entry is not the one the trust file pins"))
        pairs = [(head.label, head.checkpoint) for head in self.heads]
        if self.stopped:
            # what could not be read (an archive that is not here) is not cut off: heads over it are not compared
            pairs = [(label, head) for label, head in pairs if not position.size < head.size <= size]
            findings += check_roots(pairs, size, seam.roots)
        else:
            findings += check_roots(pairs, position.size, seam.roots)
        if size == 0:
            findings.append(Finding(Outcome.UNPROVEN, None, "the ledger is empty: there is nothing to prove"))
        findings += wrong
        counted = [head for head in self.heads if self._counts(head, revoked)]
        return self._report(seam, findings, counted, start, size, erased)

    def _enough(self, revoked: Mapping[str, int]) -> bool:
        """Whether a head collected so far proves what the trust file asks for."""
        asked = self.trust is not None and self.trust.quorum != "none"
        return any((head.witnessed or not asked) and self._counts(head, revoked) for head in self.heads)

    def _counts(self, head: Head, revoked: Mapping[str, int]) -> bool:
        """Whether a head proves anything: signed by a key that was good for it."""
        outside = head.witnessed or any(anchor.checkpoint == head.checkpoint for anchor in self.anchors)
        for key in head.keys:
            last_good = revoked.get(str(key))
            if last_good is None or (head.checkpoint.size <= last_good and outside):
                return True
        if head.keys:
            self.notes.append(f"{head.label} does not count: the log key that signed it was revoked")
        return False

    def _report(
        self, seam: Seam, findings: list[Finding], counted: list[Head], start: int, size: int, erased: set[int]
    ) -> Report:
        position = seam.position
        asked = self.trust is not None and self.trust.quorum != "none"
        witnessed = max((head.checkpoint.size for head in counted if head.witnessed), default=0)
        signed = max((head.checkpoint.size for head in counted), default=0)
        known = {head.checkpoint for head in counted if head.witnessed or not asked}
        outside = [anchor for anchor in self.anchors if anchor.checkpoint in known]
        newest = max(outside, key=lambda anchor: anchor.checkpoint.size, default=None)
        damaged = any(finding.outcome in (Outcome.TAMPERED, Outcome.ROLLED_BACK) for finding in findings)
        level = None if damaged else "L0"
        if level and signed and asked and not witnessed:
            text = f"no checkpoint carries the witness quorum {self.trust.quorum!r} that the trust file asks for"  # type: ignore[union-attr]
            findings.append(Finding(Outcome.UNPROVEN, None, text))
        elif level and signed:
            level = "L3" if newest else "L2" if witnessed else "L1"
        report = Report(
            origin=self.origin,
            size=size,
            root=position.root,
            findings=tuple(findings),
            level=level,
            signed_size=signed,
            erased=len(erased),
            notes=tuple(dict.fromkeys(self.notes)),
            intact_size=intact_size([(head.label, head.checkpoint) for head in counted], seam.roots, findings),
            witnessed_size=witnessed,
            anchored_size=newest.checkpoint.size if newest else 0,
            anchored_at=newest.at if newest else None,
            checked_from=start,
        )
        return report.exposed(self._time_of(report.covered_size, size))

    def _time_of(self, seq: int, size: int) -> int | None:
        if seq >= size:
            return None
        try:
            found = next((row.time_us for row in rows(self.store.entries, seq, seq + 1)), None)
        except LedgerUnreadable:
            return None
        return found if type(found) is int else None


def check_roots(checkpoints: Iterable[tuple[str, Checkpoint]], size: int, roots: dict[int, bytes]) -> list[Finding]:
    """Compare remembered checkpoints (label, checkpoint) with the recomputed roots of the entries.

    Heads that tell the same (entries cut off, history rewritten) are one finding, which says how many they are: the
    longest of those cut off, the shortest of those rewritten.
    """
    ordered = sorted(checkpoints, key=lambda item: item[1].size)
    cut = [(label, head) for label, head in ordered if head.size > size]
    rewritten = [
        (label, head) for label, head in ordered if 0 < head.size <= size and roots.get(head.size) != head.root
    ]
    findings = []
    if cut:
        label, head = cut[-1]
        findings.append(
            f"{label} covers {head.size} entries, the ledger has {size}: entries {size}..{head.size - 1} were cut off"
            + _also(cut)
        )
    if rewritten:
        label, head = rewritten[0]
        findings.append(
            f"the first {head.size} entries do not have the root that {label} signed: history was rewritten"
            + _also(rewritten)
        )
    return [Finding(Outcome.ROLLED_BACK, None, text) for text in findings]


def _also(heads: Sequence[tuple[str, Checkpoint]]) -> str:
    if len(heads) < 2:
        return ""
    return f" ({len(heads)} signed heads say so, of sizes {heads[0][1].size} to {heads[-1][1].size})"


def intact_size(heads: Iterable[tuple[str, Checkpoint]], roots: dict[int, bytes], findings: Iterable[Finding]) -> int:
    """Return how many entries from the start are those of a signed head, with nothing wrong in any of them."""
    first = min((f.seq for f in findings if f.seq is not None and f.outcome is not Outcome.UNPROVEN), default=None)
    sound = [
        head.size for _, head in heads if roots.get(head.size) == head.root and (first is None or head.size <= first)
    ]
    return max(sound, default=0)
