"""Digests of model files and folders, and the list that stands for a folder.

A single file has its plain SHA-256, the one that ``sha256sum`` prints. A folder's digest is the SHA-256 of its *list of files*: the
UTF-8 JSON array ``[[path, size, sha256], …]`` without spaces, sorted by the bytes of ``path`` (relative, ``/`` between parts).

Invariants: links and special files are refused, not followed, so the digest covers exactly the bytes below the folder; a
file that changes while it is read is an error; a list that is read back is accepted only in exactly the form that is written
here, with paths that stay below the folder. `unchanged` says yes only where the file system's own times show that nobody
wrote since the bytes were hashed; in doubt it says no.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cognify_dagster.ledger import canonical_json, leaf_hash, merkle_root
from cognify_dagster.training._errors import TrainingError

#: Media type of a list of files (the module's description says what it looks like).
FILES_MEDIA_TYPE = "application/vnd.cognify.files+json"

#: A model folder holds weights and settings, not a dataset.
MAX_FILES = 100_000

#: Bound of a list that is read back, in bytes.
MAX_LISTING_BYTES = 64 * 1024 * 1024

#: A time of last change younger than this at hashing proves nothing: file systems keep times as coarse as two seconds.
RACY_NS = 2_000_000_000

_BLOCK_BYTES = 1024 * 1024
_WORTH_THREADS_BYTES = 8 * 1024 * 1024
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileStamp:
    """What the file system said of a file while it was hashed, and when that began (nanoseconds since 1970)."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    hashed_ns: int

    @property
    def racy(self) -> bool:
        """Whether a later write could leave the same times behind."""
        return max(self.mtime_ns, self.ctime_ns) > self.hashed_ns - RACY_NS


@dataclass(frozen=True)
class FileDigest:
    """One file: path relative to the folder (``/`` between parts), size in bytes, SHA-256 in lower-case hex."""

    path: str
    size: int
    sha256: str
    stamp: FileStamp | None = field(default=None, compare=False, repr=False)

    def row(self) -> list[Any]:
        """Its line in a list of files."""
        return [self.path, self.size, self.sha256]


@dataclass(frozen=True)
class FilesDigest:
    """A model file or folder.

    Attributes:
        kind: ``file`` or ``folder``.
        name: Its own name, without the folders above it.
        files: Every file below, sorted by path bytes.
        size: Bytes in all.
        sha256: One digest over all (see the module's description).
    """

    kind: str
    name: str
    files: tuple[FileDigest, ...]
    size: int
    sha256: str

    def listing(self) -> bytes:
        """The list of files; of a folder, `sha256` is the digest of exactly these bytes."""
        return files_listing(self.files)

    def root(self) -> str:
        """The RFC 6962 root over the lines of the list, in hex (see `rows_root`)."""
        return rows_root([item.row() for item in self.files])

    def to_facts(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "kind": self.kind,
            "name": self.name,
            "files": [{"path": item.path, "size": item.size, "sha256": item.sha256} for item in self.files],
            "size": self.size,
            "sha256": self.sha256,
        }


def rows_root(rows: Sequence[Any]) -> str:
    """The RFC 6962 Merkle root, in hex, whose leaves are the rows in order, each as canonical JSON (RFC 8785)."""
    return merkle_root(leaf_hash(canonical_json(row)) for row in rows).hex()


