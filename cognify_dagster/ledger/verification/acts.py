"""Entries on which a verification itself depends: revoked log keys and corrected clocks.

Invariants: what they say is read from entries proven to lie under the recomputed root, along the chains of their subjects, so
also those that an earlier verification read; whether people signed them as they must is judged by whoever knows people, given as
an `ActJudge`. Where nobody judges, a revocation is taken at its word (it only takes trust away), which is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from cognify_dagster.ledger.canonical import parse_canonical
from cognify_dagster.ledger.entry import Entry
from cognify_dagster.ledger.errors import LedgerError, Tampered
from cognify_dagster.ledger.merkle import inclusion_proof, verify_inclusion
from cognify_dagster.ledger.store import Store
from cognify_dagster.ledger.verification.parts import REVOCATION_KIND, payload_problem
from cognify_dagster.ledger.verification.report import Finding, Outcome

if TYPE_CHECKING:
    from cognify_dagster.ledger.ledger import VerifiedEntry, VerifiedView
    from cognify_dagster.ledger.tree import Position
    from cognify_dagster.ledger.verification.scan import Seam

JUDGED = ("clock", "log_key")
"""Subjects of the acts that a verification depends on."""
_NEEDED = (*JUDGED, "people", "policy")


@dataclass(frozen=True)
class Acts:
    """The acts that count: `revoked` gives each revoked log key (as text) its last good size, `clock` gives each entry that
    corrects the clock the time of the entry before it that it names. `void` are acts that count for nothing, with the reason."""

    revoked: Mapping[str, int] = field(default_factory=dict)
    clock: Mapping[int, int] = field(default_factory=dict)
    void: tuple[tuple[int, str], ...] = ()


ActJudge = Callable[["VerifiedView"], Acts]
"""Judges acts by a view that holds the first entry and the histories of `people`, `policy` and of the subjects in `JUDGED`, no others."""


def weigh(store: Store, seam: Seam, judge: ActJudge | None) -> tuple[dict[str, int], list[Finding], list[str]]:
    """Return the revoked log keys with their last good sizes, findings about times that go back, and notes.

    Args:
        store: the ledger's rows.
        seam: what was read, joined; all of it, without findings, or a judge is not asked.
        judge: knows who had to sign.
    """
    acts, notes = None, list[str]()
    if judge is not None and not seam.findings:
        try:
            acts = judged(store, seam.position, seam.heads, judge)
        except (LedgerError, ValueError) as error:  # also a first entry that founds nothing
            notes.append(f"who signed the acts about log keys and clock could not be judged: {error}")
    if acts is None:
        acts = Acts(_taken_at_its_word(seam.noted), seam.back)
        if acts.revoked or acts.clock:
            notes.append("acts about log keys and clock were taken at their word: who signed them was not checked")
    notes += [f"entry {seq} is intact but counts for nothing: {text}" for seq, text in acts.void]
    notes += [f"entry {seq} corrects the clock: its time lies before that of the entry before it" for seq in seam.back]
    wrong = "its time lies before that of the entry before it, and it is no valid correction of the clock"
    findings = [
        Finding(Outcome.TAMPERED, seq, wrong) for seq, before in seam.back.items() if acts.clock.get(seq) != before
    ]
    return dict(acts.revoked), findings, notes


def judged(store: Store, position: Position, heads: Mapping[str, int], judge: ActJudge) -> Acts:
    """Ask a judge about the acts under a verified head.

    Args:
        store: the ledger's rows.
        position: the head; what is read is proven to lie under its root.
        heads: the newest entry of each subject at that head.
        judge: knows who had to sign.

    Raises:
        LedgerError: if an entry needed does not lie under that root, or its payload is not its own.
    """
    if all(heads.get(name, -1) < 0 for name in JUDGED):
        return Acts()
    return judge(_view(store, position, {name: heads.get(name, -1) for name in _NEEDED}))


def _view(store: Store, position: Position, heads: Mapping[str, int]) -> VerifiedView:
    """A view with holes: walking the heads of the subjects that are needed, one never meets them."""
    from cognify_dagster.ledger.ledger import VerifiedView  # that module imports this one

    entries = {0: _proven(store, 0, position.size, position.root)}
    for subject in _NEEDED:
        seq = heads[subject]
        while seq >= 0:
            if seq not in entries:
                entries[seq] = _proven(store, seq, position.size, position.root)
            seq = entries[seq].entry.heads[subject]
    return VerifiedView(store.origin, position.size, position.root, cast(Any, entries), heads)


def _proven(store: Store, seq: int, size: int, root: bytes) -> VerifiedEntry:
    """Read one entry, by itself, and prove that it lies under a root.

    Raises:
        LedgerError: if it does not, or its payload is not its own.
    """
    from cognify_dagster.ledger.ledger import VerifiedEntry  # that module imports this one

    for row in store.entries(seq, seq + 1):
        entry = Entry.parse(row.data)
        verify_inclusion(seq, size, entry.leaf, inclusion_proof(seq, size, store.node), root)
        kept = next(iter(store.payloads(seq, seq + 1)), None)
        if kept is None or kept.data is None:
            return VerifiedEntry(entry, None, None)
        if problem := payload_problem(entry.commitment, kept):
            raise Tampered(f"entry {seq}: {problem}")
        return VerifiedEntry(entry, parse_canonical(kept.data), kept.salt)
    raise Tampered(f"entry {seq} is missing")


def _taken_at_its_word(noted: Iterable[tuple[int, str, Any]]) -> dict[str, int]:
    """Return verifier key -> last good size, as revocation entries say; the smallest where there are several."""
    revoked: dict[str, int] = {}
    for _, kind, facts in noted:
        if kind != REVOCATION_KIND or not isinstance(facts, Mapping):
            continue
        key, size = facts.get("vkey"), facts.get("last_good_size")
        if isinstance(key, str) and type(size) is int:
            revoked[key] = min(size, revoked.get(key, size))
    return revoked
