"""`Ledger`: append, read verified bytes, sign checkpoints, prove and verify, over any `Store`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from cognify_dagster.ledger.entry import Draft, seal_body
from cognify_dagster.ledger.errors import LedgerError, ProofError
from cognify_dagster.ledger.merkle import consistency_proof, inclusion_proof, root_at
from cognify_dagster.ledger.note import Checkpoint, ProofFile, TrustFile, parse_note
from cognify_dagster.ledger.signer import LogSigner
from cognify_dagster.ledger.store import Receipt, Store
from cognify_dagster.ledger.verification.acts import ActJudge
from cognify_dagster.ledger.verification.index import Index
from cognify_dagster.ledger.verification.report import Report
from cognify_dagster.ledger.verification.scan import Depth
from cognify_dagster.ledger.verification.state import StateFile
from cognify_dagster.ledger.verification.verify import Anchored, verify_store
from cognify_dagster.ledger.view import VerifiedEntry, VerifiedView

if TYPE_CHECKING:
    from cognify_dagster.ledger.witness import Finding as WitnessFinding
    from cognify_dagster.ledger.witness import Remote

__all__ = ["Ledger", "VerifiedEntry", "VerifiedView"]

WITNESS_TIMEOUT_S = 5.0


class Ledger:
    """One ledger: a store, and the signer of its checkpoints if this process may sign.

    Args:
        store: where the rows are.
        signer: signs checkpoints, if this process has a log key.
        clock_us: the clock, microseconds since 1970 UTC.
        witnesses: asked to cosign each checkpoint that is signed here.
        guard: called before every append; raises where nothing may be appended (a ledger known to be rolled back).
        index: what was verified before, so that `view` verifies only new entries. Without one each view verifies all.
    """

    def __init__(
        self,
        store: Store,
        *,
        signer: LogSigner | None = None,
        clock_us: Callable[[], int] | None = None,
        witnesses: Sequence[Remote] = (),
        guard: Callable[[], None] | None = None,
        index: Index | None = None,
    ) -> None:
        self.store = store
        self.signer = signer
        self.index = index
        self.witnesses = tuple(witnesses)
        self.witnessing: tuple[WitnessFinding, ...] = ()
        """What became of asking each witness the last time."""
        self._clock = clock_us or (lambda: time.time_ns() // 1000)
        self._guard = guard or (lambda: None)

    @property
    def origin(self) -> str:
        """The ledger's identity; part of every entry and checkpoint."""
        return self.store.origin

    def size(self) -> int:
        """Return the number of entries."""
        return self.store.size()

    def append(self, draft: Draft, expected_size: int | None = None) -> Receipt:
        """Append one entry durably.

        Args:
            draft: the entry to be.
            expected_size: append only if the ledger still has this many entries.

        Returns:
            The receipt; the old one (`duplicate`) if an entry with this idempotency key and the same facts exists.

        Raises:
            IdempotencyConflict, SizeChanged, ClockError, EntryError, LedgerFull, LedgerUnreadable.
        """
        self._guard()
        return self.store.append(seal_body(self.origin, draft), self._clock(), expected_size)

    def append_many(self, drafts: Sequence[Draft], expected_size: int | None = None) -> list[Receipt]:
        """Append entries in order in one durable transaction: all or, if one is refused, none. Otherwise as `append`."""
        self._guard()
        sealed = [seal_body(self.origin, draft) for draft in drafts]
        return self.store.append_many(sealed, self._clock(), expected_size)

    def view(self, size: int | None = None) -> VerifiedView:
        """Verify the first `size` entries (all, unless given) and return a view that reads them; see the module `view`.

        With an index only what is new is verified here; other rows are compared with what was verified when they are read.
        Payloads that a later entry erased are None, also where that entry is not among the first `size`.

        Raises:
            Tampered: naming the first entry that does not check.
            RolledBack: if the ledger is shorter than what the index knows.
        """
        if self.index is not None:
            self.index.advance()
            return self.index.view(size)
        index, total = Index(self.store, payloads=True), self.store.size() if size is None else size
        index.advance(to=total)
        return index.view(total)

    def sign_checkpoint(self) -> str:
        """Sign the present head and keep the signed note.

        Raises:
            Tampered: if the entries contradict themselves or the head signed last.
            LedgerError: if this process has no log key.
        """
        if self.signer is None:
            raise LedgerError("this process has no log key, so it cannot sign a checkpoint")
        note = self.signer.sign(self.store)
        return self.cosign(note) if self.witnesses else note

    def cosign(self, note: str, timeout: float = WITNESS_TIMEOUT_S) -> str:
        """Ask the witnesses to cosign a checkpoint; keep and return the note with the lines of those that did.

        A witness that does not answer is no error here: whether the lines suffice is for the trust file's quorum to say, and
        what becomes of an act without it is for the caller.
        """
        from cognify_dagster.ledger.witness import collect

        collected = collect(note, self.witnesses, self.consistency, timeout, current_size=self.store.size)
        self.witnessing = collected.findings
        if collected.note != note:
            self.store.add_checkpoint(Checkpoint.parse(parse_note(collected.note).text).size, collected.note)
        return collected.note

    def latest_checkpoint(self) -> str | None:
        """Return the newest kept checkpoint note, unverified."""
        notes = self.store.checkpoints()
        return max(notes, key=_weight)[1] if notes else None

    def inclusion(self, seq: int, size: int) -> list[bytes]:
        """Return the audit path of entry `seq` in the tree of the first `size` entries."""
        return inclusion_proof(seq, size, self.store.node)

    def consistency(self, size1: int, size2: int) -> list[bytes]:
        """Return the proof that the first `size1` entries are a prefix of the first `size2`."""
        if size2 > self.store.size():
            raise ProofError(f"the ledger has {self.store.size()} entries, not {size2}")
        return consistency_proof(size1, size2, self.store.node)

    def root(self, size: int) -> bytes:
        """Return the cached root of the first `size` entries."""
        return root_at(size, self.store.node)

    def proof_file(self, seq: int) -> ProofFile:
        """Return a C2SP tlog-proof of entry `seq` under the newest kept checkpoint that covers it.

        Raises:
            ProofError: if no checkpoint covers the entry yet.
        """
        covering = [(size, note) for size, note in self.store.checkpoints() if size > seq]
        if not covering:
            raise ProofError(f"no checkpoint covers entry {seq} yet; run `cognify ledger checkpoint` first")
        size, note = max(covering, key=_weight)
        return ProofFile(seq, tuple(self.inclusion(seq, size)), note)

    def verify(
        self,
        trust: TrustFile | None = None,
        *,
        remembered: Iterable[tuple[str, str]] = (),
        anchored: Sequence[Anchored] = (),
        since: StateFile | None = None,
        acts: ActJudge | None = None,
        depth: Depth = Depth(),
        processes: int = 1,
        progress: Callable[[int, int], None] | None = None,
    ) -> Report:
        """Recompute the ledger from entry bytes and compare it with every signed head; see `verify.verify_store`."""
        return verify_store(
            self.store,
            trust=trust,
            remembered=remembered,
            anchored=anchored,
            signer_head=self.signer.last_signed() if self.signer is not None else None,
            since=since,
            acts=acts,
            depth=depth,
            processes=processes,
            progress=progress,
        )


def _weight(kept: tuple[int, str]) -> tuple[int, int]:
    """Of kept checkpoints prefer the largest, and of one size the one with the most signatures."""
    return kept[0], kept[1].count("\n\u2014 ")