def files_listing(files: Iterable[FileDigest]) -> bytes:
    """The list of files as bytes, sorted by path bytes."""
    rows = [item.row() for item in sorted(files, key=lambda item: item.path.encode("utf-8"))]
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def parse_listing(data: bytes) -> tuple[FileDigest, ...]:
    """Reads a list of files back.

    Raises:
        TrainingError: not exactly the form that `files_listing` writes, or a path that would leave the folder.
    """
    if len(data) > MAX_LISTING_BYTES:
        raise TrainingError(f"the list of files has {len(data)} bytes; at most {MAX_LISTING_BYTES} are read")
    try:
        rows = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"the list of files is no JSON: {error}") from None
    if not isinstance(rows, list) or len(rows) > MAX_FILES:
        raise TrainingError(f"the list of files is no array of at most {MAX_FILES} lines")
    files = tuple(_line(row, number) for number, row in enumerate(rows))
    if not files or files_listing(files) != data:
        raise TrainingError("the list of files is empty, not sorted by path, or not written as it should be")
    folders: set[str] = set()
    for item in files:
        parts = item.path.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    names = [item.path for item in files]
    if len(set(names)) != len(names) or folders & set(names):
        raise TrainingError("the list of files names a path twice, or as file and folder")
    return files


def _line(row: Any, number: int) -> FileDigest:
    try:
        path, size, digest = row
    except (TypeError, ValueError):
        raise TrainingError(f"the list of files: line {number} is not [path, size, sha256]") from None
    if not isinstance(path, str) or type(size) is not int or not isinstance(digest, str):
        raise TrainingError(f"the list of files: line {number} is not [path, size, sha256]")
    if size < 0 or not _HEX.fullmatch(digest):
        raise TrainingError(f"the list of files: line {number} has an impossible size or digest")
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise TrainingError(f"the list of files: line {number} has a path that is not UTF-8") from None
    if "\0" in path or "\\" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise TrainingError(f"the list of files: line {number}: the path {path[:200]!r} is not one below a folder")
    return FileDigest(path, size, digest)


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in lower-case hex.

    Raises:
        TrainingError: no such file, not a plain file, not readable, or changed while being read.
    """
    return _digest(Path(path), "").sha256


def _digest(path: Path, name: str) -> FileDigest:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    began = time.time_ns()
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        what = "is a link; give the file itself" if path.is_symlink() else f"can't be read ({error.strerror})"
        raise TrainingError(f"{path}: {what}") from None
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        before = os.fstat(stream.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise TrainingError(f"{path}: not a plain file")
        digest, size = hashlib.sha256(), 0
        # one buffer for all blocks; hashing one releases the interpreter lock, so that other threads go on meanwhile
        buffer = memoryview(bytearray(min(_BLOCK_BYTES, max(before.st_size, 4096))))
        try:
            while count := stream.readinto(buffer):
                digest.update(buffer[:count])
                size += count
        except OSError as error:
            raise TrainingError(f"{path}: can't be read ({error.strerror})") from None
        after = os.fstat(stream.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or size != after.st_size:
        raise TrainingError(f"{path}: changed while it was read; write the file completely first")
    stamp = FileStamp(after.st_dev, after.st_ino, size, after.st_mtime_ns, after.st_ctime_ns, began)
    return FileDigest(name, size, digest.hexdigest(), stamp)


def digest_files(path: str | Path) -> FilesDigest:
    """Digests a model file, or every file below a folder, several of them at a time where there are several processors.

    Raises:
        TrainingError: missing, empty folder, links or special files inside, names that are not UTF-8, too many files.
    """
    root = Path(path)
    if not root.is_symlink() and root.is_dir():
        found = _walk(root)
        if not found:
            raise TrainingError(f"{root}: the folder holds no file")
        files = _digest_all(root, found)
        total = hashlib.sha256(files_listing(files)).hexdigest()
        return FilesDigest("folder", root.resolve().name, files, sum(f.size for f in files), total)
    try:
        root.name.encode("utf-8")
    except UnicodeEncodeError:
        raise TrainingError(f"{root}: its name is not UTF-8; rename it") from None
    one = _digest(root, root.name)
    return FilesDigest("file", root.name, (one,), one.size, one.sha256)


def processors() -> int:
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _digest_all(root: Path, found: Sequence[tuple[str, int]]) -> tuple[FileDigest, ...]:
    """Digests of all files, in the order given. The largest are begun first, so that none is left alone at the end."""
    workers = min(processors(), len(found), 16)
    if workers < 2 or sum(size for _, size in found) < _WORTH_THREADS_BYTES:
        return tuple(_digest(root / name, name) for name, _ in found)
    by_size = sorted(range(len(found)), key=lambda index: -found[index][1])
    results: dict[int, FileDigest] = {}
    with ThreadPoolExecutor(workers, thread_name_prefix="cognify-hash") as pool:
        futures = {index: pool.submit(_digest, root / found[index][0], found[index][0]) for index in by_size}
        try:
            for index in range(len(found)):
                results[index] = futures[index].result()
        except BaseException:
            for future in futures.values():
                future.cancel()
            raise
    return tuple(results[index] for index in range(len(found)))


def unchanged(path: str | Path, known: FilesDigest) -> bool | None:
    """Says by the file system's times whether a model file or folder is what it was when it was hashed.

    Returns:
        True if nobody wrote since; False if something is certainly different (size, a file more or less, links); None if the
        times can't tell, and only hashing can.
    """
    root = Path(path)
    try:
        if known.kind == "folder":
            if root.is_symlink() or [name for name, _ in _walk(root)] != [item.path for item in known.files]:
                return False
            places = [root / item.path for item in known.files]
        else:
            places = [root]
        sure = True
        for place, item in zip(places, known.files, strict=True):
            now = os.lstat(place)
            if not stat.S_ISREG(now.st_mode) or now.st_size != item.size:
                return False
            stamp = item.stamp
            same = stamp is not None and not stamp.racy and _same(stamp, now)
            sure = sure and same
    except (OSError, TrainingError):
        return False
    return True if sure else None


def _same(stamp: FileStamp, now: os.stat_result) -> bool:
    return (stamp.device, stamp.inode, stamp.mtime_ns, stamp.ctime_ns) == (
        now.st_dev,
        now.st_ino,
        now.st_mtime_ns,
        now.st_ctime_ns,
    )


def differences(expected: Iterable[FileDigest], path: str | Path) -> list[str]:
    """Compares what lies at a path with the files that a record names.

    Args:
        expected: The files; a single one without folder may lie there under any name.
        path: A file or folder on this machine.

    Returns:
        One line for each file that is missing, additional, or has other bytes; empty if all is as recorded.

    Raises:
        TrainingError: nothing there, links inside, or not readable.
    """
    wanted = {item.path: item for item in expected}
    found = digest_files(path)
    if found.kind == "file" and len(wanted) == 1:
        (known,) = wanted.values()
        there = {known.path: found.files[0]}
    else:
        there = {item.path: item for item in found.files}
    lines = []
    for name in sorted({*wanted, *there}, key=lambda item: item.encode("utf-8")):
        if name not in there:
            lines.append(f"missing: {name}")
        elif name not in wanted:
            lines.append(f"not in the record: {name}")
        elif (wanted[name].size, wanted[name].sha256) != (there[name].size, there[name].sha256):
            lines.append(
                f"other bytes: {name}: sha256 {there[name].sha256}, {there[name].size} bytes; "
                f"recorded {wanted[name].sha256}, {wanted[name].size} bytes"
            )
    return lines


def _walk(root: Path) -> list[tuple[str, int]]:
    """Path and size of every file below, sorted by the bytes of the path."""
    names: list[tuple[bytes, str, int]] = []
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(name)
                    elif entry.is_file(follow_symlinks=False):
                        names.append((name.encode("utf-8"), name, entry.stat(follow_symlinks=False).st_size))
                    else:
                        raise TrainingError(f"{root / name}: a link or special file; a model folder holds plain files")
                    if len(names) > MAX_FILES:
                        raise TrainingError(f"{root}: more than {MAX_FILES} files; is this the model's folder?")
        except UnicodeEncodeError:
            raise TrainingError(f"{root / folder}: holds a file name that is not UTF-8; rename it") from None
        except OSError as error:
            raise TrainingError(f"{root / folder}: can't be listed ({error.strerror})") from None
    return [(name, size) for _, name, size in sorted(names)]
