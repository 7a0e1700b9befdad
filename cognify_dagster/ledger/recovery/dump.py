"""Portable backups: a folder of archive folders that together hold a whole ledger, from which any store can be filled.

    backup.json                  in-toto Statement in a DSSE envelope: origin, size, root, checkpoints, the manifests below
    000000000000/, 000000065536/, …   archive folders, one a segment, named by their first entry

Invariants: the folder appears complete or not at all; it is used only after its signature, every archive in it, the joints between
them, the root and every checkpoint were verified.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cognify_dagster.ledger.archive.export import export_archive
from cognify_dagster.ledger.archive.format import (
    CUT,
    ManifestSigner,
    open_statement,
    read_file,
    seal_statement,
    sync_folder,
    write_file,
)
from cognify_dagster.ledger.archive.reader import Archive, open_archive
from cognify_dagster.ledger.archive.tiles import HEIGHT, WIDTH
from cognify_dagster.ledger.entry import NO_PREVIOUS
from cognify_dagster.ledger.errors import LedgerError, LedgerFull, LedgerUnreadable, NoteError, Tampered
from cognify_dagster.ledger.merkle import root_at
from cognify_dagster.ledger.note import VerifierKey, open_checkpoint
from cognify_dagster.ledger.recovery.backup import BackupReport
from cognify_dagster.ledger.recovery.progress import Progress
from cognify_dagster.ledger.store import Store, StoredEntry, StoredPayload

LIST = "backup.json"
PREDICATE = "urn:cognify:predicate:ledger-backup:v1"
_MAX_LIST = 32 * 1024 * 1024


def dump_ledger(
    store: Store,
    folder: str | os.PathLike[str],
    *,
    signer: ManifestSigner,
    log_keys: Sequence[VerifierKey],
    cut: int = CUT,
    progress: Progress | None = None,
) -> BackupReport:
    """Write a whole ledger into a new folder; nothing is detached.

    Args:
        store: the ledger, with its archives (`ArchivedStore`) if segments are detached.
        folder: where; it must not exist. The parent folder must.
        signer: signs the manifests and the list.
        log_keys: keys that stored checkpoints must be signed with.
        cut: entries a segment, a multiple of 256.
        progress: called with (entries written, entries in all) after every segment.

    Raises:
        LedgerError: if the folder exists, the ledger is empty or `cut` is no multiple of 256.
        Tampered: if the ledger contradicts itself; no folder appears then.
        LedgerUnreadable: if detached segments lie in archives that were not given.
        LedgerFull: if the disk refused; no folder appears then.
    """
    target = Path(folder)
    size = store.size()
    if size == 0:
        raise LedgerError("the ledger has no entries; an empty backup is never made. Is it the right ledger?")
    if cut < WIDTH or cut % WIDTH:
        raise LedgerError(f"segments are cut at multiples of {WIDTH} entries, not at {cut}")
    if target.exists():
        raise LedgerError(f"{target} exists already; a backup is never overwritten. Name a new folder")
    partial = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        manifests = []
        for start in range(0, size, cut):
            end = min(start + cut, size)
            name = f"{start:012d}"
            digest = export_archive(
                store, partial / name, start, end, signer=signer, log_keys=log_keys, need_checkpoint=False
            )
            manifests.append({"end": end, "manifest": digest, "start": start})
            if progress is not None:
                progress(end, size)
        root = root_at(size, store.node)
        notes = [[count, note] for count, note in store.checkpoints() if count <= size]
        predicate = {
            "checkpoints": notes, "ledger": store.origin, "root": root.hex(), "segments": manifests, "size": size,
        }  # fmt: skip
        subject = {f"{item['start']:012d}": str(item["manifest"]) for item in manifests}
        data = seal_statement(PREDICATE, predicate, subject, signer)
        write_file(partial / LIST, data)
        sync_folder(partial)
        os.replace(partial, target)
        try:
            sync_folder(target.parent)
        except OSError:
            os.replace(target, partial)  # its name may not outlive a crash, so it is no backup
            raise
    except OSError as error:
        raise LedgerFull(f"{target}: the backup could not be written: {error}; make room and run again") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return BackupReport(target, store.origin, size, root, hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class Dump:
    """A verified portable backup. Make one with `open_dump`."""

    path: Path
    origin: str
    size: int
    root: bytes
    digest: str
    notes: tuple[tuple[int, str], ...]
    archives: tuple[Archive, ...]

    def entries(self, start: int, end: int) -> Iterator[StoredEntry]:
        """Yield entries [start, end)."""
        for archive in self._parts(start, end):
            yield from archive.entries(max(start, archive.start), min(end, archive.end))

    def payloads(self, start: int, end: int) -> Iterator[StoredPayload]:
        """Yield the payload rows of entries [start, end)."""
        for archive in self._parts(start, end):
            yield from archive.payloads(max(start, archive.start), min(end, archive.end))

    def checkpoints(self) -> list[tuple[int, str]]:
        """Return the checkpoints kept in it."""
        return list(self.notes)

    def node(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree."""
        if level >= HEIGHT:
            return self.archives[-1].node(level, index)
        first = index << level
        for archive in self._parts(first, first + 1):
            return archive.node(level, index)
        raise LedgerUnreadable(f"{self.path}: it holds no node {level}/{index}")

    def _parts(self, start: int, end: int) -> Iterator[Archive]:
        if not 0 <= start <= end <= self.size:
            raise LedgerUnreadable(f"{self.path} holds entries 0..{self.size - 1}, not {start}..{end - 1}")
        return (archive for archive in self.archives if archive.start < end and start < archive.end)


