"""The log's keys and the checkpoint signer.

Invariants: the signer keeps the head it signed last outside the ledger's database, with the tree's peaks, so that whatever
it signs next extends that head by construction; new leaves are recomputed from stored bytes, with chain, time, search
columns and subject heads, before a signature is made. A refused head is an error, never a signature.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.ledger.errors import LedgerError, LedgerUnreadable, Tampered
from cognify_dagster.ledger.files import new_secret, read_secret, write_private
from cognify_dagster.ledger.merkle import root_at
from cognify_dagster.ledger.note import Checkpoint, VerifierKey, sign_note
from cognify_dagster.ledger.store import Store
from cognify_dagster.ledger.verification.acts import ActJudge, Acts, judged
from cognify_dagster.ledger.verification.scan import Depth, Position, Seam, scan
from cognify_dagster.ledger.verification.state import SavedHeads, StateFile, close_heads

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: a single signing process is then the operator's task
    fcntl = None  # type: ignore[assignment]

__all__ = ["LogSigner", "new_secret", "read_secret", "write_private"]

_DEPTH = Depth(columns=True, payloads=False, nodes=True)


class LogSigner:
    """Signs checkpoints of one ledger with Ed25519 keys kept in private files.

    Args:
        key_path: the log key; while a rotation overlaps, several: every checkpoint then carries a line of each.
        state_path: where the last signed head is kept, apart from the ledger's database.
        origin: the ledger's origin, which is also the name of its keys.
    """

    def __init__(self, key_path: Path | Sequence[Path], state_path: Path, origin: str) -> None:
        self.origin = origin
        self.state = StateFile(state_path)
        paths = [key_path] if isinstance(key_path, Path) else list(key_path)
        if not paths:
            raise LedgerError("a signer needs at least one log key")
        self._private = [Ed25519PrivateKey.from_private_bytes(read_secret(path)) for path in paths]

    @property
    def state_path(self) -> Path:
        """The file that keeps the head signed last."""
        return self.state.path

    @property
    def verifiers(self) -> tuple[VerifierKey, ...]:
        """The public keys, named after the origin, oldest first."""
        return tuple(VerifierKey(self.origin, key.public_key().public_bytes_raw()) for key in self._private)

    @property
    def verifier(self) -> VerifierKey:
        """The newest public key."""
        return self.verifiers[-1]

    def last_signed(self) -> Checkpoint | None:
        """Return the head signed last, None if there is none yet.

        Raises:
            LedgerUnreadable: if the state file is damaged.
        """
        return self.state.checkpoint()

    def acts(self, store: Store, judge: ActJudge) -> Acts:
        """Return what the acts about log keys say up to the head signed last, as a judge sees them; nothing without a state.

        Raises:
            LedgerError: if the store does not hold what was signed.
        """
        position = self.state.position()
        heads = self.state.heads(position.size) if position is not None else None
        if position is None or heads is None:
            return Acts()
        try:
            return judged(store, position, heads, judge)
        finally:
            heads.close()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the signer's lock: from reading the last head to keeping the new one, only one process may sign.

        Without it two honest processes would see each other's heads as a rollback.
        """
        self.state_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self.state_path.with_name(self.state_path.name + ".lock"), "w", encoding="ascii") as stream:
            if fcntl is not None:
                fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def sign(self, store: Store) -> str:
        """Check what is new in a store, sign its head and keep the signed note in the store.

        Returns:
            The signed note (C2SP tlog-checkpoint).

        Raises:
            Tampered: if the entries contradict themselves or the head signed last. Nothing is signed then.
        """
        if store.origin != self.origin:
            raise Tampered(f"the signer of {self.origin!r} does not sign for {store.origin!r}")
        with self.exclusive():
            last = self.last_signed()
            if last is not None and last.origin != self.origin:
                raise Tampered(f"{self.state_path} is the state of {last.origin!r}, not of {self.origin!r}")
            total = store.size()
            if last is not None and total < last.size:
                with suppress(LedgerError):  # signed before; kept in a shared database it stops every writer
                    store.add_checkpoint(last.size, self.sign_text(last.text()))
                raise Tampered(f"the ledger has {total} entries but {last.size} were signed: it was rolled back")
            seam = self._check(store, last, total)
            try:
                head = Checkpoint(self.origin, seam.position.size, seam.position.root)
                # state first: a crash between the two leaves a stricter signer, never two heads of one size
                self.state.save(self.origin, seam.position, seam.heads)
            finally:
                close_heads(seam.heads)
            note = self.sign_text(head.text())
            store.add_checkpoint(head.size, note)
        return note

    def sign_text(self, text: str) -> str:
        """Return a signed note of checkpoint text, with a line of every key."""
        note = sign_note(text, self.origin, self._private[0])
        for key in self._private[1:]:
            note += sign_note(text, self.origin, key)[len(text) + 1 :]
        return note

    def _check(self, store: Store, last: Checkpoint | None, total: int) -> Seam:
        position = self.state.position()
        heads = self.state.heads(position.size) if position is not None else None
        if position is not None and heads is not None and _has_root(store, position):
            seam = self._read(store, position, heads, total)
            if not seam.findings:
                return seam
        if heads is not None:
            heads.close()
        # no state that can be continued, or something is wrong: read all, for certainty and for the message
        seam = self._read(store, Position(), None, total, cut=last.size if last else None)
        if seam.findings:
            raise Tampered(f"no checkpoint is signed over a damaged ledger: {seam.findings[0]}")
        if last is not None and seam.roots.get(last.size) != last.root:
            raise Tampered(f"the first {last.size} entries are not those that were signed: history was rewritten")
        return seam

    def _read(
        self, store: Store, position: Position, heads: SavedHeads | None, total: int, cut: int | None = None
    ) -> Seam:
        seam = Seam(position, heads)
        for part in scan(store, position.size, total, cuts=() if cut is None else (cut,), depth=_DEPTH):
            seam.add(part, _DEPTH, store)
            if seam.findings:
                break
        return seam


def _has_root(store: Store, position: Position) -> bool:
    """Older entries are not read again; that the database's own tree still has the signed root costs a few look-ups."""
    try:
        return root_at(position.size, store.node) == position.root
    except LedgerUnreadable:
        return False
