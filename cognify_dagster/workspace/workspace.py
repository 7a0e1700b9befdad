"""`Workspace`: one ledger and one evidence store, opened from `cognify.toml`.

Everything else in the product reads and writes through this object. It knows nothing of policy: it appends records, signed
with the workspace's workload key, and reads them back verified.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.evidence import EvidenceStore, LocalKeyProvider
from cognify_dagster.ledger import (
    Draft,
    Ledger,
    LedgerError,
    LedgerFull,
    LogSigner,
    NoteError,
    NotWitnessed,
    Receipt,
    TrustFile,
    canonical_json,
    read_secret,
)
from cognify_dagster.ledger.errors import WriterRefused
from cognify_dagster.ledger.quorum import evaluate
from cognify_dagster.ledger.recovery.rollback import mark_path, require_appendable
from cognify_dagster.ledger.verification.index import Progress
from cognify_dagster.ledger.witness import remotes
from cognify_dagster.records import EvidenceItem, Record
from cognify_dagster.workspace.config import WorkspaceConfig, WorkspaceError, find_config, load_config
from cognify_dagster.workspace.reading import Reading, RecordCache
from cognify_dagster.workspace.stores import open_store
from cognify_dagster.workspace.verified import open_index
from cognify_dagster.workspace.writing import Permission

LOG_KEY = "log.key"
WORKLOAD_KEY = "workload.key"
EVIDENCE_KEY = "evidence.key"
RECORD_KEY = "record-digests.key"
SIGNER_STATE = "signer-state.json"
ENVIRONMENT_VARIABLE = "COGNIFY_WORKSPACE"


def idempotency_key(*parts: str | int) -> str:
    """Return the SHA-256 hex over the canonical list of parts (run, step, kind, subject …)."""
    return hashlib.sha256(canonical_json([str(part) for part in parts])).hexdigest()


class Writer:
    """A workload key that signs the entries it writes."""

    def __init__(self, workload: str, secret: bytes) -> None:
        self.workload = workload
        self._private = Ed25519PrivateKey.from_private_bytes(secret)

    @property
    def public(self) -> bytes:
        """The 32-byte public key."""
        return self._private.public_key().public_bytes_raw()

    @property
    def key_id(self) -> str:
        """First 16 hex digits of SHA-256 over the public key."""
        return hashlib.sha256(self.public).hexdigest()[:16]

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature."""
        return self._private.sign(data)