def open_dump(
    folder: str | os.PathLike[str],
    *,
    manifest_keys: Mapping[str, bytes],
    log_keys: Sequence[VerifierKey],
    origin: str | None = None,
    progress: Progress | None = None,
) -> Dump:
    """Verify a portable backup whole and return it for reading.

    Args:
        folder: the folder.
        manifest_keys: key id -> public key that lists and manifests may be signed with; from outside the folder.
        log_keys: the log keys of the trust file.
        origin: the ledger it must be of.
        progress: called with (entries verified, entries in all) after every segment.

    Raises:
        LedgerUnreadable, Tampered: naming the file, entry or segment that is missing or does not fit.
    """
    path = Path(folder)
    raw = read_file(path / LIST, _MAX_LIST)
    statement = open_statement(path / LIST, raw, manifest_keys, PREDICATE)
    try:
        predicate = statement["predicate"]
        if set(predicate) != {"checkpoints", "ledger", "root", "segments", "size"}:
            raise ValueError("its predicate has other members than it should")
        name, size, root = str(predicate["ledger"]), predicate["size"], bytes.fromhex(predicate["root"])
        ranges = [(item["start"], item["end"], item["manifest"]) for item in predicate["segments"]]
        notes = tuple((count, note) for count, note in predicate["checkpoints"])
        if any(type(value) is not int for start, end, _ in ranges for value in (start, end)) or type(size) is not int:
            raise ValueError("a size is not a number")
        if any(type(count) is not int or type(note) is not str for count, note in notes):
            raise ValueError("a checkpoint is malformed")
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerUnreadable(f"{path / LIST}: not the list of a backup: {error}") from error
    if origin is not None and name != origin:
        raise Tampered(f"{path} is a backup of {name!r}, not of {origin!r}")
    archives = _open_archives(path, ranges, name, manifest_keys, log_keys, progress)
    if not archives or archives[-1].end != size or archives[-1].root != root:
        raise Tampered(f"{path}: its segments do not make up the {size} entries and the root that the list names")
    dump = Dump(path, name, size, root, hashlib.sha256(raw).hexdigest(), notes, tuple(archives))
    _check(dump, log_keys)
    return dump


def _open_archives(
    path: Path,
    ranges: Sequence[tuple[int, int, Any]],
    origin: str,
    keys: Mapping[str, bytes],
    log: Sequence[VerifierKey],
    progress: Progress | None,
) -> list[Archive]:
    archives: list[Archive] = []
    prev, at = NO_PREVIOUS, 0
    for start, end, manifest in ranges:
        if start != at:
            raise Tampered(f"{path}: segment {start}..{end - 1} does not follow entry {at - 1}")
        archive = open_archive(path / f"{start:012d}", manifest_keys=keys, log_keys=log, origin=origin)
        if (archive.start, archive.end, archive.manifest) != (start, end, manifest):
            raise Tampered(f"{archive.folder} is not the segment {start}..{end - 1} that the backup's list names")
        if archive.prev != prev:
            raise Tampered(f"{archive.folder} does not continue the segment before it")
        archives.append(archive)
        prev, at = archive.last_leaf, end
        if progress is not None:
            progress(end, ranges[-1][1])
    return archives


def _check(dump: Dump, log_keys: Sequence[VerifierKey]) -> None:
    erased = {seq for archive in dump.archives for seq in archive.erased}
    absent = {seq for archive in dump.archives for seq in archive.absent}
    if absent - erased:
        raise Tampered(
            f"{dump.path}: the payload of entry {min(absent - erased)} is missing and no erasure entry accounts for it"
        )
    if root_at(dump.size, dump.node) != dump.root:
        raise Tampered(f"{dump.path}: the tiles do not have the root that the list names")
    for count, note in dump.notes:
        try:
            head = open_checkpoint(note, log_keys)
        except NoteError as error:
            raise Tampered(f"{dump.path}: its checkpoint of size {count}: {error}") from error
        if head.origin != dump.origin or head.size != count or not 0 <= count <= dump.size:
            raise Tampered(f"{dump.path}: its checkpoint of size {count} is about something else")
        if count and root_at(count, dump.node) != head.root:
            raise Tampered(f"{dump.path}: its first {count} entries do not have the root that was signed")
