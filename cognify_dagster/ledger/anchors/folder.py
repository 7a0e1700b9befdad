"""An anchor that is a folder: a share that is write-once, a disk of another team, a checkout that is pushed away.

Invariants: a head is written whole or not at all, and never over another one; the folder is as trustworthy as those who can
delete in it, and its times are what its filesystem says.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from cognify_dagster.ledger.anchors.base import (
    FOLDER,
    MAX_NOTE_BYTES,
    AnchorConflict,
    AnchoredHead,
    AnchorError,
    AnchorReceipt,
    AnchorTime,
    check_receipt,
    escape,
    imprint,
    matched,
    read_head,
)
from cognify_dagster.ledger.note import Checkpoint


class FolderAnchor:
    """Keeps each head as `<folder>/<origin, escaped>/<size>`."""

    kind = FOLDER

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Take a folder that exists; a missing one is more likely an unmounted share than a new anchor."""
        self.folder = Path(folder)

    def put(self, checkpoint: Checkpoint, note: str) -> AnchorReceipt:
        """Write the head if nothing is there; see `Anchor.put`."""
        matched(checkpoint, note)
        target = self._path(checkpoint.origin, checkpoint.size)
        try:
            if not self.folder.is_dir():
                raise AnchorError(f"{self.folder}: the anchor's folder is missing; is the share mounted?")
            target.parent.mkdir(exist_ok=True)
            if not _create(target, note.encode()):
                self._compare(target, checkpoint)
        except OSError as error:
            raise AnchorError(f"{target}: the head could not be written: {error.strerror or error}") from error
        return AnchorReceipt(self.kind, checkpoint.origin, checkpoint.size, imprint(note), str(target))

    def heads(self, origin: str) -> Iterator[AnchoredHead]:
        """Yield the heads kept for a ledger by size; see `Anchor.heads`."""
        folder = self._path(origin, 0).parent
        try:
            if not self.folder.is_dir():
                raise AnchorError(f"{self.folder}: the anchor's folder is missing; is the share mounted?")
            names = [item.name for item in folder.iterdir()] if folder.is_dir() else []
        except OSError as error:
            raise AnchorError(f"{folder}: cannot be read: {error.strerror}") from error
        for size in sorted(int(name) for name in names if re.fullmatch(r"0|[1-9][0-9]{0,18}", name)):
            path = folder / str(size)
            head, note, when = self._read(path, origin, size)
            yield AnchoredHead(head, note, when, str(path))

    def check(self, receipt: AnchorReceipt, note: str) -> AnchorTime:
        """Return the file's modification time; see `Anchor.check`. The receipt's own path is not followed."""
        head = Checkpoint.parse(check_receipt(receipt, note, (self.kind,)))
        return AnchorTime(head.size, self._compare(self._path(head.origin, head.size), head), self.kind)

    def _path(self, origin: str, size: int) -> Path:
        return self.folder / escape(origin) / str(size)

    def _read(self, path: Path, origin: str, size: int) -> tuple[Checkpoint, str, datetime]:
        try:
            with path.open("rb") as stream:
                data = stream.read(MAX_NOTE_BYTES + 1)
                when = os.fstat(stream.fileno()).st_mtime
        except FileNotFoundError as error:
            raise AnchorConflict(f"{path}: the head that was anchored here is gone") from error
        except OSError as error:
            raise AnchorError(f"{path}: cannot be read: {error.strerror}") from error
        head, note = read_head(data, str(path), origin, size)
        return head, note, datetime.fromtimestamp(when, timezone.utc)

    def _compare(self, path: Path, head: Checkpoint) -> datetime:
        there, _, when = self._read(path, head.origin, head.size)
        if there != head:
            raise AnchorConflict(f"{path}: holds another head of the same size: the ledger was rewritten or forked")
        return when


def _create(target: Path, data: bytes) -> bool:
    """Write a file whole unless there is one; return whether it was written. Either way its name is on the disk then."""
    if target.exists():
        _flush(target.parent)  # who wrote it may have failed at that
        return False
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o444)
        try:
            os.link(name, target)  # unlike a rename, this never replaces a file
            written = True
        except FileExistsError:
            written = False
        _flush(target.parent)
    finally:
        Path(name).unlink(missing_ok=True)
    return written


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