class Workspace:
    """An opened workspace. Safe to share between threads; processes each open their own."""

    def __init__(self, config: WorkspaceConfig, ledger: Ledger, evidence: EvidenceStore, writer: Writer | None) -> None:
        self.config = config
        self.ledger = ledger
        self.evidence = evidence
        self.writer = writer
        self._records = RecordCache()
        self._permission: Permission | None = None

    @classmethod
    def open(
        cls, path: str | os.PathLike[str] | None = None, *, clock_us: Callable[[], int] | None = None
    ) -> Workspace:
        """Open the workspace at, or above, a path.

        Args:
            path: a project folder, its `.cognify` folder or `cognify.toml`; `$COGNIFY_WORKSPACE` or the current folder
                when left out.
            clock_us: replaces the clock (tests).

        Raises:
            WorkspaceError: if there is no workspace or its configuration is wrong.
            LedgerUnreadable: if the ledger is missing, foreign or damaged.
        """
        return cls.of(load_config(find_config(path or os.environ.get(ENVIRONMENT_VARIABLE) or ".")), clock_us=clock_us)

    @classmethod
    def of(cls, config: WorkspaceConfig, *, clock_us: Callable[[], int] | None = None) -> Workspace:
        """Open the workspace of a configuration that was read already; raises as `open`."""
        workload_key = config.keys / WORKLOAD_KEY
        writer = Writer(config.workload, read_secret(workload_key)) if workload_key.exists() else None
        trust = _own_trust(config)
        store = open_store(config, trust, {writer.key_id: writer.public} if writer else {})
        ledger = Ledger(
            store,
            signer=open_signer(config) if config.signer == "local" else None,
            clock_us=clock_us,
            witnesses=remotes(trust) if trust else (),
            guard=lambda: require_appendable(mark_path(config.ledger)),
            index=open_index(config, store, config.keys / RECORD_KEY),
        )
        return cls(config, ledger, open_evidence(config), writer)

    @property
    def origin(self) -> str:
        """The ledger's identity."""
        return self.ledger.origin

    @property
    def home(self) -> Path:
        """The folder that holds ledger, evidence and keys by default."""
        return self.config.home

    def trust(self) -> TrustFile:
        """Read the workspace's own copy of the trust file.

        An auditor uses a copy kept apart from the workspace; this one serves the people who run it.
        """
        path = self.config.trust
        try:
            return TrustFile.parse(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise WorkspaceError(f"{path}: the trust file cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise WorkspaceError(f"{path}: not UTF-8 text (byte {error.start}): this is no trust file") from error
        except NoteError as error:
            raise WorkspaceError(f"{path}: {error}") from error

    def append(
        self,
        record: Record,
        *,
        idem: str,
        actor: str | None = None,
        expected_size: int | None = None,
        checkpoint: bool = False,
    ) -> Receipt:
        """Append a record, signed with the workspace's workload key if it has one.

        Args:
            record: the typed payload.
            idem: idempotency key, from `idempotency_key`; repeating it with the same facts returns the old receipt.
            actor: opaque id of who acts; the workload unless given.
            expected_size: append only if the ledger still has this many entries.
            checkpoint: sign a checkpoint right after, so that the entry leaves the exposure window at once; with
                `signer = "external"` wait until the signer has.

        Raises:
            WriterRefused: if the workload key was never enrolled for this kind of record.
            LedgerError: see `Ledger.append`; also if the entry was kept but the checkpoint could not be signed, or, for the
                kinds of record that `cognify.toml` lists as witnessed, was not cosigned by the quorum of the trust file.
                Trying again with the same key then returns the entry and signs.
        """
        writer = self.writer
        payload, facts_digest = record.payload_and_digest()
        draft = Draft(
            kind=record.kind,
            schema=record.schema_version,
            subjects=record.subjects(),
            actor=actor or (writer.workload if writer else "system"),
            idem=idem,
            payload=payload,
            facts_digest=facts_digest,
            evidence=record.evidence(),
            key_id=writer.key_id if writer else "",
            sign=writer.sign if writer else None,
        )
        self._require_may_write(record.kind, idem)
        receipt = self.ledger.append(draft, expected_size)
        if checkpoint and self.config.signer == "external":
            self._await_checkpoint(record.kind, receipt.seq)
        elif checkpoint and self.ledger.signer is not None:
            self._checkpoint(record.kind, receipt.seq)
        return receipt

    def _require_may_write(self, kind: str, idem: str) -> None:
        writer = self.writer
        if writer is None:
            return
        if self._permission is None or self._permission.key_id != writer.key_id:
            self._permission = Permission(self.ledger.store, writer.workload, writer.key_id)
        try:
            self._permission.require(kind)
        except WriterRefused:
            if self.ledger.store.find(idem) is None:  # a retry of what was written before returns the old receipt
                raise

    def require_witnessed(self, kind: str, seq: int) -> None:
        """Before something relies on an older entry: sign the head anew if that kind needs witnesses, and ask them.

        Raises:
            NotWitnessed: if the quorum of the trust file does not cosign.
        """
        if kind not in self.config.witnessed or self._quorum_trust() is None:
            return
        if self.config.signer == "external":
            self._await_checkpoint(kind, seq)
        elif self.ledger.signer is not None:
            self._checkpoint(kind, seq)

    def _checkpoint(self, kind: str, seq: int) -> None:
        try:
            note = self.ledger.sign_checkpoint()
        except OSError as error:
            raise LedgerFull(
                f"entry {seq} is kept, but no checkpoint could be signed: {error}; make room and try again"
            ) from error
        trust = self._quorum_trust() if kind in self.config.witnessed else None
        if trust is None or (found := evaluate(trust, note)).met:
            return
        said = "; ".join(str(finding) for finding in self.ledger.witnessing) or "no witness of the trust file has a URL"
        raise NotWitnessed(f"entry {seq} is kept and signed, but {found}. {said}. Try again once they answer")

    def _await_checkpoint(self, kind: str, seq: int) -> None:
        """Wait until the signer, another process, has signed a head that covers an entry (and witnesses cosigned it, where
        the kind needs them).

        Raises:
            NotWitnessed: if it signed, but the quorum did not cosign in time.
            LedgerError: if it did not sign in time.
        """
        trust = self.trust()
        quorum = kind in self.config.witnessed and trust.quorum != "none"
        deadline = time.monotonic() + self.config.signer_wait
        pause, found = 0.02, None
        while True:
            for _, note in reversed([item for item in self.ledger.store.checkpoints(seq) if item[0] > seq]):
                judged = evaluate(trust, note)
                if judged.log_signed and judged.checkpoint.origin == self.origin:
                    found = judged
                    if judged.met or not quorum:
                        return
            if time.monotonic() >= deadline:
                break
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(pause * 1.5, 0.5)
        if found is not None:
            raise NotWitnessed(f"entry {seq} is kept and signed, but {found}. Try again once the witnesses answer")
        raise LedgerError(
            f"entry {seq} is kept, but within {self.config.signer_wait:.0f} s the external signer signed no checkpoint that covers "
            "it. See that `cognify signer run` runs and how often it signs (--every), then try again: nothing is appended twice"
        )

    def _quorum_trust(self) -> TrustFile | None:
        """The trust file if it asks for a quorum. A damaged one is an error, not a way around the quorum."""
        if not self.config.trust.exists():
            return None
        trust = self.trust()
        return None if trust.quorum == "none" else trust

    def read(self, size: int | None = None) -> Reading:
        """Verify what is new, and read the first `size` entries (all, unless given).

        Entries are read when they are asked for and compared then with what was verified; see `ledger.view`.

        Raises:
            Tampered: naming the first entry that does not check.
            RolledBack: if the ledger is shorter than what was verified here before.
        """
        return Reading(self.ledger.view(size), self._records)

    def catch_up(self, limit: int | None = None, progress: Callable[[int, int], None] | None = None) -> Progress:
        """Verify at most `limit` new entries, so that a later `read` finds no more than the rest to do.

        A sensor calls this first and reads only once the answer is `complete`: so the first tick over a large ledger is as
        short as any. `progress` is called with (entries verified now, entries to verify now). Raises as `read`.
        """
        if self.ledger.index is None:
            size = self.ledger.size()
            return Progress(size, size)
        return self.ledger.index.advance(limit, progress=progress)

    def put(self, name: str, data: bytes | Path, media_type: str, sensitivity: str = "internal") -> EvidenceItem:
        """Store a blob durably and return its reference for a record."""
        item = EvidenceItem.model_validate(
            {
                "name": name,
                "digest": "sha256:" + "0" * 64,
                "size": 0,
                "media_type": media_type,
                "sensitivity": sensitivity,
            }
        )
        ref = self.evidence.put(data, media_type=media_type, sensitivity=item.sensitivity)
        return item.model_copy(update={"digest": ref.digest, "size": ref.size})

    def record_key(self) -> bytes:
        """Return the 32-byte key for digests of records that hold personal data."""
        return read_secret(self.config.keys / RECORD_KEY)


def log_keys(config: WorkspaceConfig) -> list[Path]:
    """Return the log keys that sign here, oldest first: `log.key`, and `log.2.key` … while a rotation overlaps."""
    first = config.keys / LOG_KEY
    later = sorted(config.keys.glob("log.[0-9]*.key"), key=lambda path: int(path.name.split(".")[1]))
    return [path for path in (first, *later) if path.exists()]


def open_signer(config: WorkspaceConfig) -> LogSigner | None:
    """Return the signer of the log keys that lie here, None if there are none."""
    keys = log_keys(config)
    return LogSigner(keys, config.home / SIGNER_STATE, config.origin) if keys else None


def _own_trust(config: WorkspaceConfig) -> TrustFile | None:
    """The workspace's trust file; None where there is none yet. A damaged one is no reason not to open the ledger: who needs
    it asks `Workspace.trust`, which says what is wrong."""
    try:
        return TrustFile.parse(config.trust.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, NoteError):
        return None


def open_evidence(config: WorkspaceConfig) -> EvidenceStore:
    """Open the evidence store of a configuration, with the key that lies here if there is one."""
    key = config.keys / EVIDENCE_KEY
    provider = LocalKeyProvider(key) if key.exists() else None
    return EvidenceStore(config.evidence, keys=provider, keys_root=config.evidence_keys)
