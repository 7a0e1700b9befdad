"""Writing archive folders; their form is described in `archive`.

Invariant: what does not check is not archived, and a folder appears complete or not at all.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cognify_dagster.ledger.archive.format import (
    ABSENT,
    MANIFEST,
    ManifestSigner,
    check_row_payload,
    erased_by,
    erasures,
    pack_payload,
    read_entry,
    seal_manifest,
    sync_folder,
    write_file,
)
from cognify_dagster.ledger.archive.tiles import (
    HEIGHT,
    WIDTH,
    fold,
    levels_of,
    node_in_tiles,
    pack_entries,
    pack_hashes,
    tiles_of,
)
from cognify_dagster.ledger.entry import NO_PREVIOUS, Entry
from cognify_dagster.ledger.errors import (
    LedgerError,
    LedgerFull,
    NoteError,
    ProofError,
    Tampered,
)
from cognify_dagster.ledger.merkle import consistency_proof, leaf_hash, root_at, verify_consistency
from cognify_dagster.ledger.note import VerifierKey, open_checkpoint
from cognify_dagster.ledger.store import Store, StoredEntry, StoredPayload


def export_archive(
    store: Store,
    folder: str | os.PathLike[str],
    start: int,
    end: int,
    *,
    signer: ManifestSigner,
    log_keys: Sequence[VerifierKey],
    need_checkpoint: bool = True,
) -> str:
    """Write entries [start, end) into a new archive folder.

    Args:
        store: the ledger; nothing is changed in it.
        folder: where; it must not exist. The parent folder must.
        start: first entry, a multiple of 256.
        end: one past the last entry; a multiple of 256 if the stretch is to be detached.
        signer: signs the manifest.
        log_keys: keys that the checkpoint must be signed with.
        need_checkpoint: refuse if no signed checkpoint covers `end` entries.

    Returns:
        The SHA-256 hex of the manifest's bytes. Equal contents give an equal manifest.

    Raises:
        Tampered: if entries, payloads or tree do not fit each other or the checkpoint.
        LedgerError: if the range is not one that can be archived, or the folder exists.
        LedgerFull: if the disk refused; no folder appears then.
    """
    target = Path(folder)
    if start % WIDTH or not 0 <= start < end <= store.size():
        raise LedgerError(
            f"entries {start}..{end - 1} cannot be archived: start at a multiple of {WIDTH}, end in the ledger"
        )
    if target.exists():
        raise LedgerError(f"{target} exists already; archives are never overwritten. Name a new folder")
    partial = target.with_name(f".{target.name}.partial")
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(mode=0o700)
        writer = _Writer(store, partial, start, end)
        writer.write_entries()
        digest = writer.finish(signer, log_keys, need_checkpoint)
        os.replace(partial, target)
        try:
            sync_folder(target.parent)
        except OSError:
            os.replace(target, partial)  # its name may not outlive a crash, so it is no archive
            raise
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise LedgerFull(f"{target}: the archive could not be written: {error}; make room and run again") from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return digest


class _Writer:
    def __init__(self, store: Store, folder: Path, start: int, end: int) -> None:
        self.store, self.folder, self.start, self.end = store, folder, start, end
        self.files: dict[str, str] = {}
        self.last: list[bytes] = []
        self.absent: set[int] = set()
        self.erased: set[int] = set()
        first = start >> HEIGHT
        self.rows: list[list[bytes]] = [[], [store.node(HEIGHT, index) for index in range(first)]]

    def write_entries(self) -> None:
        """Write bundles, leaf tiles and payloads, 256 entries at a time."""
        entries = self.store.entries(self.start, self.end)
        payloads = self.store.payloads(self.start, self.end)
        upcoming = next(payloads, None)
        prev: str | None = NO_PREVIOUS if self.start == 0 else None
        for tile in tiles_of(0, self.end, self.start):
            bundle: list[bytes] = []
            packed: list[bytes] = []
            for seq in range(tile.first, tile.first + tile.width):
                row = next(entries, None)
                entry = _checked_row(row, seq, self.store.origin, prev)
                prev = entry.leaf.hex()
                payload: StoredPayload | None = None
                if upcoming is not None and upcoming.seq == seq:
                    payload, upcoming = upcoming, next(payloads, None)
                packed.append(self._payload(entry, payload))
                bundle.append(entry.data)
            self.last = [leaf_hash(data) for data in bundle]
            self._put(tile.entries_path(), pack_entries(bundle))
            self._put(tile.path(), pack_hashes(self.last))
            self._put(tile.payloads_path(), b"".join(packed), listed=False)
            if tile.width == WIDTH:
                self.rows[1].append(fold(self.last))

    def _payload(self, entry: Entry, row: StoredPayload | None) -> bytes:
        if row is None or row.data is None or row.salt is None:
            self.absent.add(entry.seq)
            return ABSENT
        check_row_payload(entry, row, Tampered)
        if entry.kind == "payload_erased":
            self.erased |= erased_by(row.data)
        return pack_payload(row)

    def finish(self, signer: ManifestSigner, log_keys: Sequence[VerifierKey], need_checkpoint: bool) -> str:
        if self.absent - self.erased:
            self.erased |= erasures(self.store, self.end, self.store.size())
        if missing := sorted(self.absent - self.erased):
            raise Tampered(
                f"entry {missing[0]}: its payload is missing and no erasure entry accounts for it; not archived"
            )
        for level in range(1, levels_of(self.end)):
            row = self.rows[level]
            for tile in tiles_of(level, self.end):
                self._put(tile.path(), pack_hashes(row[tile.first : tile.first + tile.width]))
            self.rows.append([fold(row[at : at + WIDTH]) for at in range(0, len(row) - WIDTH + 1, WIDTH)])
        offset = self.end - len(self.last)

        def read(level: int, first: int, count: int) -> Sequence[bytes]:
            return (
                self.last[first - offset : first - offset + count]
                if level == 0
                else self.rows[level][first : first + count]
            )

        root = root_at(self.end, lambda level, index: node_in_tiles(level, index, read))
        head = self._checkpoint(root, log_keys)
        if head is None and need_checkpoint:
            raise LedgerError(
                f"no checkpoint covers the first {self.end} entries yet; run `cognify ledger checkpoint`, then archive"
            )
        predicate = {
            "checkpoint": head,
            "end": self.end,
            "ledger": self.store.origin,
            "root": root.hex(),
            "start": self.start,
        }
        manifest = seal_manifest(predicate, self.files, signer)
        self._put(MANIFEST, manifest, listed=False)
        for folder, _, _ in os.walk(self.folder):
            sync_folder(Path(folder))
        return hashlib.sha256(manifest).hexdigest()

    def _checkpoint(self, root: bytes, log_keys: Sequence[VerifierKey]) -> dict[str, Any] | None:
        """Choose the smallest signed head that covers the stretch and prove that the stretch is in it."""
        for size, note in self.store.checkpoints():
            if size < self.end:
                continue
            try:
                head = open_checkpoint(note, log_keys)
            except NoteError as error:
                raise Tampered(f"the stored checkpoint of size {size}: {error}; not archived") from error
            proof = [] if size == self.end else consistency_proof(self.end, size, self.store.node)
            try:
                if head.origin != self.store.origin or head.size != size:
                    raise ProofError("it is about something else")
                verify_consistency(self.end, size, root, head.root, proof)
            except ProofError as error:
                raise Tampered(
                    f"the entries do not fit the checkpoint of size {size}: {error}; not archived"
                ) from error
            self._put("checkpoint", note.encode())
            return {"proof": [value.hex() for value in proof], "size": size}
        return None

    def _put(self, name: str, data: bytes, *, listed: bool = True) -> None:
        if listed:
            self.files[name] = hashlib.sha256(data).hexdigest()
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_file(path, data)


def _checked_row(row: StoredEntry | None, seq: int, origin: str, prev: str | None) -> Entry:
    if row is None or row.seq != seq:
        raise Tampered(f"entry {seq} is missing; run `cognify ledger verify`. Nothing was archived")
    entry = read_entry(row.data, seq, origin, prev, Tampered)
    true = (entry.leaf, entry.prev, entry.idem, entry.kind, entry.time_us, entry.subjects)
    if (row.leaf, row.prev, row.idem, row.kind, row.time_us, row.subjects) != true:
        raise Tampered(
            f"entry {seq}: a search column does not say what the entry's bytes say; run `cognify ledger verify`"
        )
    return entry
