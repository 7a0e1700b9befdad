"""Archive folders: a stretch of the ledger as static C2SP tlog-tiles files with payloads and a signed manifest.

    checkpoint                   a head signed by the log that covers the stretch (absent if none does)
    tile/entries/<N>[.p/<W>]     entries [start, end), 256 a file
    tile/0/<N>[.p/<W>]           their leaf hashes
    tile/<L>/<N>[.p/<W>]         L >= 1: all complete subtrees of the first `end` entries, those before `start` included
    payloads/<N>[.p/<W>]         payloads with their salts
    manifest.json                in-toto Statement in a DSSE envelope: every file above but payloads, with its SHA-256

Invariants: a folder appears complete or not at all; nothing read from it is used before the manifest's signature was verified
with a key from outside, every file hashed, every tile recomputed from the entries below it and the root compared with the
manifest and the log's checkpoint; file names come from the numbers in the manifest, never from its text. Payload files are
not in the manifest, because erasure must be able to change them: each payload is bound by the salted commitment inside its entry.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cognify_dagster.ledger.archive.format import (
    ABSENT,
    MANIFEST,
    MAX_MANIFEST,
    MAX_PAYLOADS,
    check_row_payload,
    erased_by,
    open_manifest,
    pack_payload,
    read_entry,
    read_file,
    unpack_payloads,
)
from cognify_dagster.ledger.archive.tiles import (
    HEIGHT,
    MAX_BUNDLE,
    WIDTH,
    Tile,
    fold,
    levels_of,
    node_in_tiles,
    tiles_of,
    unpack_entries,
    unpack_hashes,
)
from cognify_dagster.ledger.entry import NO_PREVIOUS
from cognify_dagster.ledger.errors import (
    LedgerFull,
    LedgerUnreadable,
    NoteError,
    ProofError,
    Tampered,
)
from cognify_dagster.ledger.files import write_private
from cognify_dagster.ledger.merkle import root_at, verify_consistency
from cognify_dagster.ledger.note import MAX_NOTE, Checkpoint, VerifierKey, open_checkpoint
from cognify_dagster.ledger.store import Segment, StoredEntry, StoredPayload


class Archive:
    """A verified archive folder. Make one with `open_archive`.

    `manifest` is the SHA-256 hex of the manifest's bytes, `checkpoint` the log's signed head (None in a backup that no
    head covers), `absent` the entries without a payload and `erased` those that erasure entries in this stretch name.
    """

    def __init__(self, folder: Path, statement: Mapping[str, Any], manifest: str) -> None:
        predicate = statement["predicate"]
        self.folder = folder
        self.manifest = manifest
        self.origin: str = predicate["ledger"]
        self.start: int = predicate["start"]
        self.end: int = predicate["end"]
        self.root = bytes.fromhex(predicate["root"])
        self.checkpoint: Checkpoint | None = None
        self.checkpoint_note: str | None = None
        self.prev = NO_PREVIOUS
        self.last_leaf = ""
        self.absent: set[int] = set()
        self.erased: set[int] = set()
        self._head: Mapping[str, Any] | None = predicate["checkpoint"]
        self._digests = {item["name"]: item["digest"]["sha256"] for item in statement["subject"]}
        self._recent: tuple[str, bytes] = ("", b"")

    @property
    def segment(self) -> Segment:
        """The segment that a store keeps of it once detached."""
        return Segment(self.start, self.end, self.manifest)

    def entries(self, start: int, end: int) -> Iterator[StoredEntry]:
        """Yield entries [start, end) as rows; each file's digest is checked again as it is read."""
        for seq, data in self._raw_entries(start, end):
            entry = read_entry(data, seq, self.origin, None, Tampered)
            yield StoredEntry(seq, data, entry.leaf, entry.prev, entry.idem, entry.kind, entry.time_us, entry.subjects)

    def payloads(self, start: int, end: int, *, erased: Iterable[int] = ()) -> Iterator[StoredPayload]:
        """Yield the payload rows of entries [start, end), checked against the entries; empty ones for `erased`."""
        gone = frozenset(erased)
        entries = self._raw_entries(start, end)
        for tile in self._tiles(start, end):
            name = tile.payloads_path()
            rows = unpack_payloads(self._read(name, MAX_PAYLOADS), tile.first, tile.width, str(self.folder / name))
            for row in rows:
                if not start <= row.seq < end:
                    continue
                _, data = next(entries)
                if row.data is not None:
                    check_row_payload(read_entry(data, row.seq, self.origin, None, Tampered), row, Tampered)
                yield StoredPayload(row.seq, None, None, None) if row.seq in gone else row

    def node(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree: below level 8 only inside this stretch.

        Raises:
            LedgerUnreadable: if the folder does not hold it.
        """
        return node_in_tiles(level, index, self._hashes)

    def _hashes(self, level: int, first: int, count: int) -> Sequence[bytes]:
        total = self.end >> (HEIGHT * level)
        if first + count > total or (level == 0 and first < self.start):
            raise LedgerUnreadable(f"{self.folder}: it holds no tile for node {first} of level {level}")
        index = first // WIDTH
        tile = Tile(level, index, min(WIDTH, total - index * WIDTH))
        hashes = unpack_hashes(self._listed(tile.path(), WIDTH * 32), tile.width, tile.path())
        return hashes[first - tile.first : first - tile.first + count]

    def erase(self, seqs: Iterable[int]) -> list[int]:
        """Remove payloads from the folder for good, as far as the medium allows; return those removed now.

        The manifest stays valid: payloads are bound by commitments, and their absence by `payload_erased` entries.
        """
        wanted = sorted(seq for seq in set(seqs) if self.start <= seq < self.end)
        removed: list[int] = []
        for tile in tiles_of(0, self.end, self.start):
            inside = [seq for seq in wanted if tile.first <= seq < tile.first + tile.width]
            if not inside:
                continue
            name = tile.payloads_path()
            rows = unpack_payloads(self._read(name, MAX_PAYLOADS), tile.first, tile.width, str(self.folder / name))
            now = [row.seq for row in rows if row.seq in inside and row.data is not None]
            if now:
                packed = [ABSENT if row.seq in inside else pack_payload(row) for row in rows]
                try:
                    write_private(self.folder / name, b"".join(packed))
                except OSError as error:
                    raise LedgerFull(f"{self.folder / name}: the payload could not be erased: {error}") from error
            removed += now
        self.absent.update(wanted)
        return removed

    # -- private --

    def _tiles(self, start: int, end: int) -> Iterator[Tile]:
        if not self.start <= start <= end <= self.end:
            raise LedgerUnreadable(f"{self.folder} holds entries {self.start}..{self.end - 1}, not {start}..{end - 1}")
        for tile in tiles_of(0, self.end, start):
            if tile.first >= end:
                return
            yield tile

    def _raw_entries(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        for tile in self._tiles(start, end):
            for offset, data in enumerate(self._bundle(tile)):
                if start <= tile.first + offset < end:
                    yield tile.first + offset, data

    def _bundle(self, tile: Tile) -> list[bytes]:
        name = tile.entries_path()
        return unpack_entries(self._listed(name, MAX_BUNDLE), tile.width, str(self.folder / name))

    def _listed(self, name: str, limit: int) -> bytes:
        """Read a file of the manifest; its digest must be the manifest's."""
        if self._recent[0] == name:
            return self._recent[1]
        data = self._read(name, limit)
        if hashlib.sha256(data).hexdigest() != self._digests.get(name):
            raise Tampered(f"{self.folder / name} is not the file that the manifest names; fetch the archive again")
        self._recent = (name, data)
        return data

    def _read(self, name: str, limit: int) -> bytes:
        return read_file(self.folder / name, limit)

    def verify(self, log_keys: Sequence[VerifierKey]) -> None:
        """Recompute everything; see `open_archive`."""
        expected = {tile.path() for tile in tiles_of(0, self.end, self.start)}
        expected |= {tile.entries_path() for tile in tiles_of(0, self.end, self.start)}
        for level in range(1, levels_of(self.end)):
            expected |= {tile.path() for tile in tiles_of(level, self.end)}
        if self._head is not None:
            expected.add("checkpoint")
        if set(self._digests) != expected:
            odd = sorted(set(self._digests) ^ expected)[0]
            raise Tampered(f"{self.folder / MANIFEST}: {odd!r} is listed though it should not be, or missing")
        self._verify_entries()
        self._verify_tiles()
        if root_at(self.end, self.node) != self.root:
            raise Tampered(f"{self.folder}: the tiles do not have the root that the manifest names")
        self._verify_checkpoint(log_keys)

    def _verify_entries(self) -> None:
        prev: str | None = NO_PREVIOUS if self.start == 0 else None
        for tile in tiles_of(0, self.end, self.start):
            leaves: list[bytes] = []
            bundle = self._bundle(tile)
            name = tile.payloads_path()
            payloads = unpack_payloads(self._read(name, MAX_PAYLOADS), tile.first, tile.width, str(self.folder / name))
            for offset, (data, payload) in enumerate(zip(bundle, payloads, strict=True)):
                entry = read_entry(data, tile.first + offset, self.origin, prev, Tampered)
                if tile.first + offset == self.start:
                    self.prev = entry.prev
                prev = entry.leaf.hex()
                leaves.append(entry.leaf)
                if payload.data is None:
                    self.absent.add(entry.seq)
                    continue
                check_row_payload(entry, payload, Tampered)
                if entry.kind == "payload_erased":
                    self.erased |= erased_by(payload.data)
            if self._hashes(0, tile.first, tile.width) != leaves:
                raise Tampered(f"{self.folder / tile.path()} does not hold the leaf hashes of its entries")
            self.last_leaf = prev or NO_PREVIOUS

    def _verify_tiles(self) -> None:
        for level in range(1, levels_of(self.end)):
            below = level - 1
            first = self.start >> HEIGHT if below == 0 else 0
            for index in range(first, self.end >> (HEIGHT * level)):
                if fold(self._hashes(below, index * WIDTH, WIDTH)) != self._hashes(level, index, 1)[0]:
                    raise Tampered(
                        f"{self.folder}: hash {index} of tile level {level} is not that of the tile below it"
                    )

    def _verify_checkpoint(self, log_keys: Sequence[VerifierKey]) -> None:
        if self._head is None:
            return
        note = self._listed("checkpoint", MAX_NOTE).decode("utf-8", "replace")
        try:
            head = open_checkpoint(note, log_keys)
            if head.origin != self.origin or head.size != self._head["size"]:
                raise ProofError("it is about another ledger or size")
            proof = [bytes.fromhex(value) for value in self._head["proof"]]
            verify_consistency(self.end, head.size, self.root, head.root, proof)
        except (NoteError, ProofError, ValueError, TypeError) as error:
            raise Tampered(f"{self.folder / 'checkpoint'} does not cover these entries: {error}") from error
        self.checkpoint, self.checkpoint_note = head, note


def open_archive(
    folder: str | os.PathLike[str],
    *,
    manifest_keys: Mapping[str, bytes],
    log_keys: Sequence[VerifierKey],
    origin: str | None = None,
) -> Archive:
    """Verify an archive folder whole and return it for reading.

    Args:
        folder: the folder.
        manifest_keys: key id -> 32-byte Ed25519 public key that manifests may be signed with; from outside the folder
            (the workload keys that the ledger's entries enrol).
        log_keys: the log keys of the trust file.
        origin: the ledger it must be from.

    Raises:
        LedgerUnreadable: if files are missing or have not the form they should have.
        Tampered: if anything in it does not fit; the message names the file or entry.
    """
    path = Path(folder)
    raw = read_file(path / MANIFEST, MAX_MANIFEST)
    statement = open_manifest(path / MANIFEST, raw, manifest_keys)
    archive = Archive(path, statement, hashlib.sha256(raw).hexdigest())
    if origin is not None and archive.origin != origin:
        raise Tampered(f"{path} is an archive of {archive.origin!r}, not of {origin!r}")
    archive.verify(log_keys)
    return archive
